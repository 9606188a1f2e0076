#include "register/core/failure_detector.h"

#include <cstdlib>
#include <random>
#include <string>

#include "tests/support/catch.h"

using reeve::kMillisecond;
using reeve::kSecond;
using reeve::WorkerId;
using reeve::registry::Death;
using reeve::registry::DeathReason;
using reeve::registry::DetectorOptions;
using reeve::registry::FailureDetector;
using reeve::registry::kGapCountedMaxNs;

namespace {

// A virtual clock and the register's loop around the detector: a step every 100 ms.
struct Rig {
    FailureDetector detector{DetectorOptions{}};
    std::uint64_t now = 1'000 * kSecond;

    std::vector<Death> run_for(std::uint64_t duration_ns, std::uint64_t step = 100 * kMillisecond) {
        std::vector<Death> all;
        for (std::uint64_t passed = 0; passed < duration_ns; passed += step) {
            now += step;
            for (const auto& death : detector.tick(now)) all.push_back(death);
        }
        return all;
    }
};

const WorkerId kFirst{1, 10};
const WorkerId kSecondLife{1, 11};

}  // namespace

TEST_CASE("FailureDetector: silence of one lease is death, one step less is not", "[register]") {
    Rig rig;
    rig.detector.worker_seen(0, kFirst, 2 * kSecond, rig.now);
    CHECK(rig.run_for(1'900 * kMillisecond).empty());
    const auto deaths = rig.run_for(100 * kMillisecond);
    REQUIRE(deaths.size() == 1);
    CHECK(deaths[0].reason == DeathReason::kLeaseRanOut);
    CHECK(deaths[0].id == kFirst);
    CHECK(deaths[0].silence_ns == 2 * kSecond);
}

TEST_CASE("FailureDetector: any change of the heartbeat word is life", "[register]") {
    Rig rig;
    rig.detector.worker_seen(0, kFirst, kSecond, rig.now);
    for (std::uint64_t beat = 1; beat < 100; ++beat) {
        CHECK(rig.run_for(900 * kMillisecond).empty());
        // falling values: the value means nothing
        rig.detector.heartbeat(0, 1'000 - beat, rig.now);
    }
    CHECK(rig.run_for(900 * kMillisecond).empty());
    CHECK(rig.run_for(100 * kMillisecond).size() == 1);
}

TEST_CASE("FailureDetector: the same heartbeat value again is no life", "[register]") {
    Rig rig;
    rig.detector.worker_seen(0, kFirst, kSecond, rig.now);
    rig.detector.heartbeat(0, 7, rig.now);
    std::size_t deaths = 0;
    for (int i = 0; i < 20; ++i) {
        deaths += rig.run_for(100 * kMillisecond).size();
        rig.detector.heartbeat(0, 7, rig.now);
    }
    CHECK(deaths == 1);
}

TEST_CASE("FailureDetector: agent alone gone waits out the lease, both gone do not", "[register]") {
    Rig rig;
    rig.detector.worker_seen(0, kFirst, 3 * kSecond, rig.now);
    rig.detector.agent_gone(0, true, rig.now);
    CHECK(rig.run_for(2 * kSecond).empty());

    SECTION("a new agent saves it") {
        rig.detector.agent_gone(0, false, rig.now);
        rig.detector.heartbeat(0, 42, rig.now);
        CHECK(rig.run_for(2'900 * kMillisecond).empty());
    }
    SECTION("the launcher's end is the end, at once") {
        rig.detector.launcher_gone(0, true, rig.now);
        const auto deaths = rig.detector.tick(rig.now);
        REQUIRE(deaths.size() == 1);
        CHECK(deaths[0].reason == DeathReason::kProcessesGone);
    }
    SECTION("or the lease is") {
        const auto deaths = rig.run_for(kSecond);
        REQUIRE(deaths.size() == 1);
        CHECK(deaths[0].reason == DeathReason::kLeaseRanOut);
    }
}

TEST_CASE("FailureDetector: launcher alone gone waits for the agent's lease", "[register]") {
    Rig rig;
    rig.detector.worker_seen(0, kFirst, kSecond, rig.now);
    rig.detector.launcher_gone(0, true, rig.now);
    for (std::uint64_t beat = 1; beat <= 50; ++beat) {
        rig.detector.heartbeat(0, beat, rig.now);
        CHECK(rig.run_for(200 * kMillisecond).empty());
    }
}

TEST_CASE("FailureDetector: a verdict is told once, and a forgotten slot starts anew",
          "[register]") {
    Rig rig;
    rig.detector.worker_seen(3, kFirst, kSecond, rig.now);
    CHECK(rig.run_for(5 * kSecond).size() == 1);
    rig.detector.forget(3);
    CHECK(rig.detector.watched() == 0);
    rig.detector.worker_seen(3, kSecondLife, kSecond, rig.now);
    CHECK(rig.run_for(900 * kMillisecond).empty());
    const auto deaths = rig.run_for(100 * kMillisecond);
    REQUIRE(deaths.size() == 1);
    CHECK(deaths[0].id == kSecondLife);
}

TEST_CASE("FailureDetector: a new id in a slot replaces the old one", "[register]") {
    Rig rig;
    rig.detector.worker_seen(0, kFirst, kSecond, rig.now);
    rig.detector.agent_gone(0, true, rig.now);
    rig.detector.launcher_gone(0, true, rig.now);
    rig.detector.worker_seen(0, kSecondLife, kSecond, rig.now);
    CHECK(rig.detector.tick(rig.now).empty());
}

TEST_CASE("FailureDetector: the detector's own stall counts for nobody's silence", "[register]") {
    Rig rig;
    rig.detector.worker_seen(0, kFirst, 2 * kSecond, rig.now);
    rig.now += 3'600 * kSecond;  // the register was stopped, or the machine
    CHECK(rig.detector.tick(rig.now).empty());
    rig.detector.heartbeat(0, 1, rig.now);
    CHECK(rig.run_for(1'900 * kMillisecond).empty());
}

TEST_CASE("FailureDetector: a clock that steps back kills nobody", "[register]") {
    Rig rig;
    rig.detector.worker_seen(0, kFirst, kSecond, rig.now);
    rig.now -= 500 * kSecond;
    CHECK(rig.detector.tick(rig.now).empty());
}

TEST_CASE("FailureDetector: leases of zero and nonsense are cut to sane ones", "[register]") {
    Rig rig;
    rig.detector.worker_seen(0, kFirst, 0, rig.now);
    CHECK(rig.run_for(2'900 * kMillisecond).empty());
    CHECK(rig.run_for(100 * kMillisecond).size() == 1);
    rig.detector.worker_seen(1, kFirst, 1, rig.now);
    CHECK(rig.run_for(40 * kMillisecond, 10 * kMillisecond).empty());
    CHECK(rig.run_for(10 * kMillisecond, 10 * kMillisecond).size() == 1);
    rig.detector.worker_seen(2, kFirst, ~std::uint64_t{0}, rig.now);
    CHECK(rig.detector.ns_to_next_deadline() == reeve::registry::kLeaseMaxNs);
}

TEST_CASE("FailureDetector: orphans get lease plus margin, unless their holder returns",
          "[register]") {
    Rig rig;
    rig.detector.orphan_seen(kFirst, rig.now);
    rig.detector.orphan_seen(kSecondLife, rig.now);
    CHECK(rig.run_for(3'500 * kMillisecond).empty());
    rig.detector.orphan_seen(kFirst, rig.now);  // seen again: its time goes on running
    rig.detector.orphan_returned(kSecondLife);
    const auto deaths = rig.run_for(5 * kSecond);
    REQUIRE(deaths.size() == 1);
    CHECK(deaths[0].id == kFirst);
    CHECK(deaths[0].reason == DeathReason::kNeverReturned);
}

TEST_CASE("FailureDetector: says how long it may sleep", "[register]") {
    Rig rig;
    CHECK(rig.detector.ns_to_next_deadline() == ~std::uint64_t{0});
    rig.detector.worker_seen(0, kFirst, 2 * kSecond, rig.now);
    CHECK(rig.detector.ns_to_next_deadline() == 2 * kSecond);
    CHECK(rig.run_for(500 * kMillisecond).empty());
    CHECK(rig.detector.ns_to_next_deadline() == 1'500 * kMillisecond);
    CHECK(rig.run_for(10 * kSecond).size() == 1);
    CHECK(rig.detector.ns_to_next_deadline() == ~std::uint64_t{0});
}

namespace {

std::uint64_t seed_from_environment() {
    const char* given = std::getenv("REEVE_SEED");
    return given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
}

// What the detector is told, kept beside it in the simplest way.
struct Model {
    std::uint64_t lease = 0;
    std::uint64_t last_life = 0;  // real time
    bool agent_gone = false;
    bool launcher_gone = false;
    bool dead = false;
};

}  // namespace

TEST_CASE("FailureDetector: random lives, checked against the rules", "[register]") {
    const auto seed = seed_from_environment();
    INFO("REEVE_SEED=" << seed);
    std::mt19937_64 random(seed);
    for (int round = 0; round < 300; ++round) {
        FailureDetector detector{DetectorOptions{}};
        std::uint64_t now = 1 + random() % (1'000 * kSecond);
        Model models[4];
        for (std::uint32_t i = 0; i < 4; ++i) {
            models[i].lease = kSecond + random() % (4 * kSecond);
            models[i].last_life = now;
            detector.worker_seen(i, WorkerId{i + 1, i + 1}, models[i].lease, now);
        }
        for (int step = 0; step < 200; ++step) {
            const bool stall = random() % 50 == 0;
            const auto gap = stall ? random() % (20 * kSecond) : random() % kGapCountedMaxNs;
            now += gap;
            for (std::uint32_t i = 0; i < 4; ++i) {
                auto& model = models[i];
                const auto dice = random() % 40;
                if (dice < 20 && !model.agent_gone) {
                    detector.heartbeat(i, now, now);
                    model.last_life = now;
                } else if (dice == 20) {
                    model.agent_gone = !model.agent_gone;
                    detector.agent_gone(i, model.agent_gone, now);
                } else if (dice == 21) {
                    model.launcher_gone = true;
                    detector.launcher_gone(i, true, now);
                }
            }
            for (const auto& death : detector.tick(now)) {
                auto& model = models[death.index];
                REQUIRE_FALSE(model.dead);  // named at most once
                model.dead = true;
                if (death.reason == DeathReason::kProcessesGone) {
                    REQUIRE((model.agent_gone && model.launcher_gone));
                } else {
                    REQUIRE(now - model.last_life >= model.lease);  // never early
                }
            }
            for (const auto& model : models) {  // never late, counted in undisturbed time
                if (model.agent_gone && model.launcher_gone) REQUIRE(model.dead);
            }
        }
        // Liveness: left alone, everybody who stays silent is named within lease + one step.
        std::size_t named = 0;
        for (const auto& model : models) named += model.dead ? 1 : 0;
        for (int step = 0; step < 60; ++step) {
            now += 100 * kMillisecond;
            named += detector.tick(now).size();
        }
        REQUIRE(named == 4);
    }
}
