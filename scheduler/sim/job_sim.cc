#include "scheduler/sim/job_sim.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "common/base/assert.h"
#include "common/base/clock.h"

namespace reeve::sim {
namespace {

constexpr std::int64_t kRestartSeconds = 60;  // a resume from a checkpoint
constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

class World {
public:
    World(const Workload& workload, JobSimResult& result)
        : workload_(workload),
          core_(workload.options),
          result_(result),
          live_(workload.jobs.size()) {
        for (std::size_t i = 0; i < workload.jobs.size(); ++i) live_[i].left = workload.jobs[i].run;
        for (std::uint32_t i = 0; i < workload.nodes.size(); ++i) {
            const SimNode& node = workload.nodes[i];
            sched::NodeOffer offer = node.offer;
            offer.open = node.up_at == 0;
            core_.add_node(offer);
            if (node.up_at > 0) changes_.emplace(node.up_at, std::pair{Change::kUp, i});
            if (node.notice_at >= 0)
                changes_.emplace(node.notice_at, std::pair{Change::kNotice, i});
            if (node.down_at >= 0) changes_.emplace(node.down_at, std::pair{Change::kDown, i});
        }
    }

    void run(const Progress& progress) {
        std::int64_t now = next_time();
        for (; now != kNever; now = next_time()) {
            step(now);
            if (progress && submitted_ % 256 == 0) progress(submitted_, live_.size());
        }
        if (progress) progress(live_.size(), live_.size());
        for (std::uint32_t i = 0; i < live_.size(); ++i) {
            if (live_[i].finished || live_[i].rejected) continue;
            result_.unfinished.emplace_back(i, core_.explain(last_, i).reason);
        }
    }
    const sched::ClusterCore& core() const { return core_; }

private:
    enum class Change { kUp, kNotice, kDown };
    struct Live {
        std::int64_t left = 0;
        std::size_t attempt = 0;  // index into the result's attempts, while running
        bool running = false, started = false, finished = false, rejected = false;
        bool resumes = false;  // from a checkpoint
    };

    std::int64_t next_time() const {
        std::int64_t next = kNever;
        if (submitted_ < live_.size()) next = workload_.jobs[submitted_].job.submit;
        if (!ends_.empty()) next = std::min(next, ends_.begin()->first);
        if (!changes_.empty()) next = std::min(next, changes_.begin()->first);
        if (const auto wake = core_.next_wake()) next = std::min(next, *wake);
        return next;
    }

    void step(std::int64_t now) {
        last_ = now;
        decisions_.clear();
        while (!ends_.empty() && ends_.begin()->first == now) {
            const std::uint32_t ref = ends_.begin()->second;
            ends_.erase(ends_.begin());
            finish(now, ref);
        }
        while (!changes_.empty() && changes_.begin()->first == now) {
            const auto [change, node] = changes_.begin()->second;
            changes_.erase(changes_.begin());
            if (change == Change::kUp) core_.open_node(node);
            if (change == Change::kNotice) core_.warn_node(now, node, decisions_);
            if (change == Change::kDown) core_.lose_node(now, node, decisions_);
        }
        for (; submitted_ < live_.size() && workload_.jobs[submitted_].job.submit == now;
             ++submitted_) {
            core_.submit(now, static_cast<std::uint32_t>(submitted_),
                         workload_.jobs[submitted_].job, decisions_);
        }
        result_.metrics.max_queue =
            std::max<std::uint64_t>(result_.metrics.max_queue, core_.waiting());
        core_.pass(now, decisions_);
        for (const sched::Decision& decision : decisions_) obey(now, decision);
    }

    void obey(std::int64_t now, const sched::Decision& decision) {
        Live& job = live_[decision.job];
        ++result_.metrics.decisions;
        switch (decision.kind) {
            case sched::DecisionKind::kReserve:
                return;
            case sched::DecisionKind::kReject:
                job.rejected = true;
                result_.rejected.emplace_back(decision.job, decision.reason);
                return;
            case sched::DecisionKind::kPreempt:
                interrupt(now, decision);
                return;
            case sched::DecisionKind::kPlace:
                start(now, decision);
                return;
        }
    }

    void start(std::int64_t now, const sched::Decision& decision) {
        Live& job = live_[decision.job];
        if (job.resumes) job.left += kRestartSeconds;
        job.running = job.started = true;
        job.attempt = result_.attempts.size();
        result_.attempts.push_back(Attempt{decision.job, decision.nodes, now, now, 0, ""});
        const std::int64_t limit = workload_.jobs[decision.job].job.limit;
        ends_.emplace(now + std::min(job.left, limit), decision.job);
    }

    void close(std::int64_t now, Live& job, std::string reason) {
        Attempt& attempt = result_.attempts[job.attempt];
        attempt.end = now;
        attempt.end_reason = std::move(reason);
        double price = 0;
        for (const std::uint32_t node : attempt.nodes) price += core_.node(node).price();
        attempt.cost = price * static_cast<double>(now - attempt.start) / 3600;
        result_.metrics.cost += attempt.cost;
        job.running = false;
    }

    void interrupt(std::int64_t now, const sched::Decision& decision) {
        Live& job = live_[decision.job];
        const Attempt& attempt = result_.attempts[job.attempt];
        const std::int64_t ran = now - attempt.start;
        const sched::PreemptMode mode = workload_.jobs[decision.job].job.preempt;
        ends_.erase({attempt.start + std::min(job.left, workload_.jobs[decision.job].job.limit),
                     decision.job});
        const bool warned = decision.reason != "node-lost";
        job.resumes = warned && (mode == sched::PreemptMode::kCheckpoint ||
                                 mode == sched::PreemptMode::kSuspend);
        job.left = job.resumes ? job.left - ran : workload_.jobs[decision.job].run;
        if (mode == sched::PreemptMode::kCancel) job.finished = true;
        ++result_.metrics.preemptions;
        close(now, job, decision.reason);
    }

    void finish(std::int64_t now, std::uint32_t ref) {
        Live& job = live_[ref];
        const std::int64_t ran = now - result_.attempts[job.attempt].start;
        close(now, job, ran < job.left ? "time-limit" : "");
        job.finished = true;
        core_.end(now, ref);
    }

    const Workload& workload_;
    sched::ClusterCore core_;
    JobSimResult& result_;
    std::vector<Live> live_;
    std::set<std::pair<std::int64_t, std::uint32_t>> ends_;
    std::multimap<std::int64_t, std::pair<Change, std::uint32_t>> changes_;
    std::vector<sched::Decision> decisions_;
    std::size_t submitted_ = 0;
    std::int64_t last_ = 0;
};

// One record per job that ran: from its first start to its last end.
std::vector<JobRecord> records_of(const JobSimResult& result, const Workload& workload) {
    std::map<std::uint32_t, JobRecord> by_job;
    for (const Attempt& attempt : result.attempts) {
        const SimJob& job = workload.jobs[attempt.job];
        auto [it, fresh] = by_job.try_emplace(attempt.job);
        JobRecord& record = it->second;
        if (fresh) {
            record.id = attempt.job;
            record.submit = job.job.submit;
            record.start = attempt.start;
            record.run = job.run;
            record.size = std::max<std::int64_t>(
                1, static_cast<std::int64_t>(job.job.want.request.cpu_milli) * job.job.nodes);
        }
        record.end = attempt.end;
    }
    std::vector<JobRecord> out;
    for (const auto& [ref, record] : by_job) out.push_back(record);
    return out;
}

}  // namespace

JobSimResult simulate_jobs(const Workload& workload, const Progress& progress) {
    JobSimResult result;
    Metrics& metrics = result.metrics;
    metrics.policy = std::string(to_string(workload.options.policy));
    World world(workload, result);
    const std::uint64_t began = boot_ns();
    world.run(progress);
    const double seconds = static_cast<double>(boot_ns() - began) * 1e-9;
    metrics.decisions_per_s = static_cast<double>(metrics.decisions) / std::max(seconds, 1e-9);
    metrics.skipped = result.rejected.size() + result.unfinished.size();
    std::int64_t capacity = 0;
    for (const SimNode& node : workload.nodes) capacity += node.offer.capacity.cpu_milli;
    summarise(records_of(result, workload), std::max<std::int64_t>(capacity, 1), metrics);
    std::map<std::uint32_t, std::int64_t> ended;
    for (const Attempt& attempt : result.attempts) {
        if (attempt.end_reason.empty()) ended[attempt.job] = attempt.end;
    }
    for (std::uint32_t i = 0; i < workload.jobs.size(); ++i) {
        if (workload.jobs[i].job.deadline < 0) continue;
        ++metrics.deadlines;
        const auto found = ended.find(i);
        if (found == ended.end() || found->second > workload.jobs[i].job.deadline) {
            ++metrics.deadline_misses;
        }
    }
    return result;
}

}  // namespace reeve::sim
