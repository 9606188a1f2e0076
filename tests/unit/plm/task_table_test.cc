#include "plm/core/task_table.h"

#include <map>
#include <random>
#include <set>

#include "tests/support/catch.h"

#include "plm/core/interval_set.h"

using reeve::plm::IntervalSet;
using reeve::plm::TaskTable;

TEST_CASE("a task table does what a map does", "[plm][task_table]") {
    constexpr std::uint64_t kCount = 1'000;
    std::mt19937_64 random(7);
    TaskTable<int> table;
    std::map<std::uint64_t, int> map;
    std::set<std::uint64_t> loose;
    for (int round = 0; round < 50'000; ++round) {
        // Mostly around a moving window, as elements of an array come and go.
        const auto window = static_cast<std::uint64_t>(round) / 60;
        const auto ordinal = std::min(kCount - 1, window + random() % 200);
        switch (random() % 4) {
            case 0:
            case 1: {
                int* added = table.add(ordinal, kCount, round);
                CHECK((added != nullptr) == map.emplace(ordinal, round).second);
                break;
            }
            case 2:
                table.erase(ordinal);
                map.erase(ordinal);
                loose.erase(ordinal);
                break;
            default:
                if (!map.contains(ordinal)) break;
                table.set_loose(ordinal, random() % 2 == 0);
                if (random() % 2 == 0) table.set_loose(ordinal, true);
                break;
        }
        const int* found = table.find(ordinal);
        REQUIRE((found != nullptr) == map.contains(ordinal));
        if (found != nullptr) CHECK(*found == map[ordinal]);
        REQUIRE(table.size() == map.size());
        const auto next = map.lower_bound(window);
        CHECK(table.next(window) == (next == map.end() ? TaskTable<int>::kNone : next->first));
    }
    std::map<std::uint64_t, int> seen;
    table.for_each([&](std::uint64_t ordinal, int value) { seen.emplace(ordinal, value); });
    CHECK(seen == map);
    for (const auto& [ordinal, value] : map) table.erase(ordinal);
    CHECK(table.empty());
    CHECK(table.loose_count() == 0);
}

TEST_CASE("loose tasks are counted and found in order", "[plm][task_table]") {
    TaskTable<int> table;
    for (const std::uint64_t ordinal : {3U, 64U, 65U, 900U}) table.add(ordinal, 1'000);
    table.set_loose(900, true);
    table.set_loose(64, true);
    table.set_loose(64, true);
    CHECK(table.loose_count() == 2);
    CHECK(table.first_loose() == 64);
    table.set_loose(64, false);
    CHECK(table.first_loose() == 900);
    table.erase(900);
    CHECK(table.loose_count() == 0);
    CHECK(table.first_loose() == TaskTable<int>::kNone);
}

TEST_CASE("pointers stay good while other tasks come and go", "[plm][task_table]") {
    TaskTable<int> table;
    int* kept = table.add(500, 1'000, 42);
    for (std::uint64_t i = 0; i < 1'000; ++i) table.add(i, 1'000, 1);
    for (std::uint64_t i = 0; i < 1'000; ++i) {
        if (i != 500) table.erase(i);
    }
    CHECK(table.find(500) == kept);
    CHECK(*kept == 42);
}

TEST_CASE("an interval set does what a set does", "[plm][interval_set]") {
    std::mt19937_64 random(11);
    IntervalSet intervals;
    std::set<std::uint64_t> set;
    for (int round = 0; round < 20'000; ++round) {
        const auto first = random() % 300;
        const auto last = first + random() % 8;
        const bool adding = random() % 20 < (round / 1'000 % 2 == 0 ? 14U : 5U);
        for (auto i = first; i <= last; ++i) {
            if (adding) {
                set.insert(i);
            } else {
                set.erase(i);
            }
        }
        if (adding) {
            intervals.add(first, last);
        } else {
            intervals.remove(first, last);
        }
        const auto value = random() % 310;
        REQUIRE(intervals.count() == set.size());
        REQUIRE(intervals.empty() == set.empty());
        REQUIRE(intervals.contains(value) == set.contains(value));
        auto gap = value;
        while (set.contains(gap)) ++gap;
        REQUIRE(intervals.next_gap(value) == gap);
    }
    std::set<std::uint64_t> listed;
    std::uint64_t before = 0;
    for (const auto& [first, last] : intervals.ranges()) {
        CHECK((listed.empty() || first > before + 1));
        for (auto i = first; i <= last; ++i) listed.insert(i);
        before = last;
        CHECK(intervals.next_first(first) == first);
    }
    CHECK(listed == set);
}
