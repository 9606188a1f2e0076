// ClusterCore's pass: who starts where now, who is pushed aside, who gets a reservation.
#include <algorithm>
#include <limits>

#include "common/base/assert.h"
#include "scheduler/core/cluster.h"

namespace reeve::sched {
bool ClusterCore::backfills() const {
    return options_.policy != ClusterPolicy::kFcfs && options_.policy != ClusterPolicy::kSjf &&
           options_.policy != ClusterPolicy::kEdf;
}

bool ClusterCore::preempts() const {
    return options_.preemption && options_.policy == ClusterPolicy::kReeve;
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

double ClusterCore::rank_of(std::int64_t now, const Class& cls, const Job& job) {
    if (by_limit_) return static_cast<double>(job.limit);
    if (options_.policy != ClusterPolicy::kReeve) return key_of(job);
    Account& account = accounts_[cls.account];
    if (account.asked_in != collected_) {
        account.asked_in = collected_;
        account.fair_points = fair_.points(account.user, account.group, static_cast<double>(now));
    }
    return -order_terms(cls.priority, cls.sla, static_cast<double>(now - job.submit),
                        account.fair_points, job.length_milli / 1000.0)
                .score();
}

void ClusterCore::add_head(std::int64_t now, std::uint32_t index, std::uint32_t ref) {
    const Class& cls = classes_[index];
    const Head head{rank_of(now, cls, jobs_[ref]), ref, index};
    if (!parked_.parked(cls.want)) {
        heads_.push_back(head);
        std::push_heap(heads_.begin(), heads_.end());
        return;
    }
    parked_heads_.push_back(head);
    if (parked_order_ == ParkedOrder::kHeap) {
        std::push_heap(parked_heads_.begin(), parked_heads_.end());
    } else if (parked_order_ == ParkedOrder::kBestFirst && parked_heads_.front() < head) {
        std::swap(parked_heads_.front(), parked_heads_.back());
    }
}

void ClusterCore::collect_heads(std::int64_t now) {
    heads_.clear();
    parked_heads_.clear();
    parked_order_ = ParkedOrder::kBestFirst;
    ++collected_;
    most_important_ = -std::numeric_limits<double>::max();
    for (const std::uint32_t i : listed_) {
        const Class& cls = classes_[i];
        add_head(now, i, cls.jobs.begin()->second);
        most_important_ = std::max(most_important_, cls.importance);
    }
}

ClusterCore::Head ClusterCore::pop_head() {
    if (parked_order_ == ParkedOrder::kNone) {
        std::make_heap(parked_heads_.begin(), parked_heads_.end());
        parked_order_ = ParkedOrder::kHeap;
    }
    const bool parked =
        heads_.empty() || (!parked_heads_.empty() && heads_.front() < parked_heads_.front());
    std::vector<Head>& heads = parked ? parked_heads_ : heads_;
    const Head head = heads.front();
    if (parked && parked_order_ == ParkedOrder::kBestFirst) {
        heads.front() = heads.back();
        parked_order_ = ParkedOrder::kNone;
    } else {
        std::pop_heap(heads.begin(), heads.end());
    }
    heads.pop_back();
    return head;
}

// The next of the same class takes its place.
void ClusterCore::push_next(std::int64_t now, const Head& head) {
    const Class& cls = classes_[head.cls];
    const auto next = cls.jobs.upper_bound({key_of(jobs_[head.job]), head.job});
    if (next == cls.jobs.end()) return;
    add_head(now, head.cls, next->second);
}

bool ClusterCore::one_pass(std::int64_t now, std::vector<Decision>& out) {
    clear_reservations();
    ++pass_number_;
    by_limit_ = false;
    bool pushed = false;
    collect_heads(now);
    while (true) {
        if (!pushed && !parked_matter()) parked_heads_.clear();
        if (!any_head()) break;
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
                parked_heads_.clear();
        }
    }
    by_limit_ = false;
    return pushed;
}

// What is parked only waits for its reservation, or for somebody to push aside.
bool ClusterCore::parked_matter() const {
    if (reservations_.size() < reservations_max()) return true;
    return preempts() && !running_importance_.empty() &&
           most_important_ > running_importance_.begin()->first;
}

// A want that fitted nowhere is not tried again in this pass, nor one that was in the way of a
// reservation unless the job is shorter: room only shrinks until somebody is pushed aside.
ClusterCore::Tried ClusterCore::try_head(std::int64_t now, const Head& head,
                                         std::vector<Decision>& out) {
    if (!blocked_by_limits(classes_[head.cls]).empty()) return Tried::kNextClass;
    const Job& job = jobs_[head.job];
    const std::int64_t limit = job.limit;
    Want& want = wants_[job.want];
    if (want.tried_pass != pass_number_) want.begin(pass_number_);
    if (!parked_.parked(job.want) && limit < want.too_long) {
        if (choose_nodes(now, job)) {
            place(now, head.job, chosen_, out);
            return Tried::kPlaced;
        }
        want.too_long = limit;
        if (reservations_.empty() || !fits_now(job)) park(job.want);
    }
    if (try_preempt(now, head.job, out)) {
        ++pass_number_;
        return Tried::kPushed;
    }
    if (!backfills()) return Tried::kStop;
    if (reservations_.size() < reservations_max()) {
        if (auto reservation =
                reservations_.empty() ? reserve_first(now, head.job) : earliest(now, head.job)) {
            out.push_back(Decision{DecisionKind::kReserve, head.job, reservation->nodes,
                                   reservation->at, ""});
            add_reservation(std::move(*reservation));
            if (options_.policy == ClusterPolicy::kEasySjbf) return Tried::kByLimit;
        }
    }
    const bool whole_class = parked_.parked(job.want) && reservations_.size() >= reservations_max();
    return whole_class ? Tried::kNextClass : Tried::kNextInClass;
}

NodeVictims ClusterCore::victims_on(std::int64_t now, std::uint32_t node) const {
    NodeVictims out;
    out.node = node;
    out.free = index_[node].capacity;
    out.free -= index_[node].used;
    for (const Run& run : nodes_[node].running) {
        const Job& job = jobs_[run.job];
        const auto ran = static_cast<double>(now - job.started);
        const bool keeps =
            job.preempt == PreemptMode::kSuspend || job.preempt == PreemptMode::kCheckpoint;
        Victim victim;
        victim.job = run.job;
        victim.importance = importance(now, job, job.pushed);
        victim.holds = want(job).request;
        victim.lost_work_s = keeps ? 0 : ran * static_cast<double>(nodes_of(run.job).size());
        victim.ran_s = ran;
        victim.minimum_run_s = static_cast<double>(job.minimum_run);
        victim.mode = job.preempt;
        out.running.push_back(victim);
    }
    return out;
}

// Pushes aside the least important work for a more important job and places that.
bool ClusterCore::try_preempt(std::int64_t now, std::uint32_t ref, std::vector<Decision>& out) {
    const Job& job = jobs_[ref];
    if (!preempts()) return false;
    const double important = importance(now, job);
    Want& want = wants_[job.want];
    if (want.nodes != 1 || running_importance_.empty() ||
        important <= running_importance_.begin()->first || important <= want.pushes_nobody) {
        return false;
    }
    std::vector<NodeVictims> candidates;
    for (std::uint32_t node = 0; node < index_.size(); ++node) {
        if (nodes_[node].running.empty()) continue;
        if (refusal_when_empty(want.want, index_[node]) != Refusal::kNone) continue;
        candidates.push_back(victims_on(now, node));
    }
    const auto choice = choose_victims(want.want.request, important, candidates);
    if (!choice) {
        want.pushes_nobody = important;
        return false;
    }
    for (const std::uint32_t victim : choice->jobs) {
        std::uint8_t& pushed = jobs_[victim].pushed;
        if (pushed < std::numeric_limits<std::uint8_t>::max()) ++pushed;
        push_aside(now, victim, "preempted", out);
    }
    place(now, ref, {&choice->node, 1}, out);
    return true;
}

// "" or the code of the limit that keeps the class waiting whatever is free.
std::string_view ClusterCore::blocked_by_limits(const Class& cls) const {
    const Want& want = wants_[cls.want];
    for (const std::uint32_t limit : want.named_limits) {
        if (named_[limit].used >= named_[limit].most) return "named-limit";
    }
    const User& user = users_[accounts_[cls.account].user_index];
    if (user.quota) {
        Resources would = user.used;
        for (std::uint32_t i = 0; i < want.nodes; ++i) would += want.want.request;
        would.named = {};  // quotas are of cpus, memory and GPUs
        if (!would.fits(*user.quota)) return "quota";
    }
    if (user.budget && user.spent >= *user.budget) return "budget";
    return "";
}

}  // namespace reeve::sched
