// Resources is the vector a task asks for and a worker offers.
//
// cpu in milli-cores, memory in bytes, GPUs as whole devices. A plain value; fits() is the only
// comparison, component by component.
#pragma once

#include <compare>
#include <cstdint>

namespace reeve {

struct Resources {
    std::uint32_t cpu_milli = 0;
    std::uint32_t gpus = 0;
    std::uint64_t memory_bytes = 0;

    auto operator<=>(const Resources&) const = default;

    bool fits(const Resources& room) const {
        return cpu_milli <= room.cpu_milli && gpus <= room.gpus &&
               memory_bytes <= room.memory_bytes;
    }
    Resources& operator+=(const Resources& other) {
        cpu_milli += other.cpu_milli;
        gpus += other.gpus;
        memory_bytes += other.memory_bytes;
        return *this;
    }
    // Precondition: other.fits(*this).
    Resources& operator-=(const Resources& other) {
        cpu_milli -= other.cpu_milli;
        gpus -= other.gpus;
        memory_bytes -= other.memory_bytes;
        return *this;
    }
};

}  // namespace reeve
