#include "cli/text.h"

#include <nlohmann/json.hpp>

#include "cli/json_writer.h"
#include "cli/render.h"
#include "tests/support/catch.h"

namespace reeve::cli {

TEST_CASE("note_words: how a task ended is said once", "[cli]") {
    const auto note = [](std::int32_t code, bool core, const char* detail) {
        v1::TaskResult result;
        result.set_state("ended");
        result.set_exit_code(code);
        result.set_core_dumped(core);
        result.set_detail(detail);
        return note_words(result);
    };
    CHECK(note(-11, false, "signal 11 (SIGSEGV)") == "signal 11 (SIGSEGV)");
    CHECK(note(-11, true, "signal 11 (SIGSEGV), core dumped") ==
          "signal 11 (SIGSEGV), core dumped");
    CHECK(note(-40, false, "signal 40") == "signal 40");
    CHECK(note(-15, false, "cancelled") == "signal 15 (SIGTERM): cancelled");
    CHECK(note(-11, true, "") == "signal 11 (SIGSEGV), core dumped");
    CHECK(note(3, false, "exit status 3") == "exit 3");
    CHECK(note(3, false, "its own words") == "exit 3: its own words");
    CHECK(note(0, false, "lost") == "lost");
}

TEST_CASE("escape: nothing reaches the terminal that could move it", "[cli]") {
    CHECK(escape("plain ünïcode 漢字") == "plain ünïcode 漢字");
    CHECK(escape("a\nb\tc") == "a\\nb\\tc");
    CHECK(escape("\x1b[2J") == "\\x1b[2J");
    CHECK(escape(std::string("\0", 1)) == "\\x00");
    CHECK(escape("\x7f") == "\\x7f");
    CHECK(escape("\xff\xfe") == "\\xff\\xfe");
    CHECK(escape("\xc2\x9b"
                 "1m") == "\\xc2\\x9b1m");               // C1 CSI
    CHECK(escape("\xe2\x80\xae") == "\\xe2\\x80\\xae");  // right-to-left override
    CHECK(escape("\xc0\xaf") == "\\xc0\\xaf");           // overlong
    CHECK(escape("\xed\xa0\x80") == "\\xed\\xa0\\x80");  // surrogate
    CHECK(escape("\xf0\x9f\x98") == "\\xf0\\x9f\\x98");  // cut off
}

TEST_CASE("shorten: whole code points, never wider than asked", "[cli]") {
    CHECK(shorten("short", 10) == "short");
    CHECK(shorten("a longer name", 6) == "a lon…");
    CHECK(width_of(shorten("äöüäöüäöü", 4)) == 4);
    CHECK(shorten("abc", 0).empty());
}

TEST_CASE("Table: lines fit the width by cutting the flexible column", "[cli]") {
    Table table({{"ID", true}, {"NAME", false}, {"STATE", false}}, 1);
    table.add({"1", std::string(200, 'x'), "running"});
    table.add({"12345", "evil\x1b[31m\nname", "failed"});
    const auto text = table.text(60);
    std::size_t at = 0;
    int lines = 0;
    while (at < text.size()) {
        const auto end = text.find('\n', at);
        CHECK(width_of(text.substr(at, end - at)) <= 60);
        at = end + 1;
        ++lines;
    }
    CHECK(lines == 3);
    CHECK(text.find('\x1b') == std::string::npos);
    CHECK(table.text(0).find(std::string(200, 'x')) != std::string::npos);
}

TEST_CASE("shell_quote: what a shell would read back as the same word", "[cli]") {
    CHECK(shell_quote("plain-1.txt") == "plain-1.txt");
    CHECK(shell_quote("") == "''");
    CHECK(shell_quote("a b") == "'a b'");
    CHECK(shell_quote("it's") == "'it'\\''s'");
    CHECK(shell_join({"echo", "$HOME", "a'b"}) == "echo '$HOME' 'a'\\''b'");
}

TEST_CASE("closest: finds what was meant, and nothing for what is far", "[cli]") {
    CHECK(closest("memry", {"memory", "cpu"}) == "memory");
    CHECK(closest("mem", {"memory", "cpu"}) == "memory");
    CHECK(closest("prioirty", {"priority", "output"}) == "priority");
    CHECK(closest("zebra", {"memory", "cpu"}).empty());
    CHECK(closest("", {"cpu"}).empty());
}

TEST_CASE("format: durations, sizes and cpus as people read them", "[cli]") {
    CHECK(format_duration_ns(312'000'000) == "312ms");
    CHECK(format_duration_ns(4'200'000'000) == "4.2s");
    CHECK(format_duration_ns(187'000'000'000) == "3m07s");
    CHECK(format_duration_ns(7'500'000'000'000) == "2h05m");
    CHECK(format_bytes(8ULL << 30) == "8G");
    CHECK(format_bytes(1536ULL << 20) == "1.5G");
    CHECK(format_bytes(17) == "17B");
    CHECK(format_price(2'000'000) == "2");
    CHECK(format_price(350'001) == "0.350001");
    CHECK(format_price(0) == "0");
    CHECK(format_cost(12'345'678'901) == "12.35");
    CHECK(format_cost(27'777'777) == "0.028");
    CHECK(format_cost(1'234) == "1.2e-06");
    CHECK(format_cost(0) == "0");
    CHECK(format_cpus(2000) == "2");
    CHECK(format_cpus(500) == "0.5");
    CHECK(format_cpus(1125) == "1.125");
    CHECK(format_iso_ns(1'795'366'800'123'456'789ULL) == "2026-11-22T17:00:00.123Z");
    CHECK(format_time_ns(0) == "-");
}

TEST_CASE("JsonWriter: always valid JSON, whatever the strings hold", "[cli]") {
    std::string all;
    for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
    JsonWriter json;
    json.begin_object().field("schema", "x").field("text", all).key("list").begin_array();
    json.value(1).value(-2).value(true).null().value(0.5).begin_object().end_object();
    json.end_array().field("big", ~std::uint64_t{0}).key("none").begin_array().end_array();
    json.end_object();
    const auto parsed = nlohmann::json::parse(json.text());
    CHECK(parsed["list"].size() == 6);
    CHECK(parsed["big"] == ~std::uint64_t{0});
    CHECK(parsed["none"].empty());
    CHECK(parsed["text"].get<std::string>().substr(0, 128) == all.substr(0, 128));
}

}  // namespace reeve::cli
