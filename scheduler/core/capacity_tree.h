// CapacityTree answers "which is the first worker with room for this request?" without a scan.
//
// Leaves are workers in rank order (best first); an inner entry holds the component-wise maximum of
// the free vectors below it, eight children to a group. A subtree whose maximum does not cover the
// request is skipped whole; one whose maximum covers it only by mixing two workers is entered in
// vain, which costs a few groups. 100,000 workers are six levels.
//
// Used by every WorkerIndex (the live one keeps one beside the shared worker slots). The same tree
// with requests negated finds the parked shapes a freed worker can satisfy (fit_index.h).
// Not thread-safe; the scheduler is the only writer of resource use.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "common/base/assert.h"
#include "common/model/resources.h"

namespace reeve::sched {

class CapacityTree {
public:
    static constexpr std::uint32_t kNone = 0xFFFFFFFFU;
    static constexpr std::uint32_t kFan = 8;

    explicit CapacityTree(std::uint32_t leaves = 0) { resize(leaves); }

    // Grows or shrinks to so many leaves; the ones that stay keep what they have.
    void resize(std::uint32_t leaves);
    std::uint32_t size() const { return static_cast<std::uint32_t>(free_.size()); }

    // The leaf now has this much room and takes work.
    void open(std::uint32_t leaf, const Resources& free);
    // The leaf is passed over by every search until opened again.
    void close(std::uint32_t leaf);

    bool is_open(std::uint32_t leaf) const { return levels_[0][leaf / kFan].gpus[leaf % kFan] > 0; }
    const Resources& free_of(std::uint32_t leaf) const { return free_[leaf]; }
    bool fits(std::uint32_t leaf, const Resources& request) const {
        return is_open(leaf) && request.fits(free_[leaf]);
    }

    // The leaf will be opened or closed soon.
    void fetch(std::uint32_t leaf) const {
        const Group& group = levels_[0][leaf / kFan];
        __builtin_prefetch(&group, 1);
        __builtin_prefetch(&group.memory, 1);
        __builtin_prefetch(&free_[leaf], 1);
    }

    std::uint32_t first_fit(const Resources& request) const {
        return first_fit(request, [](std::uint32_t) { return true; });
    }
    // The first leaf that has room and which `accept(leaf)` agrees to.
    template <typename Accept>
    std::uint32_t first_fit(const Resources& request, Accept&& accept) const {
        return walk(request, accept);
    }

private:
    // Eight entries, component by component. gpus holds the count + 1; 0 marks a closed entry.
    // gpu_cpu is the cpu beside a free GPU: nodes with cpus and nodes with GPUs do not mix.
    // memory is in MiB, rounded up here and down in the request: the exact test is at the leaf.
    struct alignas(32) Group {
        std::array<std::int32_t, kFan> cpu{};
        std::array<std::int32_t, kFan> gpus{};
        std::array<std::int32_t, kFan> memory{};
        std::array<std::int32_t, kFan> gpu_cpu{};
    };
    struct Want {
        std::int32_t cpu, gpus, memory;
        bool on_gpu;
    };

    static Want want_of(const Resources& request);
    static std::uint32_t matches(const Group& group, const Want& want);
    struct Entry {
        std::int32_t cpu, gpus, memory, gpu_cpu;
    };
    void put(std::size_t level, std::uint32_t index, Entry now);
    void write(std::uint32_t leaf, std::int32_t cpu, std::int32_t gpus, std::int32_t memory);

    template <typename Accept>
    std::uint32_t walk(const Resources& request, Accept&& accept) const;

    static constexpr std::size_t kLevelsMax = 11;  // 8^11 > 2^32

    std::vector<std::vector<Group>> levels_;  // [0] = leaves; the last has one group
    std::vector<Resources> free_;
};

#if defined(__SSE2__)
inline std::uint32_t CapacityTree::matches(const Group& group, const Want& want) {
    const auto& cpus = want.on_gpu ? group.gpu_cpu : group.cpu;
    const __m128i cpu = _mm_set1_epi32(want.cpu);
    const __m128i gpus = _mm_set1_epi32(want.gpus);
    const __m128i memory = _mm_set1_epi32(want.memory);
    const auto four = [](const std::array<std::int32_t, kFan>& from, std::size_t half) {
        return _mm_load_si128(reinterpret_cast<const __m128i*>(from.data()) + half);
    };
    const auto too_little = [&](std::size_t half) {
        const __m128i any =
            _mm_or_si128(_mm_cmpgt_epi32(cpu, four(cpus, half)),
                         _mm_or_si128(_mm_cmpgt_epi32(gpus, four(group.gpus, half)),
                                      _mm_cmpgt_epi32(memory, four(group.memory, half))));
        return static_cast<std::uint32_t>(_mm_movemask_ps(_mm_castsi128_ps(any)));
    };
    return (too_little(0) | too_little(1) << 4U) ^ 0xFFU;
}
#else
inline std::uint32_t CapacityTree::matches(const Group& group, const Want& want) {
    std::uint32_t mask = 0;
    const auto& cpu = want.on_gpu ? group.gpu_cpu : group.cpu;
    for (std::uint32_t i = 0; i < kFan; ++i) {
        const bool fits =
            (cpu[i] >= want.cpu) & (group.gpus[i] >= want.gpus) & (group.memory[i] >= want.memory);
        mask |= static_cast<std::uint32_t>(fits) << i;
    }
    return mask;
}
#endif

// Depth first, left to right; `todo[level]` holds the matching children not yet entered.
template <typename Accept>
std::uint32_t CapacityTree::walk(const Resources& request, Accept&& accept) const {
    if (free_.empty()) return kNone;
    const Want want = want_of(request);
    std::array<std::uint32_t, kLevelsMax> todo{};
    std::array<std::uint32_t, kLevelsMax> group{};
    const std::size_t top = levels_.size() - 1;
    std::size_t level = top;
    todo[level] = matches(levels_[level][0], want);
    while (true) {
        if (todo[level] == 0) {
            if (level == top) return kNone;
            ++level;
            continue;
        }
        const auto child = static_cast<std::uint32_t>(__builtin_ctz(todo[level]));
        todo[level] &= todo[level] - 1;
        const std::uint32_t index = group[level] * kFan + child;
        if (level == 0) {
            if (request.fits(free_[index]) && accept(index)) return index;
            continue;
        }
        --level;
        group[level] = index;
        todo[level] = matches(levels_[level][index], want);
    }
}

}  // namespace reeve::sched
