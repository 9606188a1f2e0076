// Stopping a group and clearing up after it: shared by the supervisor's end and by `down`.
//
// Order: workers first (they end their tasks and say goodbye), then, once the register has freed
// their slots, register, scheduler, PLM. Whoever outstays its time is SIGKILLed. clear_cell() then
// removes what is left of a cell that runs no more: processes, cgroups, segment, sockets, pid
// files.
#pragma once

#include <cstdint>
#include <vector>

#include "cli/role.h"
#include "common/base/clock.h"

namespace reeve::cli {

struct StopTimes {
    std::uint64_t worker_ns = 15 * kSecond;  // a task's own grace is 5 s
    std::uint64_t slots_ns = 3 * kSecond;
    std::uint64_t head_ns = 10 * kSecond;
};

// `roles` in start order. True when every one ended by itself.
bool stop_roles(const Cell& cell, std::vector<Role>& roles, const StopTimes& times);

// Only while no role runs (the caller holds the supervisor's lock). Returns how many reports of
// tasks wait in the segment for a PLM that can write them down (it was killed, or its disk is
// full): then the segment stays. Errors name what is left.
Result<std::uint64_t> clear_cell(const Cell& cell);

}  // namespace reeve::cli
