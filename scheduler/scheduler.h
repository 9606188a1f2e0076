// The scheduler process: pops the best task that fits, claims resources on a worker, dispatches.
//
// It is the only claimer of tasks, the only writer of resource use and of `claim` in a slot. Its
// decisions are scheduler/core's PlacementCore, working on the shared heaps through the live ports.
// May be killed at any moment: a new one recomputes resource use from the slots, gives back what
// its predecessor had claimed, and announces again what it had assigned.
#pragma once

#include "common/process/cell.h"

namespace reeve {

struct SchedulerOptions {};

// Runs until SIGTERM or SIGINT. Exit codes: 0 asked to stop; 5 another scheduler lives; 7 no
// segment.
int scheduler_main(const Cell& cell, const SchedulerOptions& options);

}  // namespace reeve
