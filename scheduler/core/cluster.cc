#include "scheduler/core/cluster.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

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
    marks_.emplace_back();
    const std::uint32_t added = index_.add(node);
    room_came(added);
    return added;
}

void ClusterCore::open_node(std::uint32_t node) {
    index_.set_open(node, true);
    room_came(node);
}

void ClusterCore::drain_node(std::uint32_t node) {
    index_.set_open(node, false);
    note_change(node);
}

void ClusterCore::room_came(std::uint32_t node) {
    note_change(node);
    const NodeOffer& offer = index_[node];
    Resources free = offer.capacity;
    free -= offer.used;
    parked_.take_fitting(
        free,
        [&](const ClassShape& shape) {
            return barrier_of(wants_[shape.constraint].want, offer) == Refusal::kNone;
        },
        [](std::uint32_t) {});
}

void ClusterCore::park(std::uint32_t want) {
    parked_.park(want, ClassShape{wants_[want].want.request, want});
}

void ClusterCore::lose_node(std::int64_t now, std::uint32_t node, std::vector<Decision>& out) {
    drain_node(node);
    const std::vector<Run> running = nodes_[node].running;
    for (const Run& run : running) push_aside(now, run.job, "node-lost", out);
}

void ClusterCore::warn_node(std::int64_t now, std::uint32_t node, std::vector<Decision>& out) {
    drain_node(node);
    const std::vector<Run> running = nodes_[node].running;
    for (const Run& run : running) push_aside(now, run.job, "spot-notice", out);
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
    if (ref >= jobs_.size()) {
        jobs_.resize(std::size_t{ref} + 1);
        places_.resize(jobs_.size());
    }
    Job& job = jobs_[ref];
    REEVE_ASSERT(job.state != State::kWaiting && job.state != State::kRunning);
    job.pushed = 0;
    job.submit = request.submit;
    job.limit = request.limit;
    job.deadline = request.deadline;
    job.minimum_run = static_cast<std::uint32_t>(std::clamp<std::int64_t>(
        request.minimum_run, 0, std::numeric_limits<std::uint32_t>::max()));
    job.priority = request.priority;
    job.preempt = request.preempt;
    job.want = want_of(request);
    job.account = account_of(request);
    job.program = program_of(request.name);
    job.length_milli = 0;
    if (options_.policy == ClusterPolicy::kReeve) {
        const double length = length_points(run_times_.known(run_key(job)));
        job.length_milli = static_cast<std::uint16_t>(std::lround(length * 1000));
    }
    return job;
}

void ClusterCore::adopt(std::uint32_t ref, const ClusterJob& request,
                        std::vector<std::uint32_t> nodes, std::int64_t started) {
    new_job(ref, request);
    run(started, ref, nodes);
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

// What stop() will want: nobody has looked at it for long.
void ClusterCore::fetch(std::uint32_t ref) const {
    __builtin_prefetch(&jobs_[ref], 1);
    const std::uint32_t node = places_[ref];
    if (node >= nodes_.size()) return;
    index_.fetch(node);
    const std::vector<Run>& running = nodes_[node].running;
    for (std::size_t i = 0; i < running.size(); i += 64 / sizeof(Run)) {
        __builtin_prefetch(&running[i], 1);
    }
}

void ClusterCore::end(std::int64_t now, std::uint32_t ref) {
    fetch(ref);
    Job& job = jobs_[ref];
    REEVE_ASSERT(job.state == State::kRunning);
    if (job.pushed == 0) {
        run_times_.note(run_key(job), static_cast<double>(now - job.started));
    }
    stop(now, ref, State::kEnded);
}

// Smaller first, among jobs of one class; for most policies among all.
double ClusterCore::key_of(const Job& job) const {
    switch (options_.policy) {
        case ClusterPolicy::kSjf:
        case ClusterPolicy::kSjfEasy:
            return static_cast<double>(job.limit);
        case ClusterPolicy::kEdf:
            return job.deadline < 0 ? kNoDeadline : static_cast<double>(job.deadline);
        default:
            return static_cast<double>(job.submit) + job.length_milli * kAgeingSeconds / 1000;
    }
}

void ClusterCore::enqueue(std::int64_t now, std::uint32_t ref) {
    Job& job = jobs_[ref];
    job.state = State::kWaiting;
    places_[ref] = class_of(now, job);
    Class& cls = classes_[places_[ref]];
    if (cls.jobs.empty()) {
        cls.listed = static_cast<std::uint32_t>(listed_.size());
        listed_.push_back(places_[ref]);
    }
    cls.jobs.emplace(key_of(job), ref);
    ++waiting_;
}

void ClusterCore::dequeue(std::uint32_t ref) {
    const Job& job = jobs_[ref];
    Class& cls = classes_[places_[ref]];
    const std::size_t gone = cls.jobs.erase({key_of(job), ref});
    REEVE_ASSERT(gone == 1);
    --waiting_;
    if (!cls.jobs.empty()) return;
    classes_[listed_.back()].listed = cls.listed;
    listed_[cls.listed] = listed_.back();
    listed_.pop_back();
}

bool ClusterCore::urgent(std::int64_t now, const Job& job) const {
    return options_.policy == ClusterPolicy::kReeve && job.deadline >= 0 &&
           now >= urgent_from(job.deadline, job.limit) && now < job.deadline;
}

SlaClass ClusterCore::sla_of(std::int64_t now, const Job& job) const {
    return urgent(now, job) ? SlaClass::kCritical : want(job).sla;
}

double ClusterCore::importance(std::int64_t now, const Job& job, std::uint32_t pushed) const {
    return sched::importance(job.priority, sla_of(now, job), pushed);
}

// Notes when this job becomes urgent, or ceases to be.
void ClusterCore::watch_deadline(std::int64_t now, std::uint32_t ref) {
    const Job& job = jobs_[ref];
    if (options_.policy != ClusterPolicy::kReeve || job.deadline < 0) return;
    const std::int64_t urgent_at = urgent_from(job.deadline, job.limit);
    if (now < urgent_at) {
        wakes_.emplace(urgent_at, ref);
    } else if (now < job.deadline) {
        wakes_.emplace(job.deadline, ref);
    }
}

std::optional<std::int64_t> ClusterCore::next_wake() const {
    if (wakes_.empty()) return std::nullopt;
    return wakes_.begin()->first;
}

void ClusterCore::stop(std::int64_t now, std::uint32_t ref, State next) {
    Job& job = jobs_[ref];
    const Want& wanted = wants_[job.want];
    const Resources& request = wanted.want.request;
    const Account& account = accounts_[job.account];
    User& user = users_[account.user_index];
    const Nodes nodes = nodes_of(ref);
    ends_.remove(job.started + job.limit, ref);
    const auto seconds = static_cast<double>(now - job.started);
    const double cpus = static_cast<double>(request.cpu_milli) / 1000 + 8.0 * request.gpus;
    fair_.charge(account.user, account.group, cpus * seconds * static_cast<double>(nodes.size()),
                 static_cast<double>(now));
    for (const std::uint32_t node : nodes) {
        user.spent += index_[node].price() * seconds / 3600;
        user.used -= request;
        index_.release(node, request);
        std::erase_if(nodes_[node].running, [ref](const Run& run) { return run.job == ref; });
        if (!outlined_.empty()) marks_[node].outlined = false;
        room_came(node);
    }
    for (const std::uint32_t limit : wanted.named_limits) --named_[limit].used;
    const auto level = running_importance_.find(job.priority + sla_points(wanted.want.sla));
    if (--level->second == 0) running_importance_.erase(level);
    if (job.gang != kNone) unused_gangs_.push_back(std::exchange(job.gang, kNone));
    job.state = next;
}

void ClusterCore::push_aside(std::int64_t now, std::uint32_t job, const std::string& reason,
                             std::vector<Decision>& out) {
    const Nodes nodes = nodes_of(job);
    out.push_back(Decision{DecisionKind::kPreempt, job, {nodes.begin(), nodes.end()}, now, reason});
    stop(now, job, State::kEnded);
    if (jobs_[job].preempt == PreemptMode::kCancel) return;
    enqueue(now, job);
    watch_deadline(now, job);
}

void ClusterCore::place(std::int64_t now, std::uint32_t ref, Nodes nodes,
                        std::vector<Decision>& out) {
    for (const std::uint32_t node : nodes) __builtin_prefetch(&nodes_[node]);
    dequeue(ref);
    out.push_back(Decision{DecisionKind::kPlace, ref, {nodes.begin(), nodes.end()}, now, ""});
    run(now, ref, nodes);
}

void ClusterCore::run(std::int64_t now, std::uint32_t ref, Nodes nodes) {
    Job& job = jobs_[ref];
    const Want& wanted = wants_[job.want];
    const Resources& request = wanted.want.request;
    User& user = user_of(job);
    for (const std::uint32_t node : nodes) {
        index_.claim(node, request);
        user.used += request;
        nodes_[node].running.push_back(Run{now + job.limit, ref, job.want});
        if (!outlined_.empty()) marks_[node].outlined = false;
        note_change(node);
    }
    for (const std::uint32_t limit : wanted.named_limits) ++named_[limit].used;
    ends_.add(now + job.limit, ref);
    ++running_importance_[job.priority + sla_points(wanted.want.sla)];
    job.state = State::kRunning;
    job.started = now;
    set_nodes(ref, nodes);
}

ClusterCore::Nodes ClusterCore::nodes_of(std::uint32_t ref) const {
    const Job& job = jobs_[ref];
    if (job.gang == kNone) return {&places_[ref], 1};
    return gangs_[job.gang];
}

void ClusterCore::set_nodes(std::uint32_t ref, Nodes nodes) {
    places_[ref] = nodes.front();
    if (nodes.size() == 1) return;
    Job& job = jobs_[ref];
    if (unused_gangs_.empty()) {
        unused_gangs_.push_back(static_cast<std::uint32_t>(gangs_.size()));
        gangs_.emplace_back();
    }
    job.gang = unused_gangs_.back();
    unused_gangs_.pop_back();
    gangs_[job.gang].assign(nodes.begin(), nodes.end());
}

double ClusterCore::spent(const std::string& user) const {
    const auto found = user_ids_.find(user);
    return found == user_ids_.end() ? 0 : users_[found->second].spent;
}

}  // namespace reeve::sched
