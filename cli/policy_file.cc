#include "cli/policy_file.h"

#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <fstream>

#include <sys/stat.h>
#include <unistd.h>

#include "cli/json_tree.h"
#include "cli/units.h"
#include "common/process/small_file.h"

namespace reeve::cli {

namespace {

using Kind = JsonNode::Kind;

constexpr std::size_t kPolicyBytesMax = 1U << 20;
constexpr std::uint64_t kCountMax = 1'000'000'000;
constexpr double kShareMax = 1e6;
constexpr std::uint64_t kHalfLifeMaxMs = 3650ULL * 24 * 3'600'000;
constexpr std::uint64_t kMinimumRunMaxMs = 30ULL * 24 * 3'600'000;
constexpr const char* kFields = "shares, quotas, limits, half_life, minimum_run or backfill";
constexpr const char* kQuotaFields = "cpu, memory, gpus or tasks";

tl::unexpected<Error> bad_at(const std::string& path, const JsonNode& node,
                             const std::string& message) {
    return fail(ErrorCode::kInvalidArgument,
                path + " (line " + std::to_string(node.line) + "): " + message);
}

Status want_object(const std::string& path, const JsonNode& node, const char* example) {
    if (node.kind == Kind::kObject) return {};
    return bad_at(path, node,
                  std::string("expected an object, found ") + node.kind_name() +
                      "; write for example " + example);
}

Result<std::uint64_t> count_in(const std::string& path, const JsonNode& node) {
    if (node.kind != Kind::kInteger) {
        return bad_at(path, node,
                      std::string("expected a whole number, found ") + node.kind_name() +
                          "; write for example 2");
    }
    const auto count = parse_count(node.text, kCountMax);
    if (!count) return bad_at(path, node, "\"" + node.text + "\" is not a count up to 1000000000");
    return *count;
}

Result<std::uint64_t> time_in(const std::string& path, const JsonNode& node, std::uint64_t most_ms,
                              const char* most) {
    if (node.kind != Kind::kString) {
        return bad_at(path, node,
                      std::string("expected a time, found ") + node.kind_name() +
                          "; write for example \"7d\"");
    }
    if (node.text == "0" || node.text == "0s") return 0;
    const auto ms = parse_time_ms(node.text);
    if (!ms) return bad_at(path, node, ms.error().message);
    if (*ms > most_ms) return bad_at(path, node, std::string("is too long; at most ") + most);
    return *ms;
}

Status take_shares(const JsonNode& node, plm::CellPolicy& policy) {
    REEVE_TRY(want_object("shares", node, "{\"ann\": 2}"));
    for (const auto& [name, value] : node.members) {
        const auto path = "shares." + name;
        double weight = -1;
        const bool number = value.kind == Kind::kInteger || value.kind == Kind::kReal;
        if (number) {
            const char* end = value.text.data() + value.text.size();
            const auto [at, error] = std::from_chars(value.text.data(), end, weight);
            if (error != std::errc{} || at != end) weight = -1;
        }
        if (name.empty() || !(weight >= 0 && weight <= kShareMax)) {
            return bad_at(
                path, value,
                "expected a weight from 0 to 1000000; write for example 2 (others have 1)");
        }
        policy.shares[name] = weight;
    }
    return {};
}

Status take_quota(const std::string& path, const JsonNode& node, plm::Quota& quota) {
    REEVE_TRY(want_object(path, node, "{\"cpu\": 8, \"memory\": \"16G\"}"));
    for (const auto& [name, value] : node.members) {
        const auto place = path + "." + name;
        if (name == "cpu") {
            const bool number = value.kind == Kind::kInteger || value.kind == Kind::kReal;
            const auto milli = parse_cpus(number ? value.text : "");
            if (!milli) return bad_at(place, value, "expected cpus; write for example 8 or 0.5");
            quota.cpu_milli = *milli;
        } else if (name == "memory") {
            const auto bytes = parse_size(value.kind == Kind::kString ? value.text : "");
            if (!bytes) return bad_at(place, value, "expected a size; write for example \"16G\"");
            quota.memory_bytes = *bytes;
        } else if (name == "gpus" || name == "tasks") {
            REEVE_TRY_ASSIGN(const auto count, count_in(place, value));
            (name == "gpus" ? quota.gpus : quota.tasks) = count;
        } else {
            return bad_at(place, value, std::string("is not known; a quota has ") + kQuotaFields);
        }
    }
    return {};
}

Status take_backfill(const JsonNode& node, plm::CellPolicy& policy) {
    constexpr std::pair<std::string_view, sched::Backfill> kWords[] = {
        {"easy", sched::Backfill::kEasy},
        {"conservative", sched::Backfill::kConservative},
        {"none", sched::Backfill::kNone}};
    for (const auto& [word, backfill] : kWords) {
        if (node.kind == JsonNode::Kind::kString && node.text == word) {
            policy.backfill = backfill;
            return {};
        }
    }
    return bad_at("backfill", node, "is none of \"easy\", \"conservative\", \"none\"");
}

Status take_field(const std::string& name, const JsonNode& node, plm::CellPolicy& policy) {
    if (name == "shares") return take_shares(node, policy);
    if (name == "quotas") {
        REEVE_TRY(want_object("quotas", node, "{\"ann\": {\"cpu\": 8}}"));
        for (const auto& [user, quota] : node.members) {
            REEVE_TRY(take_quota("quotas." + user, quota, policy.quotas[user]));
        }
        return {};
    }
    if (name == "limits") {
        REEVE_TRY(want_object("limits", node, "{\"licence\": 2}"));
        for (const auto& [limit, value] : node.members) {
            const auto path = "limits." + limit;
            if (limit.empty() || limit.find_first_of(":,") != std::string::npos) {
                return bad_at(path, value, "a limit's name is not empty and holds no : or ,");
            }
            REEVE_TRY_ASSIGN(policy.limits[limit], count_in(path, value));
        }
        return {};
    }
    if (name == "half_life") {
        REEVE_TRY_ASSIGN(const auto ms, time_in(name, node, kHalfLifeMaxMs, "3650d"));
        if (ms == 0) return bad_at(name, node, "is 0; write for example \"7d\"");
        policy.half_life_s = static_cast<double>(ms) / 1000;
        return {};
    }
    if (name == "minimum_run") {
        REEVE_TRY_ASSIGN(const auto ms, time_in(name, node, kMinimumRunMaxMs, "30d"));
        policy.minimum_run_s = static_cast<std::uint32_t>((ms + 999) / 1000);
        return {};
    }
    if (name == "backfill") return take_backfill(node, policy);
    return bad_at(name, node, std::string("is not known; a policy has ") + kFields);
}

}  // namespace

Result<plm::CellPolicy> parse_policy(std::string_view text) {
    REEVE_TRY_ASSIGN(const auto root, parse_json(text));
    REEVE_TRY(want_object("the file", root, "{\"limits\": {\"licence\": 2}}"));
    plm::CellPolicy policy;
    for (const auto& [name, node] : root.members) REEVE_TRY(take_field(name, node, policy));
    return policy;
}

Result<plm::CellPolicy> read_cell_policy(const Cell& cell) {
    if (::access(cell.policy.c_str(), F_OK) != 0 && errno == ENOENT) return plm::CellPolicy{};
    REEVE_TRY_ASSIGN(const auto text, read_whole(cell.policy, kPolicyBytesMax));
    auto policy = parse_policy(text);
    if (!policy) return fail(std::move(policy).error().with(cell.policy));
    return policy;
}

Status install_policy(const Cell& cell, const std::string& file) {
    if (file == "none") {
        if (::unlink(cell.policy.c_str()) == 0 || errno == ENOENT) return {};
        return fail_errno("remove " + cell.policy, errno);
    }
    REEVE_TRY_ASSIGN(const auto text, read_whole(file, kPolicyBytesMax));
    if (auto parsed = parse_policy(text); !parsed) {
        return fail(std::move(parsed).error().with(file));
    }
    const auto fresh = cell.policy + ".new";
    {
        std::ofstream out(fresh, std::ios::binary | std::ios::trunc);
        out << text;
        out.flush();
        if (!out) return fail_errno("write " + fresh, errno);
    }
    ::chmod(fresh.c_str(), 0600);
    if (std::rename(fresh.c_str(), cell.policy.c_str()) != 0) {
        return fail_errno("rename " + fresh, errno);
    }
    return {};
}

}  // namespace reeve::cli
