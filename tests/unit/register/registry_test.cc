// The register's loop on a real segment with real processes: who joins, dies, leaves, and what
// becomes of what they held.
#include "tests/unit/register/registry_rig.h"

#include <algorithm>

#include <fcntl.h>
#include <sched.h>

#include "common/process/cgroup.h"
#include "tests/support/catch.h"

using namespace reeve;            // NOLINT(google-build-using-namespace): a test
using namespace reeve::registry;  // NOLINT(google-build-using-namespace)
using shm::EventKind;
using shm::SlotState;
using shm::WorkerState;

namespace {

const WorkerId kId{4, 40};
constexpr std::uint16_t kOwner = shm::kOwnerFirstWorker + 2;

std::vector<EventKind> kinds(const std::vector<shm::Event>& events) {
    std::vector<EventKind> result;
    for (const auto& event : events) result.push_back(event.kind);
    return result;
}

std::size_t count(const std::vector<shm::Event>& events, EventKind kind) {
    return static_cast<std::size_t>(std::count_if(
        events.begin(), events.end(), [&](const auto& event) { return event.kind == kind; }));
}

}  // namespace

TEST_CASE("Registry: a worker that filled its slot becomes alive, the record first", "[register]") {
    RegistryRig rig;
    Sleeper agent;
    Sleeper launcher;
    auto& worker = rig.join(2, kId, agent.pid(), launcher.pid());
    worker.agent.heartbeat_ns.store(0);  // not finished filling
    rig.step();
    CHECK(rig.state(2) == WorkerState::kJoining);
    CHECK(rig.events().empty());
    worker.agent.heartbeat_ns.store(boot_ns());
    rig.step();
    CHECK(rig.state(2) == WorkerState::kAlive);
    const auto events = rig.events();
    REQUIRE(events.size() == 1);
    CHECK(events[0].kind == EventKind::kWorkerJoined);
    CHECK(events[0].worker_number == kId.number);
    CHECK(events[0].worker_incarnation == kId.incarnation);
    CHECK(events[0].worker_slot == 2);
}

TEST_CASE("Registry: a worker that joins drained is never alive", "[register]") {
    RegistryRig rig;
    Sleeper agent;
    Sleeper launcher;
    auto& worker = rig.join(2, kId, agent.pid(), launcher.pid());
    worker.drain_wanted.store(1);
    rig.step();
    CHECK(rig.state(2) == WorkerState::kDraining);
    CHECK(kinds(rig.events()) == std::vector{EventKind::kWorkerJoined, EventKind::kWorkerDrained});
    worker.drain_wanted.store(0);
    rig.step();
    CHECK(rig.state(2) == WorkerState::kAlive);
}

TEST_CASE("Registry: drain and undrain are obeyed and told", "[register]") {
    RegistryRig rig;
    Sleeper agent;
    Sleeper launcher;
    auto& worker = rig.join(2, kId, agent.pid(), launcher.pid());
    rig.step();
    worker.drain_wanted.store(1);
    rig.step();
    CHECK(rig.state(2) == WorkerState::kDraining);
    worker.drain_wanted.store(0);
    rig.step();
    CHECK(rig.state(2) == WorkerState::kAlive);
    CHECK(kinds(rig.events()) == std::vector<EventKind>{EventKind::kWorkerJoined,
                                                        EventKind::kWorkerDrained,
                                                        EventKind::kWorkerUndrained});
}

TEST_CASE("Registry: agent and launcher dead: its tasks are queued again, in the lawful order",
          "[register]") {
    RegistryRig rig;
    Sleeper agent;
    Sleeper launcher;
    rig.join(2, kId, agent.pid(), launcher.pid());
    rig.step();
    rig.hold(10, 2, SlotState::kRunning);
    rig.hold(70, 2, SlotState::kAssigned);
    rig.hold(11, 2, SlotState::kEnded);  // its own last report, not yet read by the PLM
    rig.hold(12, kOwner + 1, WorkerId{5, 50}, SlotState::kRunning);  // somebody else's
    rig.segment().task(10).claim.store(3);
    rig.events();

    agent.end();
    rig.run_for(20 * kMillisecond);
    CHECK(rig.word(10).state() == SlotState::kRunning);  // the launcher lives: it may be adopted
    launcher.end();
    REQUIRE(rig.run_until([&] { return rig.word(70).state() == SlotState::kQueued; }));

    CHECK(rig.word(10) == shm::SlotWord::make(1, 1, shm::kOwnerNone, SlotState::kQueued));
    CHECK(rig.word(11).state() == SlotState::kEnded);
    CHECK(rig.word(12).state() == SlotState::kRunning);
    CHECK(rig.in_heap(10));
    CHECK(rig.in_heap(70));
    CHECK(rig.segment().task(10).deaths.load() == 1);
    CHECK(rig.segment().task(70).deaths.load() == 0);  // it had not started
    const auto events = rig.events();
    CHECK(kinds(events) == std::vector<EventKind>{EventKind::kObserved, EventKind::kObserved,
                                                  EventKind::kObserved, EventKind::kWorkerDead,
                                                  EventKind::kMoved, EventKind::kMoved});
    CHECK(events[0].slot == 11);
    CHECK(events[3].worker_incarnation == kId.incarnation);
    CHECK(events[4].peer_incarnation == kId.incarnation);

    // The slot is free once the scheduler has let go of its resources.
    rig.run_for(30 * kMillisecond);
    CHECK(rig.state(2) == WorkerState::kDead);
    rig.segment().task(10).claim.store(0);
    REQUIRE(rig.run_until([&] { return rig.state(2) == WorkerState::kFree; }));
    CHECK(rig.segment().worker(2).number.load() == 0);
}

TEST_CASE("Registry: a new agent for the same launcher saves everything", "[register]") {
    RegistryRig rig;
    Sleeper agent;
    Sleeper next_agent;
    Sleeper launcher;
    auto& worker = rig.join(2, kId, agent.pid(), launcher.pid(), 300 * kMillisecond);
    rig.step();
    rig.hold(10, 2, SlotState::kRunning);
    agent.end();
    rig.run_for(150 * kMillisecond);
    worker.agent.start_ticks.store(next_agent.ticks());
    worker.agent.pid.store(static_cast<std::uint32_t>(next_agent.pid()));
    for (int i = 0; i < 5; ++i) {
        worker.agent.heartbeat_ns.store(boot_ns());
        rig.run_for(100 * kMillisecond);
    }
    CHECK(rig.state(2) == WorkerState::kAlive);
    CHECK(rig.word(10).state() == SlotState::kRunning);
    CHECK(count(rig.events(), EventKind::kWorkerDead) == 0);
}

TEST_CASE("Registry: a silent worker is killed before its tasks are given away", "[register]") {
    RegistryRig rig;
    Sleeper agent;
    Sleeper launcher;
    rig.join(2, kId, agent.pid(), launcher.pid(), 200 * kMillisecond);
    agent.signal(SIGSTOP);
    rig.step();
    rig.hold(10, 2, SlotState::kRunning);
    const auto begun = boot_ns();
    bool given_while_alive = false;
    REQUIRE(rig.run_until([&] {
        const bool given = rig.word(10).state() == SlotState::kQueued;
        given_while_alive = given_while_alive || (given && (agent.alive() || launcher.alive()));
        return given;
    }));
    CHECK(boot_ns() - begun >= 200 * kMillisecond);
    CHECK_FALSE(given_while_alive);
}

TEST_CASE("Registry: nothing is given back before the scheduler's next loop", "[register]") {
    RegistryRig rig;
    Sleeper agent;
    Sleeper launcher;
    Sleeper scheduler;
    auto& participant = rig.segment().participant(shm::kParticipantScheduler);
    participant.start_ticks.store(scheduler.ticks());
    participant.pid.store(static_cast<std::uint32_t>(scheduler.pid()));
    participant.heartbeat_ns.store(boot_ns());
    rig.join(2, kId, agent.pid(), launcher.pid());
    rig.step();
    rig.hold(10, 2, SlotState::kRunning);
    agent.end();
    launcher.end();
    rig.run_for(50 * kMillisecond);
    CHECK(rig.state(2) == WorkerState::kDead);
    CHECK(rig.word(10).state() == SlotState::kRunning);

    SECTION("it loops") {
        participant.heartbeat_ns.store(boot_ns());
        CHECK(rig.run_until([&] { return rig.word(10).state() == SlotState::kQueued; }));
    }
    SECTION("it dies") {
        scheduler.end();
        CHECK(rig.run_until([&] { return rig.word(10).state() == SlotState::kQueued; }));
    }
    SECTION("what it still placed meanwhile goes back as well") {
        rig.hold(11, 2, SlotState::kAssigned);
        participant.heartbeat_ns.store(boot_ns());
        CHECK(rig.run_until([&] { return rig.word(11).state() == SlotState::kQueued; }));
    }
}

TEST_CASE("Registry: what a dead worker held ends as its wishes say", "[register]") {
    RegistryRig rig;
    Sleeper agent;
    Sleeper launcher;
    rig.join(2, kId, agent.pid(), launcher.pid());
    rig.step();
    rig.hold(1, 2, SlotState::kRunning).flags = shm::kTaskAtMostOnce;
    rig.hold(2, 2, SlotState::kRunning).deaths.store(4);
    rig.hold(3, 2, SlotState::kSuspended).intent.store(shm::kIntentCancel);
    rig.hold(4, 2, SlotState::kRunning).intent.store(shm::kIntentRequeue | shm::kIntentHold);
    rig.hold(5, 2, SlotState::kRunning).intent.store(shm::kIntentRequeue);
    rig.hold(6, 2, SlotState::kEnding);
    agent.end();
    launcher.end();
    REQUIRE(rig.run_until([&] { return rig.word(6).state() == SlotState::kQueued; }));
    const auto outcome = [&](std::uint32_t slot) {
        REQUIRE(rig.word(slot).state() == SlotState::kEnded);
        return static_cast<Outcome>(rig.segment().task(slot).outcome.load());
    };
    CHECK(outcome(1) == Outcome::kLost);
    CHECK(outcome(2) == Outcome::kPoison);
    CHECK(outcome(3) == Outcome::kCancelled);
    CHECK(outcome(4) == Outcome::kRequeued);
    CHECK(rig.word(5).state() == SlotState::kQueued);
    CHECK(rig.segment().task(5).intent.load() == 0);  // or the next attempt would be stopped too
}

TEST_CASE("Registry: what the tasks of a dead worker left running is ended first", "[register]") {
    RegistryRig rig;
    Sleeper agent;
    Sleeper launcher;
    auto& worker = rig.join(2, kId, agent.pid(), launcher.pid());
    const auto support = probe_cgroups();
    CgroupSubtree subtree;
    AttemptCgroup attempt;
    pid_t task = 0;
    SECTION("found by its cgroup") {
        if (!support.usable()) return;
        const auto root = "reeve." + rig.cell().hash + "/w40";
        auto made = CgroupSubtree::make(support, root);
        REQUIRE(made);
        subtree = std::move(*made);
        int fd = -1;
        REQUIRE(subtree.make_attempt("1.1", CgroupLimits{}, attempt, fd));
        root.copy(worker.cgroup_root, sizeof worker.cgroup_root - 1);
        CgroupEntry entries[kCgroupEntriesMax];
        const int count = subtree.entries(attempt, true, entries);
        task = fork();
        if (task == 0) {
            for (int i = 0; i < count; ++i) {
                const int entry = openat(entries[i].dir_fd, entries[i].path, O_WRONLY);
                if (entry < 0 || write(entry, "0", 1) != 1) _exit(1);
                close(entry);
            }
            setsid();  // a process that went its own way
            for (;;) pause();
        }
        if (fd >= 0) close(fd);
        while (!subtree.populated(attempt)) sched_yield();
    }
    SECTION("found by its environment") {
        const auto mark = "REEVE_INSTANCE=" + rig.cell().hash + ".4.40";
        task = fork();
        if (task == 0) {
            char* const words[] = {const_cast<char*>("sleep"), const_cast<char*>("1000"), nullptr};
            char* const environment[] = {const_cast<char*>(mark.c_str()), nullptr};
            execve("/bin/sleep", words, environment);
            _exit(1);
        }
        while (pids_with_environment(mark).empty()) sched_yield();
    }
    rig.step();
    rig.hold(10, 2, SlotState::kRunning);
    agent.end();
    launcher.end();
    bool overlap = false;
    REQUIRE(rig.run_until([&] {
        const bool given = rig.word(10).state() == SlotState::kQueued;
        overlap = overlap || (given && process_alive(task, 0));
        return given;
    }));
    CHECK_FALSE(overlap);
    int status = 0;
    CHECK(waitpid(task, &status, 0) == task);
    CHECK(WIFSIGNALED(status));
    if (subtree.usable()) {
        CHECK_FALSE(cgroup_populated(support, subtree.relative()));
    }
}

TEST_CASE("Registry: a goodbye gives back without a death", "[register]") {
    RegistryRig rig;
    Sleeper agent;
    Sleeper launcher;
    auto& worker = rig.join(2, kId, agent.pid(), launcher.pid());
    rig.step();
    rig.hold(10, 2, SlotState::kAssigned);
    rig.events();
    worker.state.store(WorkerState::kLeft);
    rig.run_for(20 * kMillisecond);
    CHECK(rig.word(10).state() == SlotState::kAssigned);  // its processes are still there
    agent.end();
    launcher.end();
    REQUIRE(rig.run_until([&] { return rig.state(2) == WorkerState::kFree; }));
    CHECK(rig.word(10).state() == SlotState::kQueued);
    CHECK(kinds(rig.events()) ==
          std::vector<EventKind>{EventKind::kObserved, EventKind::kMoved, EventKind::kWorkerLeft});
}

TEST_CASE("Registry: a restarted register goes on with a burial it finds", "[register]") {
    RegistryRig rig;
    Sleeper agent;
    Sleeper launcher;
    auto& worker = rig.join(2, kId, agent.pid(), launcher.pid());
    rig.step();
    rig.hold(10, 2, SlotState::kRunning);
    worker.state.store(WorkerState::kDead);  // the verdict was its last deed
    rig.restart();
    REQUIRE(rig.run_until([&] { return rig.state(2) == WorkerState::kFree; }));
    CHECK(rig.word(10).state() == SlotState::kQueued);
    CHECK_FALSE(agent.alive());
    CHECK_FALSE(launcher.alive());
    CHECK(count(rig.events(), EventKind::kWorkerDead) == 1);
}

TEST_CASE("Registry: a restarted register grants a full lease", "[register]") {
    RegistryRig rig;
    Sleeper agent;
    Sleeper launcher;
    rig.join(2, kId, agent.pid(), launcher.pid(), 400 * kMillisecond);
    rig.run_for(300 * kMillisecond);
    rig.restart();
    rig.run_for(300 * kMillisecond);
    CHECK(rig.state(2) == WorkerState::kAlive);
    CHECK(rig.run_until([&] { return rig.state(2) != WorkerState::kAlive; }));
}

TEST_CASE("Registry: a worker that dies while joining is logged as joined, then dead",
          "[register]") {
    RegistryRig rig;
    Sleeper agent;
    auto& worker = rig.join(2, kId, agent.pid(), 0);
    worker.agent.heartbeat_ns.store(0);
    rig.step();
    rig.hold(10, 2, SlotState::kRunning);  // adopted after a rebuild
    agent.end();
    REQUIRE(rig.run_until([&] { return rig.state(2) == WorkerState::kFree; }));
    CHECK(kinds(rig.events()) == std::vector<EventKind>{EventKind::kObserved,
                                                        EventKind::kWorkerJoined,
                                                        EventKind::kWorkerDead, EventKind::kMoved});
}

TEST_CASE("Registry: orphans wait for their holder, then go back", "[register]") {
    RegisterOptions options;
    options.lease_default_ns = 1'200 * kMillisecond;
    options.margin_ns = 100 * kMillisecond;
    RegistryRig rig(options);
    rig.hold(10, shm::kOwnerOrphan, kId, SlotState::kRunning);
    rig.hold(11, shm::kOwnerOrphan, WorkerId{5, 50}, SlotState::kRunning);
    const auto begun = boot_ns();
    rig.step();
    Sleeper agent;
    Sleeper launcher;
    auto& worker = rig.join(2, WorkerId{5, 50}, agent.pid(), launcher.pid());
    rig.step();
    rig.hold(11, 2, SlotState::kRunning);  // adopted
    REQUIRE(rig.run_until([&] {
        worker.agent.heartbeat_ns.store(boot_ns());
        return rig.word(10).state() == SlotState::kQueued;
    }));
    CHECK(boot_ns() - begun >= 1'200 * kMillisecond);
    rig.run_for(200 * kMillisecond);
    CHECK(rig.word(11).state() == SlotState::kRunning);
    const auto events = rig.events();
    CHECK(count(events, EventKind::kWorkerDead) == 1);
    for (const auto& event : events) {
        if (event.kind == EventKind::kWorkerDead) {
            CHECK(event.worker_incarnation == kId.incarnation);
        }
    }
}

TEST_CASE("Registry: a holder that comes back after its orphans were given away starts anew",
          "[register]") {
    RegisterOptions options;
    options.lease_default_ns = 100 * kMillisecond;
    options.margin_ns = 0;
    RegistryRig rig(options);
    rig.hold(10, shm::kOwnerOrphan, kId, SlotState::kRunning);
    REQUIRE(rig.run_until([&] { return rig.word(10).state() == SlotState::kQueued; }));
    Sleeper agent;
    Sleeper launcher;
    rig.join(2, kId, agent.pid(), launcher.pid());
    REQUIRE(rig.run_until([&] { return rig.state(2) == WorkerState::kFree; }));
    CHECK_FALSE(agent.alive());
    CHECK(count(rig.events(), EventKind::kWorkerJoined) == 0);
}

TEST_CASE("Registry: who is being buried does not join again in another slot", "[register]") {
    RegistryRig rig;
    Sleeper agent;
    Sleeper launcher;
    rig.join(2, kId, agent.pid(), launcher.pid());
    rig.step();
    rig.hold(10, 2, SlotState::kRunning);
    rig.segment().task(10).claim.store(3);  // the burial waits for the scheduler
    agent.end();
    launcher.end();
    REQUIRE(rig.run_until([&] { return rig.word(10).state() == SlotState::kQueued; }));
    CHECK(rig.state(2) == WorkerState::kDead);
    // Its next agent had the id from the launcher just before that was killed.
    Sleeper late;
    Sleeper other;
    rig.join(3, kId, late.pid(), other.pid());
    const bool known_to_register = GENERATE(true, false);
    if (!known_to_register) rig.restart();
    for (int i = 0; i < 20; ++i) {
        rig.step();
        REQUIRE(rig.state(3) != WorkerState::kAlive);
    }
    REQUIRE(rig.run_until([&] { return rig.state(3) == WorkerState::kFree; }));
    CHECK_FALSE(late.alive());
    CHECK(count(rig.events(), EventKind::kWorkerJoined) == 1);
}

TEST_CASE("Registry: who joins without a living launcher is not welcome", "[register]") {
    RegistryRig rig;
    Sleeper agent;
    Sleeper launcher;
    rig.join(2, kId, agent.pid(), launcher.pid());
    launcher.end();
    for (int i = 0; i < 20; ++i) {
        rig.step();
        REQUIRE(rig.state(2) == WorkerState::kJoining);
    }
    agent.end();
    REQUIRE(rig.run_until([&] { return rig.state(2) == WorkerState::kFree; }));
}

TEST_CASE("Registry: an orphan its returned holder does not know goes back without a death",
          "[register]") {
    RegistryRig rig;
    Sleeper agent;
    Sleeper launcher;
    auto& worker = rig.join(2, kId, agent.pid(), launcher.pid());
    rig.step();
    rig.hold(10, shm::kOwnerOrphan, kId, SlotState::kRunning);
    REQUIRE(rig.run_until([&] {
        worker.agent.heartbeat_ns.store(boot_ns());
        return rig.word(10).state() == SlotState::kQueued;
    }));
    CHECK(count(rig.events(), EventKind::kWorkerDead) == 0);
    CHECK(rig.state(2) == WorkerState::kAlive);
}

TEST_CASE("Registry: an orphan its dead holder had not adopted goes back with the rest",
          "[register]") {
    RegistryRig rig;
    Sleeper agent;
    Sleeper launcher;
    rig.join(2, kId, agent.pid(), launcher.pid());
    rig.step();
    rig.hold(10, 2, SlotState::kRunning);
    rig.hold(70, shm::kOwnerOrphan, kId, SlotState::kRunning);
    rig.hold(71, shm::kOwnerOrphan, WorkerId{5, 50}, SlotState::kRunning);  // may still come
    rig.events();
    agent.end();
    launcher.end();
    REQUIRE(rig.run_until([&] { return rig.state(2) == WorkerState::kFree; }));
    CHECK(rig.word(10).state() == SlotState::kQueued);
    CHECK(rig.word(70).state() == SlotState::kQueued);
    CHECK(rig.word(71).state() == SlotState::kRunning);
    const auto events = rig.events();
    CHECK(kinds(events) == std::vector<EventKind>{EventKind::kObserved, EventKind::kObserved,
                                                  EventKind::kWorkerDead, EventKind::kMoved,
                                                  EventKind::kMoved});
}

TEST_CASE("Registry: slots of a worker that is not there are found by the sweep", "[register]") {
    RegistryRig rig;
    Sleeper agent;
    Sleeper launcher;
    auto& worker = rig.join(2, kId, agent.pid(), launcher.pid());
    rig.step();
    rig.hold(10, kOwner, WorkerId{4, 39}, SlotState::kAssigned);     // an earlier life of the slot
    rig.hold(11, kOwner + 3, WorkerId{6, 60}, SlotState::kRunning);  // a free worker slot
    rig.hold(12, 60'000, WorkerId{7, 70}, SlotState::kRunning);      // no worker slot at all
    rig.hold(13, 2, SlotState::kRunning);                            // in order
    REQUIRE(rig.run_until([&] {
        worker.agent.heartbeat_ns.store(boot_ns());
        return rig.word(10).state() == SlotState::kQueued &&
               rig.word(11).state() == SlotState::kQueued &&
               rig.word(12).state() == SlotState::kQueued;
    }));
    CHECK(rig.word(13).state() == SlotState::kRunning);
    CHECK(rig.state(2) == WorkerState::kAlive);
}

TEST_CASE("Registry: damaged heap nodes are healed by the sweep", "[register]") {
    RegistryRig rig;
    rig.hold(10, shm::kOwnerNone, WorkerId{}, SlotState::kQueued, 0);
    CHECK_FALSE(rig.in_heap(10));  // whoever queued it died before it climbed
    CHECK(rig.run_until([&] { return rig.in_heap(10); }));
    CHECK(rig.segment().header().healed_nodes.load() > 0);
}

TEST_CASE("Registry: a full event ring loses no requeue when the PLM is dead", "[register]") {
    RegistryRig rig;
    Sleeper agent;
    Sleeper launcher;
    rig.join(2, kId, agent.pid(), launcher.pid());
    rig.step();
    auto ring = shm::event_ring(rig.segment(), shm::kEventRingRegister);
    while (ring.try_push(shm::Event{})) {
    }
    rig.hold(10, 2, SlotState::kRunning);
    agent.end();
    launcher.end();
    REQUIRE(rig.run_until([&] { return rig.word(10).state() == SlotState::kQueued; }));
    CHECK(rig.segment().header().sweep_requested.load() > 0);
}

TEST_CASE("PidWatch: a death wakes the sleeping loop", "[register]") {
    RegistryRig rig;
    auto& wake = rig.segment().participant(shm::kParticipantRegister).wake;
    PidWatch watch(wake);
    bool woken = false;
    for (int trial = 0; trial < 10 && !woken; ++trial) {  // a loaded machine may be late once
        Sleeper process;
        const ProcessId id{process.pid(), process.ticks()};
        CHECK_FALSE(watch.gone(id));
        const auto ticket = shm::prepare_sleep(wake);
        const auto begun = boot_ns();
        process.signal(SIGKILL);
        shm::sleep(wake, ticket, 500 * kMillisecond);
        woken = boot_ns() - begun < 400 * kMillisecond;
        if (woken) CHECK(watch.gone(id));
    }
    CHECK(woken);
}
