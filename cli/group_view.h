// GroupView is what can be known of a cell's processes without asking any of them: pid files, /proc
// and the segment. Works with every daemon dead, stopped or wedged.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/process/cell.h"

namespace reeve::cli {

struct ProcessView {
    std::string role;   // supervisor plm scheduler register worker launcher
    std::string name;   // as the supervisor calls it: "plm", "worker-1"
    pid_t pid = 0;      // 0: never started or cleanly stopped
    std::string state;  // running, stopped (SIGSTOP), stale (no heartbeat for 3 s), dead, missing
    std::int64_t heartbeat_age_ms = -1;  // -1: it has none
    std::int64_t uptime_ms = -1;
    std::string worker_state;  // of workers: joining, alive, draining, dead, left
    std::uint64_t worker_number = 0;
    std::uint64_t worker_incarnation = 0;
};

struct GroupView {
    std::string state;         // up, degraded, down
    std::string segment;       // "" when there is none
    std::string segment_note;  // why it cannot be read, or ""
    std::uint32_t generation = 0;
    std::uint64_t epoch = 0;
    std::uint64_t cell_id = 0;
    bool acknowledging = false;
    std::vector<ProcessView> processes;
};

GroupView view_group(const Cell& cell);

}  // namespace reeve::cli
