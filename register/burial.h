// Burial is what happens after a death verdict (or a goodbye), step by step, without blocking.
//
//   kKilling    SIGKILL agent and launcher, until both are provably gone
//   kEmptying   end the cgroup subtree, until nothing lives in it: from here on no attempt overlaps
//   kScheduler  until the scheduler has begun a loop after the verdict, or is gone: it places
//               nothing on this worker any more, and all it placed is in the slots
//   kGiveBack   events: each slot's word as it is, then WORKER_DEAD, then each slot given back
//   kFreeing    until no slot carries the owner id or a claim; then the worker slot is free again
//
// Everything is repeatable: a register that starts anew finds the worker slot dead (or left) and
// begins at the top; a repeated event is recognised by the PLM.
//
// Waiting for a stopped scheduler costs nothing: only it could place the tasks again, and the
// supervisor kills it when its heartbeat is 10 s old.
//
// Tested in tests/unit/register/registry_test.cc.
#pragma once

#include <cstdint>
#include <string>

#include "common/base/ids.h"
#include "common/shm/segment.h"
#include "register/event_sink.h"
#include "register/leftovers.h"
#include "register/pid_watch.h"
#include "register/slot_reaper.h"

namespace reeve::registry {

// What a burial works with; all of it outlives the burial.
struct Tools {
    const shm::Segment& segment;
    const Leftovers& leftovers;
    PidWatch& pids;
    EventSink& events;
    SlotReaper& reaper;
};

// Whom it is about. Copied at the verdict, for the worker slot is not to be trusted afterwards.
struct Departed {
    WorkerId id;
    std::uint32_t index = shm::kNone32;  // kNone32: no worker slot (an orphan's holder)
    std::uint16_t owner = shm::kOwnerNone;  // what its slots carry
    ProcessId agent;
    ProcessId launcher;
    std::string cgroup_root;
    bool left = false;       // said goodbye: its processes get a while to end by themselves
    bool unlogged = false;   // never became alive: its WORKER_JOINED is to come first
};

class Burial {
public:
    Burial(Departed departed, std::uint64_t now);

    // Goes as far as it can now. True when over.
    bool advance(const Tools& tools, std::uint64_t now);
    // How long until it is worth trying again.
    std::uint64_t patience_ns(std::uint64_t now) const;

    const Departed& departed() const { return departed_; }
    bool given_back() const { return stage_ > Stage::kGiveBack; }

private:
    enum class Stage { kKilling, kEmptying, kScheduler, kGiveBack, kFreeing, kOver };

    bool killed(const Tools& tools, std::uint64_t now);
    bool scheduler_knows(const Tools& tools) const;
    void give_back(const Tools& tools);
    bool freed(const Tools& tools);
    std::vector<std::uint32_t> slots(const Tools& tools) const;
    void next(Stage stage, std::uint64_t now);
    void complain(std::uint64_t now);

    Departed departed_;
    Stage stage_ = Stage::kKilling;
    std::uint64_t begun_ns_;
    std::uint64_t stage_since_;
    bool complained_ = false;
    bool told_ = false;  // WORKER_DEAD or WORKER_LEFT is out
};

}  // namespace reeve::registry
