#include "scheduler/core/end_times.h"

#include <map>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "tests/support/catch.h"

using namespace reeve::sched;

namespace {

std::vector<std::pair<std::int64_t, std::uint32_t>> walked(EndTimes& times) {
    std::vector<std::pair<std::int64_t, std::uint32_t>> out;
    EndTimes::Walk walk(times);
    while (const auto time = walk.time()) out.emplace_back(*time, walk.take());
    return out;
}

}  // namespace

TEST_CASE("EndTimes: a walk goes through what is known, in the order of time", "[scheduler]") {
    EndTimes times;
    CHECK(walked(times).empty());
    times.add(200, 1);
    times.add(-70, 2);
    times.add(130, 3);
    times.add(130, 0);
    using Pairs = std::vector<std::pair<std::int64_t, std::uint32_t>>;
    CHECK(walked(times) == Pairs{{-70, 2}, {130, 0}, {130, 3}, {200, 1}});
    times.remove(130, 0);
    times.remove(-70, 2);
    CHECK(walked(times) == Pairs{{130, 3}, {200, 1}});
}

TEST_CASE("EndTimes: a job that comes again with the same end is met once", "[scheduler]") {
    EndTimes times;
    times.add(100, 7);
    times.add(101, 8);
    for (int i = 0; i < 3; ++i) {
        times.remove(100, 7);
        times.add(100, 7);
    }
    using Pairs = std::vector<std::pair<std::int64_t, std::uint32_t>>;
    CHECK(walked(times) == Pairs{{100, 7}, {101, 8}});
    times.remove(100, 7);
    times.add(90, 7);
    CHECK(walked(times) == Pairs{{90, 7}, {101, 8}});
}

TEST_CASE("EndTimes: random comings and goings agree with a sorted set", "[scheduler]") {
    std::mt19937_64 random(5);
    EndTimes times;
    std::set<std::pair<std::int64_t, std::uint32_t>> model;
    std::map<std::uint32_t, std::int64_t> known;
    for (int step = 0; step < 50'000; ++step) {
        const auto job = static_cast<std::uint32_t>(random() % 300);
        if (const auto at = known.find(job); at != known.end()) {
            times.remove(at->second, job);
            model.erase({at->second, job});
            known.erase(at);
        } else {
            const auto time = static_cast<std::int64_t>(random() % 600) - 300;
            times.add(time, job);
            model.emplace(time, job);
            known.emplace(job, time);
        }
        if (step % 97 != 0) continue;
        const auto seen = walked(times);
        REQUIRE(std::vector(model.begin(), model.end()) == seen);
    }
}
