// Registry is one register's work on one segment: who is a member, who is dead, what is given back.
//
// step() is one pass of the loop: look at every worker slot, feed the failure detector, begin and
// advance burials, and about once a second reconcile the slots with the members (a slot assigned to
// a worker that is not there, orphans of a rebuild, heap nodes a dead process left unclimbed).
// step() never blocks for long; what has to be waited for is asked again in the next pass.
//
// Everything it remembers can be found again in the segment, so it may be destroyed at any time.
//
// Tested in tests/unit/register/registry_test.cc with real processes.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "common/process/cell.h"
#include "common/shm/segment.h"
#include "common/shm/task_heap.h"
#include "register/burial.h"
#include "register/core/failure_detector.h"
#include "register/event_sink.h"
#include "register/pid_watch.h"
#include "register/register.h"
#include "register/slot_reaper.h"

namespace reeve::registry {

class Registry {
public:
    Registry(const shm::Segment& segment, const Cell& cell, const RegisterOptions& options);

    // One pass; returns how long the caller may sleep if nobody wakes it.
    std::uint64_t step(std::uint64_t now);
    bool burying() const { return !burials_.empty(); }

private:
    void watch(std::uint32_t index, std::uint64_t now);
    void watch_member(std::uint32_t index, shm::WorkerState state, std::uint64_t now);
    void welcome(std::uint32_t index, WorkerId id);
    void obey_drain(std::uint32_t index, shm::WorkerState state, WorkerId id);
    void declare_dead(const Death& death);
    void bury_orphans_of(const Death& death, std::uint64_t now);
    void begin_burial(std::uint32_t index, shm::WorkerState state, bool unlogged,
                      std::uint64_t now);
    bool being_buried(std::uint32_t index) const;
    bool judged(std::uint32_t index, WorkerId id) const;  // dead already, and now in this slot
    // In a worker slot but that one, whatever its state but free.
    bool member(WorkerId id, std::uint32_t except = shm::kNone32) const;

    void reconcile(std::uint64_t now);
    // Whether a held slot's owner is not its holder; alone it proves nothing, the next look does.
    bool astray(const shm::TaskSlot& task, shm::SlotWord word) const;
    void bury_strays(const std::vector<std::uint32_t>& slots, std::uint64_t now);
    void heal_heaps();

    const shm::Segment& segment_;
    RegisterOptions options_;
    FailureDetector detector_;
    Leftovers leftovers_;
    PidWatch pids_;
    EventSink events_;
    SlotReaper reaper_;
    Tools tools_;
    shm::TaskHeap heap_;
    std::vector<Burial> burials_;
    std::map<std::uint32_t, std::uint64_t> suspects_;  // slot -> word of the last look
    std::set<WorkerId> buried_;                        // ids that must not come back
    std::uint64_t next_reconcile_ = 0;
    std::uint32_t next_heal_chunk_ = 0;
};

}  // namespace reeve::registry
