// Replays an SWF trace under one policy in virtual time.
//
// At each distinct time: all ends, then all submissions by id, then one pass of the core. The
// result is the whole schedule and the figures of docs/policy.md.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "scheduler/core/rigid.h"
#include "scheduler/sim/metrics.h"
#include "scheduler/sim/swf.h"

namespace reeve::sim {

struct RigidResult {
    Metrics metrics;
    std::vector<JobRecord> records;  // in the trace's order
};

RigidResult simulate_rigid(const SwfTrace& trace, sched::RigidPolicy policy,
                           const Progress& progress = {});

}  // namespace reeve::sim
