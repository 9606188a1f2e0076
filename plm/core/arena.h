// Arena hands out ranges of the segment's payload arena. The PLM is its only user, so the free map
// is private memory; a restarted PLM rebuilds it from the payloads the slots still name
// (reserve()).
//
// Best fit with coalescing, 64-byte granules. Not thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>

namespace reeve::plm {

class Arena {
public:
    explicit Arena(std::uint64_t bytes) { give_back(0, bytes / kGranule * kGranule); }

    static constexpr std::uint64_t kGranule = 64;

    // nullopt when no free range is large enough.
    std::optional<std::uint64_t> allocate(std::uint64_t bytes);
    void release(std::uint64_t offset, std::uint64_t bytes) { give_back(offset, round_up(bytes)); }
    // Takes a range that is known to be in use; false when it is not free as a whole.
    bool reserve(std::uint64_t offset, std::uint64_t bytes);
    std::uint64_t free_bytes() const { return free_bytes_; }

private:
    static std::uint64_t round_up(std::uint64_t bytes) {
        const auto whole = (bytes + kGranule - 1) / kGranule * kGranule;
        return whole == 0 ? kGranule : whole;
    }
    void give_back(std::uint64_t offset, std::uint64_t bytes);
    void take(std::map<std::uint64_t, std::uint64_t>::iterator at, std::uint64_t offset,
              std::uint64_t bytes);

    std::map<std::uint64_t, std::uint64_t> by_offset_;           // offset -> size
    std::set<std::pair<std::uint64_t, std::uint64_t>> by_size_;  // (size, offset)
    std::uint64_t free_bytes_ = 0;
};

}  // namespace reeve::plm
