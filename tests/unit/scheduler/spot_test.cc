#include "scheduler/core/spot.h"

#include <algorithm>
#include <random>

#include "tests/support/catch.h"
#include "tests/support/seed.h"

using namespace reeve::sched;

namespace {

constexpr SpotPolicy kPolicies[]{SpotPolicy::kOnDemand, SpotPolicy::kGreedy, SpotPolicy::kUniform,
                                 SpotPolicy::kReeve};

struct Outcome {
    double cost = 0;
    double left = 0;  // to the deadline, at the end
};

// Availability by tick; the job runs until its work is done.
template <typename Available>
Outcome run(SpotPlanner planner, double tick, std::size_t zones, Available&& available) {
    const SpotTask task = planner.task();
    Outcome out;
    out.left = task.deadline;
    double work = task.work;
    double launching = 0;
    SpotPlace place;
    const auto now = std::make_unique<bool[]>(zones);
    for (std::size_t at = 0; work > 1e-9; ++at) {
        REQUIRE(at < 100'000);
        for (std::size_t zone = 0; zone < zones; ++zone) now[zone] = available(at, zone);
        planner.observe({now.get(), zones}, tick);
        const SpotPlace next =
            planner.decide(out.left, work + launching, tick, place, {now.get(), zones});
        if (next.mode == SpotMode::kSpot) REQUIRE(now[next.zone]);
        if (next.mode == SpotMode::kIdle) launching = 0;
        if (next.mode != SpotMode::kIdle && next != place) launching = task.launch;
        place = next;
        double step = tick;
        if (place.mode != SpotMode::kIdle) {
            step = std::min(step, launching + work);
            out.cost += step * (place.mode == SpotMode::kSpot ? task.spot_price : 1);
            const double spent = std::min(launching, step);
            launching -= spent;
            work -= step - spent;
        }
        out.left -= step;
    }
    return out;
}

}  // namespace

TEST_CASE("SpotPlanner: no deadline is missed, whatever spot does", "[spot]") {
    const std::uint64_t seed = reeve::test::seed();
    INFO("REEVE_SEED=" << seed);
    for (const SpotPolicy policy : kPolicies) {
        for (std::uint64_t round = 0; round < 8; ++round) {
            std::mt19937_64 random(seed + round);
            const double stay = 0.5 + 0.06 * static_cast<double>(round);
            std::vector<bool> on(3);
            SpotTask task;
            task.work = 10;
            task.deadline = 10.7 + static_cast<double>(round);
            const Outcome out =
                run(SpotPlanner(task, policy, 3), 0.05, 3, [&](std::size_t, std::size_t zone) {
                    const auto draw = static_cast<double>(random() % 1000) / 1000;
                    if (draw > stay) on[zone] = !on[zone];
                    return static_cast<bool>(on[zone]);
                });
            INFO(to_string(policy) << " round " << round);
            CHECK(out.left >= -1e-9);
        }
    }
}

TEST_CASE("SpotPlanner: with spot always there nobody pays for more", "[spot]") {
    for (const SpotPolicy policy :
         {SpotPolicy::kGreedy, SpotPolicy::kUniform, SpotPolicy::kReeve}) {
        INFO(to_string(policy));
        const SpotTask task;
        const Outcome out = run(SpotPlanner(task, policy, 1), 0.05, 1,
                                [](std::size_t, std::size_t) { return true; });
        CHECK(out.cost == Approx((task.work + task.launch) * task.spot_price).epsilon(0.01));
    }
}

TEST_CASE("SpotPlanner: without spot it is on-demand, in time", "[spot]") {
    for (const SpotPolicy policy : kPolicies) {
        INFO(to_string(policy));
        const SpotTask task;
        const Outcome out = run(SpotPlanner(task, policy, 1), 0.05, 1,
                                [](std::size_t, std::size_t) { return false; });
        CHECK(out.left >= 0);
        CHECK(out.cost >= task.work);
        CHECK(out.cost <= (task.work + 1) * task.on_demand_price * 1.3);
    }
}

TEST_CASE("OnOffRate: learns how often spot goes, and that what has lasted tends to last",
          "[spot]") {
    OnOffRate rate;
    for (int i = 0; i < 20'000; ++i) {  // half an hour each, now and then twenty
        rate.observe(true, 0.5);
        rate.observe(false, 0.5);
        if (i % 10 != 0) continue;
        for (int hours = 0; hours < 40; ++hours) rate.observe(true, 0.5);
        rate.observe(false, 0.5);
    }
    CHECK(rate.regain() == Approx(2).epsilon(0.02));
    rate.observe(true, 0.5);
    CHECK(rate.loss() == Approx(1.0 / 0.6).epsilon(0.05));  // ten in eleven go, of 6 hours in all
    rate.observe(true, 0.5);
    CHECK(rate.loss() == Approx(1.0 / 19).epsilon(0.05));
}
