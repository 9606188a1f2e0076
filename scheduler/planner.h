// Planner keeps places for the best tasks that do not fit (reservation.h): what is free on each
// worker, and when what runs there will likely give its share back.
#pragma once

#include <vector>

#include "common/shm/segment.h"
#include "scheduler/core/reservation.h"
#include "scheduler/live_ports.h"

namespace reeve::sched {

class Planner {
public:
    Planner(const shm::Segment& segment, const LiveQueue& queue, const LiveWorkers& workers)
        : segment_(segment), queue_(queue), workers_(workers) {}

    // For the heads that wait, best first.
    std::vector<Reservation> plan(const std::vector<ClassHead>& heads) const;

private:
    std::vector<Reservation> places_for(const ClassHead& head,
                                        const std::vector<WorkerOutlook>& outlooks,
                                        const std::vector<Reservation>& taken) const;
    std::vector<WorkerOutlook> look_ahead(bool guess) const;

    const shm::Segment& segment_;
    const LiveQueue& queue_;
    const LiveWorkers& workers_;
};

}  // namespace reeve::sched
