// A learned run time in 16 bits, for TaskSlot::expected: 1 + 2048 * log2(milliseconds), so within
// 0.04 % up to 49 days. 0: nothing was learned.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace reeve::shm {

inline std::uint16_t run_code(double seconds) {
    const double steps = 2048 * std::log2(std::max(seconds * 1000, 1.0));
    return static_cast<std::uint16_t>(std::min(std::lround(steps) + 1, 65'535L));
}
inline std::uint64_t run_ns_of(std::uint16_t code) {
    return code == 0 ? 0 : static_cast<std::uint64_t>(std::exp2((code - 1) / 2048.0) * 1e6);
}

}  // namespace reeve::shm
