#include "cli/policy_file.h"

#include "tests/support/catch.h"

using namespace reeve;
using namespace reeve::cli;

TEST_CASE("policy file: everything in it", "[cli]") {
    const auto policy = parse_policy(R"({
      "shares": {"ann": 2, "lab": 0.5},
      "quotas": {"ann": {"cpu": 8, "memory": "16G", "gpus": 2, "tasks": 100}, "*": {"cpu": 0.5}},
      "limits": {"licence": 2, "none": 0},
      "half_life": "3d", "minimum_run": "90s"})");
    REQUIRE(policy);
    CHECK(policy->shares.at("lab") == 0.5);
    CHECK(policy->quotas.at("ann").cpu_milli == 8000);
    CHECK(policy->quotas.at("ann").memory_bytes == std::uint64_t{16} << 30);
    CHECK(policy->quotas.at("ann").tasks == 100);
    CHECK(policy->quotas.at("*").cpu_milli == 500);
    CHECK_FALSE(policy->quotas.at("*").gpus);
    CHECK(policy->limits.at("none") == 0);
    CHECK(policy->half_life_s == 3 * 86'400.0);
    CHECK(policy->minimum_run_s == 90);
    CHECK(parse_policy("{}")->minimum_run_s == 60);
    CHECK(parse_policy("{}")->backfill == sched::Backfill::kEasy);
    CHECK(parse_policy(R"({"backfill": "none"})")->backfill == sched::Backfill::kNone);
    CHECK(parse_policy(R"({"backfill": "conservative"})")->backfill ==
          sched::Backfill::kConservative);
    CHECK(parse_policy(R"({"minimum_run": "0"})")->minimum_run_s == 0);
}

TEST_CASE("policy file: what is wrong is named with its line", "[cli]") {
    const std::pair<const char*, const char*> cases[] = {
        {"[]", "the file (line 1): expected an object"},
        {"{\"limit\": {}}", "limit (line 1): is not known; a policy has shares"},
        {"{\n\"limits\": {\"licence\": -1}}", "limits.licence (line 2): "},
        {"{\"limits\": {\"licence\": 1.5}}", "limits.licence (line 1): expected a whole number"},
        {"{\"limits\": {\"a:b\": 1}}", "limits.a:b (line 1): a limit's name"},
        {"{\"quotas\": {\"ann\": {\"cpus\": 1}}}", "quotas.ann.cpus (line 1): is not known"},
        {"{\"quotas\": {\"ann\": {\"memory\": 5}}}", "quotas.ann.memory (line 1): expected a size"},
        {"{\"quotas\": {\"ann\": 5}}", "quotas.ann (line 1): expected an object"},
        {"{\"shares\": {\"ann\": -1}}", "shares.ann (line 1): expected a weight"},
        {"{\"shares\": {\"ann\": \"2\"}}", "shares.ann (line 1): expected a weight"},
        {"{\"half_life\": \"0s\"}", "half_life (line 1): is 0"},
        {"{\"half_life\": \"7\"}", "half_life (line 1): \"7\" has no unit"},
        {"{\"minimum_run\": 60}", "minimum_run (line 1): expected a time"},
        {"{\"minimum_run\": \"31d\"}", "minimum_run (line 1): is too long"},
        {"{\"backfill\": \"lazy\"}", "backfill (line 1): is none of"},
        {"{\"backfill\": 1}", "backfill (line 1): is none of"},
        {"{\"limits\": {\"a\": 1, \"a\": 2}}", "line 1"},
        {"{", "line 1"},
    };
    for (const auto& [text, wanted] : cases) {
        const auto policy = parse_policy(text);
        INFO(text);
        REQUIRE_FALSE(policy);
        CHECK(policy.error().code == ErrorCode::kInvalidArgument);
        CHECK(policy.error().message.find(wanted) != std::string::npos);
    }
}
