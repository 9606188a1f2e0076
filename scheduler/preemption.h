// Preemption makes room, live: it asks for the attempts that scheduler/core/preempt.h chooses.
//
// The best waiting task that fits nowhere and may push others gets one push at a time: a kPreempt
// event for each victim, after which the PLM stops that very attempt as it would for a person
// (durable intent, TERM, grace, KILL, the task back into its queue). Until the task has its place
// the room is kept for it by a reservation of its own. The push itself is private memory: who comes
// after a dead scheduler finds the victims by their intents and does not choose a second time.
//
// Not thread-safe; the scheduler's thread owns it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "common/shm/ring.h"
#include "common/shm/segment.h"
#include "scheduler/core/preempt.h"
#include "scheduler/core/reservation.h"
#include "scheduler/live_ports.h"

namespace reeve::sched {

class Preemption {
public:
    Preemption(shm::Segment& segment, const LiveQueue& queue, const LiveWorkers& workers,
               shm::EventRing& events);

    // What to keep for whom while a push goes on, or begins now; nullopt: nobody is pushed.
    // `heads` are the best tasks that fit nowhere, best first.
    std::optional<Reservation> plan(std::span<const ClassHead> heads, std::uint64_t now_ns);
    bool pushing() const { return push_.has_value(); }

private:
    struct Asked {
        std::uint32_t slot = 0;
        shm::SlotWord word;
    };
    struct Push {
        ClassHead head;
        shm::SlotWord word;  // of the task that gets the room
        WorkerRef worker = kNoRef;
        std::vector<Asked> victims;
        std::uint64_t asked_ns = 0;
        std::uint64_t cleared_ns = 0;  // when the last victim was gone
    };
    // What runs where, seen once for all heads.
    struct Scene {
        std::vector<NodeVictims> workers;  // `free` with what is being stopped already
        double least = 0;                  // of all that run
        bool any = false;
    };

    double importance_of(std::uint32_t slot) const;
    double waiting_importance(std::uint32_t slot) const;
    Scene look() const;
    void begin(const ClassHead& head, const PreemptChoice& choice, std::uint64_t now_ns);
    bool goes_on(std::uint64_t now_ns);
    bool ask(const Asked& victim);
    Reservation reservation() const;

    shm::Segment& segment_;
    const LiveQueue& queue_;
    const LiveWorkers& workers_;
    shm::EventRing& events_;
    std::uint64_t first_event_;  // ours; what is before it our predecessor asked
    std::optional<Push> push_;
    std::uint64_t least_looked_ns_ = 0;
    std::uint64_t quiet_until_ns_ = 0;
    double least_ = 0;
};

}  // namespace reeve::sched
