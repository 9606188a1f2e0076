// What /proc tells about a process: is it still the one we knew, and who carries our mark.
//
// A pid alone may be somebody else's tomorrow; (pid, start_ticks) names one process for as long as
// the machine is up. Zombies count as dead: they hold nothing but a table entry.
//
// pids_with_environment() is the sweep of last resort, for machines without cgroups: a process that
// emptied its environment is not found by it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

#include "common/base/result.h"

namespace reeve {

struct ProcStat {
    pid_t pid = 0;
    pid_t parent = 0;
    pid_t group = 0;
    pid_t session = 0;
    char state = '?';               // R S D Z T ...
    std::uint64_t start_ticks = 0;  // field 22
};

Result<ProcStat> read_proc_stat(pid_t pid);

// kNotFound when there is no such process.
Result<std::uint64_t> start_ticks(pid_t pid);

// True while that very process lives (not a zombie). start_ticks 0: any process of that pid.
bool process_alive(pid_t pid, std::uint64_t ticks);

// All pids of /proc (that we may see).
std::vector<pid_t> all_pids();

// The value of one variable in a process's initial environment; "" when absent or unreadable.
std::string process_environment(pid_t pid, std::string_view name);

// Processes whose initial environment holds exactly `assignment` ("REEVE_INSTANCE=ab12.3.7").
std::vector<pid_t> pids_with_environment(std::string_view assignment);

// SIGKILLs all of those, again and again until none is left or the deadline (boot_ns) passed.
// kDeadlineExceeded names how many are left.
Status kill_by_environment(std::string_view assignment, std::uint64_t deadline_ns);

}  // namespace reeve
