// MinTree finds the smallest of n 64-bit values, private memory: 8 children per node, values only.
//
// set() stops climbing where a minimum stays what it was. Only as many levels are kept as the
// largest index ever set to something finite needs. Ties: the lowest index.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/assert.h"
#include "common/shm/tournament_tree.h"

namespace reeve::shm {

class MinTree {
public:
    static constexpr std::uint64_t kInfinite = ~std::uint64_t{0};

    explicit MinTree(std::uint32_t count) {
        for (std::uint32_t size = count;;) {
            const auto groups = (size + 7) / 8;
            levels_.emplace_back(std::size_t{groups} * 8, kInfinite);
            if (groups <= 1) break;
            size = groups;
        }
    }

    std::uint64_t get(std::uint32_t index) const { return levels_[0][index]; }
    void set(std::uint32_t index, std::uint64_t value) {
        REEVE_ASSERT(index < levels_[0].size());
        if (levels_[0][index] == value) return;
        while ((index >> (3 * active_)) != 0) grow();
        for (std::uint32_t level = 0; level < active_; ++level) {
            auto& values = levels_[level];
            if (values[index] == value) return;
            values[index] = value;
            index /= 8;
            value = smallest(level, index).key;
        }
    }
    // The index of the smallest value; 0 when all are infinite.
    std::uint32_t best() const {
        std::uint32_t at = 0;
        for (auto level = active_; level-- > 0;) at = at * 8 + smallest(level, at).at;
        return at;
    }

private:
    Smallest smallest(std::uint32_t level, std::uint32_t group) const {
        const auto* values = &levels_[level][std::size_t{group} * 8];
        return smallest_of_8([values](std::uint32_t i) { return values[i]; });
    }
    void grow() {
        REEVE_ASSERT(active_ < levels_.size());
        levels_[active_][0] = smallest(active_ - 1, 0).key;
        ++active_;
    }

    std::vector<std::vector<std::uint64_t>> levels_;
    std::uint32_t active_ = 1;  // levels in use
};

}  // namespace reeve::shm
