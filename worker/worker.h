// The worker's entry point: agent and launcher of one machine, `reeve worker`.
//
// Forks the launcher before any thread exists, attaches to the cell's segment, joins, and runs what
// the scheduler dispatches until it is told to stop (SIGTERM, SIGINT) or judged dead. A launcher
// that outlived its agent is taken over together with its attempts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/process/cell.h"

namespace reeve::worker {

struct WorkerOptions {
    std::string name = "worker-1";   // [a-z0-9._-], unique in the cell
    std::uint32_t cpu_milli = 0;     // 0: what affinity, cpuset and cpu.max leave us
    std::uint64_t memory_bytes = 0;  // 0: the machine's, or the cgroup's limit
    std::uint32_t gpus = 0;
    bool detect_gpus = false;  // offer what the driver shows (and our CUDA_VISIBLE_DEVICES leaves)
    std::vector<std::string> gpu_ids;  // for CUDA_VISIBLE_DEVICES; empty: 0, 1, ...
    std::uint32_t lease_ms = 3000;
    std::uint32_t grace_ms = 5000;       // TERM to KILL for tasks that name none
    std::uint32_t pids_max = 0;          // per task; 0: no limit
    bool limit_cpu = false;              // cpu quota per task, where cgroups allow
    bool require_cgroup = false;         // refuse to start without
    std::uint32_t price_micro = 0;       // of an hour, as it is paid
    std::uint32_t on_demand_micro = 0;   // what it were if it was not spot
    bool spot = false;                   // it may vanish
    std::vector<std::string> labels;     // sound ones, within kLabelsOfferedBytesMax
    std::vector<NamedAmount> resources;  // the same, within kResourcesBytesMax; sorted, each once
    std::vector<std::string> plugins;    // shared objects with handlers of function tasks
    std::string runner_program;          // a warm runner's command line; empty: none
    std::uint32_t recycle_after = 0;     // calls of it before it is started anew; 0: never
    std::uint32_t runners = 0;           // runner processes at most, per user; 0: one per cpu
    std::string runner_directory = "/";
    std::string executable = "/proc/self/exe";  // `reeve`, for its runners
};

// Exit codes: 0 stopped politely; 2 bad options; 4 no cell; 5 another worker of that name lives;
// 7 internal; 70 judged dead (start again).
int worker_main(const Cell& cell, const WorkerOptions& options);

}  // namespace reeve::worker

namespace reeve {
using worker::worker_main;
using worker::WorkerOptions;
}  // namespace reeve
