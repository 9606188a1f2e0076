#include "scheduler/sim/gang_sim.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <set>
#include <tuple>

#include "common/base/clock.h"

namespace reeve::sim {
namespace {

constexpr std::int64_t kRestartSeconds = 60;

std::int64_t id_number(const std::string& id, std::size_t row) {
    std::int64_t value = 0;
    const auto [end, code] = std::from_chars(id.data(), id.data() + id.size(), value);
    const bool whole = code == std::errc{} && end == id.data() + id.size();
    return whole ? value : static_cast<std::int64_t>(row);
}

// The world around the core: true remaining run times, and when the running jobs end.
class World {
public:
    World(std::vector<const GpuJob*> jobs, std::int64_t gpus, sched::GangPolicy policy)
        : jobs_(std::move(jobs)), live_(jobs_.size()), core_(gpus, policy, kRestartSeconds) {
        for (std::size_t i = 0; i < jobs_.size(); ++i) live_[i].remaining = jobs_[i]->run;
    }

    void run(Metrics& metrics, const Progress& progress) {
        while (next_ < jobs_.size() || !ends_.empty()) {
            const std::int64_t now = next_time();
            step(now, metrics);
            if (progress && next_ % 1024 == 0) progress(next_, jobs_.size());
        }
        if (progress) progress(jobs_.size(), jobs_.size());
    }
    std::int64_t start_of(std::size_t i) const { return live_[i].first_start; }
    std::int64_t end_of(std::size_t i) const { return live_[i].end; }

private:
    using Ref = sched::GangCore::Ref;
    struct Live {
        std::int64_t remaining = 0;
        std::int64_t since = -1;  // while running
        std::int64_t first_start = -1;
        std::int64_t end = -1;
    };

    std::int64_t next_time() const {
        std::int64_t now = std::numeric_limits<std::int64_t>::max();
        if (next_ < jobs_.size()) now = std::min(now, jobs_[next_]->submit);
        if (!ends_.empty()) now = std::min(now, ends_.begin()->first);
        if (const auto change = core_.next_change()) now = std::min(now, *change);
        return now;
    }

    void step(std::int64_t now, Metrics& metrics) {
        while (!ends_.empty() && ends_.begin()->first == now) {
            const Ref ref = ends_.begin()->second;
            ends_.erase(ends_.begin());
            live_[ref].end = now;
            core_.end(now, ref);
        }
        for (; next_ < jobs_.size() && jobs_[next_]->submit == now; ++next_) {
            const GpuJob& job = *jobs_[next_];
            const std::int64_t deadline = job.deadline < 0 ? -1 : job.submit + job.deadline;
            core_.submit(now, static_cast<Ref>(next_),
                         sched::GangJob{job.submit, job.gpus, deadline, job.run});
        }
        metrics.max_queue = std::max<std::uint64_t>(metrics.max_queue, core_.live());
        core_.pass(now, decisions_);
        for (const Ref ref : decisions_.preempted) {
            Live& job = live_[ref];
            ends_.erase({job.since + job.remaining, ref});
            job.remaining -= now - job.since;
            ++metrics.preemptions;
        }
        for (const Ref ref : decisions_.started) {
            Live& job = live_[ref];
            if (job.first_start < 0) {
                job.first_start = now;
            } else {
                job.remaining += kRestartSeconds;
            }
            job.since = now;
            ends_.emplace(now + job.remaining, ref);
        }
        metrics.decisions += decisions_.started.size() + decisions_.preempted.size();
    }

    std::vector<const GpuJob*> jobs_;
    std::vector<Live> live_;
    sched::GangCore core_;
    std::set<std::pair<std::int64_t, Ref>> ends_;
    sched::GangDecisions decisions_;
    std::size_t next_ = 0;
};

}  // namespace

GangResult simulate_gangs(const std::vector<GpuJob>& trace, std::int64_t gpus,
                          sched::GangPolicy policy, const Progress& progress) {
    GangResult result;
    Metrics& metrics = result.metrics;
    metrics.policy = std::string(to_string(policy));
    std::vector<const GpuJob*> jobs;
    for (const GpuJob& job : trace) {
        if (job.gpus > 0 && job.gpus <= gpus) {
            jobs.push_back(&job);
        } else {
            ++metrics.skipped;
        }
    }
    std::stable_sort(jobs.begin(), jobs.end(), [](const GpuJob* a, const GpuJob* b) {
        return std::tie(a->submit, a->run, a->gpus, a->user) <
               std::tie(b->submit, b->run, b->gpus, b->user);
    });
    World world(jobs, gpus, policy);
    const std::uint64_t began = boot_ns();
    world.run(metrics, progress);
    const double seconds = static_cast<double>(boot_ns() - began) * 1e-9;
    metrics.decisions_per_s = static_cast<double>(metrics.decisions) / std::max(seconds, 1e-9);
    for (std::size_t i = 0; i < jobs.size(); ++i) {
        const GpuJob& job = *jobs[i];
        result.records.push_back(JobRecord{id_number(job.id, i), job.submit, world.start_of(i),
                                           world.end_of(i), job.run, job.gpus});
        if (job.deadline < 0) continue;
        ++metrics.deadlines;
        if (world.end_of(i) > job.submit + job.deadline) ++metrics.deadline_misses;
    }
    summarise(result.records, gpus, metrics);
    return result;
}

}  // namespace reeve::sim
