// The static key of a queued task: priority with linear ageing, then the order of submission.
//
// score = priority + hours waited grows at one speed for all, so the order of two tasks is settled
// when they are submitted: by submission time minus an hour for each point of priority. Smaller
// starts first.
//
// SLA and fair-share points are settled then, too: they are a head start in seconds, an hour each
// (scheduler/core/order.h). A deadline that comes near is a new key.
//
//   63                                             30 29                  0
//   | submission - head start + 3600 * (most - priority), s | sequence |
#pragma once

#include <cstdint>

namespace reeve::shm {

inline constexpr int kSequenceBits = 30;
inline constexpr std::int32_t kPriorityMax = 500'000;
inline constexpr std::uint64_t kAgeingSeconds = 3600;  // waiting so long is worth one point

inline std::uint64_t heap_key(std::int32_t priority, std::uint64_t submit_wall_ns,
                              std::uint64_t sequence, std::int64_t head_start_s = 0) {
    const auto below_top = static_cast<std::uint64_t>(kPriorityMax - priority);
    const auto asked = submit_wall_ns / 1'000'000'000 + below_top * kAgeingSeconds;
    const auto moved = static_cast<std::int64_t>(asked) - head_start_s;
    const auto seconds = moved < 0 ? 0 : static_cast<std::uint64_t>(moved);
    return (seconds << kSequenceBits) | (sequence & ((std::uint64_t{1} << kSequenceBits) - 1));
}

// The head start a key was made with.
inline std::int64_t head_start_of(std::uint64_t key, std::int32_t priority,
                                  std::uint64_t submit_wall_ns) {
    const auto plain = heap_key(priority, submit_wall_ns, 0) >> kSequenceBits;
    return static_cast<std::int64_t>(plain) - static_cast<std::int64_t>(key >> kSequenceBits);
}

}  // namespace reeve::shm
