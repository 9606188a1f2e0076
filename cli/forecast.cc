#include "cli/forecast.h"

#include <algorithm>
#include <map>

#include "cli/text.h"
#include "common/base/clock.h"
#include "scheduler/core/cluster.h"
#include "scheduler/core/run_bound.h"

namespace reeve::cli {

namespace {

constexpr std::size_t kAheadMax = 500;
constexpr std::int64_t kUnlimited = 1'000'000'000;  // seconds: no time limit
constexpr std::int64_t kSoon = kUnlimited / 2;  // what starts later waits for something unlimited

sched::ClusterJob job_of(const Resources& request, const Wants& wants,
                         std::uint64_t time_limit_ns) {
    sched::ClusterJob job;
    job.want = sched::request_for(wants, request);
    job.limit = time_limit_ns == 0 ? kUnlimited
                                   : static_cast<std::int64_t>((time_limit_ns - 1) / kSecond) + 1;
    return job;
}

// Seconds it has been running, at least 0.
std::int64_t ran_for(const PictureTask& task, std::uint64_t now_ns) {
    if (task.started_ns == 0 || task.started_ns > now_ns) return 0;
    return static_cast<std::int64_t>((now_ns - task.started_ns) / kSecond);
}

std::uint64_t likely_run_ns(const PictureTask& task, std::uint64_t now_ns) {
    return sched::likely_run_ns(task.expected_ns, ran_for(task, now_ns), task.time_limit_ns);
}

// Its limit, else what was learned; 0: nobody knows.
std::uint64_t taken_to_run_ns(const PictureTask& task, std::uint64_t now_ns) {
    if (task.time_limit_ns != 0 || task.expected_ns == 0) return task.time_limit_ns;
    return likely_run_ns(task, now_ns);
}

}  // namespace

std::uint64_t likely_end_ns(const PictureTask& task, std::uint64_t now_ns) {
    const auto since = task.started_ns == 0 ? now_ns : task.started_ns;
    return std::max(since + likely_run_ns(task, now_ns), now_ns);
}

std::optional<std::uint64_t> earliest_start_ns(const Picture& picture, const ForecastTask& task) {
    sched::ClusterOptions options;
    options.policy = sched::ClusterPolicy::kEasy;
    sched::ClusterCore core(options);
    std::map<std::uint32_t, std::uint32_t> nodes;  // by worker slot
    for (const WorkerView& worker : picture.workers) {
        if (worker.state != shm::WorkerState::kAlive || worker.drain_wanted) continue;
        nodes[worker.slot] = core.add_node(offer_of(worker));
    }
    std::uint32_t ref = 0;
    std::map<std::uint32_t, Resources> used;
    std::vector<const PictureTask*> ahead;
    for (const PictureTask& other : picture.tasks) {
        if (other.state == shm::SlotState::kQueued) {
            if (other.key < task.key) ahead.push_back(&other);
            continue;
        }
        const auto node = nodes.find(other.worker_slot);
        if (node == nodes.end()) continue;
        Resources after = used[node->second];
        after += other.request;
        if (!after.fits(core.node(node->second).capacity)) continue;
        used[node->second] = after;
        core.adopt(ref++, job_of(other.request, Wants{}, taken_to_run_ns(other, picture.now_ns)),
                   {node->second}, -ran_for(other, picture.now_ns));
    }
    if (ahead.size() > kAheadMax || picture.backlog > 0) return std::nullopt;
    std::sort(ahead.begin(), ahead.end(),
              [](const PictureTask* a, const PictureTask* b) { return a->key < b->key; });
    std::vector<sched::Decision> decisions;
    for (const PictureTask* other : ahead) {
        const auto wants = picture.wants.find(other->class_id);
        sched::ClusterJob job =
            job_of(other->request, wants == picture.wants.end() ? Wants{} : wants->second,
                   other->time_limit_ns != 0 ? other->time_limit_ns : other->expected_ns);
        job.submit = ref;  // the order of the queue
        core.submit(0, ref++, job, decisions);
    }
    sched::ClusterJob mine = job_of(task.request, task.wants, task.time_limit_ns);
    mine.submit = ref;
    mine.nodes = task.nodes;
    core.submit(0, ref, mine, decisions);
    const auto start = core.explain(0, ref).earliest_start;
    if (!start || *start > kSoon) return std::nullopt;
    return picture.now_ns + static_cast<std::uint64_t>(*start) * kSecond;
}

std::string forecast_words(std::uint64_t start_ns, std::uint64_t now_ns) {
    if (start_ns <= now_ns) return "can start now";
    return "can start at " + format_time_ns(start_ns) + " (in " +
           format_duration_ns(start_ns - now_ns) +
           ") by the time limits (or learned run times) of what is before it";
}

}  // namespace reeve::cli
