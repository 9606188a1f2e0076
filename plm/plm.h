// The PLM (process lifecycle manager) as a process: client-facing gRPC server, task ids, durable
// record, delivery of results. See plm/core/core.h for its one thread of decisions.
#pragma once

#include <cstdint>
#include <functional>
#include <map>

#include "common/process/cell.h"
#include "common/shm/layout.h"
#include "plm/policy.h"

namespace reeve::plm {

// A worker's ring holds the events of two batches, the one in flight and the one that gathers, of
// two events a task.
inline constexpr std::uint32_t kWorkerEventRing = 8'192;

struct PlmOptions {
    // Used when a new segment is made.
    shm::SegmentConfig segment{.worker_event_ring = kWorkerEventRing};
    bool durable = true;                         // false: --durability async
    std::uint64_t checkpoint_interval_ms = 250;  // audit log
    std::uint64_t snapshot_bytes = 64ULL << 20;  // ledger bytes between snapshots, at least
    std::uint32_t deaths_max = 5;
    std::map<std::uint32_t, std::uint64_t> budget_nano;  // by user id: what may be spent
    CellPolicy policy;
    // Reads DIR/policy.json again, once it is another file; unset: never.
    std::function<Result<CellPolicy>()> read_policy;
};

}  // namespace reeve::plm

namespace reeve {

// Runs until SIGTERM or SIGINT. Exit codes: 0 asked to stop; 5 another PLM holds the state
// directory; 7 the ledger, audit log or segment could not be opened (the reason is logged).
int plm_main(const Cell& cell, const plm::PlmOptions& options);

}  // namespace reeve
