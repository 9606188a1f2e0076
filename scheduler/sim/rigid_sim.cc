#include "scheduler/sim/rigid_sim.h"

#include <algorithm>
#include <queue>

#include "common/base/clock.h"

namespace reeve::sim {

RigidResult simulate_rigid(const SwfTrace& trace, sched::RigidPolicy policy,
                           const Progress& progress) {
    using End = std::pair<std::int64_t, sched::RigidCore::Ref>;
    RigidResult result;
    Metrics& metrics = result.metrics;
    metrics.policy = std::string(to_string(policy));
    metrics.skipped = trace.skipped;
    metrics.ignored_lines = trace.ignored_lines;
    const std::vector<SwfJob>& jobs = trace.jobs;
    std::vector<std::int64_t> starts(jobs.size(), -1);
    if (jobs.empty()) {
        summarise({}, trace.machine, metrics);
        return result;
    }
    sched::RigidCore core(trace.machine, policy);
    std::priority_queue<End, std::vector<End>, std::greater<>> ends;
    std::vector<sched::RigidCore::Ref> started;
    std::size_t next = 0;
    const std::uint64_t began = boot_ns();
    while (next < jobs.size() || !ends.empty()) {
        std::int64_t now = next < jobs.size() ? jobs[next].job.submit : ends.top().first;
        if (!ends.empty()) now = std::min(now, ends.top().first);
        for (; !ends.empty() && ends.top().first == now; ends.pop()) {
            core.end(now, ends.top().second);
        }
        for (; next < jobs.size() && jobs[next].job.submit == now; ++next) {
            core.submit(now, static_cast<sched::RigidCore::Ref>(next), jobs[next].job);
            if (progress && next % 4096 == 0) progress(next, jobs.size());
        }
        metrics.max_queue = std::max<std::uint64_t>(metrics.max_queue, core.queued());
        started.clear();
        core.pass(now, started);
        for (const auto ref : started) {
            starts[ref] = now;
            ends.emplace(now + jobs[ref].run, ref);
        }
        metrics.decisions += started.size();
    }
    const double seconds = static_cast<double>(boot_ns() - began) * 1e-9;
    metrics.decisions_per_s = static_cast<double>(metrics.decisions) / std::max(seconds, 1e-9);
    if (progress) progress(jobs.size(), jobs.size());
    metrics.backfilled = core.backfilled();
    result.records.reserve(jobs.size());
    for (std::size_t i = 0; i < jobs.size(); ++i) {
        result.records.push_back(JobRecord{jobs[i].job.id, jobs[i].job.submit, starts[i],
                                           starts[i] + jobs[i].run, jobs[i].run, jobs[i].job.size});
    }
    summarise(result.records, trace.machine, metrics);
    return result;
}

}  // namespace reeve::sim
