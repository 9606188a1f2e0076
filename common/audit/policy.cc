#include "common/audit/policy.h"

#include <algorithm>

#include "common/audit/text.h"

namespace reeve::audit {
namespace {

constexpr std::string_view kBlank = " \t";

std::vector<std::string_view> words_of(std::string_view line) {
    std::vector<std::string_view> words;
    while (true) {
        const std::size_t begin = line.find_first_not_of(kBlank);
        if (begin == line.npos) return words;
        line.remove_prefix(begin);
        const std::size_t end = std::min(line.find_first_of(kBlank), line.size());
        words.push_back(line.substr(0, end));
        line.remove_prefix(end);
    }
}

}  // namespace

class PolicyParser {
public:
    Result<Policy> run(std::string_view text) {
        while (!text.empty()) {
            ++line_number_;
            const std::size_t end = text.find('\n');
            const std::string_view line = text.substr(0, end);
            text.remove_prefix(end == text.npos ? text.size() : end + 1);
            REEVE_TRY(take_line(line));
        }
        if (!has_quorum_) return bad("no quorum line; 'quorum none' asks for no witness");
        return std::move(policy_);
    }

private:
    using Words = std::vector<std::string_view>;

    tl::unexpected<Error> bad(const std::string& what) const {
        return fail(ErrorCode::kInvalidArgument,
                    "policy line " + std::to_string(line_number_) + ": " + what);
    }

    Status take_line(std::string_view line) {
        for (const char c : line) {
            const auto byte = static_cast<unsigned char>(c);
            if ((byte < 0x20 && byte != '\t') || byte == 0x7F) return bad("control character");
        }
        const Words words = words_of(line);
        if (words.empty() || words[0].starts_with("#")) return {};
        if (words[0] == "log") return take_log(words);
        if (words[0] == "witness") return take_witness(words);
        if (words[0] == "group") return take_group(words);
        if (words[0] == "quorum") return take_quorum(words);
        return bad("'" + std::string(words[0]) + "' is not log, witness, group or quorum");
    }

    Result<VerifierKey> take_key(std::string_view text, KeyType type) {
        auto key = parse_vkey(text);
        if (!key) return bad(key.error().message);
        if (key->type != type) {
            return bad(type == KeyType::kNote ? "a log's vkey has type 1"
                                              : "a witness's vkey has type 4");
        }
        for (const auto* known : {&policy_.logs_, &policy_.witnesses_}) {
            for (const VerifierKey& other : *known) {
                if (other.public_key == key->public_key) {
                    return bad("the key of " + key->name + " stands here already, as " +
                               other.name);
                }
            }
        }
        return key;
    }

    Status take_log(const Words& words) {
        if (words.size() < 2 || words.size() > 3) return bad("expected: log <vkey> [<url>]");
        REEVE_TRY_ASSIGN(auto key, take_key(words[1], KeyType::kNote));
        policy_.logs_.push_back(std::move(key));
        return {};
    }

    std::size_t find(std::string_view name) const {
        for (std::size_t i = 0; i < policy_.names_.size(); ++i) {
            if (policy_.names_[i].text == name) return i;
        }
        return Policy::kNone;
    }

    Status new_name(std::string_view name) {
        if (name == "none") return bad("the name 'none' is taken");
        if (find(name) != Policy::kNone) {
            return bad("the name '" + std::string(name) + "' is defined twice");
        }
        if (policy_.names_.size() == Policy::kNamesMax) return bad("too many names");
        return {};
    }

    Status take_witness(const Words& words) {
        if (words.size() < 3 || words.size() > 4) {
            return bad("expected: witness <name> <vkey> [<url>]");
        }
        REEVE_TRY(new_name(words[1]));
        REEVE_TRY_ASSIGN(auto key, take_key(words[2], KeyType::kCosignature));
        Policy::Name name;
        name.text = words[1];
        name.witness = policy_.witnesses_.size();
        policy_.witnesses_.push_back(std::move(key));
        policy_.names_.push_back(std::move(name));
        return {};
    }

    Status take_group(const Words& words) {
        if (words.size() < 4) return bad("expected: group <name> all|any|<k> <member>...");
        REEVE_TRY(new_name(words[1]));
        Policy::Name group;
        group.text = words[1];
        for (const std::string_view member : std::span(words).subspan(3)) {
            const std::size_t found = find(member);
            if (found == Policy::kNone) {
                return bad("'" + std::string(member) + "' is not defined above");
            }
            if (policy_.names_[found].taken) {
                return bad("'" + std::string(member) + "' is a group's member already");
            }
            policy_.names_[found].taken = true;
            group.members.push_back(found);
        }
        const std::size_t count = group.members.size();
        if (words[2] == "all") {
            group.threshold = count;
        } else if (words[2] == "any") {
            group.threshold = 1;
        } else {
            const auto threshold = parse_decimal(words[2]);
            if (!threshold || *threshold == 0 || *threshold > count) {
                return bad("the threshold must be all, any or 1.." + std::to_string(count));
            }
            group.threshold = static_cast<std::size_t>(*threshold);
        }
        policy_.names_.push_back(std::move(group));
        return {};
    }

    Status take_quorum(const Words& words) {
        if (words.size() != 2) return bad("expected: quorum <name>|none");
        if (has_quorum_) return bad("a second quorum line");
        has_quorum_ = true;
        if (words[1] == "none") return {};
        policy_.quorum_ = find(words[1]);
        if (policy_.quorum_ == Policy::kNone) {
            return bad("'" + std::string(words[1]) + "' is not defined above");
        }
        return {};
    }

    Policy policy_;
    std::size_t line_number_ = 0;
    bool has_quorum_ = false;
};

Result<Policy> Policy::parse(std::string_view text) {
    return PolicyParser().run(text);
}

Policy Policy::trust(VerifierKey log) {
    Policy policy;
    policy.logs_.push_back(std::move(log));
    return policy;
}

bool Policy::holds(std::size_t name, const std::vector<bool>& cosigned) const {
    const Name& one = names_[name];
    if (one.members.empty()) return cosigned[one.witness];
    const auto count = std::count_if(one.members.begin(), one.members.end(),
                                     [&](std::size_t member) { return holds(member, cosigned); });
    return static_cast<std::size_t>(count) >= one.threshold;
}

bool Policy::quorum_met(std::span<const Cosignature> cosignatures) const {
    if (quorum_ == kNone) return true;
    std::vector<bool> cosigned(witnesses_.size(), false);
    for (const Cosignature& one : cosignatures) cosigned[one.witness] = true;
    return holds(quorum_, cosigned);
}

std::string Policy::quorum_text() const {
    if (quorum_ == kNone) return "none";
    const Name& name = names_[quorum_];
    if (name.members.empty()) return name.text;
    std::string text = std::to_string(name.threshold) + " of " + name.text + " (";
    for (const std::size_t member : name.members) text += names_[member].text + " ";
    text.back() = ')';
    return text;
}

}  // namespace reeve::audit
