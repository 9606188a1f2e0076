// Fills a cluster of GPU nodes with pods until the arrivals add up to a given share of its GPUs.
//
// Pods are drawn from the trace at random with replacement (seeded) and never leave; one that fits
// nowhere is turned away. What is allocated in the end tells how well a policy avoids fragments.
// The trace as a whole stands for the operator's history, from which typical shapes are learned.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "scheduler/core/gpu_fit.h"
#include "scheduler/sim/csv.h"
#include "scheduler/sim/metrics.h"

namespace reeve::sim {

struct GpuFitSetup {
    double load = 1.3;  // GPUs asked for over GPUs there are
    std::uint64_t runs = 10;
    std::uint64_t seed = 1;
};

// Shares and the cost are means over the runs; metrics.skipped counts pods turned away.
struct GpuFitResult {
    Metrics metrics;  // cost: per hour, of the nodes in use
    double gpus_allocated = 0;
    double gpus_allocated_min = 0;
    double cpus_allocated = 0;
};

Result<GpuFitResult> simulate_gpu_fit(const std::vector<GpuJob>& pods,
                                      const std::vector<GpuNode>& nodes, sched::GpuFitPolicy policy,
                                      const GpuFitSetup& setup, const Progress& progress = {});

std::string to_json(const GpuFitResult& result);
std::string to_table(const GpuFitResult& result);

}  // namespace reeve::sim
