// ClusterCore's view of time: where a job fits now, and when and where it could start first.
#include <algorithm>
#include <limits>

#include "common/base/assert.h"
#include "scheduler/core/cluster.h"

namespace reeve::sched {

// Whether the node has room at `time` (not before now) by the time limits of what runs there,
// beside the reservations that stand at that time.
bool ClusterCore::fits_at(std::uint32_t node, const Resources& request, std::int64_t time) const {
    const NodeOffer& offer = index_[node];
    Resources used = offer.used;
    for (const std::uint32_t ref : nodes_[node].running) {
        const Job& job = jobs_[ref];
        if (job.started + job.request.limit <= time) used -= job.request.want.request;
    }
    for (const std::uint32_t i : nodes_[node].reserved) {
        const Reservation& reservation = reservations_[i];
        if (reservation.at <= time && time < reservation.until) {
            used += jobs_[reservation.job].request.want.request;
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
std::optional<std::vector<std::uint32_t>> ClusterCore::choose_nodes(std::int64_t now,
                                                                    const Job& job,
                                                                    bool around) const {
    const ClusterJob& request = job.request;
    std::vector<std::uint32_t> chosen;
    std::set<std::uint32_t> taken;
    while (chosen.size() < request.nodes) {
        const auto best = index_.best(request.want, [&](std::uint32_t node) {
            if (taken.contains(node)) return false;
            return !around || nodes_[node].reserved.empty() ||
                   holds(node, request.want.request, now, now + request.limit);
        });
        if (!best) return std::nullopt;
        chosen.push_back(*best);
        taken.insert(*best);
    }
    return chosen;
}

// Walks through the times at which something is expected to end. A node that had no room can have
// some only when something ended there; for a gang the nodes with room are collected on the way.
std::optional<ClusterCore::Reservation> ClusterCore::earliest(std::int64_t now,
                                                              std::uint32_t ref) const {
    const ClusterJob& request = jobs_[ref].request;
    std::vector<std::uint32_t> ready;
    const auto consider = [&](std::uint32_t node) {
        NodeOffer empty = index_[node];
        empty.used = Resources{};
        if (refusal_of(request.want, empty) == Refusal::kNone) ready.push_back(node);
    };
    if (request.nodes > 1) {
        index_.best(request.want, [&](std::uint32_t node) {
            ready.push_back(node);
            return false;
        });
    }
    std::vector<std::pair<std::int64_t, std::uint32_t>> planned_ends;
    for (std::uint32_t i = 0; i < reservations_.size(); ++i) {
        planned_ends.emplace_back(reservations_[i].until, i);
    }
    std::sort(planned_ends.begin(), planned_ends.end());
    auto running = by_end_.begin();
    auto planned = planned_ends.begin();
    while (running != by_end_.end() || planned != planned_ends.end()) {
        std::int64_t time = std::numeric_limits<std::int64_t>::max();
        if (running != by_end_.end()) time = std::max(running->first, now + 1);
        if (planned != planned_ends.end()) time = std::min(time, planned->first);
        if (request.nodes == 1) ready.clear();
        for (; running != by_end_.end() && std::max(running->first, now + 1) == time; ++running) {
            for (const std::uint32_t node : jobs_[running->second].nodes) consider(node);
        }
        for (; planned != planned_ends.end() && planned->first == time; ++planned) {
            for (const std::uint32_t node : reservations_[planned->second].nodes) consider(node);
        }
        std::sort(ready.begin(), ready.end());
        ready.erase(std::unique(ready.begin(), ready.end()), ready.end());
        if (ready.size() < request.nodes) continue;
        std::vector<std::uint32_t> usable;
        for (const std::uint32_t node : ready) {
            if (holds(node, request.want.request, time, time + request.limit)) {
                usable.push_back(node);
            }
        }
        if (usable.size() < request.nodes) continue;
        std::stable_sort(usable.begin(), usable.end(), [this](std::uint32_t a, std::uint32_t b) {
            return index_[a].price() < index_[b].price();
        });
        usable.resize(request.nodes);
        return Reservation{ref, std::move(usable), time, time + request.limit};
    }
    return std::nullopt;
}

void ClusterCore::add_reservation(Reservation reservation) {
    for (const std::uint32_t node : reservation.nodes) {
        nodes_[node].reserved.push_back(static_cast<std::uint32_t>(reservations_.size()));
    }
    reservations_.push_back(std::move(reservation));
}

void ClusterCore::clear_reservations() {
    for (const Reservation& reservation : reservations_) {
        for (const std::uint32_t node : reservation.nodes) nodes_[node].reserved.clear();
    }
    reservations_.clear();
}

// The jobs ahead are planned first, one after the other, as if all ran to their limits.
Explanation ClusterCore::explain(std::int64_t now, std::uint32_t ref) {
    constexpr std::array<std::string_view, 5> kStates{"unknown", "waiting", "running", "ended",
                                                      "rejected"};
    REEVE_ASSERT(ref < jobs_.size());
    const Job& job = jobs_[ref];
    const ClusterJob& request = job.request;
    Explanation out;
    out.state = kStates[static_cast<std::size_t>(job.state)];
    if (job.state == State::kRejected) out.reason = "impossible";
    const SlaClass sla = urgent(now, request) ? SlaClass::kCritical : request.want.sla;
    out.order = order_terms(request.priority, sla, static_cast<double>(now - request.submit),
                            fair_.points(request.user, request.group, static_cast<double>(now)));
    if (job.state != State::kWaiting) return out;
    for (std::uint32_t node = 0; node < index_.size(); ++node) {
        NodeVerdict verdict{node, refusal_of(request.want, index_[node]), {}};
        if (verdict.refusal >= Refusal::kBusyCpu) verdict.blockers = nodes_[node].running;
        out.nodes.push_back(std::move(verdict));
    }
    notice_deadlines(now);
    collect_heads(now);
    clear_reservations();
    std::optional<Reservation> mine;
    while (!heads_.empty()) {
        const Head head = pop_head();
        const auto nodes = choose_nodes(now, jobs_[head.job]);
        std::optional<Reservation> planned;
        if (nodes) {
            planned = Reservation{head.job, *nodes, now, now + jobs_[head.job].request.limit};
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
    out.reason = blocked_by_limits(classes_[job.cls]);
    const bool limited = !out.reason.empty();
    clear_reservations();
    if (!limited) out.reason = choose_nodes(now, job) ? "reservation" : "resources";
    if (mine && !(limited && mine->at == now)) out.earliest_start = mine->at;
    return out;
}

}  // namespace reeve::sched
