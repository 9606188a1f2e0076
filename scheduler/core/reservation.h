// The place that is kept for the best task that does not fit (EASY backfill), live; with
// conservative backfill for each of the best few, on a worker of its own each.
//
// Others may use its worker if they end before the reserved task can start, or if they fit beside
// it. Whether they end in time is a matter of time limits, for tasks without one of what was
// learned of their kind; what nobody has seen run never ends here.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "common/model/resources.h"
#include "scheduler/core/ports.h"

namespace reeve::sched {

// Something that runs will have ended by then, and what comes back.
struct Ending {
    std::int64_t at = 0;
    Resources gives;
};
struct FirstRoom {
    std::int64_t at = 0;
    Resources free;  // then, the request not yet taken
};
// When a request that does not fit now fits first, as these end; those of one time end together.
// The one rule of when a place comes free, live and in the simulator. Sorts the endings.
std::optional<FirstRoom> first_room(const Resources& request, Resources free,
                                    std::span<Ending> endings);

// What is kept for whom: for the best that does not fit, for each of the first few, for nobody.
enum class Backfill : std::uint8_t { kEasy, kConservative, kNone };

// A worker that may run the task, what is free on it now, and when what comes back.
struct WorkerOutlook {
    WorkerRef worker = kNoRef;
    Resources free;
    std::vector<Ending> ends;  // likely (run_bound.h), in ns, any order
};

struct Reservation {
    ClassRef cls = kNoRef;
    std::uint64_t key = 0;  // of the task; whoever comes before it is not held up
    WorkerRef worker = kNoRef;
    std::uint64_t at_ns = 0;
    Resources spare;      // beside the task when it starts
    bool strict = false;  // also against tasks without a time limit
    bool only = false;    // room that others were pushed aside for: theirs to wait, better or not

    bool same_place(const Reservation& other) const {
        return cls == other.cls && key == other.key && worker == other.worker && only == other.only;
    }
    bool is_for(const ClassHead& head) const { return head.cls == cls && head.key == key; }
    bool ends_in_time(std::uint64_t now_ns, std::uint64_t limit_ns) const {
        return limit_ns == 0 ? !strict : now_ns + limit_ns <= at_ns;
    }
};

// Where the request fits first: worker, time and spare are set. The first of equals.
std::optional<Reservation> plan_reservation(const Resources& request,
                                            std::span<WorkerOutlook> outlooks);

// The same for a gang: as many workers as it has nodes, all for the time when the last of them fits
// its share. Empty: so many never will.
std::vector<Reservation> plan_gang(const Resources& request, std::uint32_t nodes,
                                   std::span<WorkerOutlook> outlooks);

}  // namespace reeve::sched
