// MinTree finds the smallest of n 64-bit values, private memory: 8 children per node, values only.
//
// set() stops climbing where a minimum stays what it was. Ties: the lowest index.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/assert.h"

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
        for (auto& level : levels_) {
            if (level[index] == value) return;
            level[index] = value;
            index /= 8;
            const auto* group = &level[std::size_t{index} * 8];
            for (int i = 0; i < 8; ++i) value = group[i] < value ? group[i] : value;
        }
    }
    // The index of the smallest value; count or beyond never, for an empty tree it is 0.
    std::uint32_t best() const {
        std::uint32_t at = 0;
        for (auto level = levels_.rbegin(); level != levels_.rend(); ++level) {
            const auto* group = &(*level)[std::size_t{at} * 8];
            std::uint32_t smallest = 0;
            for (std::uint32_t i = 1; i < 8; ++i) smallest = group[i] < group[smallest] ? i : smallest;
            at = at * 8 + smallest;
        }
        return at;
    }

private:
    std::vector<std::vector<std::uint64_t>> levels_;
};

}  // namespace reeve::shm
