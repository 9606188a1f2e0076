// What a task that a worker holds takes of it, counted from its slot: for a scheduler that finds a
// segment, or a worker, that it has not placed anything on itself.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/failpoint.h"
#include "common/model/resources.h"
#include "common/shm/segment.h"

namespace reeve::sched {

// Claims the slot for the worker that holds it, and adds to that worker's part of `used` and
// `gpus`. The claim first: without one the PLM may free a slot that has ended since `word` was
// read, and fill it with another task.
inline void count_use(const shm::Segment& segment, std::uint32_t index, shm::SlotWord word,
                      std::vector<Resources>& used, std::vector<std::uint64_t>& gpus) {
    auto& slot = segment.task(index);
    if (slot.class_id >= segment.config().classes) return;
    // The negative control of the kill tests: without it a worker's room is given out twice.
    if (REEVE_FAILPOINT_SKIPS("scheduler.count_use")) return;
    const auto worker = word.worker_slot();
    slot.claim.store(worker + 1);
    const auto now = shm::load_word(slot);
    const bool held = now.generation() == word.generation() && now.held_by_worker();
    if (!held || now.owner() != word.owner()) return slot.claim.store(0);
    used[worker] += segment.task_class(slot.class_id).request;
    gpus[worker] |= slot.gpu_mask.load();
}

}  // namespace reeve::sched
