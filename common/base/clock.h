// The clocks reeve uses, each for one purpose.
//
// boot_ns   CLOCK_BOOTTIME: leases, heartbeats, time limits; counts suspend, never jumps.
// wall_ns   CLOCK_REALTIME: only for what people read and for the audit log's informative time.
// Both are vDSO calls, thread-safe, nanoseconds.
#pragma once

#include <cstdint>
#include <ctime>

namespace reeve {

inline std::uint64_t read_clock_ns(clockid_t clock) {
    timespec now{};
    clock_gettime(clock, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000ULL +
           static_cast<std::uint64_t>(now.tv_nsec);
}

inline std::uint64_t boot_ns() { return read_clock_ns(CLOCK_BOOTTIME); }
inline std::uint64_t wall_ns() { return read_clock_ns(CLOCK_REALTIME); }

inline constexpr std::uint64_t kMillisecond = 1'000'000ULL;
inline constexpr std::uint64_t kSecond = 1'000'000'000ULL;

}  // namespace reeve
