// ClusterCore's pass: who starts where now, who is pushed aside, who gets a reservation.
#include <algorithm>

#include "common/base/assert.h"
#include "scheduler/core/cluster.h"

namespace reeve::sched {
bool ClusterCore::backfills() const {
    return options_.policy != ClusterPolicy::kFcfs && options_.policy != ClusterPolicy::kSjf &&
           options_.policy != ClusterPolicy::kEdf;
}

std::size_t ClusterCore::reservations_max() const {
    return options_.policy == ClusterPolicy::kConservative ? kPlannedMax : 1;
}

// Repeated while somebody was pushed aside: who was may fit elsewhere.
void ClusterCore::pass(std::int64_t now, std::vector<Decision>& out) {
    notice_deadlines(now);
    while (one_pass(now, out)) {
    }
    clear_reservations();
}

void ClusterCore::notice_deadlines(std::int64_t now) {
    while (!wakes_.empty() && wakes_.begin()->first <= now) {
        const std::uint32_t ref = wakes_.begin()->second;
        wakes_.erase(wakes_.begin());
        if (jobs_[ref].state != State::kWaiting) continue;
        dequeue(ref);
        enqueue(now, ref);
        watch_deadline(now, ref);
    }
}

double ClusterCore::rank_of(std::int64_t now, const Class& cls, const ClusterJob& request) {
    if (by_limit_) return static_cast<double>(request.limit);
    if (options_.policy != ClusterPolicy::kReeve) return key_of(request);
    const auto [points, fresh] = fair_points_.try_emplace({cls.user, cls.group}, 0);
    if (fresh) points->second = fair_.points(cls.user, cls.group, static_cast<double>(now));
    return -order_terms(cls.priority, cls.sla, static_cast<double>(now - request.submit),
                        points->second)
                .score();
}

void ClusterCore::collect_heads(std::int64_t now) {
    heads_.clear();
    fair_points_.clear();
    for (std::uint32_t i = 0; i < classes_.size(); ++i) {
        const Class& cls = classes_[i];
        if (cls.jobs.empty()) continue;
        const std::uint32_t ref = cls.jobs.begin()->second;
        heads_.push_back(Head{rank_of(now, cls, jobs_[ref].request), ref, i});
    }
    std::make_heap(heads_.begin(), heads_.end());
}

ClusterCore::Head ClusterCore::pop_head() {
    std::pop_heap(heads_.begin(), heads_.end());
    const Head head = heads_.back();
    heads_.pop_back();
    return head;
}

// The next of the same class takes its place.
void ClusterCore::push_next(std::int64_t now, const Head& head) {
    const Class& cls = classes_[head.cls];
    const auto next = cls.jobs.upper_bound({key_of(jobs_[head.job].request), head.job});
    if (next == cls.jobs.end()) return;
    heads_.push_back(Head{rank_of(now, cls, jobs_[next->second].request), next->second, head.cls});
    std::push_heap(heads_.begin(), heads_.end());
}

bool ClusterCore::one_pass(std::int64_t now, std::vector<Decision>& out) {
    clear_reservations();
    ++pass_number_;
    by_limit_ = false;
    bool pushed = false;
    collect_heads(now);
    while (!heads_.empty()) {
        const Head head = pop_head();
        switch (try_head(now, head, out)) {
            case Tried::kPushed:
                pushed = true;
                [[fallthrough]];
            case Tried::kPlaced:
            case Tried::kNextInClass:
                push_next(now, head);
                break;
            case Tried::kNextClass:
                break;
            case Tried::kByLimit:
                by_limit_ = true;
                collect_heads(now);
                break;
            case Tried::kStop:
                heads_.clear();
        }
    }
    by_limit_ = false;
    return pushed;
}

// A want that fitted nowhere is not tried again in this pass, nor one that was in the way of a
// reservation unless the job is shorter: room only shrinks until somebody is pushed aside.
ClusterCore::Tried ClusterCore::try_head(std::int64_t now, const Head& head,
                                         std::vector<Decision>& out) {
    if (!blocked_by_limits(classes_[head.cls]).empty()) return Tried::kNextClass;
    const Job& job = jobs_[head.job];
    const std::int64_t limit = job.request.limit;
    Want& want = wants_[job.want];
    if (want.tried_pass != pass_number_) want.begin(pass_number_);
    if (!want.misfit && limit < want.too_long) {
        if (auto nodes = choose_nodes(now, job)) {
            place(now, head.job, std::move(*nodes), out);
            return Tried::kPlaced;
        }
        want.too_long = limit;
        want.misfit = reservations_.empty() || !fits_now(job);
    }
    if (try_preempt(now, head.job, out)) {
        ++pass_number_;
        return Tried::kPushed;
    }
    if (!backfills()) return Tried::kStop;
    if (reservations_.size() < reservations_max()) {
        if (auto reservation = earliest(now, head.job)) {
            out.push_back(Decision{DecisionKind::kReserve, head.job, reservation->nodes,
                                   reservation->at, ""});
            add_reservation(std::move(*reservation));
            if (options_.policy == ClusterPolicy::kEasySjbf) return Tried::kByLimit;
        }
    }
    const bool whole_class = want.misfit && reservations_.size() >= reservations_max();
    return whole_class ? Tried::kNextClass : Tried::kNextInClass;
}

NodeVictims ClusterCore::victims_on(std::int64_t now, std::uint32_t node) const {
    NodeVictims out;
    out.node = node;
    out.free = index_[node].capacity;
    out.free -= index_[node].used;
    for (const std::uint32_t ref : nodes_[node].running) {
        const Job& job = jobs_[ref];
        const auto ran = static_cast<double>(now - job.started);
        const bool keeps = job.request.preempt == PreemptMode::kSuspend ||
                           job.request.preempt == PreemptMode::kCheckpoint;
        Victim victim;
        victim.job = ref;
        victim.importance = importance(now, job.request, job.pushed);
        victim.holds = job.request.want.request;
        victim.lost_work_s = keeps ? 0 : ran * static_cast<double>(job.nodes.size());
        victim.ran_s = ran;
        victim.minimum_run_s = static_cast<double>(job.request.minimum_run);
        victim.mode = job.request.preempt;
        out.running.push_back(victim);
    }
    return out;
}

// Pushes aside the least important work for a more important job and places that.
bool ClusterCore::try_preempt(std::int64_t now, std::uint32_t ref, std::vector<Decision>& out) {
    const Job& job = jobs_[ref];
    if (!options_.preemption || options_.policy != ClusterPolicy::kReeve) return false;
    const double important = importance(now, job.request);
    Want& want = wants_[job.want];
    if (job.request.nodes != 1 || running_importance_.empty() ||
        important <= *running_importance_.begin() || important <= want.pushes_nobody) {
        return false;
    }
    std::vector<NodeVictims> candidates;
    for (std::uint32_t node = 0; node < index_.size(); ++node) {
        if (nodes_[node].running.empty()) continue;
        NodeOffer empty = index_[node];
        empty.used = Resources{};
        if (refusal_of(job.request.want, empty) != Refusal::kNone) continue;
        candidates.push_back(victims_on(now, node));
    }
    const auto choice = choose_victims(job.request.want.request, important, candidates);
    if (!choice) {
        want.pushes_nobody = important;
        return false;
    }
    for (const std::uint32_t victim : choice->jobs) {
        ++jobs_[victim].pushed;
        push_aside(now, victim, "preempted", out);
    }
    place(now, ref, {choice->node}, out);
    return true;
}

// "" or the code of the limit that keeps the class waiting whatever is free.
std::string ClusterCore::blocked_by_limits(const Class& cls) const {
    const Want& want = wants_[cls.want];
    for (const std::string& name : want.named_limits) {
        const auto limit = options_.named_limits.find(name);
        const auto used = named_used_.find(name);
        if (limit != options_.named_limits.end() &&
            (used == named_used_.end() ? 0 : used->second) >= limit->second) {
            return "named-limit";
        }
    }
    if (const auto quota = options_.user_quota.find(cls.user); quota != options_.user_quota.end()) {
        const auto used = user_used_.find(cls.user);
        Resources would = used == user_used_.end() ? Resources{} : used->second;
        for (std::uint32_t i = 0; i < want.nodes; ++i) would += want.want.request;
        if (!would.fits(quota->second)) return "quota";
    }
    const auto budget = options_.user_budget.find(cls.user);
    if (budget != options_.user_budget.end() && spent(cls.user) >= budget->second) return "budget";
    return "";
}

}  // namespace reeve::sched
