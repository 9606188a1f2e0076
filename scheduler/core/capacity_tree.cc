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
    put(0, leaf, {cpu, gpus, memory, gpus > 1 ? cpu : 0});
}

// The maximum of a group is looked for again only where what was the maximum became less.
void CapacityTree::put(std::size_t level, std::uint32_t index, Entry now) {
    for (; true; ++level, index /= kFan) {
        Group& group = levels_[level][index / kFan];
        const std::uint32_t place = index % kFan;
        const bool top = level + 1 == levels_.size();
        const Group* above = top ? nullptr : &levels_[level + 1][index / kFan / kFan];
        const std::uint32_t place_above = index / kFan % kFan;
        bool changed = false;
        const auto lift = [&](auto Group::*part, std::int32_t& value) {
            const std::int32_t before = std::exchange((group.*part)[place], value);
            if (top) return;
            const std::int32_t most = (above->*part)[place_above];
            if (value < most) {
                value = before < most
                            ? most
                            : *std::max_element((group.*part).begin(), (group.*part).end());
            }
            changed |= value != most;
        };
        lift(&Group::cpu, now.cpu);
        lift(&Group::gpus, now.gpus);
        lift(&Group::memory, now.memory);
        lift(&Group::gpu_cpu, now.gpu_cpu);
        if (!changed) return;
    }
}

}  // namespace reeve::sched
