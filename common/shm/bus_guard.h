// BusGuard keeps whoever only reads a mapped object alive when the object is cut short.
//
// Touching a page that a file no longer has is SIGBUS. While a BusGuard lives, its mapping becomes
// one of zeros instead, whole and at once: a header of zeros is no live segment, so the reader lets
// go of it at its next look. For read-only mappings alone; a writer that went on would record
// things that are not so, and must die.
//
// Thread-safe. The handler stays installed and passes on what it does not know. At most kGuardsMax
// mappings are guarded at a time; further ones are not.
#pragma once

#include <cstddef>

namespace reeve::shm {

inline constexpr std::size_t kGuardsMax = 32;

class BusGuard {
public:
    BusGuard(void* base, std::size_t bytes);
    ~BusGuard();
    BusGuard(const BusGuard&) = delete;
    BusGuard& operator=(const BusGuard&) = delete;

private:
    std::size_t place_ = kGuardsMax;
};

}  // namespace reeve::shm
