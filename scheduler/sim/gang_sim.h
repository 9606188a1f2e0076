// Replays a GPU trace (gangs on G interchangeable GPUs) under one policy in virtual time.
//
// Preempted jobs keep their progress; every resume adds the restart cost to the remaining run.
#pragma once

#include <cstdint>
#include <vector>

#include "scheduler/core/gang.h"
#include "scheduler/sim/csv.h"
#include "scheduler/sim/metrics.h"

namespace reeve::sim {

struct GangResult {
    Metrics metrics;
    std::vector<JobRecord> records;  // ids as in the trace, or the row when an id is no number
};

GangResult simulate_gangs(const std::vector<GpuJob>& trace, std::int64_t gpus,
                          sched::GangPolicy policy, const Progress& progress = {});

}  // namespace reeve::sim
