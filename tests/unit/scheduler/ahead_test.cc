#include <vector>

#include "scheduler/ahead.h"
#include "tests/support/catch.h"

namespace reeve::sched {
namespace {

Ahead::Follower follower(std::uint32_t slot, std::uint32_t behind, WorkerRef worker = 0,
                         std::uint64_t since_ns = 0) {
    return {slot, shm::SlotWord{slot}, behind, worker, 1, since_ns};
}

std::uint32_t last_of(const Ahead& ahead, std::uint32_t slot, std::uint32_t expected) {
    const auto line = ahead.line_behind(slot);
    CHECK(line.count == expected);
    return line.last;
}

}  // namespace

TEST_CASE("Ahead: a class is brief after four brief endings in a row", "[sched]") {
    Ahead ahead(3);
    for (std::uint32_t i = 0; i < kBriefEnds; ++i) {
        CHECK_FALSE(ahead.is_brief(1));
        ahead.ended(1, kBriefNs);
    }
    CHECK(ahead.is_brief(1));
    CHECK_FALSE(ahead.is_brief(2));
    ahead.ended(1, kBriefNs + 1);
    CHECK_FALSE(ahead.is_brief(1));
}

TEST_CASE("Ahead: the line is as long as what a brief time has room for", "[sched]") {
    Ahead ahead(2);
    CHECK(ahead.line_of(1) == kLineMax);
    for (std::uint32_t i = 0; i < kBriefEnds; ++i) ahead.ended(1, kBriefNs / 4);
    CHECK(ahead.line_of(1) == 4);
    for (int i = 0; i < 100; ++i) ahead.ended(1, kBriefNs);
    CHECK(ahead.line_of(1) == kLineMin);
    for (int i = 0; i < 100; ++i) ahead.ended(1, 0);
    CHECK(ahead.line_of(1) == kLineMax);
    CHECK(ahead.line_of(0) == kLineMax);
}

TEST_CASE("Ahead: who waits behind one that is over takes its claim, once", "[sched]") {
    Ahead ahead(3);
    ahead.give(follower(20, 10));
    ahead.give(follower(30, 20));
    CHECK(last_of(ahead, 10, 2) == 30);
    CHECK(last_of(ahead, 20, 1) == 30);
    CHECK(last_of(ahead, 30, 0) == 30);
    Ahead::Follower next;
    CHECK_FALSE(ahead.take(30, next));
    REQUIRE(ahead.take(10, next));
    CHECK(next.slot == 20);
    CHECK_FALSE(ahead.take(10, next));
    REQUIRE(ahead.take(20, next));
    CHECK(next.slot == 30);
    CHECK(ahead.empty());
}

TEST_CASE("Ahead: when one of a line goes, who is behind it moves up", "[sched]") {
    Ahead ahead(3);
    ahead.give(follower(20, 10));
    ahead.give(follower(30, 20));
    ahead.was_ahead(20);
    CHECK(last_of(ahead, 10, 1) == 30);
    Ahead::Follower next;
    REQUIRE(ahead.take(10, next));
    CHECK(next.slot == 30);
    ahead.was_ahead(99);  // was none
}

TEST_CASE("Ahead: the unwanted and the late are taken back", "[sched]") {
    Ahead ahead(3);
    for (std::uint32_t i = 0; i < kBriefEnds; ++i) ahead.ended(1, 0);
    ahead.give(follower(20, 10, 0, 5));
    ahead.give(follower(30, 11, 1, 50));
    const auto look = [&](std::uint64_t now_ns, WorkerRef unwanted) {
        std::vector<std::uint32_t> back;
        ahead.look(
            now_ns, [&](const Ahead::Follower& one) { return one.worker == unwanted; },
            [&](const Ahead::Follower& one) { back.push_back(one.slot); });
        return back;
    };
    CHECK(look(60, 7).empty());
    CHECK(look(60, 1) == std::vector<std::uint32_t>{30});
    CHECK(ahead.is_brief(1));
    CHECK(look(kAheadNs + 5, 7) == std::vector<std::uint32_t>{20});
    CHECK_FALSE(ahead.is_brief(1));  // it waited too long
    ahead.forget_worker(0);
    CHECK(last_of(ahead, 10, 0) == 10);
    CHECK(last_of(ahead, 11, 1) == 30);
}

}  // namespace reeve::sched
