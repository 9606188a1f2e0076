#include "scheduler/core/cluster.h"

#include <algorithm>

#include "common/base/assert.h"

namespace reeve::sched {
namespace {

constexpr std::array<std::pair<ClusterPolicy, std::string_view>, 9> kNames{{
    {ClusterPolicy::kReeve, "reeve"},
    {ClusterPolicy::kFcfs, "fcfs"},
    {ClusterPolicy::kSjf, "sjf"},
    {ClusterPolicy::kEdf, "edf"},
    {ClusterPolicy::kEasy, "easy"},
    {ClusterPolicy::kEasySjbf, "easy-sjbf"},
    {ClusterPolicy::kSjfEasy, "sjf-easy"},
    {ClusterPolicy::kConservative, "conservative"},
    {ClusterPolicy::kBestFit, "best-fit"},
}};

constexpr double kNoDeadline = 1e18;

std::int64_t urgent_from(const ClusterJob& request) {
    return sched::urgent_from(request.deadline, request.limit);
}

}  // namespace

std::string_view to_string(ClusterPolicy policy) {
    for (const auto& [value, name] : kNames) {
        if (value == policy) return name;
    }
    return "unknown";
}

std::optional<ClusterPolicy> parse_cluster_policy(std::string_view name) {
    for (const auto& [value, known] : kNames) {
        if (known == name) return value;
    }
    return std::nullopt;
}

ClusterCore::ClusterCore(ClusterOptions options)
    : options_(std::move(options)),
      index_(options_.policy != ClusterPolicy::kBestFit),
      fair_(options_.fair_half_life_s) {
    for (const auto& [name, weight] : options_.shares) fair_.set_weight(name, weight);
}

std::uint32_t ClusterCore::add_node(const NodeOffer& node) {
    nodes_.emplace_back();
    return index_.add(node);
}

void ClusterCore::lose_node(std::int64_t now, std::uint32_t node, std::vector<Decision>& out) {
    drain_node(node);
    const std::vector<std::uint32_t> running = nodes_[node].running;
    for (const std::uint32_t job : running) push_aside(now, job, "node-lost", out);
}

void ClusterCore::warn_node(std::int64_t now, std::uint32_t node, std::vector<Decision>& out) {
    drain_node(node);
    const std::vector<std::uint32_t> running = nodes_[node].running;
    for (const std::uint32_t job : running) push_aside(now, job, "spot-notice", out);
}

bool ClusterCore::possible(const ClusterJob& request) const {
    std::uint32_t found = 0;
    for (std::uint32_t i = 0; i < index_.size() && found < request.nodes; ++i) {
        NodeOffer empty = index_[i];
        empty.used = Resources{};
        empty.open = true;
        found += refusal_of(request.want, empty) == Refusal::kNone ? 1U : 0U;
    }
    return found == request.nodes;
}

ClusterCore::Job& ClusterCore::new_job(std::uint32_t ref, const ClusterJob& request) {
    REEVE_ASSERT(request.limit > 0 && request.nodes > 0);
    if (ref >= jobs_.size()) jobs_.resize(std::size_t{ref} + 1);
    Job& job = jobs_[ref];
    REEVE_ASSERT(job.state == State::kUnknown);
    job.request = request;
    job.want = want_of(request);
    return job;
}

void ClusterCore::adopt(std::uint32_t ref, const ClusterJob& request,
                        std::vector<std::uint32_t> nodes, std::int64_t started) {
    new_job(ref, request);
    run(started, ref, std::move(nodes));
}

void ClusterCore::submit(std::int64_t now, std::uint32_t ref, const ClusterJob& request,
                         std::vector<Decision>& out) {
    Job& job = new_job(ref, request);
    Want& want = wants_[job.want];
    want.possible = want.possible || possible(request);
    if (!want.possible) {
        job.state = State::kRejected;
        out.push_back(Decision{DecisionKind::kReject, ref, {}, now, "impossible"});
        return;
    }
    enqueue(now, ref);
    watch_deadline(now, ref);
}

void ClusterCore::cancel(std::int64_t now, std::uint32_t ref) {
    if (jobs_[ref].state == State::kRunning) {
        stop(now, ref, State::kEnded);
    } else if (jobs_[ref].state == State::kWaiting) {
        dequeue(ref);
        jobs_[ref].state = State::kEnded;
    }
}

void ClusterCore::end(std::int64_t now, std::uint32_t ref) {
    REEVE_ASSERT(jobs_[ref].state == State::kRunning);
    stop(now, ref, State::kEnded);
}

std::uint32_t ClusterCore::want_of(const ClusterJob& request) {
    const auto [it, fresh] =
        want_ids_.try_emplace({request.want, request.nodes, request.named_limits},
                              static_cast<std::uint32_t>(wants_.size()));
    if (fresh) {
        Want& want = wants_.emplace_back();
        want.want = request.want;
        want.nodes = request.nodes;
        want.named_limits = request.named_limits;
    }
    return it->second;
}

std::uint32_t ClusterCore::class_of(std::int64_t now, const Job& job) {
    const ClusterJob& request = job.request;
    const SlaClass sla = urgent(now, request) ? SlaClass::kCritical : request.want.sla;
    const std::int64_t limit = options_.policy == ClusterPolicy::kEasySjbf ? request.limit : 0;
    const auto [it, fresh] = class_ids_.try_emplace(
        {request.user, request.group, job.want, request.priority, sla, limit},
        static_cast<std::uint32_t>(classes_.size()));
    if (fresh) {
        classes_.push_back(Class{request.user, request.group, job.want, request.priority, sla, {}});
    }
    return it->second;
}

// Smaller first, among jobs of one class; for most policies among all.
double ClusterCore::key_of(const ClusterJob& request) const {
    switch (options_.policy) {
        case ClusterPolicy::kSjf:
        case ClusterPolicy::kSjfEasy:
            return static_cast<double>(request.limit);
        case ClusterPolicy::kEdf:
            return request.deadline < 0 ? kNoDeadline : static_cast<double>(request.deadline);
        default:
            return static_cast<double>(request.submit);
    }
}

void ClusterCore::enqueue(std::int64_t now, std::uint32_t ref) {
    Job& job = jobs_[ref];
    job.state = State::kWaiting;
    job.cls = class_of(now, job);
    classes_[job.cls].jobs.emplace(key_of(job.request), ref);
    ++waiting_;
}

void ClusterCore::dequeue(std::uint32_t ref) {
    const Job& job = jobs_[ref];
    const std::size_t gone = classes_[job.cls].jobs.erase({key_of(job.request), ref});
    REEVE_ASSERT(gone == 1);
    --waiting_;
}

bool ClusterCore::urgent(std::int64_t now, const ClusterJob& request) const {
    return options_.policy == ClusterPolicy::kReeve && request.deadline >= 0 &&
           now >= urgent_from(request) && now < request.deadline;
}

double ClusterCore::importance(std::int64_t now, const ClusterJob& request,
                               std::uint32_t pushed) const {
    const SlaClass sla = urgent(now, request) ? SlaClass::kCritical : request.want.sla;
    return sched::importance(request.priority, sla, pushed);
}

// Notes when this job becomes urgent, or ceases to be.
void ClusterCore::watch_deadline(std::int64_t now, std::uint32_t ref) {
    const ClusterJob& request = jobs_[ref].request;
    if (options_.policy != ClusterPolicy::kReeve || request.deadline < 0) return;
    if (now < urgent_from(request)) {
        wakes_.emplace(urgent_from(request), ref);
    } else if (now < request.deadline) {
        wakes_.emplace(request.deadline, ref);
    }
}

std::optional<std::int64_t> ClusterCore::next_wake() const {
    if (wakes_.empty()) return std::nullopt;
    return wakes_.begin()->first;
}

void ClusterCore::stop(std::int64_t now, std::uint32_t ref, State next) {
    Job& job = jobs_[ref];
    const ClusterJob& request = job.request;
    const auto seconds = static_cast<double>(now - job.started);
    const double cpus = static_cast<double>(request.want.request.cpu_milli) / 1000 +
                        8.0 * request.want.request.gpus;
    fair_.charge(request.user, request.group,
                 cpus * seconds * static_cast<double>(job.nodes.size()), static_cast<double>(now));
    for (const std::uint32_t node : job.nodes) {
        spent_[request.user] += index_[node].price() * seconds / 3600;
        index_.release(node, request.want.request);
        user_used_[request.user] -= request.want.request;
        std::erase(nodes_[node].running, ref);
    }
    for (const std::string& name : request.named_limits) --named_used_[name];
    by_end_.erase({job.started + request.limit, ref});
    running_importance_.erase(
        running_importance_.find(request.priority + sla_points(request.want.sla)));
    job.nodes.clear();
    job.state = next;
}

void ClusterCore::push_aside(std::int64_t now, std::uint32_t job, const std::string& reason,
                             std::vector<Decision>& out) {
    out.push_back(Decision{DecisionKind::kPreempt, job, jobs_[job].nodes, now, reason});
    stop(now, job, State::kEnded);
    if (jobs_[job].request.preempt == PreemptMode::kCancel) return;
    enqueue(now, job);
    watch_deadline(now, job);
}

void ClusterCore::place(std::int64_t now, std::uint32_t ref, std::vector<std::uint32_t> nodes,
                        std::vector<Decision>& out) {
    dequeue(ref);
    out.push_back(Decision{DecisionKind::kPlace, ref, nodes, now, ""});
    run(now, ref, std::move(nodes));
}

void ClusterCore::run(std::int64_t now, std::uint32_t ref, std::vector<std::uint32_t> nodes) {
    Job& job = jobs_[ref];
    const ClusterJob& request = job.request;
    for (const std::uint32_t node : nodes) {
        index_.claim(node, request.want.request);
        user_used_[request.user] += request.want.request;
        nodes_[node].running.push_back(ref);
    }
    for (const std::string& name : request.named_limits) ++named_used_[name];
    by_end_.emplace(now + request.limit, ref);
    running_importance_.insert(request.priority + sla_points(request.want.sla));
    job.state = State::kRunning;
    job.started = now;
    job.nodes = std::move(nodes);
}

double ClusterCore::spent(const std::string& user) const {
    const auto found = spent_.find(user);
    return found == spent_.end() ? 0 : found->second;
}

}  // namespace reeve::sched
