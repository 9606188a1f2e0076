// Reading the Standard Workload Format (v2.2): rigid jobs on a machine of M processors.
//
// Which columns are used and how bad or missing values are treated is fixed (docs/policy.md,
// "SWF"), so that schedules can be compared job by job with other simulators.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "scheduler/core/rigid.h"

namespace reeve::sim {

struct SwfJob {
    sched::RigidJob job;   // what a policy may know
    std::int64_t run = 0;  // what only the simulator knows
};

struct SwfTrace {
    std::int64_t machine = 0;
    std::vector<SwfJob> jobs;         // by (submit, id)
    std::uint64_t skipped = 0;        // jobs left out: no size, no run time, wider than the machine
    std::uint64_t ignored_lines = 0;  // fewer than 12 fields
};

Result<SwfTrace> read_swf(const std::string& path);

}  // namespace reeve::sim
