// What the scheduler has to know of a task to judge whom it may push aside: TaskSlot::policy.
//
//   31           8 7       4 3    2 1   0
//   | minimum run, s | pushed | mode | sla |
//
// The PLM is the only writer. The class changes while a deadline is near, also under a task that
// runs, so it is one atomic word and nothing else is read with it.
#pragma once

#include <algorithm>
#include <cstdint>

namespace reeve::shm {

inline constexpr std::uint32_t kMinimumRunMax = (1U << 24) - 1;
inline constexpr std::uint32_t kPushedMax = 15;

// The numbers of v1::SlaClass and v1::PreemptMode.
struct TaskPolicy {
    std::uint8_t sla = 0;      // standard, critical, flexible, spot
    std::uint8_t preempt = 0;  // requeue, cancel, never
    std::uint8_t pushed = 0;   // how often it was pushed aside, 15 for more
    std::uint32_t minimum_run_s = 0;

    std::uint32_t pack() const {
        return (sla & 3U) | (preempt & 3U) << 2 | std::min<std::uint32_t>(pushed, kPushedMax) << 4 |
               std::min(minimum_run_s, kMinimumRunMax) << 8;
    }
    static TaskPolicy unpack(std::uint32_t bits) {
        TaskPolicy out;
        out.sla = bits & 3U;
        out.preempt = (bits >> 2) & 3U;
        out.pushed = (bits >> 4) & 15U;
        out.minimum_run_s = bits >> 8;
        return out;
    }
};

}  // namespace reeve::shm
