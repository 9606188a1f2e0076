// What every role of a cell does to live: one of a kind, stop signals, attaching to the segment.
//
// A role runs serve(segment) until it is asked to stop or the segment is retired (the PLM made a
// new generation); then it attaches again. Signal handlers only set a flag and wake the role's own
// word.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "common/base/result.h"
#include "common/process/cell.h"
#include "common/shm/segment.h"

namespace reeve {

// Installs SIGTERM and SIGINT handlers (without SA_RESTART: sleeps end), unblocks both signals, and
// ignores SIGPIPE.
void catch_stop_signals();
bool stop_wanted();

// Takes DIR/run/<role>.lock until the process ends. kFailedPrecondition: another one lives.
Status lock_role(const Cell& cell, const std::string& role);

// The live segment, waiting for it; nullptr once asked to stop. Unusable ones are told once.
std::unique_ptr<shm::Segment> wait_for_segment(const Cell& cell);

// Whether a mapped segment still is the cell's: false once it is retired, or, looked at once a
// second, once the cell's file names another one. The second is what is left to notice when the
// object was removed or damaged from outside and the PLM could not mark it.
class SegmentHold {
public:
    SegmentHold(const Cell& cell, const shm::Segment& segment) : cell_(cell), segment_(segment) {}
    bool holds();

private:
    const Cell& cell_;
    const shm::Segment& segment_;
    std::uint64_t next_look_ns_ = 0;
};

// Fills our participant entry: pid, start time, heartbeat, epoch.
void announce(const shm::Segment& segment, shm::Participant& own);

// The main function of a role that lives in the segment only: lock, then attach and serve(segment)
// again and again. Returns the process's exit code: 0, 5 (another one lives), 7 (cannot start).
template <typename Serve>
int run_role(const Cell& cell, const std::string& role, Serve serve);

int start_role(const Cell& cell, const std::string& role);  // 0, or the exit code to leave with

template <typename Serve>
int run_role(const Cell& cell, const std::string& role, Serve serve) {
    if (const int code = start_role(cell, role); code != 0) return code;
    while (!stop_wanted()) {
        if (const auto segment = wait_for_segment(cell)) serve(*segment);
    }
    return 0;
}

}  // namespace reeve
