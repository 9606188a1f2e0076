#include "cli/selectors.h"

#include "tests/support/catch.h"

namespace reeve::cli {

namespace {

Catalogue catalogue() {
    Catalogue out;
    out.last_job = 20;
    out.jobs = {{12, "train-a"}, {13, "train-b"}, {15, "eval"}, {20, "odd name,with comma"}};
    return out;
}

Result<std::vector<Selected>> select(const std::vector<std::string>& words) {
    auto selectors = parse_selectors(words);
    if (!selectors) return fail(selectors.error());
    return resolve(*selectors, catalogue());
}

std::vector<std::uint64_t> jobs(const std::vector<std::string>& words) {
    std::vector<std::uint64_t> out;
    const auto selected = select(words);
    REQUIRE(selected);
    for (const auto& one : *selected) out.push_back(one.job);
    return out;
}

using Ids = std::vector<std::uint64_t>;

}  // namespace

TEST_CASE("selectors: every form", "[cli]") {
    CHECK(jobs({"12"}) == Ids{12});
    CHECK(jobs({"13,12"}) == Ids{12, 13});
    CHECK(jobs({"18-30"}) == Ids{18, 19, 20});
    CHECK(jobs({"@"}) == Ids{20});
    CHECK(jobs({"last"}) == Ids{20});
    CHECK(jobs({"@~1"}) == Ids{19});
    CHECK(jobs({"all"}) == Ids{12, 13, 15, 20});
    CHECK(jobs({"name:train*"}) == Ids{12, 13});
    CHECK(jobs({"name:*,*"}) == Ids{20});
    CHECK(jobs({"12", "12", "12-13"}) == Ids{12, 13});
}

TEST_CASE("selectors: elements are merged, a whole job wins", "[cli]") {
    const auto parts = select({"12.3", "12.4-7,12.9"});
    REQUIRE(parts);
    CHECK(*parts == std::vector<Selected>{{12, {{3, 7}, {9, 9}}}});
    CHECK(contains(parts->front(), 5));
    CHECK_FALSE(contains(parts->front(), 8));
    const auto whole = select({"12.3", "12"});
    REQUIRE(whole);
    CHECK(*whole == std::vector<Selected>{{12, {}}});
    CHECK(contains(whole->front(), 8));
}

TEST_CASE("selectors: what is no selector is refused", "[cli]") {
    for (const char* text : {"",
                             "0",
                             "-1",
                             "1-",
                             "-",
                             "5-1",
                             "12.",
                             ".3",
                             "12.3.4",
                             "12-13.1",
                             "12.5-1",
                             "@~",
                             "@~x",
                             "@1",
                             "name:",
                             "ALL",
                             "job",
                             "1,",
                             ",1",
                             "1 2",
                             "99999999999999999999",
                             "12.99999999999",
                             "1\n",
                             "0x12",
                             "12a"}) {
        INFO(text);
        const auto refused = parse_selectors({text});
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == ErrorCode::kInvalidArgument);
    }
}

TEST_CASE("selectors: what names nothing is not found", "[cli]") {
    for (const char* text : {"@~20", "name:nothing*", "21-30"}) {
        INFO(text);
        const auto refused = select({text});
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == ErrorCode::kNotFound);
    }
    Catalogue wide;
    const auto huge = resolve(*parse_selectors({"1-99999999"}), wide);
    REQUIRE_FALSE(huge);
    CHECK(huge.error().code == ErrorCode::kInvalidArgument);
}

}  // namespace reeve::cli
