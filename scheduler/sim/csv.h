// Reading the GPU traces: jobs and nodes as CSV (plain or gzip), strictly.
//
// Columns are found by the names in the first line. Empty means unknown or unlimited. Anything else
// that is not what the column promises is refused with its line and field.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace reeve::sim {

struct GpuJob {
    std::string id;
    std::int64_t submit = 0;
    std::int64_t run = 1;
    std::int64_t cpu_milli = 0;
    std::int64_t mem_mib = 0;
    std::int64_t gpus = 0;
    std::int64_t gpu_milli = 1000;  // of each GPU; below 1000 only with one GPU
    std::string gpu_model;          // "A|B": either
    std::int64_t priority = 0;
    std::string sla;
    std::int64_t deadline = -1;  // relative to submit; -1: none
    std::string user;
};

struct GpuNode {
    std::string id;
    std::int64_t cpu_milli = 0;
    std::int64_t mem_mib = 0;
    std::int64_t gpus = 0;
    std::string gpu_model;
    double price_per_hour = 0;
    double spot_price_per_hour = 0;
    bool spot = false;
};

Result<std::vector<GpuJob>> read_gpu_jobs(const std::string& path);
Result<std::vector<GpuNode>> read_gpu_nodes(const std::string& path);

}  // namespace reeve::sim
