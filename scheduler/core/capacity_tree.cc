#include "scheduler/core/capacity_tree.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace reeve::sched {
namespace {

constexpr std::int32_t kMost = std::numeric_limits<std::int32_t>::max();
constexpr std::uint64_t kMiB = 1ULL << 20;

std::int32_t clamp32(std::uint64_t value) {
    return value > static_cast<std::uint64_t>(kMost) ? kMost : static_cast<std::int32_t>(value);
}

}  // namespace

void CapacityTree::resize(std::uint32_t leaves) {
    const std::uint32_t before = size();
    std::vector<bool> opened(std::min(before, leaves));
    for (std::uint32_t leaf = 0; leaf < opened.size(); ++leaf) opened[leaf] = is_open(leaf);
    free_.resize(leaves);
    levels_.clear();
    std::uint32_t count = leaves;
    do {
        count = (count + kFan - 1) / kFan;
        levels_.emplace_back(std::max(count, 1U));
    } while (count > 1);
    for (std::uint32_t leaf = 0; leaf < opened.size(); ++leaf) {
        if (opened[leaf]) open(leaf, free_[leaf]);
    }
}

CapacityTree::Want CapacityTree::want_of(const Resources& request) {
    return Want{clamp32(request.cpu_milli), clamp32(std::uint64_t{request.gpus} + 1),
                clamp32(request.memory_bytes / kMiB), request.gpus > 0};
}

void CapacityTree::open(std::uint32_t leaf, const Resources& free) {
    REEVE_ASSERT(leaf < free_.size());
    free_[leaf] = free;
    const std::uint64_t mib = free.memory_bytes / kMiB + (free.memory_bytes % kMiB != 0 ? 1 : 0);
    write(leaf, clamp32(free.cpu_milli), clamp32(std::uint64_t{free.gpus} + 1), clamp32(mib));
}

void CapacityTree::close(std::uint32_t leaf) {
    REEVE_ASSERT(leaf < free_.size());
    write(leaf, 0, 0, 0);
}

void CapacityTree::write(std::uint32_t leaf, std::int32_t cpu, std::int32_t gpus,
                         std::int32_t memory) {
    Group& group = levels_[0][leaf / kFan];
    const std::uint32_t place = leaf % kFan;
    group.cpu[place] = cpu;
    group.gpus[place] = gpus;
    group.memory[place] = memory;
    group.gpu_cpu[place] = gpus > 1 ? cpu : 0;
    climb(leaf);
}

void CapacityTree::climb(std::uint32_t leaf) {
    std::uint32_t index = leaf / kFan;
    for (std::size_t level = 0; level + 1 < levels_.size(); ++level) {
        const Group& below = levels_[level][index];
        Group& above = levels_[level + 1][index / kFan];
        const std::uint32_t place = index % kFan;
        const auto lift = [place](std::array<std::int32_t, kFan>& into, const auto& from) {
            const std::int32_t most = *std::max_element(from.begin(), from.end());
            return std::exchange(into[place], most) != most;
        };
        bool changed = lift(above.cpu, below.cpu);
        changed |= lift(above.gpus, below.gpus);
        changed |= lift(above.memory, below.memory);
        changed |= lift(above.gpu_cpu, below.gpu_cpu);
        if (!changed) return;
        index /= kFan;
    }
}

}  // namespace reeve::sched
