// `reeve sim jobs.json nodes.json`: invented or exported work on described nodes, with costs.
//
// Jobs are {"jobs": [...]} or a list, nodes {"nodes": [...]} or a list; every field and its unit is
// in docs/policy.md. Times and sizes are text with a unit ("30m", "8G") or, for seconds and bytes,
// whole numbers. Anything unknown, missing, negative or doubled is refused with its place.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "scheduler/core/cluster.h"
#include "scheduler/sim/metrics.h"

namespace reeve::sim {

struct SimJob {
    std::string id;
    sched::ClusterJob job;
    std::int64_t run = 0;  // seconds it really takes
};

struct SimNode {
    sched::NodeOffer offer;
    std::int64_t up_at = 0;
    std::int64_t notice_at = -1;  // a spot node is told it will go ...
    std::int64_t down_at = -1;    // ... and is gone
};

struct Workload {
    std::vector<SimJob> jobs;
    std::vector<SimNode> nodes;
    sched::ClusterOptions options;  // limits, budgets, shares and quotas
};

// Names of named resources by their numbers: at most NamedCounts::kNamedMax. A new name gets the
// next one; nullopt: there is none left.
using NamedNumbers = std::vector<std::string>;
std::optional<std::size_t> number_of(NamedNumbers& names, std::string_view name);
Result<std::vector<SimNode>> read_nodes(const std::string& path, NamedNumbers& names);
Result<Workload> read_workload(const std::string& jobs_path, const std::string& nodes_path);

// One attempt of one job on its nodes.
struct Attempt {
    std::uint32_t job = 0;
    std::vector<std::uint32_t> nodes;
    std::int64_t start = 0;
    std::int64_t end = 0;
    double cost = 0;
    std::string end_reason;  // "" finished; preempted node-lost spot-notice time-limit
};

struct JobSimResult {
    Metrics metrics;
    std::vector<Attempt> attempts;
    std::vector<std::pair<std::uint32_t, std::string>> rejected;    // job, reason
    std::vector<std::pair<std::uint32_t, std::string>> unfinished;  // job, why it still waits
};

JobSimResult simulate_jobs(const Workload& workload, const Progress& progress = {});

// "id start" lines sorted by id.
std::string starts_text(const JobSimResult& result, const Workload& workload);
std::string to_table(const JobSimResult& result, const Workload& workload);
std::string to_json(const JobSimResult& result, const Workload& workload);
// A page with one row per node and one bar per attempt.
std::string to_timeline(const JobSimResult& result, const Workload& workload);

}  // namespace reeve::sim
