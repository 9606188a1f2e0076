// The static key of a queued task: priority with linear ageing, then the order of submission.
//
// score = priority + hours waited grows at one speed for all, so the order of two tasks is settled
// when they are submitted: by submission time minus an hour for each point of priority. Smaller
// starts first.
//
//   63                              30 29                  0
//   | submission + 3600 * (most - priority), s | sequence |
#pragma once

#include <cstdint>

namespace reeve::shm {

inline constexpr int kSequenceBits = 30;
inline constexpr std::int32_t kPriorityMax = 500'000;
inline constexpr std::uint64_t kAgeingSeconds = 3600;  // waiting so long is worth one point

inline std::uint64_t heap_key(std::int32_t priority, std::uint64_t submit_wall_ns,
                              std::uint64_t sequence) {
    const auto below_top = static_cast<std::uint64_t>(kPriorityMax - priority);
    const std::uint64_t seconds = submit_wall_ns / 1'000'000'000 + below_top * kAgeingSeconds;
    return (seconds << kSequenceBits) | (sequence & ((std::uint64_t{1} << kSequenceBits) - 1));
}

}  // namespace reeve::shm
