#include "cli/restart_policy.h"

#include "tests/support/catch.h"

using reeve::kMillisecond;
using reeve::kSecond;
using reeve::cli::LifeEnd;
using reeve::cli::RestartLimits;
using reeve::cli::RestartPolicy;

namespace {
const LifeEnd kEarlyCrash{20 * kMillisecond, false, false, false};
}

TEST_CASE("RestartPolicy: delays double from 50 ms to 5 s", "[supervise]") {
    RestartPolicy policy{RestartLimits{}};
    std::uint64_t now = 1'000 * kSecond;
    std::uint64_t expected = 50 * kMillisecond;
    for (int i = 0; i < 9; ++i) {
        CHECK(policy.ended(kEarlyCrash, now += kSecond) == std::min(expected, 5 * kSecond));
        expected *= 2;
    }
}

TEST_CASE("RestartPolicy: ten healthy seconds reset the delay", "[supervise]") {
    RestartPolicy policy{RestartLimits{}};
    std::uint64_t now = 1'000 * kSecond;
    for (int i = 0; i < 5; ++i) policy.ended(kEarlyCrash, now += kSecond);
    CHECK(policy.ended(LifeEnd{11 * kSecond, true, false, false}, now += 12 * kSecond) ==
          50 * kMillisecond);
}

TEST_CASE("RestartPolicy: ten crashes within a minute are a loop, spread out they are not",
          "[supervise]") {
    RestartPolicy dense{RestartLimits{}};
    std::uint64_t now = 1'000 * kSecond;
    for (int i = 0; i < 9; ++i) {
        dense.ended(kEarlyCrash, now += 5 * kSecond);
        CHECK_FALSE(dense.crash_loop());
    }
    dense.ended(kEarlyCrash, now += 5 * kSecond);
    CHECK(dense.crash_loop());
    RestartPolicy sparse{RestartLimits{}};
    for (int i = 0; i < 100; ++i) {
        sparse.ended(kEarlyCrash, now += 7 * kSecond);
        CHECK_FALSE(sparse.crash_loop());
    }
}

TEST_CASE("RestartPolicy: being killed is no crash", "[supervise]") {
    RestartPolicy policy{RestartLimits{}};
    std::uint64_t now = 1'000 * kSecond;
    for (int i = 0; i < 200; ++i) {
        const LifeEnd killed{100 * kMillisecond, true, true, false};
        CHECK(policy.ended(killed, now += 100 * kMillisecond) == 50 * kMillisecond);
    }
    CHECK_FALSE(policy.crash_loop());
    const LifeEnd killed_early{kMillisecond, false, true, false};
    CHECK(policy.ended(killed_early, now += kSecond) == 50 * kMillisecond);
    CHECK(policy.ended(killed_early, now += kSecond) == 100 * kMillisecond);
    CHECK_FALSE(policy.crash_loop());
}

TEST_CASE("RestartPolicy: a role that asks for it starts again at once", "[supervise]") {
    RestartPolicy policy{RestartLimits{}};
    for (int i = 0; i < 50; ++i) {
        CHECK(policy.ended(LifeEnd{kMillisecond, false, false, true}, 1'000 * kSecond) ==
              50 * kMillisecond);
    }
    CHECK_FALSE(policy.crash_loop());
}
