// ClusterCore's view of time: where a job fits now, and when and where it could start first.
#include <algorithm>
#include <limits>
#include <set>
#include <tuple>

#include "common/base/assert.h"
#include "scheduler/core/cluster.h"

namespace reeve::sched {

// Whether the node has room at `time` (not before now) by the time limits of what runs there,
// beside the reservations that stand at that time.
bool ClusterCore::fits_at(std::uint32_t node, const Resources& request, std::int64_t time) const {
    const NodeOffer& offer = index_[node];
    Resources used = offer.used;
    for (const Run& run : nodes_[node].running) {
        if (run.end <= time) used -= holds(run);
    }
    for (const std::uint32_t i : nodes_[node].reserved) {
        const Reservation& reservation = reservations_[i];
        if (reservation.at <= time && time < reservation.until) {
            used += want(jobs_[reservation.job]).request;
        }
    }
    used += request;
    return used.fits(offer.capacity);
}

// The same for a whole stretch of time: what is used grows only where a reservation begins.
bool ClusterCore::holds(std::uint32_t node, const Resources& request, std::int64_t from,
                        std::int64_t until) const {
    if (!fits_at(node, request, from)) return false;
    for (const std::uint32_t i : nodes_[node].reserved) {
        const std::int64_t at = reservations_[i].at;
        if (at > from && at < until && !fits_at(node, request, at)) return false;
    }
    return true;
}

// As many different nodes as the job wants, the best first.
bool ClusterCore::choose_nodes(std::int64_t now, const Job& job, bool around) {
    const Want& wanted = wants_[job.want];
    const bool anywhere = !around || reservations_.empty();
    chosen_.clear();
    std::set<std::uint32_t> taken;  // of a gang
    while (chosen_.size() < wanted.nodes) {
        const auto best = index_.best(wanted.want, [&](std::uint32_t node) {
            if (!taken.empty() && taken.contains(node)) return false;
            return anywhere || !marks_[node].reserved ||
                   holds(node, wanted.want.request, now, now + job.limit);
        });
        if (!best) return false;
        chosen_.push_back(*best);
        if (wanted.nodes > 1) taken.insert(*best);
    }
    return true;
}

// Room only shrinks while reservations are made: what asks for no less than one that has its own,
// for no shorter a time, does not fit before that one does.
std::int64_t ClusterCore::not_before(std::int64_t now, const Job& job) const {
    const Want& wanted = wants_[job.want];
    std::int64_t first = now + 1;
    for (const Reservation& made : reservations_) {
        if (made.at <= first || made.until - made.at > job.limit) continue;
        const Want& other = wants_[jobs_[made.job].want];
        const JobRequest& less = other.want;
        const bool alike = &other == &wanted ||
                           (other.nodes <= wanted.nodes && less.request.fits(wanted.want.request) &&
                            less.sla == wanted.want.sla && less.labels == wanted.want.labels &&
                            less.max_price_per_hour == wanted.want.max_price_per_hour);
        if (alike) first = made.at;
    }
    return first;
}

// What runs ends by its limit, what is overdue at now + 1; reservations begin and end.
const std::vector<ClusterCore::Step>& ClusterCore::outline(std::int64_t now, std::uint32_t node) {
    if (outlines_.size() < nodes_.size()) outlines_.resize(nodes_.size());
    auto& steps = outlines_[node];
    if (marks_[node].outlined) return steps;
    marks_[node].outlined = true;
    outlined_.push_back(node);
    struct Change {
        std::int64_t at;
        bool ends;
        Resources amount;
    };
    std::vector<Change> changes;
    for (const Run& run : nodes_[node].running) {
        changes.push_back({std::max(run.end, now + 1), true, holds(run)});
    }
    for (const std::uint32_t i : nodes_[node].reserved) {
        const Resources& amount = want(jobs_[reservations_[i].job]).request;
        changes.push_back({reservations_[i].at, false, amount});
        changes.push_back({reservations_[i].until, true, amount});
    }
    // At one time what ends makes the room for what begins.
    std::sort(changes.begin(), changes.end(), [](const Change& a, const Change& b) {
        return std::tuple(a.at, !a.ends) < std::tuple(b.at, !b.ends);
    });
    steps.clear();
    Resources free = index_[node].capacity;
    free -= index_[node].used;
    for (const Change& change : changes) {
        if (steps.empty() || steps.back().at != change.at) {
            steps.push_back(Step{change.at, change.ends, free});
        }
        change.ends ? free += change.amount : free -= change.amount;
        steps.back().free = free;
    }
    return steps;
}

// holds() by the outline; `from` is not before now + 1.
bool ClusterCore::outline_holds(std::int64_t now, std::uint32_t node, const Resources& request,
                                std::int64_t from, std::int64_t until) {
    const auto& steps = outline(now, node);
    auto next = std::upper_bound(steps.begin(), steps.end(), from,
                                 [](std::int64_t at, const Step& step) { return at < step.at; });
    if (next == steps.begin()) {
        Resources free = index_[node].capacity;
        free -= index_[node].used;
        if (!request.fits(free)) return false;
    } else if (!request.fits(std::prev(next)->free)) {
        return false;
    }
    for (; next != steps.end() && next->at < until; ++next) {
        if (!request.fits(next->free)) return false;
    }
    return true;
}

// The same for a job on one node, where there are not too many: each is asked when it has room for
// long enough. It has some first when something ends there.
std::optional<ClusterCore::Reservation> ClusterCore::earliest_of_all(std::int64_t now,
                                                                     std::uint32_t ref) {
    const Job& job = jobs_[ref];
    const JobRequest& wanted = wants_[job.want].want;
    const std::int64_t first = not_before(now, job);
    std::int64_t best_at = std::numeric_limits<std::int64_t>::max();
    std::uint32_t best = kNone;
    for (std::uint32_t node = 0; node < nodes_.size(); ++node) {
        const NodeOffer& offer = index_[node];
        if (!wanted.request.fits(offer.capacity)) continue;
        if (best != kNone && best_at == first && offer.price() >= index_[best].price()) continue;
        if (barrier_of(wanted, offer) != Refusal::kNone) continue;
        const auto& steps = outline(now, node);
        auto from =
            std::lower_bound(steps.begin(), steps.end(), first,
                             [](const Step& step, std::int64_t at) { return step.at < at; });
        while (from != steps.end() && from->at <= best_at) {
            if (!from->ends || !wanted.request.fits(from->free)) {
                ++from;
                continue;
            }
            auto next = from + 1;
            while (next != steps.end() && next->at < from->at + job.limit &&
                   wanted.request.fits(next->free)) {
                ++next;
            }
            if (next != steps.end() && next->at < from->at + job.limit) {
                from = next;
                continue;
            }
            const bool cheaper = best == kNone || offer.price() < index_[best].price();
            if (from->at < best_at || cheaper) {
                best_at = from->at;
                best = node;
            }
            break;
        }
    }
    if (best == kNone) return std::nullopt;
    return Reservation{ref, {best}, best_at, best_at + job.limit};
}

// Walks through the times at which something is expected to end. A node that had no room can have
// some only when something ended there; for a gang the nodes with room are collected on the way.
std::optional<ClusterCore::Reservation> ClusterCore::earliest(std::int64_t now, std::uint32_t ref) {
    const Job& job = jobs_[ref];
    const Want& wanted = wants_[job.want];
    const bool few = !reservations_.empty() && nodes_.size() <= kNodesAskedMax;
    if (few && wanted.nodes == 1) return earliest_of_all(now, ref);
    std::vector<std::uint32_t> ready;
    const auto consider = [&](std::uint32_t node) {
        const NodeOffer& offer = index_[node];
        if (!wanted.want.request.fits(offer.capacity)) return;
        if (barrier_of(wanted.want, offer) == Refusal::kNone) ready.push_back(node);
    };
    if (wanted.nodes > 1) {
        index_.best(wanted.want, [&](std::uint32_t node) {
            ready.push_back(node);
            return false;
        });
    }
    // What is overdue ends at now + 1.
    const std::int64_t first = not_before(now, job);
    const bool skips = wanted.nodes == 1 && first > now + 1;
    EndTimes::Walk running = skips ? EndTimes::Walk(ends_, first) : EndTimes::Walk(ends_);
    auto planned = skips ? std::lower_bound(planned_ends_.begin(), planned_ends_.end(),
                                            std::pair(first, std::uint32_t{0}))
                         : planned_ends_.begin();
    std::vector<std::uint32_t> usable;
    auto ends = running.time();
    while (ends || planned != planned_ends_.end()) {
        std::int64_t time = std::numeric_limits<std::int64_t>::max();
        if (ends) time = std::max(*ends, now + 1);
        if (planned != planned_ends_.end()) time = std::min(time, planned->first);
        if (wanted.nodes == 1) ready.clear();
        for (; ends && std::max(*ends, now + 1) == time; ends = running.time()) {
            for (const std::uint32_t node : nodes_of(running.take())) consider(node);
        }
        for (; planned != planned_ends_.end() && planned->first == time; ++planned) {
            for (const std::uint32_t node : reservations_[planned->second].nodes) consider(node);
        }
        if (ready.size() < wanted.nodes || time < first) continue;
        std::sort(ready.begin(), ready.end());
        ready.erase(std::unique(ready.begin(), ready.end()), ready.end());
        usable.clear();
        for (const std::uint32_t node : ready) {
            const auto until = time + job.limit;
            const bool fits = few ? outline_holds(now, node, wanted.want.request, time, until)
                                  : holds(node, wanted.want.request, time, until);
            if (fits) usable.push_back(node);
        }
        if (usable.size() < wanted.nodes) continue;
        std::stable_sort(usable.begin(), usable.end(), [this](std::uint32_t a, std::uint32_t b) {
            return index_[a].price() < index_[b].price();
        });
        usable.resize(wanted.nodes);
        return Reservation{ref, std::move(usable), time, time + job.limit};
    }
    return std::nullopt;
}

void ClusterCore::note_change(std::uint32_t node) {
    if (!first_ || marks_[node].changed) return;
    marks_[node].changed = true;
    changed_.push_back(node);
}

// When the request fits that node by the time limits of what runs there, reservations aside;
// nullopt also if that is later than `latest`.
std::optional<std::int64_t> ClusterCore::earliest_on(std::int64_t now, std::uint32_t node,
                                                     const Resources& request,
                                                     std::int64_t latest) {
    endings_.clear();
    for (const Run& run : nodes_[node].running) {
        const std::int64_t end = std::max(run.end, now + 1);
        if (end <= latest) endings_.push_back(Ending{end, holds(run)});
    }
    Resources free = index_[node].capacity;
    free -= index_[node].used;
    const auto room = first_room(request, free, endings_);
    if (!room) return std::nullopt;
    return room->at;
}

// The first reservation of a pass is mostly the one of the pass before: of the nodes on which
// nothing happened it is still the best.
std::optional<ClusterCore::Reservation> ClusterCore::reserve_first(std::int64_t now,
                                                                   std::uint32_t ref) {
    const Job& job = jobs_[ref];
    const Want& wanted = wants_[job.want];
    bool known = first_ && first_->job == ref && first_->at > now;
    const auto rank = [this](const Reservation& plan) {
        const std::uint32_t node = plan.nodes.front();
        return std::tuple(plan.at, index_[node].price(), node);
    };
    std::optional<Reservation> best;
    if (known && !marks_[first_->nodes.front()].changed) best = first_;
    for (const std::uint32_t node : changed_) {
        marks_[node].changed = false;
        if (!known || refusal_when_empty(wanted.want, index_[node]) != Refusal::kNone) continue;
        const auto at = earliest_on(now, node, wanted.want.request, first_->at);
        if (!at) continue;
        Reservation other{ref, {node}, *at, *at + job.limit};
        if (!best || rank(other) < rank(*best)) best = std::move(other);
    }
    changed_.clear();
    known = known && best && !(rank(*first_) < rank(*best));
    if (!known) best = earliest(now, ref);
    first_.reset();
    if (best && wanted.nodes == 1) first_ = best;
    return best;
}

void ClusterCore::add_reservation(Reservation reservation) {
    for (const std::uint32_t node : reservation.nodes) {
        marks_[node].reserved = true;
        marks_[node].outlined = false;
        nodes_[node].reserved.push_back(static_cast<std::uint32_t>(reservations_.size()));
    }
    const std::pair planned{reservation.until, static_cast<std::uint32_t>(reservations_.size())};
    planned_ends_.insert(std::upper_bound(planned_ends_.begin(), planned_ends_.end(), planned),
                         planned);
    reservations_.push_back(std::move(reservation));
}

void ClusterCore::clear_reservations() {
    for (const Reservation& reservation : reservations_) {
        for (const std::uint32_t node : reservation.nodes) {
            marks_[node].reserved = false;
            nodes_[node].reserved.clear();
        }
    }
    for (const std::uint32_t node : outlined_) marks_[node].outlined = false;
    outlined_.clear();
    reservations_.clear();
    planned_ends_.clear();
}

// The jobs ahead are planned first, one after the other, as if all ran to their limits.
Explanation ClusterCore::explain(std::int64_t now, std::uint32_t ref) {
    constexpr std::array<std::string_view, 5> kStates{"unknown", "waiting", "running", "ended",
                                                      "rejected"};
    REEVE_ASSERT(ref < jobs_.size());
    const Job& job = jobs_[ref];
    const Account& account = accounts_[job.account];
    Explanation out;
    out.state = kStates[static_cast<std::size_t>(job.state)];
    if (job.state == State::kRejected) out.reason = "impossible";
    out.order = order_terms(job.priority, sla_of(now, job), static_cast<double>(now - job.submit),
                            fair_.points(account.user, account.group, static_cast<double>(now)),
                            job.length_milli / 1000.0);
    out.expected_s = run_times_.known(run_key(job));
    if (out.expected_s) out.expected_s = std::min(*out.expected_s, static_cast<double>(job.limit));
    if (job.state != State::kWaiting) return out;
    for (std::uint32_t node = 0; node < index_.size(); ++node) {
        NodeVerdict verdict{node, refusal_of(want(job), index_[node]), {}};
        if (verdict.refusal >= Refusal::kBusyCpu) {
            for (const Run& run : nodes_[node].running) verdict.blockers.push_back(run.job);
        }
        out.nodes.push_back(std::move(verdict));
    }
    notice_deadlines(now);
    collect_heads(now);
    clear_reservations();
    std::optional<Reservation> mine;
    while (any_head()) {
        const Head head = pop_head();
        std::optional<Reservation> planned;
        if (choose_nodes(now, jobs_[head.job])) {
            planned = Reservation{head.job, chosen_, now, now + jobs_[head.job].limit};
        } else {
            planned = earliest(now, head.job);
        }
        if (head.job == ref) {
            mine = std::move(planned);
            break;
        }
        if (planned && reservations_.size() < kExplainedMax) add_reservation(std::move(*planned));
        push_next(now, head);
    }
    out.reason = blocked_by_limits(classes_[places_[ref]]);
    const bool limited = !out.reason.empty();
    clear_reservations();
    if (!limited) out.reason = choose_nodes(now, job) ? "reservation" : "resources";
    if (mine && !(limited && mine->at == now)) out.earliest_start = mine->at;
    return out;
}

}  // namespace reeve::sched
