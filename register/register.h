// The register: membership of workers, leases, death verdicts, and the requeue of what the dead
// held.
//
// It is the sole judge of death. A verdict is reached by register/core (pure); this side feeds it
// what it sees (pidfds, heartbeat words), kills what is left of the dead worker, waits until its
// cgroups are empty, and only then gives its tasks back: so two attempts of one task never overlap.
//
// May be killed at any moment and restarted alone: everything it knows is in the segment. A
// restarted register declares nobody dead for one full lease unless both its processes are provably
// gone.
#pragma once

#include <cstdint>

#include "common/base/clock.h"
#include "common/process/cell.h"

namespace reeve {

struct RegisterOptions {
    std::uint64_t lease_default_ns = 3 * kSecond;  // for a worker that names none
    std::uint64_t margin_ns = kSecond;             // on top of the lease for orphans of a rebuild
    // workers a task may take down: then it is poison
    std::uint32_t deaths_max = 5;
};

// Runs until SIGTERM or SIGINT. Returns the process's exit code.
int register_main(const Cell& cell, const RegisterOptions& options);

}  // namespace reeve
