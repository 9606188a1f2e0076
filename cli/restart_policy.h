// RestartPolicy says when a role that ended is started again, and when to give up. Pure.
//
// The delay is 50 ms and doubles with each life that ended before it was well, up to 5 s; ten
// healthy seconds reset it. A life that had become ready and was then SIGKILLed (by a person, a
// test, the kernel's OOM killer) is nobody's bug: it restarts at once and is not counted. Ten
// counted ends within a minute are a crash loop.
//
// Tested in tests/unit/register/restart_policy_test.cc.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>

#include "common/base/clock.h"

namespace reeve::cli {

struct RestartLimits {
    std::uint64_t delay_first_ns = 50 * kMillisecond;
    std::uint64_t delay_max_ns = 5 * kSecond;
    std::uint64_t healthy_after_ns = 10 * kSecond;
    std::uint32_t crashes_max = 10;
    std::uint64_t crash_window_ns = 60 * kSecond;
};

struct LifeEnd {
    std::uint64_t lived_ns = 0;
    bool was_ready = false;
    bool killed = false;      // by SIGKILL
    bool asks_restart = false;  // ended with "start me again" (a worker that was judged dead)
};

class RestartPolicy {
public:
    explicit RestartPolicy(const RestartLimits& limits)
        : limits_(limits), delay_ns_(limits.delay_first_ns) {}

    // A life ended at `now`: how long to wait before the next. Ask crash_loop() then.
    std::uint64_t ended(const LifeEnd& end, std::uint64_t now) {
        if (end.lived_ns >= limits_.healthy_after_ns) delay_ns_ = limits_.delay_first_ns;
        if ((end.killed && end.was_ready) || end.asks_restart) return limits_.delay_first_ns;
        if (!end.killed) crashes_.push_back(now);
        while (!crashes_.empty() && now - crashes_.front() > limits_.crash_window_ns) {
            crashes_.pop_front();
        }
        const auto delay = delay_ns_;
        delay_ns_ = std::min(delay_ns_ * 2, limits_.delay_max_ns);
        return delay;
    }
    bool crash_loop() const { return crashes_.size() >= limits_.crashes_max; }
    std::size_t crashes() const { return crashes_.size(); }
    void reset() {
        crashes_.clear();
        delay_ns_ = limits_.delay_first_ns;
    }

private:
    RestartLimits limits_;
    std::uint64_t delay_ns_;
    std::deque<std::uint64_t> crashes_;
};

}  // namespace reeve::cli
