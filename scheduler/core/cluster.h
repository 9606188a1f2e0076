// ClusterCore schedules jobs with vector requests on unequal, priced, vanishing nodes.
//
// Events in (submit, end, cancel, node up/down/drain/notice), decisions out (place, preempt,
// reserve, reject). Time is an argument, nothing is random: the same events give the same
// decisions. Order is order.h's formula, the node select_node.h's, victims preempt.h's. The best
// job that does not fit holds a reservation on the node(s) it can have first; others start around
// it only if they do not delay it (EASY). A job near its deadline is treated as critical.
// docs/policy.md.
//
// Used by `reeve sim jobs.json nodes.json` and by explain; the live scheduler's hot path places
// whole classes through placement.h.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "scheduler/core/order.h"
#include "scheduler/core/preempt.h"
#include "scheduler/core/select_node.h"

namespace reeve::sched {

enum class ClusterPolicy : std::uint8_t { kReeve, kFcfs, kSjf, kEasy, kBestFit };
std::string_view to_string(ClusterPolicy policy);
std::optional<ClusterPolicy> parse_cluster_policy(std::string_view name);

struct ClusterJob {
    std::int64_t submit = 0;
    JobRequest want;          // on each node
    std::uint32_t nodes = 1;  // a gang: all or nothing, on different nodes
    std::int32_t priority = 0;
    std::int64_t limit = 3600;   // seconds it may run; what backfill counts on
    std::int64_t deadline = -1;  // absolute; -1: none
    std::string user, group;
    std::vector<std::string> named_limits;  // takes one of each while it runs
    PreemptMode preempt = PreemptMode::kRequeue;
    std::int64_t minimum_run = 60;
};

struct ClusterOptions {
    ClusterPolicy policy = ClusterPolicy::kReeve;
    bool preemption = true;
    bool reject_impossible = true;                      // no node could ever take it
    std::map<std::string, std::uint32_t> named_limits;  // how many of each may be taken
    std::map<std::string, Resources> user_quota;        // most a user may hold at once
    std::map<std::string, double> user_budget;          // money
    double fair_half_life_s = 7 * 86'400.0;
};

enum class DecisionKind : std::uint8_t { kPlace, kPreempt, kReserve, kReject };
std::string_view to_string(DecisionKind kind);

struct Decision {
    DecisionKind kind = DecisionKind::kPlace;
    std::uint32_t job = 0;
    std::vector<std::uint32_t> nodes;
    std::int64_t at = 0;  // kReserve: when
    std::string reason;   // kPreempt, kReject: a stable code
    bool operator==(const Decision&) const = default;
};

struct NodeVerdict {
    std::uint32_t node = 0;
    Refusal refusal = Refusal::kNone;
    std::vector<std::uint32_t> blockers;  // jobs that hold what is missing
};

struct Explanation {
    std::string state;   // waiting running ended rejected
    std::string reason;  // stable code: resources reservation quota named-limit budget impossible
    OrderTerms order;
    std::vector<NodeVerdict> nodes;
    std::optional<std::int64_t> earliest_start;  // by time limits; nullopt: never as things are
};

class ClusterCore {
public:
    explicit ClusterCore(ClusterOptions options)
        : options_(std::move(options)), fair_(options_.fair_half_life_s) {}

    std::uint32_t node_up(std::int64_t now, const NodeOffer& node);
    // What ran there waits again; its work since the last checkpoint is lost.
    void node_down(std::int64_t now, std::uint32_t node, std::vector<Decision>& out);
    void node_drain(std::uint32_t node) { nodes_[node].offer.open = false; }
    void node_undrain(std::uint32_t node) { nodes_[node].offer.open = !nodes_[node].down; }
    // A spot node will vanish: nothing new, and what runs is checkpointed or requeued now.
    void node_notice(std::int64_t now, std::uint32_t node, std::vector<Decision>& out);

    void submit(std::int64_t now, std::uint32_t job, const ClusterJob& request,
                std::vector<Decision>& out);
    void cancel(std::int64_t now, std::uint32_t job);
    void end(std::int64_t now, std::uint32_t job);
    void pass(std::int64_t now, std::vector<Decision>& out);
    // The next time at which a pass could decide otherwise although nothing happened (deadlines).
    std::optional<std::int64_t> next_wake(std::int64_t now) const;

    Explanation explain(std::int64_t now, std::uint32_t job) const;

    std::size_t waiting() const { return waiting_.size(); }
    const NodeOffer& node(std::uint32_t index) const { return nodes_[index].offer; }
    std::size_t node_count() const { return nodes_.size(); }
    double spent(const std::string& user) const;

private:
    enum class State : std::uint8_t { kUnknown, kWaiting, kRunning, kEnded, kRejected };
    struct Job {
        ClusterJob request;
        State state = State::kUnknown;
        std::int64_t started = 0;
        std::vector<std::uint32_t> nodes;
        std::string waits_for;
    };
    struct Node {
        NodeOffer offer;
        std::vector<std::uint32_t> running;
        bool down = false;
    };
    struct Reservation {
        std::uint32_t job = 0;
        std::vector<std::uint32_t> nodes;
        std::int64_t at = 0;
    };

    OrderTerms terms_of(std::int64_t now, const Job& job) const;
    double importance(std::int64_t now, const Job& job) const;
    bool urgent(std::int64_t now, const ClusterJob& request) const;
    void sort_waiting(std::int64_t now);
    std::string blocked_by_limits(const Job& job) const;
    double price_of(const Job& job, const std::vector<std::uint32_t>& nodes) const;
    std::optional<std::vector<std::uint32_t>> choose_nodes(const JobRequest& want,
                                                           std::uint32_t count,
                                                           std::vector<NodeOffer>& offers) const;
    std::vector<NodeOffer> offers_at(std::int64_t time, std::int64_t now) const;
    std::vector<NodeOffer> offers_around(std::int64_t now, const ClusterJob& request,
                                         const std::vector<NodeOffer>& now_offers,
                                         const std::optional<Reservation>& reservation) const;
    std::optional<Reservation> reserve(std::int64_t now, std::uint32_t job) const;
    void place(std::int64_t now, std::uint32_t job, std::vector<std::uint32_t> nodes,
               std::vector<Decision>& out);
    bool try_preempt(std::int64_t now, std::uint32_t job, std::vector<Decision>& out);
    void stop(std::int64_t now, std::uint32_t job, State next);
    void push_aside(std::int64_t now, std::uint32_t job, std::string reason,
                    std::vector<Decision>& out);
    bool backfills() const;

    ClusterOptions options_;
    std::vector<Job> jobs_;
    std::vector<Node> nodes_;
    std::vector<std::uint32_t> waiting_;
    FairShare fair_;
    std::map<std::string, std::uint32_t> named_used_;
    std::map<std::string, Resources> user_used_;
    std::map<std::string, double> spent_;
};

}  // namespace reeve::sched
