#include "scheduler/core/cluster.h"

#include <algorithm>
#include <array>
#include <set>

#include "common/base/assert.h"

namespace reeve::sched {
namespace {

constexpr std::array<std::pair<ClusterPolicy, std::string_view>, 5> kNames{{
    {ClusterPolicy::kReeve, "reeve"},
    {ClusterPolicy::kFcfs, "fcfs"},
    {ClusterPolicy::kSjf, "sjf"},
    {ClusterPolicy::kEasy, "easy"},
    {ClusterPolicy::kBestFit, "best-fit"},
}};

// A job is urgent when less than this share of its limit is left before it must start.
constexpr double kRescueShare = 0.1;

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

std::string_view to_string(DecisionKind kind) {
    switch (kind) {
        case DecisionKind::kPlace:
            return "place";
        case DecisionKind::kPreempt:
            return "preempt";
        case DecisionKind::kReserve:
            return "reserve";
        case DecisionKind::kReject:
            return "reject";
    }
    return "unknown";
}

std::uint32_t ClusterCore::node_up(std::int64_t, const NodeOffer& node) {
    nodes_.push_back(Node{node, {}, false});
    nodes_.back().offer.used = Resources{};
    return static_cast<std::uint32_t>(nodes_.size() - 1);
}

void ClusterCore::node_down(std::int64_t now, std::uint32_t node, std::vector<Decision>& out) {
    nodes_[node].offer.open = false;
    nodes_[node].down = true;
    const std::vector<std::uint32_t> running = nodes_[node].running;
    for (const std::uint32_t job : running) push_aside(now, job, "node-lost", out);
}

void ClusterCore::node_notice(std::int64_t now, std::uint32_t node, std::vector<Decision>& out) {
    nodes_[node].offer.open = false;
    const std::vector<std::uint32_t> running = nodes_[node].running;
    for (const std::uint32_t job : running) push_aside(now, job, "spot-notice", out);
}

void ClusterCore::submit(std::int64_t now, std::uint32_t job, const ClusterJob& request,
                         std::vector<Decision>& out) {
    REEVE_ASSERT(request.limit > 0 && request.nodes > 0);
    if (job >= jobs_.size()) jobs_.resize(std::size_t{job} + 1);
    REEVE_ASSERT(jobs_[job].state == State::kUnknown);
    jobs_[job].request = request;
    if (options_.reject_impossible) {
        std::vector<NodeOffer> empty;
        for (const Node& node : nodes_) {
            empty.push_back(node.offer);
            empty.back().used = Resources{};
            empty.back().open = !node.down;
        }
        if (!choose_nodes(request.want, request.nodes, empty)) {
            jobs_[job].state = State::kRejected;
            jobs_[job].waits_for = "impossible";
            out.push_back(Decision{DecisionKind::kReject, job, {}, now, "impossible"});
            return;
        }
    }
    jobs_[job].state = State::kWaiting;
    waiting_.push_back(job);
}

void ClusterCore::cancel(std::int64_t now, std::uint32_t job) {
    if (jobs_[job].state == State::kRunning) {
        stop(now, job, State::kEnded);
    } else if (jobs_[job].state == State::kWaiting) {
        jobs_[job].state = State::kEnded;
        std::erase(waiting_, job);
    }
}

void ClusterCore::end(std::int64_t now, std::uint32_t job) {
    REEVE_ASSERT(jobs_[job].state == State::kRunning);
    stop(now, job, State::kEnded);
}

void ClusterCore::stop(std::int64_t now, std::uint32_t ref, State next) {
    Job& job = jobs_[ref];
    const auto seconds = static_cast<double>(now - job.started);
    spent_[job.request.user] += price_of(job, job.nodes) * seconds / 3600;
    const double cpus = static_cast<double>(job.request.want.request.cpu_milli) / 1000 +
                        8.0 * job.request.want.request.gpus;
    fair_.charge(job.request.user, job.request.group,
                 cpus * seconds * static_cast<double>(job.nodes.size()), static_cast<double>(now));
    for (const std::uint32_t node : job.nodes) {
        nodes_[node].offer.used -= job.request.want.request;
        user_used_[job.request.user] -= job.request.want.request;
        std::erase(nodes_[node].running, ref);
    }
    for (const std::string& name : job.request.named_limits) --named_used_[name];
    job.nodes.clear();
    job.state = next;
}

void ClusterCore::push_aside(std::int64_t now, std::uint32_t job, std::string reason,
                             std::vector<Decision>& out) {
    out.push_back(Decision{DecisionKind::kPreempt, job, jobs_[job].nodes, now, std::move(reason)});
    const bool cancelled = jobs_[job].request.preempt == PreemptMode::kCancel;
    stop(now, job, cancelled ? State::kEnded : State::kWaiting);
    if (!cancelled) waiting_.push_back(job);
}

void ClusterCore::place(std::int64_t now, std::uint32_t ref, std::vector<std::uint32_t> nodes,
                        std::vector<Decision>& out) {
    Job& job = jobs_[ref];
    for (const std::uint32_t node : nodes) {
        NodeOffer& offer = nodes_[node].offer;
        offer.used += job.request.want.request;
        REEVE_ASSERT(offer.used.fits(offer.capacity));
        user_used_[job.request.user] += job.request.want.request;
        nodes_[node].running.push_back(ref);
    }
    for (const std::string& name : job.request.named_limits) ++named_used_[name];
    job.state = State::kRunning;
    job.started = now;
    job.nodes = nodes;
    job.waits_for.clear();
    out.push_back(Decision{DecisionKind::kPlace, ref, std::move(nodes), now, ""});
}

bool ClusterCore::urgent(std::int64_t now, const ClusterJob& request) const {
    if (request.deadline < 0 || options_.policy != ClusterPolicy::kReeve) return false;
    const auto margin =
        static_cast<std::int64_t>(kRescueShare * static_cast<double>(request.limit));
    return now + request.limit + margin >= request.deadline && now < request.deadline;
}

OrderTerms ClusterCore::terms_of(std::int64_t now, const Job& job) const {
    const ClusterJob& request = job.request;
    const SlaClass sla = urgent(now, request) ? SlaClass::kCritical : request.want.sla;
    return order_terms(request.priority, sla, static_cast<double>(now - request.submit),
                       fair_.points(request.user, request.group, static_cast<double>(now)));
}

double ClusterCore::importance(std::int64_t now, const Job& job) const {
    const OrderTerms terms = terms_of(now, job);
    return terms.priority + terms.sla;
}

void ClusterCore::sort_waiting(std::int64_t now) {
    std::vector<std::pair<double, std::uint32_t>> order;
    for (const std::uint32_t ref : waiting_) {
        const ClusterJob& request = jobs_[ref].request;
        double rank = static_cast<double>(request.submit);
        if (options_.policy == ClusterPolicy::kSjf) rank = static_cast<double>(request.limit);
        if (options_.policy == ClusterPolicy::kReeve) rank = -terms_of(now, jobs_[ref]).score();
        order.emplace_back(rank, ref);
    }
    std::sort(order.begin(), order.end());
    for (std::size_t i = 0; i < order.size(); ++i) waiting_[i] = order[i].second;
}

bool ClusterCore::backfills() const {
    return options_.policy == ClusterPolicy::kReeve || options_.policy == ClusterPolicy::kEasy ||
           options_.policy == ClusterPolicy::kBestFit;
}

double ClusterCore::price_of(const Job&, const std::vector<std::uint32_t>& nodes) const {
    double price = 0;
    for (const std::uint32_t node : nodes) price += nodes_[node].offer.price();
    return price;
}

double ClusterCore::spent(const std::string& user) const {
    const auto found = spent_.find(user);
    return found == spent_.end() ? 0 : found->second;
}

// "" or the code of the limit that keeps the job waiting whatever is free.
std::string ClusterCore::blocked_by_limits(const Job& job) const {
    const ClusterJob& request = job.request;
    for (const std::string& name : request.named_limits) {
        const auto limit = options_.named_limits.find(name);
        const auto used = named_used_.find(name);
        if (limit != options_.named_limits.end() && used != named_used_.end() &&
            used->second >= limit->second) {
            return "named-limit";
        }
    }
    const auto quota = options_.user_quota.find(request.user);
    if (quota != options_.user_quota.end()) {
        const auto used = user_used_.find(request.user);
        Resources would = used == user_used_.end() ? Resources{} : used->second;
        for (std::uint32_t i = 0; i < request.nodes; ++i) would += request.want.request;
        if (!would.fits(quota->second)) return "quota";
    }
    const auto budget = options_.user_budget.find(request.user);
    if (budget != options_.user_budget.end() && spent(request.user) >= budget->second) {
        return "budget";
    }
    return "";
}

}  // namespace reeve::sched
