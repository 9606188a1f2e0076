// ClusterCore schedules jobs with vector requests on unequal, priced, vanishing nodes.
//
// Events in (submit, end, cancel, nodes added, opened, drained, warned, lost), decisions out
// (place, preempt, reserve, reject). Time is an argument, nothing is random: the same events give
// the same decisions. Order is order.h's formula, the node select_node.h's, victims preempt.h's.
// The best job that does not fit holds a reservation where it can start first; others start around
// it only if they do not delay it (EASY; conservative: every one of the first kPlannedMax). A job
// near its deadline counts as critical; run times are learned from what ended (user, request and
// name) and cost whoever is known as long some points. docs/policy.md.
//
// Waiting jobs stand in classes (same user, wants and importance): what fits nowhere is passed over
// as a whole, and the nodes are searched through an index, so a pass costs what can change.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "scheduler/core/end_times.h"
#include "scheduler/core/node_index.h"
#include "scheduler/core/order.h"
#include "scheduler/core/parked_shapes.h"
#include "scheduler/core/predictor.h"
#include "scheduler/core/preempt.h"
#include "scheduler/core/reservation.h"
#include "scheduler/core/select_node.h"

namespace reeve::sched {

enum class ClusterPolicy : std::uint8_t {
    kReeve,
    kFcfs,          // submit order, the head blocks
    kSjf,           // the same, shortest limit first
    kEdf,           // the same, earliest deadline first
    kEasy,          // submit order, backfill around the head's reservation
    kEasySjbf,      // the same, fillers shortest limit first
    kSjfEasy,       // backfill, everything shortest limit first
    kConservative,  // every waiting job holds a reservation
    kBestFit,       // backfill, nodes by what is left over, whatever they cost
};
inline constexpr std::array kClusterPolicies{
    ClusterPolicy::kReeve,   ClusterPolicy::kFcfs,         ClusterPolicy::kSjf,
    ClusterPolicy::kEdf,     ClusterPolicy::kEasy,         ClusterPolicy::kEasySjbf,
    ClusterPolicy::kSjfEasy, ClusterPolicy::kConservative, ClusterPolicy::kBestFit};
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
    std::string name;                       // what it runs, for learning; "": not told
    std::vector<std::string> named_limits;  // takes one of each while it runs
    PreemptMode preempt = PreemptMode::kRequeue;
    std::int64_t minimum_run = 60;
};

struct ClusterOptions {
    ClusterPolicy policy = ClusterPolicy::kReeve;
    bool preemption = true;
    std::map<std::string, std::uint32_t> named_limits;  // how many of each may be taken
    std::map<std::string, Resources> user_quota;        // most a user may hold at once
    std::map<std::string, double> user_budget;          // money
    std::map<std::string, double> shares;               // weights of users and groups, default 1
    double fair_half_life_s = 7 * 86'400.0;
};

enum class DecisionKind : std::uint8_t { kPlace, kPreempt, kReserve, kReject };

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
    std::optional<double> expected_s;  // learned run time, within its limit
    std::vector<NodeVerdict> nodes;
    // By time limits, behind everybody who is ahead; nullopt: never as things are.
    std::optional<std::int64_t> earliest_start;
};

class ClusterCore {
public:
    explicit ClusterCore(ClusterOptions options);

    std::uint32_t add_node(const NodeOffer& node);
    void open_node(std::uint32_t node);
    void drain_node(std::uint32_t node);
    // What ran there waits again; its work since the last checkpoint is lost.
    void lose_node(std::int64_t now, std::uint32_t node, std::vector<Decision>& out);
    // A spot node will vanish: nothing new, and what runs is checkpointed or requeued now.
    void warn_node(std::int64_t now, std::uint32_t node, std::vector<Decision>& out);

    // A job is called by a number of the caller's choice, small ones best; one whose job has ended
    // may be used again. Rejected as "impossible" when no set of the known nodes could ever take
    // it.
    void submit(std::int64_t now, std::uint32_t job, const ClusterJob& request,
                std::vector<Decision>& out);
    // It runs there already, since `started`: a picture of a running cell is taken over.
    void adopt(std::uint32_t job, const ClusterJob& request, std::vector<std::uint32_t> nodes,
               std::int64_t started);
    void cancel(std::int64_t now, std::uint32_t job);
    void end(std::int64_t now, std::uint32_t job);
    void pass(std::int64_t now, std::vector<Decision>& out);
    // The next time at which a pass could decide otherwise although nothing happened (deadlines).
    std::optional<std::int64_t> next_wake() const;

    Explanation explain(std::int64_t now, std::uint32_t job);

    std::size_t waiting() const { return waiting_; }
    const NodeOffer& node(std::uint32_t index) const { return index_[index]; }
    std::size_t node_count() const { return nodes_.size(); }
    double spent(const std::string& user) const;

private:
    static constexpr std::size_t kPlannedMax = 128;
    // Up to so many nodes each is asked when it has room; of more, those where something ends next.
    static constexpr std::uint32_t kNodesAskedMax = 256;
    static constexpr std::size_t kExplainedMax = 1000;  // jobs ahead that explain() plans

    static constexpr std::uint32_t kNone = 0xFFFFFFFFU;

    enum class State : std::uint8_t { kUnknown, kWaiting, kRunning, kEnded, kRejected };
    // Of a job's request, what it does not share with others. One line of cache.
    struct Job {
        std::int64_t submit = 0;
        std::int64_t limit = 0;
        std::int64_t deadline = -1;
        std::int64_t started = 0;
        std::uint32_t gang = kNone;  // index into gangs_: it runs on more than one
        std::uint32_t minimum_run = 0;
        std::uint32_t want = 0;
        std::uint32_t account = 0;
        std::uint32_t program = kNone;  // its name's number
        std::int32_t priority = 0;
        std::uint16_t length_milli = 0;  // length points, settled when it came
        std::uint8_t pushed = 0;         // how often it was preempted for another job
        PreemptMode preempt : 4 = PreemptMode::kRequeue;
        State state : 4 = State::kUnknown;
    };
    static_assert(sizeof(Job) <= 64);
    struct Run {
        std::int64_t end = 0;  // by its limit
        std::uint32_t job = 0;
        std::uint32_t want = 0;
    };
    struct Node {
        std::vector<Run> running;
        std::vector<std::uint32_t> reserved;  // reservations of this pass
    };
    // What is asked of many nodes, side by side.
    struct Marks {
        bool reserved = false;  // by somebody in this pass
        bool changed = false;   // listed in changed_
        bool outlined = false;  // its outline is as it is now
    };
    // What is free on a node from `at` on, until the next step.
    struct Step {
        std::int64_t at = 0;
        bool ends = false;  // something does
        Resources free;
    };
    // What decides whether and where jobs fit, apart from time. Once it fitted nowhere it is
    // parked: it is not tried again before room comes free where it fits.
    struct Want {
        JobRequest want;
        std::uint32_t nodes = 1;
        std::vector<std::uint32_t> named_limits;  // indices into named_
        bool possible = false;                    // on the empty nodes known so far
        // What one pass found out.
        std::uint64_t tried_pass = 0;
        std::int64_t too_long = 0;  // from this limit on it is in the way of a reservation
        double pushes_nobody = 0;   // up to this importance
        void begin(std::uint64_t pass) {
            tried_pass = pass;
            too_long = std::numeric_limits<std::int64_t>::max();
            pushes_nobody = -std::numeric_limits<double>::max();
        }
    };
    struct NamedLimit {
        std::uint32_t used = 0;
        std::uint32_t most = std::numeric_limits<std::uint32_t>::max();
    };
    struct User {
        Resources used;
        double spent = 0;
        std::optional<Resources> quota;
        std::optional<double> budget;
    };
    struct Account {
        std::string user, group;
        std::uint32_t user_index = 0;
        double fair_points = 0;  // as of the pass that asked
        std::uint64_t asked_in = 0;
    };
    using Ordered = std::set<std::pair<double, std::uint32_t>>;  // (key, job)
    struct Class {
        std::uint32_t account;
        std::uint32_t want;
        std::int32_t priority;
        SlaClass sla;              // kCritical when urgent
        std::uint32_t listed = 0;  // its place in listed_, while somebody waits
        double importance = 0;
        Ordered jobs;
    };
    struct ClassKey {
        std::uint32_t account = 0;
        std::uint32_t want = 0;
        std::int32_t priority = 0;
        SlaClass sla = SlaClass::kStandard;
        std::int64_t limit = 0;
        bool operator==(const ClassKey&) const = default;
        struct Hash {
            std::size_t operator()(const ClassKey& key) const;
        };
    };
    struct Head {
        double rank;
        std::uint32_t job;
        std::uint32_t cls;
        bool operator<(const Head& other) const {  // for a heap with the smallest on top
            return std::tie(rank, job) > std::tie(other.rank, other.job);
        }
    };
    enum class ParkedOrder : std::uint8_t { kBestFirst, kNone, kHeap };
    struct Reservation {
        std::uint32_t job = 0;
        std::vector<std::uint32_t> nodes;
        std::int64_t at = 0;
        std::int64_t until = 0;
    };
    using Nodes = std::span<const std::uint32_t>;
    enum class Tried { kPlaced, kPushed, kNextInClass, kNextClass, kByLimit, kStop };

    // cluster_names.cc: who shares what with whom.
    std::uint32_t named_limit_of(const std::string& name);
    std::uint32_t want_of(const ClusterJob& request);
    std::uint32_t account_of(const ClusterJob& request);
    std::uint32_t program_of(const std::string& name);
    RunKey run_key(const Job& job) const;
    std::uint32_t class_of(std::int64_t now, const Job& job);

    // cluster.cc: what happened.
    Job& new_job(std::uint32_t ref, const ClusterJob& request);
    bool possible(const ClusterJob& request) const;
    void run(std::int64_t now, std::uint32_t job, Nodes nodes);
    void enqueue(std::int64_t now, std::uint32_t job);
    void dequeue(std::uint32_t job);
    void stop(std::int64_t now, std::uint32_t job, State next);
    void push_aside(std::int64_t now, std::uint32_t job, const std::string& reason,
                    std::vector<Decision>& out);
    void place(std::int64_t now, std::uint32_t job, Nodes nodes, std::vector<Decision>& out);
    void watch_deadline(std::int64_t now, std::uint32_t job);
    bool urgent(std::int64_t now, const Job& job) const;
    SlaClass sla_of(std::int64_t now, const Job& job) const;
    double importance(std::int64_t now, const Job& job, std::uint32_t pushed = 0) const;
    double key_of(const Job& job) const;
    Nodes nodes_of(std::uint32_t job) const;
    void set_nodes(std::uint32_t job, Nodes nodes);
    void fetch(std::uint32_t job) const;
    const JobRequest& want(const Job& job) const { return wants_[job.want].want; }
    const Resources& holds(const Run& run) const { return wants_[run.want].want.request; }
    User& user_of(const Job& job) { return users_[accounts_[job.account].user_index]; }

    // cluster_pass.cc: who starts where.
    bool one_pass(std::int64_t now, std::vector<Decision>& out);
    void add_head(std::int64_t now, std::uint32_t cls, std::uint32_t job);
    bool preempts() const;
    bool parked_matter() const;
    bool any_head() const { return !heads_.empty() || !parked_heads_.empty(); }
    void room_came(std::uint32_t node);
    void park(std::uint32_t want);
    void notice_deadlines(std::int64_t now);
    void collect_heads(std::int64_t now);
    Head pop_head();
    void push_next(std::int64_t now, const Head& head);
    double rank_of(std::int64_t now, const Class& cls, const Job& job);
    Tried try_head(std::int64_t now, const Head& head, std::vector<Decision>& out);
    bool try_preempt(std::int64_t now, std::uint32_t job, std::vector<Decision>& out);
    NodeVictims victims_on(std::int64_t now, std::uint32_t node) const;
    std::string_view blocked_by_limits(const Class& cls) const;
    bool backfills() const;
    std::size_t reservations_max() const;

    // cluster_plan.cc: where and when.
    // Into chosen_.
    bool choose_nodes(std::int64_t now, const Job& job, bool around = true);
    // Reservations aside.
    bool fits_now(const Job& job) { return choose_nodes(0, job, false); }
    bool fits_at(std::uint32_t node, const Resources& request, std::int64_t time) const;
    bool holds(std::uint32_t node, const Resources& request, std::int64_t from,
               std::int64_t until) const;
    std::optional<Reservation> earliest(std::int64_t now, std::uint32_t job);
    std::optional<Reservation> earliest_of_all(std::int64_t now, std::uint32_t job);
    std::int64_t not_before(std::int64_t now, const Job& job) const;
    const std::vector<Step>& outline(std::int64_t now, std::uint32_t node);
    bool outline_holds(std::int64_t now, std::uint32_t node, const Resources& request,
                       std::int64_t from, std::int64_t until);
    std::optional<Reservation> reserve_first(std::int64_t now, std::uint32_t job);
    std::optional<std::int64_t> earliest_on(std::int64_t now, std::uint32_t node,
                                            const Resources& request, std::int64_t latest);
    void note_change(std::uint32_t node);
    void add_reservation(Reservation reservation);
    void clear_reservations();

    ClusterOptions options_;
    std::vector<Job> jobs_;
    // Of each job. Waiting: its class; running: its node. Apart from the others, so that what an
    // ending will touch can be asked for before any of it has come.
    std::vector<std::uint32_t> places_;
    std::vector<std::vector<std::uint32_t>> gangs_;
    std::vector<std::uint32_t> unused_gangs_;
    NodeIndex index_;
    std::vector<Node> nodes_;
    std::vector<Marks> marks_;  // of the nodes
    std::vector<Want> wants_;
    std::vector<Class> classes_;
    std::vector<Account> accounts_;
    std::vector<User> users_;
    std::vector<NamedLimit> named_;
    std::unordered_multimap<std::uint64_t, std::uint32_t> want_ids_;     // by hash
    std::unordered_multimap<std::uint64_t, std::uint32_t> account_ids_;  // by hash
    std::unordered_map<std::string, std::uint32_t> user_ids_;
    std::unordered_map<std::string, std::uint32_t> named_ids_;
    std::unordered_map<std::string, std::uint32_t> program_ids_;
    std::unordered_map<ClassKey, std::uint32_t, ClassKey::Hash> class_ids_;
    std::vector<std::uint32_t> listed_;  // classes somebody waits in
    std::size_t waiting_ = 0;
    ParkedShapes parked_;  // wants, each a shape of its own
    // The first of each class in which somebody waits: a heap of those that may fit, and the
    // others, which are put in order only once more than the best of them is looked at.
    std::vector<Head> heads_;
    std::vector<Head> parked_heads_;
    ParkedOrder parked_order_ = ParkedOrder::kBestFirst;
    double most_important_ = 0;  // of all heads
    std::vector<Reservation> reservations_;
    std::vector<std::pair<std::int64_t, std::uint32_t>> planned_ends_;  // of these, sorted
    std::vector<std::vector<Step>> outlines_;  // by node; marks_ tells which hold in this pass
    std::vector<std::uint32_t> outlined_;      // nodes
    std::optional<Reservation> first_;         // the first of the last pass, of a job on one node
    std::vector<std::uint32_t> changed_;       // nodes, since first_ was settled
    std::vector<Ending> endings_;              // what earliest_on() looks at
    std::vector<std::uint32_t> chosen_;        // by choose_nodes()
    std::uint64_t pass_number_ = 0;
    bool by_limit_ = false;                                   // kEasySjbf, behind the head
    EndTimes ends_;                                           // of what runs, by time limit
    std::set<std::pair<std::int64_t, std::uint32_t>> wakes_;  // deadlines near or past
    std::map<double, std::uint32_t> running_importance_;      // without urgency: how many
    FairShare fair_;
    RunTimePredictor run_times_;
    std::uint64_t collected_ = 0;  // how often the heads were
};

}  // namespace reeve::sched
