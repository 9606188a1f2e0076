// ClusterCore's pass: who starts where now, who is pushed aside, who gets the reservation.
#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "common/base/assert.h"
#include "scheduler/core/cluster.h"

namespace reeve::sched {
namespace {

// Jobs of equal wants fail alike: one is tried per pass.
using WantKey = std::tuple<Resources, SlaClass, double, bool, std::vector<std::string>,
                           std::uint32_t, std::int64_t>;

WantKey key_of(const ClusterJob& job) {
    return {job.want.request, job.want.sla,    job.want.max_price_per_hour,
            job.want.spread,  job.want.labels, job.nodes,
            job.limit};
}

}  // namespace

// `count` different nodes, the best first; marks them closed in `offers`.
std::optional<std::vector<std::uint32_t>> ClusterCore::choose_nodes(
    const JobRequest& want, std::uint32_t count, std::vector<NodeOffer>& offers) const {
    std::vector<std::uint32_t> chosen;
    if (options_.policy == ClusterPolicy::kBestFit) {  // packs, whatever it costs
        for (NodeOffer& offer : offers) offer.price_per_hour = offer.spot_price_per_hour = 0;
    }
    while (chosen.size() < count) {
        const auto best = select_best_node(want, offers);
        if (!best) return std::nullopt;
        chosen.push_back(static_cast<std::uint32_t>(*best));
        offers[*best].open = false;
    }
    return chosen;
}

// The nodes as they will be once everything expected to end by `time` has ended.
std::vector<NodeOffer> ClusterCore::offers_at(std::int64_t time, std::int64_t now) const {
    std::vector<NodeOffer> offers;
    for (const Node& node : nodes_) {
        offers.push_back(node.offer);
        for (const std::uint32_t ref : node.running) {
            const Job& job = jobs_[ref];
            const std::int64_t expected = std::max(job.started + job.request.limit, now + 1);
            if (expected <= time) offers.back().used -= job.request.want.request;
        }
    }
    return offers;
}

// What a job may use without delaying the reservation: everything, if it ends in time; else, on the
// reserved nodes, only what is left over beside the reserved job when that starts.
std::vector<NodeOffer> ClusterCore::offers_around(
    std::int64_t now, const ClusterJob& request, const std::vector<NodeOffer>& now_offers,
    const std::optional<Reservation>& reservation) const {
    std::vector<NodeOffer> offers = now_offers;
    if (!reservation || now + request.limit <= reservation->at) return offers;
    const std::vector<NodeOffer> then = offers_at(reservation->at, now);
    const Resources& reserved = jobs_[reservation->job].request.want.request;
    for (const std::uint32_t node : reservation->nodes) {
        Resources spare = then[node].capacity;
        spare -= then[node].used;
        if (!reserved.fits(spare)) {
            offers[node].open = false;
            continue;
        }
        spare -= reserved;
        if (!request.want.request.fits(spare)) offers[node].open = false;
    }
    return offers;
}

std::optional<ClusterCore::Reservation> ClusterCore::reserve(std::int64_t now,
                                                             std::uint32_t ref) const {
    std::set<std::int64_t> times;
    for (const Node& node : nodes_) {
        for (const std::uint32_t running : node.running) {
            const Job& job = jobs_[running];
            times.insert(std::max(job.started + job.request.limit, now + 1));
        }
    }
    const ClusterJob& request = jobs_[ref].request;
    for (const std::int64_t time : times) {
        std::vector<NodeOffer> offers = offers_at(time, now);
        if (auto nodes = choose_nodes(request.want, request.nodes, offers)) {
            return Reservation{ref, std::move(*nodes), time};
        }
    }
    return std::nullopt;
}

// Pushes aside the least important work for a job that is critical or urgent, or simply of higher
// priority. True when room was made; the job is placed by the caller.
bool ClusterCore::try_preempt(std::int64_t now, std::uint32_t ref, std::vector<Decision>& out) {
    const Job& job = jobs_[ref];
    if (!options_.preemption || options_.policy != ClusterPolicy::kReeve) return false;
    if (job.request.nodes != 1) return false;
    std::vector<NodeVictims> candidates;
    for (std::uint32_t index = 0; index < nodes_.size(); ++index) {
        const Node& node = nodes_[index];
        NodeOffer empty = node.offer;
        empty.used = Resources{};
        if (refusal_of(job.request.want, empty) != Refusal::kNone) continue;
        NodeVictims victims;
        victims.node = index;
        victims.free = node.offer.capacity;
        victims.free -= node.offer.used;
        for (const std::uint32_t running : node.running) {
            const Job& other = jobs_[running];
            const auto ran = static_cast<double>(now - other.started);
            const bool keeps = other.request.preempt == PreemptMode::kSuspend ||
                               other.request.preempt == PreemptMode::kCheckpoint;
            victims.running.push_back(
                Victim{running, importance(now, other), other.request.want.request,
                       keeps ? 0 : ran * static_cast<double>(other.nodes.size()), ran,
                       static_cast<double>(other.request.minimum_run), other.request.preempt});
        }
        candidates.push_back(std::move(victims));
    }
    const auto choice = choose_victims(job.request.want.request, importance(now, job), candidates);
    if (!choice) return false;
    for (const std::uint32_t victim : choice->jobs) push_aside(now, victim, "preempted", out);
    place(now, ref, {choice->node}, out);
    return true;
}

void ClusterCore::pass(std::int64_t now, std::vector<Decision>& out) {
    sort_waiting(now);
    std::vector<NodeOffer> offers;
    for (const Node& node : nodes_) offers.push_back(node.offer);
    std::optional<Reservation> reservation;
    std::set<WantKey> failed;
    const std::vector<std::uint32_t> order = waiting_;
    for (const std::uint32_t ref : order) {
        Job& job = jobs_[ref];
        job.waits_for = blocked_by_limits(job);
        if (!job.waits_for.empty()) continue;
        const WantKey key = key_of(job.request);
        if (failed.contains(key)) {
            job.waits_for = "resources";
            continue;
        }
        std::vector<NodeOffer> usable = offers_around(now, job.request, offers, reservation);
        const auto nodes = choose_nodes(job.request.want, job.request.nodes, usable);
        const bool placed =
            nodes ? (place(now, ref, *nodes, out), true) : try_preempt(now, ref, out);
        if (placed) {
            std::erase(waiting_, ref);
            for (std::size_t i = 0; i < nodes_.size(); ++i) offers[i] = nodes_[i].offer;
            if (!nodes) failed.clear();  // room may be left on the node that was cleared
            continue;
        }
        failed.insert(key);
        job.waits_for = reservation ? "reservation" : "resources";
        if (!backfills()) break;
        if (!reservation && (reservation = reserve(now, ref))) {
            out.push_back(
                Decision{DecisionKind::kReserve, ref, reservation->nodes, reservation->at, ""});
        }
    }
}

std::optional<std::int64_t> ClusterCore::next_wake(std::int64_t now) const {
    std::optional<std::int64_t> next;
    for (const std::uint32_t ref : waiting_) {
        const ClusterJob& request = jobs_[ref].request;
        if (request.deadline < 0 || urgent(now, request)) continue;
        const std::int64_t margin = request.limit + request.limit / 10;
        const std::int64_t at = request.deadline - margin;
        if (at > now && (!next || at < *next)) next = at;
    }
    return next;
}

Explanation ClusterCore::explain(std::int64_t now, std::uint32_t ref) const {
    Explanation out;
    REEVE_ASSERT(ref < jobs_.size());
    const Job& job = jobs_[ref];
    switch (job.state) {
        case State::kUnknown:
            out.state = "unknown";
            break;
        case State::kWaiting:
            out.state = "waiting";
            break;
        case State::kRunning:
            out.state = "running";
            break;
        case State::kEnded:
            out.state = "ended";
            break;
        case State::kRejected:
            out.state = "rejected";
            break;
    }
    out.reason = job.waits_for;
    out.order = terms_of(now, job);
    if (job.state != State::kWaiting) return out;
    for (std::uint32_t index = 0; index < nodes_.size(); ++index) {
        const Node& node = nodes_[index];
        NodeVerdict verdict{index, refusal_of(job.request.want, node.offer), {}};
        if (verdict.refusal == Refusal::kBusyCpu || verdict.refusal == Refusal::kBusyMemory ||
            verdict.refusal == Refusal::kBusyGpus) {
            verdict.blockers = node.running;
        }
        out.nodes.push_back(std::move(verdict));
    }
    std::vector<NodeOffer> offers = offers_at(now, now);
    const std::string limited = blocked_by_limits(job);
    if (!limited.empty()) out.reason = limited;
    if (limited.empty() && choose_nodes(job.request.want, job.request.nodes, offers)) {
        out.earliest_start = now;
    } else if (const auto reservation = reserve(now, ref)) {
        out.earliest_start = reservation->at;
    }
    return out;
}

}  // namespace reeve::sched
