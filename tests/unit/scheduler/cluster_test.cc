// ClusterCore scenarios, one rule each.
#include "scheduler/core/cluster.h"
#include "scheduler/core/run_bound.h"

#include "tests/support/catch.h"

using namespace reeve;
using namespace reeve::sched;

namespace {

constexpr std::uint64_t kGiB = 1ULL << 30;

class Scene {
public:
    explicit Scene(ClusterOptions options = {}) : core(std::move(options)) {}

    std::uint32_t node(std::uint32_t cpus, double price = 1) {
        NodeOffer offer;
        offer.capacity = Resources{cpus * 1000, 0, 64 * kGiB};
        offer.price_per_hour = price;
        return core.add_node(offer);
    }
    std::uint32_t spot_node(std::uint32_t cpus) {
        NodeOffer offer;
        offer.capacity = Resources{cpus * 1000, 0, 64 * kGiB};
        offer.price_per_hour = 1;
        offer.spot_price_per_hour = 0.3;
        offer.spot = true;
        return core.add_node(offer);
    }
    static ClusterJob job(std::uint32_t cpus, std::int64_t limit) {
        ClusterJob out;
        out.want.request = Resources{cpus * 1000, 0, kGiB};
        out.limit = limit;
        out.minimum_run = 0;
        return out;
    }
    std::uint32_t submit(std::int64_t now, ClusterJob request) {
        request.submit = now;
        core.submit(now, next, request, decisions);
        return next++;
    }
    void pass(std::int64_t now) { core.pass(now, decisions); }
    // Where the job was placed last; -1: nowhere.
    int place_of(std::uint32_t ref) const {
        int where = -1;
        for (const Decision& each : decisions) {
            if (each.job != ref) continue;
            if (each.kind == DecisionKind::kPlace) where = static_cast<int>(each.nodes.front());
            if (each.kind == DecisionKind::kPreempt) where = -1;
        }
        return where;
    }
    const Decision* find(DecisionKind kind, std::uint32_t ref) const {
        for (const Decision& each : decisions) {
            if (each.kind == kind && each.job == ref) return &each;
        }
        return nullptr;
    }

    ClusterCore core;
    std::vector<Decision> decisions;
    std::uint32_t next = 0;
};

ClusterOptions policy(ClusterPolicy which) {
    ClusterOptions options;
    options.policy = which;
    return options;
}

}  // namespace

TEST_CASE("ClusterCore: higher priority first, then who came first", "[cluster]") {
    Scene scene;
    scene.node(1);
    const auto early = scene.submit(0, Scene::job(1, 100));
    const auto late = scene.submit(0, Scene::job(1, 100));
    ClusterJob high = Scene::job(1, 100);
    high.priority = 5;
    const auto first = scene.submit(0, high);
    scene.pass(0);
    CHECK(scene.place_of(first) == 0);
    scene.core.end(10, first);
    scene.pass(10);
    CHECK(scene.place_of(early) == 0);
    CHECK(scene.place_of(late) == -1);
}

TEST_CASE("ClusterCore: backfill fills the gap but never delays the reservation", "[cluster]") {
    Scene scene(policy(ClusterPolicy::kEasy));
    scene.node(4);
    scene.submit(0, Scene::job(2, 100));
    const auto wide = scene.submit(0, Scene::job(4, 50));
    const auto fits = scene.submit(0, Scene::job(2, 100));
    const auto too_long = scene.submit(0, Scene::job(1, 101));
    scene.pass(0);
    const Decision* reserved = scene.find(DecisionKind::kReserve, wide);
    REQUIRE(reserved != nullptr);
    CHECK(reserved->at == 100);
    CHECK(scene.place_of(fits) == 0);
    CHECK(scene.place_of(too_long) == -1);
}

TEST_CASE("ClusterCore: beside the reserved job a long one may stay", "[cluster]") {
    Scene scene(policy(ClusterPolicy::kEasy));
    scene.node(4);
    scene.submit(0, Scene::job(3, 100));
    scene.submit(0, Scene::job(3, 50));
    const auto beside = scene.submit(0, Scene::job(1, 1000));
    scene.pass(0);
    CHECK(scene.place_of(beside) == 0);
}

TEST_CASE("ClusterCore: first come first served means the head blocks", "[cluster]") {
    Scene scene(policy(ClusterPolicy::kFcfs));
    scene.node(4);
    scene.submit(0, Scene::job(2, 100));
    scene.submit(0, Scene::job(4, 50));
    const auto behind = scene.submit(0, Scene::job(1, 10));
    scene.pass(0);
    CHECK(scene.place_of(behind) == -1);
}

TEST_CASE("ClusterCore: conservative protects the second in the queue too", "[cluster]") {
    const auto third_starts = [](ClusterPolicy which) {
        Scene scene(policy(which));
        scene.node(4);
        scene.submit(0, Scene::job(3, 100));
        scene.submit(0, Scene::job(2, 50));  // reserved from 100 on
        scene.submit(0, Scene::job(4, 50));  // at 150, which only conservative cares about
        const auto third = scene.submit(0, Scene::job(1, 300));
        scene.pass(0);
        return scene.place_of(third) == 0;
    };
    CHECK(third_starts(ClusterPolicy::kEasy));
    CHECK_FALSE(third_starts(ClusterPolicy::kConservative));
}

TEST_CASE("ClusterCore: the order of the yardsticks", "[cluster]") {
    const auto first_of = [](ClusterPolicy which) {
        Scene scene(policy(which));
        scene.node(1);
        ClusterJob oldest = Scene::job(1, 500);
        ClusterJob shortest = Scene::job(1, 10);
        ClusterJob due = Scene::job(1, 400);
        due.deadline = 1000;
        scene.submit(0, oldest);
        scene.submit(0, shortest);
        scene.submit(0, due);
        scene.pass(0);
        for (int i = 0; i < 3; ++i) {
            if (scene.place_of(static_cast<std::uint32_t>(i)) == 0) return i;
        }
        return -1;
    };
    CHECK(first_of(ClusterPolicy::kFcfs) == 0);
    CHECK(first_of(ClusterPolicy::kEasy) == 0);
    CHECK(first_of(ClusterPolicy::kSjf) == 1);
    CHECK(first_of(ClusterPolicy::kSjfEasy) == 1);
    CHECK(first_of(ClusterPolicy::kEdf) == 2);
}

TEST_CASE("ClusterCore: gangs are all or nothing on different nodes", "[cluster]") {
    Scene scene;
    scene.node(4);
    scene.node(4);
    const auto small = scene.submit(0, Scene::job(4, 100));
    ClusterJob gang = Scene::job(3, 100);
    gang.nodes = 2;
    const auto both = scene.submit(0, gang);
    scene.pass(0);
    CHECK(scene.place_of(small) >= 0);
    CHECK(scene.place_of(both) == -1);
    const Decision* reserved = scene.find(DecisionKind::kReserve, both);
    REQUIRE(reserved != nullptr);
    CHECK(reserved->at == 100);
    CHECK(reserved->nodes.size() == 2);
    scene.core.end(60, small);
    scene.pass(60);
    CHECK(scene.find(DecisionKind::kPlace, both)->nodes.size() == 2);
    gang.nodes = 3;
    CHECK(scene.find(DecisionKind::kReject, scene.submit(60, gang))->reason == "impossible");
}

TEST_CASE("ClusterCore: a deadline makes urgent, and the urgent push aside", "[cluster]") {
    Scene scene;
    scene.node(1);
    const auto other = scene.submit(0, Scene::job(1, 5000));
    scene.pass(0);
    ClusterJob due = Scene::job(1, 100);
    due.deadline = 1000;
    const auto rescued = scene.submit(10, due);
    scene.pass(10);
    CHECK(scene.place_of(rescued) == -1);
    REQUIRE(scene.core.next_wake());
    CHECK(*scene.core.next_wake() == 1000 - 100 - 10);
    scene.pass(890);
    CHECK(scene.place_of(rescued) == 0);
    CHECK(scene.find(DecisionKind::kPreempt, other)->reason == "preempted");
    CHECK(scene.core.explain(890, other).state == "waiting");
}

TEST_CASE("ClusterCore: who was pushed before is not pushed for ever", "[cluster]") {
    Scene scene;
    scene.node(1);
    const auto victim = scene.submit(0, Scene::job(1, 1000));
    int pushed = 0;
    for (std::int64_t now = 0; now < 20 * 1000; now += 1000) {
        scene.pass(now);
        ClusterJob critical = Scene::job(1, 10);
        critical.want.sla = SlaClass::kCritical;
        const auto ref = scene.submit(now + 10, critical);
        scene.decisions.clear();
        scene.pass(now + 10);
        pushed += scene.find(DecisionKind::kPreempt, victim) != nullptr ? 1 : 0;
        if (scene.place_of(ref) == 0) scene.core.end(now + 20, ref);
    }
    CHECK(pushed == 1);
}

TEST_CASE("ClusterCore: a warned spot node is cleared and takes nothing", "[cluster]") {
    Scene scene;
    const auto spot = scene.spot_node(4);
    const auto steady = scene.node(4);
    ClusterJob flexible = Scene::job(2, 100);
    flexible.want.sla = SlaClass::kFlexible;
    const auto ref = scene.submit(0, flexible);
    scene.pass(0);
    CHECK(scene.place_of(ref) == static_cast<int>(spot));
    scene.core.warn_node(30, spot, scene.decisions);
    CHECK(scene.find(DecisionKind::kPreempt, ref)->reason == "spot-notice");
    scene.pass(30);
    CHECK(scene.place_of(ref) == static_cast<int>(steady));
}

TEST_CASE("ClusterCore: quota, named limits and budgets keep waiting, with their code",
          "[cluster]") {
    ClusterOptions options;
    options.user_quota["ann"] = Resources{2000, 0, 64 * kGiB};
    options.named_limits["licence"] = 1;
    options.user_budget["poor"] = 0.5;
    Scene scene(options);
    scene.node(16);
    const auto as = [](std::string user, std::vector<std::string> limits = {}) {
        ClusterJob out = Scene::job(2, 3600);
        out.user = std::move(user);
        out.named_limits = std::move(limits);
        return out;
    };
    const auto ann1 = scene.submit(0, as("ann"));
    const auto ann2 = scene.submit(0, as("ann"));
    const auto one = scene.submit(0, as("bob", {"licence"}));
    const auto two = scene.submit(0, as("bob", {"licence"}));
    const auto poor = scene.submit(0, as("poor"));
    scene.pass(0);
    CHECK(scene.place_of(ann1) == 0);
    CHECK(scene.core.explain(0, ann2).reason == "quota");
    CHECK(scene.place_of(one) == 0);
    CHECK(scene.core.explain(0, two).reason == "named-limit");
    scene.core.end(3600, poor);
    CHECK(scene.core.spent("poor") == Approx(1));
    const auto poorer = scene.submit(3600, as("poor"));
    scene.pass(3600);
    CHECK(scene.place_of(poorer) == -1);
    CHECK(scene.core.explain(3600, poorer).reason == "budget");
}

TEST_CASE("ClusterCore: explain tells when, behind everybody ahead", "[cluster]") {
    Scene scene;
    scene.node(2);
    const auto running = scene.submit(0, Scene::job(2, 100));
    scene.pass(0);
    const auto next = scene.submit(10, Scene::job(2, 50));
    const auto last = scene.submit(10, Scene::job(1, 50));
    scene.pass(10);
    const Explanation why = scene.core.explain(10, next);
    CHECK(why.state == "waiting");
    CHECK(why.reason == "resources");
    REQUIRE(why.nodes.size() == 1);
    CHECK(why.nodes[0].refusal == Refusal::kBusyCpu);
    CHECK(why.nodes[0].blockers == std::vector<std::uint32_t>{running});
    CHECK(why.earliest_start == 100);
    CHECK(scene.core.explain(10, last).earliest_start == 150);
    // Asking changes nothing.
    scene.core.end(20, running);
    scene.pass(20);
    CHECK(scene.place_of(next) == 0);
}

TEST_CASE("ClusterCore: past use costs the heavy user the next free place", "[cluster]") {
    Scene scene;
    scene.node(1);
    ClusterJob heavy = Scene::job(1, 10'000);
    heavy.user = heavy.group = "heavy";
    ClusterJob light = Scene::job(1, 100);
    light.user = light.group = "light";
    const auto a = scene.submit(0, light);
    scene.pass(0);
    scene.core.end(100, a);
    const auto b = scene.submit(100, heavy);
    scene.pass(100);
    scene.core.end(10'000, b);
    const auto again = scene.submit(10'000, heavy);
    const auto turn = scene.submit(10'100, light);
    scene.pass(10'100);
    CHECK(scene.place_of(turn) == 0);
    CHECK(scene.place_of(again) == -1);
}

TEST_CASE("ClusterCore: what is known to take long stands behind what is short", "[cluster]") {
    Scene scene;
    scene.node(1);
    const auto run = [&](const char* name, std::int64_t from, std::int64_t to) {
        ClusterJob job = Scene::job(1, 20'000);
        job.name = name;
        const auto ref = scene.submit(from, job);
        scene.pass(from);
        REQUIRE(scene.place_of(ref) == 0);
        scene.core.end(to, ref);
    };
    run("sort", 0, 3600);
    run("count", 3600, 3610);
    const auto blocker = scene.submit(4000, Scene::job(1, 20'000));
    scene.pass(4000);
    ClusterJob job = Scene::job(1, 20'000);
    job.name = "sort";
    const auto slow = scene.submit(4000, job);
    job.name = "count";
    const auto quick = scene.submit(4000 + 3599, job);
    job.name = "sort";
    job.user = "somebody else";
    const auto unknown = scene.submit(4000 + 3599, job);
    const Explanation known = scene.core.explain(4000 + 3600, slow);
    CHECK(known.order.length == 4);
    CHECK(known.expected_s == 3600);
    CHECK(scene.core.explain(4000 + 3600, unknown).order.length == 0);
    CHECK_FALSE(scene.core.explain(4000 + 3600, unknown).expected_s);
    scene.core.end(4000 + 3600, blocker);
    scene.pass(4000 + 3600);
    CHECK(scene.place_of(quick) == 0);
    CHECK(scene.place_of(slow) == -1);
    // The limit bounds what was learned.
    job.limit = 60;
    job.user = "";
    CHECK(scene.core.explain(4000 + 3600, scene.submit(4000 + 3600, job)).expected_s == 60);
}

TEST_CASE("Run times: what ends late is expected later, never beyond its limit", "[order]") {
    CHECK(likely_run_s(100, 0, 0) == 100);
    CHECK(likely_run_s(100, 99, 0) == 100);
    CHECK(likely_run_s(100, 100, 0) == 210);
    CHECK(likely_run_s(100, 100, 150) == 150);
    CHECK(likely_run_s(500, 0, 150) == 150);
    CHECK(backfill_bound_s(100, 0) == 200);
    CHECK(backfill_bound_s(100, 7) == 7);
    CHECK(backfill_bound_s(0, 0) == 0);
    CHECK(length_points(std::nullopt) == 0);
    CHECK(length_points(225) == 0);
    CHECK(length_points(450) == 1);
    CHECK(length_points(1e6) == kLengthPointsMax);
}

TEST_CASE("RunTimePredictor: forgets what was not learned of for longest", "[order]") {
    RunTimePredictor predictor(4);
    for (std::int64_t user = 0; user < 6; ++user) {
        predictor.note(RunKey{user, 1, 1, 1}, 10);
        predictor.note(RunKey{0, 1, 1, 1}, 20);
    }
    CHECK_FALSE(predictor.known(RunKey{1, 1, 1, 1}));
    CHECK(predictor.known(RunKey{5, 1, 1, 1}) == 10);
    CHECK(predictor.known(RunKey{0, 1, 1, 1}) == 20);  // the last five
    RunTimePredictor copy(4);
    predictor.for_each([&](const auto& key, const auto& history, bool young) {
        copy.restore(key, history, young);
    });
    CHECK(copy.known(RunKey{0, 1, 1, 1}) == 20);
    CHECK(copy.known(RunKey{5, 1, 1, 1}) == 10);
}
