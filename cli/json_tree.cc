#include "cli/json_tree.h"

#include <algorithm>
#include <optional>
#include <unordered_set>

#include <nlohmann/json.hpp>

#include "common/base/line_counter.h"

namespace reeve::cli {

namespace {

using Json = nlohmann::json;

class Builder : public nlohmann::json_sax<Json> {
public:
    explicit Builder(LinePlace& place) : place_(place) {}

    JsonNode root;
    std::optional<Error> error;

    bool null() override { return put(make(JsonNode::Kind::kNull)); }
    bool boolean(bool value) override {
        auto node = make(JsonNode::Kind::kBool);
        node.flag = value;
        return put(std::move(node));
    }
    bool number_integer(number_integer_t value) override {
        return number(JsonNode::Kind::kInteger, std::to_string(value));
    }
    bool number_unsigned(number_unsigned_t value) override {
        return number(JsonNode::Kind::kInteger, std::to_string(value));
    }
    bool number_float(number_float_t, const string_t& text) override {
        return number(JsonNode::Kind::kReal, text);
    }
    bool string(string_t& value) override {
        auto node = make(JsonNode::Kind::kString);
        node.text = std::move(value);
        return put(std::move(node));
    }
    bool binary(binary_t&) override { return false; }
    bool start_object(std::size_t) override { return enter(JsonNode::Kind::kObject); }
    bool start_array(std::size_t) override { return enter(JsonNode::Kind::kArray); }
    bool end_object() override { return leave(); }
    bool end_array() override { return leave(); }
    bool key(string_t& name) override {
        if (!open_.back().names.insert(name).second) {
            return refuse("\"" + name + "\" is given twice in one object; keep one of them");
        }
        open_.back().key = std::move(name);
        key_line_ = place_.line;
        return true;
    }
    bool parse_error(std::size_t, const std::string& token,
                     const nlohmann::detail::exception& problem) override {
        // "[json.exception.parse_error.101] parse error at line 3, column 5: syntax error while
        // ..."
        std::string what = problem.what();
        if (const auto colon = what.find(": "); colon != std::string::npos) {
            what.erase(0, colon + 2);
        }
        // "syntax error while parsing object key - unexpected '}'; expected string literal"
        if (const auto dash = what.find(" - ");
            what.starts_with("syntax error") && dash != std::string::npos) {
            what.erase(0, dash + 3);
        }
        if (const auto last = what.find("; last read: "); last != std::string::npos) {
            const auto rest = what.find("'; ", last);
            what.erase(last, rest == std::string::npos ? rest : rest + 1 - last);
        }
        if (what.size() > 200) what = what.substr(0, 200) + "…";
        (void)token;
        return refuse(what + "; correct the JSON there");
    }

private:
    struct Open {
        JsonNode node;
        std::string key;
        std::unordered_set<std::string> names;
    };

    JsonNode make(JsonNode::Kind kind) const {
        JsonNode node;
        node.kind = kind;
        node.line = place_.line;
        return node;
    }
    bool number(JsonNode::Kind kind, std::string text) {
        auto node = make(kind);
        node.text = std::move(text);
        // The lexer had to take one character more to see the number's end.
        if (place_.after_newline) --node.line;
        return put(std::move(node));
    }
    bool enter(JsonNode::Kind kind) {
        if (open_.size() >= kDepthMax) return refuse("nested deeper than 32 levels; flatten it");
        open_.push_back({make(kind), {}, {}});
        return true;
    }
    bool leave() {
        auto node = std::move(open_.back().node);
        open_.pop_back();
        return put(std::move(node));
    }
    bool put(JsonNode node) {
        if (open_.empty()) {
            root = std::move(node);
            return true;
        }
        auto& parent = open_.back();
        if (parent.node.kind == JsonNode::Kind::kObject) {
            parent.node.members.emplace_back(std::move(parent.key), std::move(node));
        } else {
            parent.node.items.push_back(std::move(node));
        }
        return true;
    }
    bool refuse(const std::string& why) {
        error =
            Error{ErrorCode::kInvalidArgument, "line " + std::to_string(place_.line) + ": " + why};
        return false;
    }

    LinePlace& place_;
    std::vector<Open> open_;
    std::uint32_t key_line_ = 0;
};

}  // namespace

const JsonNode* JsonNode::find(std::string_view name) const {
    const auto found = std::find_if(members.begin(), members.end(),
                                    [name](const auto& member) { return member.first == name; });
    return found == members.end() ? nullptr : &found->second;
}

const char* JsonNode::kind_name() const {
    switch (kind) {
        case Kind::kNull:
            return "null";
        case Kind::kBool:
            return "true or false";
        case Kind::kInteger:
            return "a number";
        case Kind::kReal:
            return "a number";
        case Kind::kString:
            return "a string";
        case Kind::kArray:
            return "a list";
        case Kind::kObject:
            return "an object";
    }
    return "something else";
}

Result<JsonNode> parse_json(std::string_view text) {
    if (text.size() > kJsonBytesMax) {
        return fail(ErrorCode::kInvalidArgument,
                    "the JSON text is larger than 256 MiB; split it into several files");
    }
    LinePlace place;
    Builder builder(place);
    const LineCounter first(&place, text.data());
    const LineCounter last(&place, text.data() + text.size());
    const bool good = Json::sax_parse(first, last, &builder);
    if (!good) {
        return fail(builder.error.value_or(
            Error{ErrorCode::kInvalidArgument, "the text is not JSON; correct it"}));
    }
    return std::move(builder.root);
}

}  // namespace reeve::cli
