// `reeve sim --replay`: what a cell has run, as work for the simulator.
//
// Every task that ran to its end is one job: submitted when it was, or once what it waited for had
// ended, running as long as it did. Times are whole seconds. The nodes are the cell's workers, or a
// file's.
#pragma once

#include <string>

#include "common/base/result.h"
#include "common/process/cell.h"
#include "scheduler/sim/job_sim.h"

namespace reeve::cli {

struct Replay {
    sim::Workload workload;
    sim::Metrics recorded;  // how it really went
};

// nodes_file: nodes.json, or "" for the workers of the running cell.
Result<Replay> read_replay(const Cell& cell, const std::string& nodes_file);

}  // namespace reeve::cli
