// Arena hands out ranges of the segment's payload arena. The PLM is its only user, so the free map
// is private memory; a restarted PLM rebuilds it from the payloads the slots still name
// (reserve()).
//
// Best fit with coalescing, 64-byte granules. Small ranges given back are kept aside by size and
// given out again as they are; they join their neighbours when the rest is not enough. Not
// thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

namespace reeve::plm {

class Arena {
public:
    explicit Arena(std::uint64_t bytes) { give_back(0, bytes / kGranule * kGranule); }

    static constexpr std::uint64_t kGranule = 64;

    // nullopt when no free range is large enough.
    std::optional<std::uint64_t> allocate(std::uint64_t bytes);
    void release(std::uint64_t offset, std::uint64_t bytes);
    // Takes a range that is known to be in use; false when it is not free as a whole.
    bool reserve(std::uint64_t offset, std::uint64_t bytes);
    std::uint64_t free_bytes() const { return free_bytes_ + aside_bytes_; }

private:
    static constexpr std::size_t kSmallGranules = 16;  // sizes kept aside

    std::optional<std::uint64_t> best_fit(std::uint64_t wanted);
    bool join_small();
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
    std::array<std::vector<std::uint64_t>, kSmallGranules + 1> small_;  // offsets, by granules
    std::uint64_t aside_bytes_ = 0;
};

}  // namespace reeve::plm
