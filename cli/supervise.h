// The supervisor of a cell: starts the roles in order, watches them, restarts what died.
//
// Roles survive its death; the next supervisor adopts the living ones by DIR/run/<role>.pid (pid
// and start time, so that a reused pid is never taken for a role) and starts only what is missing.
// It never judges workers (the register does) and moves no task.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/clock.h"
#include "common/process/cell.h"

namespace reeve::cli {

struct SuperviseOptions {
    std::uint32_t workers = 1;
    // Passed on to the role's command line as they are, e.g. {"--cpus", "4"}.
    std::vector<std::string> worker_arguments;
    std::vector<std::string> plm_arguments;
    std::vector<std::string> scheduler_arguments;
    std::vector<std::string> register_arguments;
    int ready_fd = -1;                             // gets one line when ready, or when given up
    int lock_fd = -1;  // lock_supervisor()'s, from `up`; else taken here
    std::uint64_t ready_timeout_ns = 30 * kSecond;
    std::uint64_t heartbeat_stale_ns = 10 * kSecond;  // then a head role is killed
    std::uint32_t crashes_max = 10;                // of one role within crash_window_ns: give up
    std::uint64_t crash_window_ns = 60 * kSecond;
};

// Stays until SIGTERM or SIGINT (then it stops the group: workers, register, scheduler, plm), or
// until a role crash-loops. Returns the exit code: 0, 5 when another supervisor holds the cell, 7
// when it gave up.
int supervise_main(const Cell& cell, const SuperviseOptions& options);

// The supervisor's lock on the cell, held until every copy of the fd is closed.
// kFailedPrecondition: somebody has it, a supervisor or a `down`.
Result<int> lock_supervisor(const Cell& cell);

// Whether the present supervisor's group has been ready: all its roles were there at once.
bool supervisor_ready(const Cell& cell);

}  // namespace reeve::cli
