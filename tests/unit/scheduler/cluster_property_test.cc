// ClusterCore under random events: what may never happen, whatever the events.
#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "scheduler/core/cluster.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"

using namespace reeve;
using namespace reeve::sched;

namespace {

enum class Fate { kWaiting, kRunning, kEnded, kRejected };

struct Shadow {
    Fate fate = Fate::kWaiting;
    ClusterJob job;
    std::vector<std::uint32_t> nodes;
    std::int64_t started = 0;
};

// Follows the decisions with its own books and refuses what they may not do.
class Checked {
public:
    Checked(ClusterOptions options, std::uint64_t seed)
        : core_(std::move(options)), random_(seed) {}

    void run(int steps) {
        for (int i = 0; i < 5; ++i) add_node();
        for (int step = 0; step < steps; ++step) {
            now_ += static_cast<std::int64_t>(draw(200));
            decisions_.clear();
            event();
            core_.pass(now_, decisions_);
            for (const Decision& decision : decisions_) obey(decision);
            check_capacity();
            log_.insert(log_.end(), decisions_.begin(), decisions_.end());
        }
        drain();
    }
    const std::vector<Decision>& log() const { return log_; }
    const std::vector<Shadow>& jobs() const { return jobs_; }

private:
    std::uint64_t draw(std::uint64_t below) { return random_() % below; }

    void add_node() {
        NodeOffer node;
        node.name = "n" + std::to_string(capacity_.size());
        node.capacity = Resources{static_cast<std::uint32_t>(2 + draw(7)) * 1000,
                                  static_cast<std::uint32_t>(draw(3)), (4 + draw(28)) << 30};
        for (std::size_t i = 0; i < 3; ++i) {
            node.capacity.named.set(i, static_cast<std::uint32_t>(draw(4)));
        }
        node.price_per_hour = static_cast<double>(1 + draw(3));
        node.spot = draw(3) == 0;
        node.spot_price_per_hour = node.price_per_hour * 0.3;
        capacity_.push_back(node.capacity);
        usable_.push_back(true);
        core_.add_node(node);
    }

    ClusterJob some_job() {
        ClusterJob job;
        job.submit = now_;
        job.want.request = Resources{static_cast<std::uint32_t>(1 + draw(8)) * 500,
                                     draw(4) == 0 ? 1U : 0U, (1 + draw(8)) << 30};
        if (draw(3) == 0) {
            job.want.request.named.set(draw(3), static_cast<std::uint32_t>(1 + draw(3)));
        }
        job.want.sla = static_cast<SlaClass>(draw(4));
        job.want.spread = draw(2) == 0;
        job.nodes = draw(6) == 0 ? 2 : 1;
        job.priority = static_cast<std::int32_t>(draw(7)) - 3;
        job.limit = 30 + static_cast<std::int64_t>(draw(600));
        if (draw(4) == 0) job.deadline = now_ + job.limit * static_cast<std::int64_t>(1 + draw(4));
        job.user = "u" + std::to_string(draw(4));
        job.group = "g" + std::to_string(draw(2));
        job.preempt = static_cast<PreemptMode>(draw(5));
        job.minimum_run = static_cast<std::int64_t>(draw(60));
        if (draw(5) == 0) job.named_limits.push_back("licence");
        return job;
    }

    void event() {
        const std::uint64_t kind = draw(20);
        const auto node = static_cast<std::uint32_t>(draw(capacity_.size()));
        if (kind < 8) {
            jobs_.push_back(Shadow{Fate::kWaiting, some_job(), {}, 0});
            core_.submit(now_, static_cast<std::uint32_t>(jobs_.size() - 1), jobs_.back().job,
                         decisions_);
        } else if (kind < 15) {
            end_one();
        } else if (kind == 15 && !jobs_.empty()) {
            const auto ref = static_cast<std::uint32_t>(draw(jobs_.size()));
            if (jobs_[ref].fate > Fate::kRunning) return;
            core_.cancel(now_, ref);
            jobs_[ref].fate = Fate::kEnded;
        } else if (kind == 16 && capacity_.size() < 12) {
            add_node();
        } else if (kind == 17) {
            usable_[node] = false;
            core_.drain_node(node);
        } else if (kind == 18) {
            usable_[node] = false;
            draw(2) == 0 ? core_.warn_node(now_, node, decisions_)
                         : core_.lose_node(now_, node, decisions_);
        } else if (kind == 19) {
            core_.open_node(node);
            usable_[node] = true;
        }
    }

    void end_one() {
        std::vector<std::uint32_t> running;
        for (std::uint32_t i = 0; i < jobs_.size(); ++i) {
            if (jobs_[i].fate == Fate::kRunning) running.push_back(i);
        }
        if (running.empty()) return;
        const std::uint32_t ref = running[draw(running.size())];
        core_.end(now_, ref);
        jobs_[ref].fate = Fate::kEnded;
    }

    void obey(const Decision& decision) {
        Shadow& job = jobs_.at(decision.job);
        switch (decision.kind) {
            case DecisionKind::kPlace: {
                REQUIRE(job.fate == Fate::kWaiting);
                REQUIRE(decision.nodes.size() == job.job.nodes);
                const std::set<std::uint32_t> different(decision.nodes.begin(),
                                                        decision.nodes.end());
                REQUIRE(different.size() == decision.nodes.size());
                for (const std::uint32_t node : decision.nodes) REQUIRE(usable_.at(node));
                job.fate = Fate::kRunning;
                job.nodes = decision.nodes;
                job.started = now_;
                return;
            }
            case DecisionKind::kPreempt:
                REQUIRE(job.fate == Fate::kRunning);
                REQUIRE(decision.nodes == job.nodes);
                if (decision.reason == "preempted") {
                    REQUIRE(job.job.preempt != PreemptMode::kNever);
                    REQUIRE(now_ - job.started >= job.job.minimum_run);
                }
                job.fate = job.job.preempt == PreemptMode::kCancel ? Fate::kEnded : Fate::kWaiting;
                return;
            case DecisionKind::kReserve:
                REQUIRE(job.fate == Fate::kWaiting);
                REQUIRE(decision.at > now_);
                return;
            case DecisionKind::kReject:
                REQUIRE(job.fate == Fate::kWaiting);
                job.fate = Fate::kRejected;
                return;
        }
    }

    void check_capacity() const {
        std::vector<Resources> used(capacity_.size());
        std::uint32_t licences = 0;
        std::size_t waiting = 0;
        for (const Shadow& job : jobs_) {
            waiting += job.fate == Fate::kWaiting ? 1 : 0;
            if (job.fate != Fate::kRunning) continue;
            for (const std::uint32_t node : job.nodes) used[node] += job.job.want.request;
            licences += static_cast<std::uint32_t>(job.job.named_limits.size());
        }
        for (std::size_t i = 0; i < used.size(); ++i) {
            REQUIRE(used[i].fits(capacity_[i]));
            REQUIRE(used[i] == core_.node(static_cast<std::uint32_t>(i)).used);
        }
        REQUIRE(licences <= 2);
        REQUIRE(core_.waiting() == waiting);
    }

    // Everything that can run ends; with all nodes back nothing may be left waiting.
    void drain() {
        for (std::uint32_t node = 0; node < capacity_.size(); ++node) {
            core_.open_node(node);
            usable_[node] = true;
        }
        for (int round = 0; round < 5000 && core_.waiting() > 0; ++round) {
            now_ += 700;
            decisions_.clear();
            end_one();
            core_.pass(now_, decisions_);
            for (const Decision& decision : decisions_) obey(decision);
            check_capacity();
        }
        REQUIRE(core_.waiting() == 0);
    }

    ClusterCore core_;
    std::mt19937_64 random_;
    std::int64_t now_ = 0;
    std::vector<Resources> capacity_;
    std::vector<bool> usable_;
    std::vector<Shadow> jobs_;
    std::vector<Decision> decisions_;
    std::vector<Decision> log_;
};

ClusterOptions options_of(ClusterPolicy policy) {
    ClusterOptions options;
    options.policy = policy;
    options.named_limits["licence"] = 2;
    options.fair_half_life_s = 5000;
    return options;
}

}  // namespace

TEST_CASE("ClusterCore: capacity holds, gangs are whole, no job is lost", "[cluster]") {
    const std::uint64_t seed = reeve::test::seed();
    for (const ClusterPolicy policy : kClusterPolicies) {
        for (std::uint64_t round = 0; round < 12; ++round) {
            INFO("REEVE_SEED=" << seed << " round " << round << " " << to_string(policy));
            Checked checked(options_of(policy), seed + round);
            checked.run(400);
        }
    }
}

TEST_CASE("ClusterCore: the same events give the same decisions", "[cluster]") {
    const std::uint64_t seed = reeve::test::seed();
    INFO("REEVE_SEED=" << seed);
    for (const ClusterPolicy policy : kClusterPolicies) {
        Checked one(options_of(policy), seed);
        Checked two(options_of(policy), seed);
        one.run(500);
        two.run(500);
        CHECK(one.log() == two.log());
        CHECK_FALSE(one.log().empty());
    }
}

// A stream of small high-priority jobs that would fill the node for ever: the large one gets its
// turn because waiting counts, and the reservation keeps its room free.
TEST_CASE("ClusterCore: nobody starves", "[cluster]") {
    ClusterOptions options;
    ClusterCore core(options);
    NodeOffer node;
    node.capacity = Resources{4000, 0, 8ULL << 30};
    core.add_node(node);
    std::vector<Decision> decisions;
    ClusterJob large;
    large.want.request = Resources{4000, 0, 1ULL << 30};
    large.limit = 600;
    large.user = "patient";
    core.submit(0, 0, large, decisions);
    std::uint32_t next = 1;
    std::map<std::int64_t, std::vector<std::uint32_t>> ends;
    std::int64_t started = -1;
    for (std::int64_t now = 0; now < 60 * 3600 && started < 0; now += 100) {
        while (!ends.empty() && ends.begin()->first <= now) {
            for (const std::uint32_t ref : ends.begin()->second) core.end(now, ref);
            ends.erase(ends.begin());
        }
        for (int i = 0; i < 2; ++i) {
            ClusterJob small;
            small.submit = now;
            small.priority = 10;
            small.want.request = Resources{1000, 0, 1ULL << 30};
            small.limit = 300;
            small.user = "greedy" + std::to_string(next % 2);
            core.submit(now, next++, small, decisions);
        }
        decisions.clear();
        core.pass(now, decisions);
        for (const Decision& decision : decisions) {
            if (decision.kind != DecisionKind::kPlace) continue;
            if (decision.job == 0) started = now;
            ends[now + 300].push_back(decision.job);
        }
    }
    CHECK(started >= 0);
    // Ten points are ten hours of waiting: what came in that time, half as much again as the node
    // can do, goes first.
    CHECK(started <= 16 * 3600);
}
