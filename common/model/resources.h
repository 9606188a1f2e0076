// Resources is the vector a task asks for and a worker offers.
//
// cpu in milli-cores, memory in bytes, GPUs as whole devices, and up to kNamedMax named resources
// of the cell's own, a count each; what a number is called stands elsewhere (resource_names.h).
// A plain value; fits() is the only comparison, component by component.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>

namespace reeve {

// Counts of named resources, a byte each. The highest bit of a byte is never used, so they are
// added, taken away and compared all at once.
struct NamedCounts {
    static constexpr std::size_t kNamedMax = 8;
    static constexpr std::uint32_t kCountMax = 127;

    std::uint64_t bytes = 0;

    auto operator<=>(const NamedCounts&) const = default;

    // What no room is enough for, as of a name that nobody has.
    static constexpr NamedCounts nowhere() { return {kTop}; }
    bool fits_nowhere() const { return (bytes & kTop) != 0; }

    std::uint32_t operator[](std::size_t i) const {
        return static_cast<std::uint32_t>(bytes >> (8 * i) & 0xFF);
    }
    // Precondition: i < kNamedMax, count <= kCountMax.
    void set(std::size_t i, std::uint32_t count) {
        bytes &= ~(std::uint64_t{0xFF} << (8 * i));
        bytes |= std::uint64_t{count} << (8 * i);
    }
    // None is more than there; a sum of two that is beyond kCountMax never fits.
    bool fits(const NamedCounts& room) const {
        return !fits_nowhere() && (((room.bytes | kTop) - bytes) & kTop) == kTop;
    }

    static constexpr std::uint64_t kTop = 0x8080'8080'8080'8080ULL;
};

struct Resources {
    std::uint32_t cpu_milli = 0;
    std::uint32_t gpus = 0;
    std::uint64_t memory_bytes = 0;
    NamedCounts named = {};

    auto operator<=>(const Resources&) const = default;

    bool fits(const Resources& room) const {
        return cpu_milli <= room.cpu_milli && gpus <= room.gpus &&
               memory_bytes <= room.memory_bytes && named.fits(room.named);
    }
    Resources& operator+=(const Resources& other) {
        cpu_milli += other.cpu_milli;
        gpus += other.gpus;
        memory_bytes += other.memory_bytes;
        named.bytes += other.named.bytes;
        return *this;
    }
    // Precondition: other.fits(*this).
    Resources& operator-=(const Resources& other) {
        cpu_milli -= other.cpu_milli;
        gpus -= other.gpus;
        memory_bytes -= other.memory_bytes;
        named.bytes -= other.named.bytes;
        return *this;
    }
};

}  // namespace reeve
