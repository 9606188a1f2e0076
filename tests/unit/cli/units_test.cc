#include "cli/units.h"

#include "tests/support/catch.h"

namespace reeve::cli {

namespace {

struct Good {
    const char* text;
    std::uint64_t value;
};

// The message names the text; report() escapes it for the terminal.
void check_message(const Error& error, const std::string& text) {
    INFO(text << " -> " << error.message);
    CHECK(error.code == ErrorCode::kInvalidArgument);
    CHECK(error.message.find(text.substr(0, 10)) != std::string::npos);
}

}  // namespace

TEST_CASE("parse_size: reads sizes with units", "[cli]") {
    const Good good[] = {{"8G", 8ULL << 30},  {"512M", 512ULL << 20}, {"1.5G", 3ULL << 29},
                         {"17B", 17},         {"100KB", 100'000},     {"8GiB", 8ULL << 30},
                         {"8Gi", 8ULL << 30}, {"2k", 2048},           {"1T", 1ULL << 40},
                         {"0.5K", 512},       {"1P", 1ULL << 50},     {"1GB", 1'000'000'000}};
    for (const auto& [text, value] : good) {
        INFO(text);
        const auto parsed = parse_size(text);
        REQUIRE(parsed);
        CHECK(*parsed == value);
    }
}

TEST_CASE("parse_size: refuses everything else with a cure", "[cli]") {
    for (const char* text :
         {"8",   "0.5",    "",     "G",    "8X",    "8 G",  "-8G", "+8G", "8G ",
          "8GG", "8gib8",  "0G",   "0.0M", "1e9B",  "0x8G", "8.G", ".G",  "9999999999999999999G",
          "2P",  "1.2.3G", "8\nG", "\xff", "8KiBB", "NaN",  "inf"}) {
        const auto parsed = parse_size(text);
        INFO(text);
        REQUIRE_FALSE(parsed);
        check_message(parsed.error(), text);
    }
    CHECK(parse_size("8").error().message == "\"8\" has no unit; write 8G, 8M or 8B");
}

TEST_CASE("parse_time_ms: reads times with units", "[cli]") {
    const Good good[] = {{"30m", 1'800'000},  {"90s", 90'000},         {"1h30m", 5'400'000},
                         {"2d", 172'800'000}, {"500ms", 500},          {"1.5h", 5'400'000},
                         {"1w", 604'800'000}, {"01:30:00", 5'400'000}, {"1d2h3m4s5ms", 93'784'005},
                         {"0.001s", 1},       {"10min", 600'000},      {"5sec", 5'000}};
    for (const auto& [text, value] : good) {
        INFO(text);
        const auto parsed = parse_time_ms(text);
        REQUIRE(parsed);
        CHECK(*parsed == value);
    }
}

TEST_CASE("parse_time_ms: refuses everything else with a cure", "[cli]") {
    for (const char* text :
         {"30",    "",     "m",      "30x",      "30m10h",     "1m1m", "-30m",
          "30 m",  "0s",   "1:2",    "25:61:00", "1:00:00:00", "::",   "99999999999999h",
          "4000d", "1h30", "1.5.5h", "m30",      "\x01",       "30M"}) {
        const auto parsed = parse_time_ms(text);
        INFO(text);
        REQUIRE_FALSE(parsed);
        check_message(parsed.error(), text);
    }
    CHECK(parse_time_ms("30").error().message == "\"30\" has no unit; write 30s, 30m or 30h");
}

TEST_CASE("parse_price, parse_amount: money to the millionth", "[cli]") {
    CHECK(*parse_price("2") == 2'000'000);
    CHECK(*parse_price("0.35") == 350'000);
    CHECK(*parse_price("0.000001") == 1);
    CHECK(*parse_price("0") == 0);
    CHECK(*parse_price("4000") == 4'000'000'000);
    CHECK(*parse_amount("12.5") == 12'500'000'000);
    CHECK(*parse_amount("1000000000") == 1'000'000'000'000'000'000);
    for (const char* text : {"", "x", "-1", "4000.1", "0.0000001", "1e3", "$2", "2 ", "inf"}) {
        const auto parsed = parse_price(text);
        INFO(text);
        REQUIRE_FALSE(parsed);
        check_message(parsed.error(), text);
    }
    for (const char* text : {"", "-5", "1000000001", "0.0000001", "ten"}) {
        INFO(text);
        CHECK_FALSE(parse_amount(text));
    }
}

TEST_CASE("parse_cpus: thousandths, no more and no less", "[cli]") {
    CHECK(*parse_cpus("2") == 2000);
    CHECK(*parse_cpus("0.5") == 500);
    CHECK(*parse_cpus("1.125") == 1125);
    CHECK(*parse_cpus("0.001") == 1);
    CHECK(*parse_cpus("4096") == 4'096'000);
    for (const char* text : {"", "0", "0.0", "-1", "0.0005", "two", "1c", "5000", "1.", "1,5"}) {
        INFO(text);
        REQUIRE_FALSE(parse_cpus(text));
        check_message(parse_cpus(text).error(), text);
    }
}

TEST_CASE("parse_array: ranges, steps and the limit behind %", "[cli]") {
    const auto spec = parse_array("1-1000%10");
    REQUIRE(spec);
    CHECK(spec->ranges == std::vector<Range>{{1, 1000}});
    CHECK(spec->max_running == 10);
    CHECK(spec->elements() == 1000);
    CHECK(parse_array("7-9,0,5")->ranges == std::vector<Range>{{0, 0}, {5, 5}, {7, 9}});
    CHECK(parse_array("0-10:5")->ranges == std::vector<Range>{{0, 0}, {5, 5}, {10, 10}});
    CHECK(parse_array("0-4294967295")->elements() == 4'294'967'296ULL);
    for (const char* text :
         {"", "1-", "-1", "5-1", "1,1", "1-5,3", "1-5%0", "1-5%", "a", "1--5", "0-10:0", "5:2",
          "1-5:", "1,,2", "4294967296", "0-4294967295:2", "1-5%10%2", "1 - 5"}) {
        INFO(text);
        const auto refused = parse_array(text);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code == ErrorCode::kInvalidArgument);
    }
}

TEST_CASE("parse_begin_ms: from now or a date", "[cli]") {
    CHECK(*parse_begin_ms("+30m", 1'000) == 1'801'000);
    CHECK(*parse_begin_ms("2026-11-22T17:00:00Z", 0) == 1'795'366'800'000ULL);
    CHECK(parse_begin_ms("2026-11-22T17:00", 0));
    CHECK(parse_begin_ms("2026-11-22", 0));
    for (const char* text : {"", "+", "+30", "tomorrow", "2026-13-01", "2026-11-22T25:00", "30m",
                             "2026-11-22T17:00:00Zx"}) {
        INFO(text);
        CHECK_FALSE(parse_begin_ms(text, 0));
    }
}

TEST_CASE("format_ranges: compact and sorted", "[cli]") {
    CHECK(format_ranges(std::vector<std::uint64_t>{3, 1, 2, 7, 9, 8, 20}) == "1-3,7-9,20");
    CHECK(format_ranges(std::vector<std::uint64_t>{}).empty());
}

}  // namespace reeve::cli
