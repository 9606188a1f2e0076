// Replays recorded spot availability around one job with a deadline, many times over.
//
// Traces: {path: {gap_seconds, ticks, rle: [[instances available, ticks], ...]}}, plain or gzip.
// The job runs on spot only in ticks with as many instances as it needs. A run that reaches the end
// of its trace goes on at the beginning.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "scheduler/core/spot.h"
#include "scheduler/sim/metrics.h"

namespace reeve::sim {

struct SpotTrace {
    std::string path;
    double tick_hours = 0;
    std::vector<bool> available;  // by tick
};

Result<std::vector<SpotTrace>> read_spot_traces(const std::string& path, std::int64_t instances);

struct SpotSetup {
    double work_hours = 48;
    double stretch = 1.25;       // deadline over work
    std::int64_t instances = 1;  // the job needs at once
    std::uint64_t runs = 200;    // random starts for each trace
    std::uint64_t seed = 1;
    bool zones = false;  // zones recorded together (same folder, same tick) may all be used
};

struct SpotFigures {
    std::string where;  // a trace, or a group of zones
    double cost = 0;    // over on-demand only
    std::uint64_t runs = 0;
    std::uint64_t deadline_misses = 0;
    double launches = 0;  // per run
    std::uint64_t decisions = 0;
};

// metrics.cost is the mean over the rows, over on-demand only; preemptions are launches but the
// first.
struct SpotResult {
    Metrics metrics;
    double stretch = 1;
    std::vector<SpotFigures> rows;
};

SpotResult simulate_spot(const std::vector<SpotTrace>& traces, sched::SpotPolicy policy,
                         const SpotSetup& setup, const Progress& progress = {});

std::string to_json(const SpotResult& result);
std::string to_table(const SpotResult& result);

}  // namespace reeve::sim
