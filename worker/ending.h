// How an attempt ended, in the slot's words: outcome, code and a line for people.
//
// Pure: facts in, words out. What reeve did first decides: a task that was told to stop is
// cancelled, timed out or requeued whatever status it then ends with; else a memory kill told by
// the kernel's event counter, else the exit status or signal.
#pragma once

#include <cstdint>
#include <string>

#include "worker/launcher_protocol.h"

namespace reeve::worker {

struct EndingFacts {
    int wait_status = 0;
    ChildReport report;
    StopReason reason = StopReason::kNone;
    bool stillborn = false;  // killed with its cgroup before it ran
    std::uint64_t oom_kills = 0;
    std::uint64_t memory_limit_bytes = 0;
    std::uint64_t time_limit_ns = 0;
};

// Fills outcome, exit_code, core_dumped, stopped_for and detail.
void describe_ending(const EndingFacts& facts, EndedRecord& out);

// The same of one that was told to stop (facts.reason): outcome and detail.
void describe_stopped(const EndingFacts& facts, EndedRecord& out);

// "SIGKILL", or "signal 40".
std::string signal_name(int number);

// The one line for a child that could not be started, at most 63 bytes.
std::string describe_start_failure(const ChildReport& report);

}  // namespace reeve::worker
