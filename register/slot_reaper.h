// SlotReaper gives the tasks of a worker that is gone back to the queue, or ends them.
//
// One compare-and-swap per slot, from exactly the word that was judged; a slot somebody else moved
// meanwhile is left alone. What the event tells (outcome, deaths) is written before the swap: the
// holder is dead and its cgroups are empty, so nobody else writes there.
//
// Death        a register killed between two slots leaves the rest to the next register: the worker
//              slot still says dead. Between (1) and (2) a death may be counted twice, never lost.
//              After (2) the event may be missing; the PLM infers it from the words.
//
// Tested in tests/unit/register/registry_test.cc.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "common/base/ids.h"
#include "common/shm/segment.h"
#include "common/shm/used_slots.h"
#include "common/shm/task_heap.h"
#include "register/event_sink.h"

namespace reeve::registry {

WorkerId holder_of(const shm::TaskSlot& task);

class SlotReaper {
public:
    SlotReaper(const shm::Segment& segment, EventSink& events, std::uint32_t deaths_max);

    // Calls visit(slot, task, word) for each slot in a chunk that is in use.
    template <typename Visit>
    void for_each(const Visit& visit) const {
        shm::for_each_used_slot(segment_, [&](std::uint32_t slot, const shm::TaskSlot& task) {
            visit(slot, task, shm::load_word(task));
        });
    }
    // Slots held under an owner id; with `id`, only those whose holder it is (orphans and strays,
    // where one owner id stands for several holders).
    std::vector<std::uint32_t> held_under(std::uint16_t owner,
                                          std::optional<WorkerId> id = std::nullopt) const;
    // Whether any slot carries the worker slot's owner id or a claim on its resources.
    bool still_mentioned(std::uint32_t worker_slot) const;

    // Tells the PLM the words as they are now: those slots, and what `id` ended last.
    void observe(const std::vector<std::uint32_t>& slots);
    void observe_ended_of(WorkerId id);
    // Queued again or ended, each with its event. Only slots that `owner` holds. Returns how many.
    std::uint32_t give_back(const std::vector<std::uint32_t>& slots, std::uint16_t owner,
                            WorkerId holder);
    void wake_everyone();

private:
    bool give_back_one(std::uint32_t slot, std::uint16_t owner, WorkerId holder);
    void push_moved(std::uint32_t slot, shm::SlotWord from, shm::SlotWord to, WorkerId holder);

    const shm::Segment& segment_;
    EventSink& events_;
    shm::TaskHeap heap_;
    std::uint32_t deaths_max_;
};

}  // namespace reeve::registry
