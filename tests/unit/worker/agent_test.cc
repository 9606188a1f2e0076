// The whole worker against a segment: starts, endings, intents, deaths of agent and launcher.
#include <algorithm>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <thread>

#include <unistd.h>

#include "common/base/clock.h"
#include "common/merkle/hash.h"
#include "common/process/proc_info.h"
#include "common/shm/wake.h"
#include "tests/support/catch.h"
#include "tests/unit/worker/head_rig.h"
#include "tests/unit/worker/launcher_rig.h"

using namespace reeve;
using namespace reeve::worker::test;
using shm::EventKind;
using shm::SlotState;
using shm::SlotWord;
using shm::WorkerState;

namespace {

std::vector<shm::Event> moves_of(const std::vector<shm::Event>& events, std::uint32_t slot) {
    std::vector<shm::Event> out;
    for (const auto& event : events) {
        if (event.kind == EventKind::kMoved && event.slot == slot) out.push_back(event);
    }
    return out;
}

SlotState to_state(const shm::Event& event) {
    return SlotWord{event.new_word}.state();
}

}  // namespace

TEST_CASE("Worker: joins with all its fields, then runs what is dispatched", "[worker]") {
    HeadRig head;
    head.start_worker_and_join();
    auto& self = head.worker();
    CHECK(self.number.load() == 1);
    CHECK(self.incarnation.load() == 1);
    CHECK(self.capacity.cpu_milli == 2000);
    CHECK(self.capacity.memory_bytes == 1ULL << 30);
    CHECK(std::string(self.name) == "worker-1");
    CHECK(self.lease_ns.load() == 2 * kSecond);
    CHECK(process_exists(head.launcher_pid()));

    const auto slot =
        head.dispatch(head.shell("echo run $REEVE_JOB_ID $REEVE_TASK_ID $REEVE_ATTEMPT; exit 3"));
    REQUIRE(head.wait_state(slot, SlotState::kEnded));
    const auto& task = head.task(slot);
    CHECK(head.outcome(slot) == Outcome::kFailed);
    CHECK(task.exit_code.load() == 3);
    CHECK(std::string(task.detail) == "exit status 3");
    CHECK(task.pid.load() > 1);
    CHECK(task.started_wall_ns.load() > 0);
    CHECK(task.ended_wall_ns.load() >= task.started_wall_ns.load());
    CHECK(head.output(slot) == "run 100 0 1\n");
    CHECK(head.word(slot).owner() == shm::kOwnerPlm);
    const auto moves = moves_of(head.events(), slot);
    REQUIRE(moves.size() == 2);
    CHECK(SlotWord{moves[0].old_word}.state() == SlotState::kAssigned);
    CHECK(to_state(moves[0]) == SlotState::kRunning);
    CHECK(moves[1].old_word == moves[0].new_word);
    CHECK(to_state(moves[1]) == SlotState::kEnded);
    CHECK(moves[1].code == 3);
    CHECK(moves[1].worker_number == 1);
    CHECK(static_cast<Outcome>(moves[1].outcome) == Outcome::kFailed);
    const auto hints = head.hints();
    REQUIRE(hints.size() == 1);
    CHECK(hints[0].slot == slot);
    CHECK(hints[0].word == head.word(slot).raw);
}

TEST_CASE("Worker: the digest of what a task printed is in its slot", "[worker]") {
    HeadRig head;
    head.start_worker_and_join();
    const auto one = head.dispatch(head.shell("printf abc"));
    REQUIRE(head.wait_state(one, SlotState::kEnded));
    REQUIRE(head.task(one).has_digest.load() == 1);
    merkle::Hash digest;
    std::memcpy(digest.data(), head.task(one).detail, digest.size());
    CHECK(digest == merkle::sha256("abc"));
    auto spec = head.shell("printf out; printf err >&2");
    spec.set_output("o");
    spec.set_error("e");
    const auto both = head.dispatch(spec);
    REQUIRE(head.wait_state(both, SlotState::kEnded));
    std::memcpy(digest.data(), head.task(both).detail, digest.size());
    CHECK(digest == merkle::sha256("outerr"));
    spec = head.shell("exit 0");
    spec.set_output("none");
    const auto none = head.dispatch(spec);
    const auto failed = head.dispatch(head.shell("printf abc; exit 1"));
    REQUIRE(head.wait_state(none, SlotState::kEnded));
    REQUIRE(head.wait_state(failed, SlotState::kEnded));
    CHECK(head.task(none).has_digest.load() == 0);
    CHECK(head.task(failed).has_digest.load() == 0);
}

TEST_CASE("Worker: what a worker left that died with everybody is ended by the next", "[worker]") {
    HeadRig head;
    head.start_worker_and_join();
    const auto cgroup = head.cgroup_path();
    if (cgroup.empty()) {
        WARN("skipped: no cgroups here, and without nothing finds what cleared its environment");
        return;
    }
    const auto slot = head.dispatch(
        head.shell("setsid env -i sh -c 'echo $$ > d; exec sleep 1000' & sleep 1000"));
    REQUIRE(head.wait_state(slot, SlotState::kRunning));
    const auto file = std::filesystem::path(head.cell().dir).parent_path() / "d";
    REQUIRE(eventually([&] { return read_file(file).size() > 1; }));
    const int daemon_pid = std::atoi(read_file(file).c_str());
    ::kill(head.launcher_pid(), SIGKILL);
    (void)head.wait_exit();
    CHECK(std::filesystem::exists(cgroup));
    head.task(slot).word.store(0);  // as the register would have
    head.worker().agent.heartbeat_ns.store(0);
    head.worker().state.store(WorkerState::kFree);
    head.start_worker_and_join();
    CHECK(eventually([&] { return !process_exists(daemon_pid); }));
    CHECK_FALSE(std::filesystem::exists(cgroup));
}

TEST_CASE("Worker: a task whose dispatch hint was lost is found by its word", "[worker]") {
    HeadRig head;
    head.start_worker_and_join();
    const auto slot = head.dispatch(head.shell("exit 0"), 0, false);
    CHECK(head.wait_state(slot, SlotState::kEnded));
    CHECK(head.outcome(slot) == Outcome::kSucceeded);
}

TEST_CASE("Worker: hints that are not true are ignored", "[worker]") {
    HeadRig head;
    head.start_worker_and_join();
    auto ring = shm::dispatch_ring(head.segment(), 0);
    CHECK(ring.try_push({12345, 3}));            // a free slot
    CHECK(ring.try_push({~0ULL, 0xFFFFFFF0U}));  // no slot at all
    const auto slot = head.dispatch(head.shell("exit 0"));
    CHECK(ring.try_push({head.word(slot).raw, slot}));  // twice
    CHECK(head.wait_state(slot, SlotState::kEnded));
    CHECK(moves_of(head.events(), slot).size() == 2);
}

TEST_CASE("Worker: a damaged payload fails that task", "[worker]") {
    HeadRig head;
    head.start_worker_and_join();
    const auto slot = head.dispatch(head.shell("exit 0"), 0, false);
    head.task(slot).payload_offset = ~0ULL - 5;
    auto ring = shm::dispatch_ring(head.segment(), 0);
    (void)ring.try_push({head.word(slot).raw, slot});
    shm::wake(head.worker().agent.wake);
    CHECK(head.wait_state(slot, SlotState::kEnded));
    CHECK(head.outcome(slot) == Outcome::kFailed);
    CHECK(std::string(head.task(slot).detail).find("payload") != std::string::npos);
}

TEST_CASE("Worker: what is asked for while the start is being sent is obeyed", "[worker]") {
    HeadRig head;
    head.start_worker_and_join("worker.before_launcher:sleep=300");
    SECTION("cancel") {
        const auto slot = head.dispatch(head.shell("sleep 100"));
        REQUIRE(head.wait_state(slot, SlotState::kRunning));
        head.intend(slot, shm::kIntentCancel);
        REQUIRE(head.wait_state(slot, SlotState::kEnded));
        CHECK(head.outcome(slot) == Outcome::kCancelled);
    }
    SECTION("suspend") {
        const auto slot = head.dispatch(head.shell("echo begun; sleep 0.5; echo over"));
        REQUIRE(head.wait_state(slot, SlotState::kRunning));
        head.intend(slot, shm::kIntentSuspend);
        REQUIRE(head.wait_state(slot, SlotState::kSuspended));
        std::this_thread::sleep_for(std::chrono::milliseconds(1'200));
        CHECK(head.output(slot).find("over") == std::string::npos);
    }
}

TEST_CASE("Worker: intents are obeyed", "[worker]") {
    HeadRig head;
    head.start_worker_and_join();
    SECTION("cancel while it runs") {
        const auto slot = head.dispatch(head.shell("sleep 100"));
        REQUIRE(head.wait_state(slot, SlotState::kRunning));
        head.intend(slot, shm::kIntentCancel);
        REQUIRE(head.wait_state(slot, SlotState::kEnded));
        CHECK(head.outcome(slot) == Outcome::kCancelled);
    }
    SECTION("requeue while it runs") {
        const auto slot = head.dispatch(head.shell("sleep 100"));
        REQUIRE(head.wait_state(slot, SlotState::kRunning));
        head.intend(slot, shm::kIntentRequeue);
        REQUIRE(head.wait_state(slot, SlotState::kEnded));
        CHECK(head.outcome(slot) == Outcome::kRequeued);
    }
    SECTION("cancel before it starts: it never runs") {
        const auto slot = head.dispatch(head.shell("echo ran"), 0, false);
        head.task(slot).intent.store(shm::kIntentCancel);
        auto ring = shm::dispatch_ring(head.segment(), 0);
        (void)ring.try_push({head.word(slot).raw, slot});
        shm::wake(head.worker().agent.wake);
        REQUIRE(head.wait_state(slot, SlotState::kEnded));
        CHECK(head.outcome(slot) == Outcome::kCancelled);
        CHECK(head.task(slot).started_wall_ns.load() == 0);
        CHECK(head.output(slot).empty());
        CHECK(moves_of(head.events(), slot).size() == 1);
    }
    SECTION("suspend and resume") {
        const auto slot = head.dispatch(head.shell("while :; do sleep 0.01; done"));
        REQUIRE(head.wait_state(slot, SlotState::kRunning));
        head.intend(slot, shm::kIntentSuspend);
        REQUIRE(head.wait_state(slot, SlotState::kSuspended));
        head.drop_intent(slot, shm::kIntentSuspend);
        REQUIRE(head.wait_state(slot, SlotState::kRunning));
        head.intend(slot, shm::kIntentSuspend);
        REQUIRE(head.wait_state(slot, SlotState::kSuspended));
        head.intend(slot, shm::kIntentCancel);
        REQUIRE(head.wait_state(slot, SlotState::kEnded));
        CHECK(head.outcome(slot) == Outcome::kCancelled);
    }
}

TEST_CASE("Worker: at most once waits until its start is durable", "[worker]") {
    HeadRig head;
    head.start_worker_and_join();
    const auto slot = head.dispatch(head.shell("echo ran"), shm::kTaskAtMostOnce);
    REQUIRE(head.wait_state(slot, SlotState::kRunning));
    const auto seen = moves_of(head.events(false), slot);
    REQUIRE(seen.size() == 1);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    CHECK(head.word(slot).state() == SlotState::kRunning);
    CHECK(head.output(slot).empty());
    SECTION("then it runs") {
        (void)head.events(true);
        REQUIRE(head.wait_state(slot, SlotState::kEnded));
        CHECK(head.output(slot) == "ran\n");
    }
    SECTION("cancelled meanwhile it never runs") {
        head.intend(slot, shm::kIntentCancel);
        REQUIRE(head.wait_state(slot, SlotState::kEnded));
        CHECK(head.outcome(slot) == Outcome::kCancelled);
        (void)head.events(true);
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        CHECK(head.output(slot).empty());
        CHECK(head.segment().header().fenced_reports.load() == 0);
    }
}

TEST_CASE("Worker: a full event ring stops starts, never endings", "[worker]") {
    HeadRig head(8);
    head.start_worker_and_join();
    std::vector<std::uint32_t> slots;
    for (int i = 0; i < 12; ++i) slots.push_back(head.dispatch(head.shell("exit 0")));
    // Nobody reads: some start and end, the rest wait.
    REQUIRE(eventually([&] {
        return head.segment().header().sweep_requested.load() > 0 ||
               head.word(slots[2]).state() == SlotState::kEnded;
    }));
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    CHECK(head.word(slots[11]).state() == SlotState::kAssigned);
    int running = 0;
    for (const auto slot : slots) running += head.word(slot).state() == SlotState::kRunning ? 1 : 0;
    CHECK(running == 0);
    REQUIRE(eventually([&] {
        (void)head.events(true);
        (void)head.hints();
        return std::all_of(slots.begin(), slots.end(), [&](std::uint32_t slot) {
            return head.word(slot).state() == SlotState::kEnded;
        });
    }));
    for (const auto slot : slots) CHECK(head.outcome(slot) == Outcome::kSucceeded);
}

TEST_CASE("Worker: the agent dies, its tasks do not", "[worker]") {
    HeadRig head;
    head.start_worker_and_join();
    const auto long_one = head.dispatch(head.shell("sleep 1; echo survived"));
    const auto short_one = head.dispatch(head.shell("sleep 0.2; exit 4"));
    REQUIRE(head.wait_state(long_one, SlotState::kRunning));
    REQUIRE(head.wait_state(short_one, SlotState::kRunning));
    const int launcher = head.launcher_pid();
    head.kill_agent();
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    CHECK(head.word(short_one).state() == SlotState::kRunning);  // nobody there to tell
    const auto waiting = head.dispatch(head.shell("exit 0"));
    head.start_worker_and_join();
    CHECK(head.launcher_pid() == launcher);
    CHECK(head.worker().number.load() == 1);
    CHECK(head.worker().incarnation.load() == 1);
    REQUIRE(head.wait_state(short_one, SlotState::kEnded));
    CHECK(head.task(short_one).exit_code.load() == 4);
    REQUIRE(head.wait_state(waiting, SlotState::kEnded));
    REQUIRE(head.wait_state(long_one, SlotState::kEnded));
    CHECK(head.output(long_one) == "survived\n");
    CHECK(head.segment().header().fenced_reports.load() == 0);
}

TEST_CASE("Worker: killed at its worst moments, each task still runs once and is told",
          "[worker]") {
    const std::string point =
        GENERATE("worker.before_start", "worker.after_start", "worker.before_launcher",
                 "worker.before_end", "worker.after_end");
    HeadRig head;
    head.start_worker_and_join(point + ":kill:2");
    std::vector<std::uint32_t> slots;
    for (int i = 0; i < 4; ++i)
        slots.push_back(head.dispatch(head.shell("echo x >> marks$REEVE_JOB_ID")));
    INFO(point);
    REQUIRE(head.wait_exit() == -SIGKILL);
    head.start_worker_and_join();
    for (const auto slot : slots) {
        REQUIRE(head.wait_state(slot, SlotState::kEnded));
        CHECK(head.outcome(slot) == Outcome::kSucceeded);
        const auto marks = std::filesystem::path(head.cell().dir).parent_path() /
                           ("marks" + std::to_string(head.task(slot).job));
        CHECK(read_file(marks) == "x\n");
    }
    CHECK(head.segment().header().fenced_reports.load() == 0);
}

TEST_CASE("Worker: after a rebuild it joins again under its id and adopts its orphan", "[worker]") {
    HeadRig head;
    head.start_worker_and_join();
    const auto known = head.dispatch(head.shell("sleep 1.2; echo still me"));
    const auto unknown = head.dispatch(head.shell("echo $$ > pid; sleep 100"));
    REQUIRE(head.wait_state(known, SlotState::kRunning));
    REQUIRE(head.wait_state(unknown, SlotState::kRunning));
    const auto pid_file = std::filesystem::path(head.cell().dir).parent_path() / "pid";
    REQUIRE(eventually([&] { return read_file(pid_file).size() > 1; }));
    const int unknown_pid = std::atoi(read_file(pid_file).c_str());
    head.rebuild(known);
    head.await_alive();
    CHECK(head.worker().number.load() == 1);
    CHECK(head.worker().incarnation.load() == 1);
    REQUIRE(head.wait_state(5, SlotState::kEnded));
    CHECK(head.outcome(5) == Outcome::kSucceeded);
    CHECK(head.word(5).generation() == 9);
    CHECK(head.output(5) == "still me\n");
    CHECK(eventually([&] { return !process_exists(unknown_pid); }));  // no slot knows it
    const auto later = head.dispatch(head.shell("exit 0"));
    CHECK(head.wait_state(later, SlotState::kEnded));
}

TEST_CASE("Worker: after a rebuild nothing starts before what no slot knows is gone", "[worker]") {
    HeadRig head;
    head.start_worker_and_join();
    const auto known = head.dispatch(head.shell("sleep 100"));
    // So much memory takes the kernel a while to give back.
    const auto unknown = head.dispatch(head.shell(
        "echo $$ > pid; exec python3 -c 'import time; b = bytearray(b\"x\") * (1 << 29)\n"
        "open(\"ready\", \"w\").write(\"yes\"); time.sleep(100)'"));
    REQUIRE(head.wait_state(known, SlotState::kRunning));
    REQUIRE(head.wait_state(unknown, SlotState::kRunning));
    const auto ready = std::filesystem::path(head.cell().dir).parent_path() / "ready";
    REQUIRE(eventually([&] { return read_file(ready) == "yes"; }));
    head.rebuild(known);
    head.await_alive();
    const auto later = head.dispatch(head.shell("kill -0 $(cat pid) && echo there; exit 0"));
    REQUIRE(head.wait_state(later, SlotState::kEnded));
    CHECK(head.output(later).find("there") == std::string::npos);
}

TEST_CASE("Worker: its launcher dies, it leaves to be started anew", "[worker]") {
    HeadRig head;
    head.start_worker_and_join();
    const auto slot = head.dispatch(head.shell("sleep 100"));
    REQUIRE(head.wait_state(slot, SlotState::kRunning));
    REQUIRE(eventually([&] { return head.task(slot).pid.load() != 0; }));
    const int pid = static_cast<int>(head.task(slot).pid.load());
    ::kill(head.launcher_pid(), SIGKILL);
    CHECK(head.wait_exit() == 70);
    CHECK(eventually([&] { return !process_exists(pid); }));
    CHECK(head.word(slot).state() == SlotState::kRunning);  // the register's to judge
}

TEST_CASE("Worker: SIGTERM stops it politely and leaves nothing", "[worker]") {
    HeadRig head;
    head.start_worker_and_join();
    const auto polite = head.dispatch(head.shell("sleep 100"));
    const auto stubborn = head.dispatch(head.shell("trap '' TERM; while :; do sleep 0.1; done"));
    const auto once = head.dispatch(head.shell("sleep 100"), shm::kTaskAtMostOnce);
    REQUIRE(head.wait_state(once, SlotState::kRunning));
    (void)head.events();
    REQUIRE(eventually([&] { return head.task(once).pid.load() != 0; }));
    const int launcher = head.launcher_pid();
    const auto cgroup = head.cgroup_path();
    head.signal_agent(SIGTERM);
    CHECK(head.wait_exit() == 0);
    CHECK(head.outcome(polite) == Outcome::kRequeued);
    CHECK(head.outcome(stubborn) == Outcome::kRequeued);
    CHECK(head.outcome(once) == Outcome::kLost);  // it may not run a second time
    CHECK(head.worker().state.load() == WorkerState::kLeft);
    CHECK_FALSE(process_exists(launcher));
    if (!cgroup.empty()) CHECK_FALSE(std::filesystem::exists(cgroup));
}

TEST_CASE("Worker: judged dead it ends its tasks and itself", "[worker]") {
    HeadRig head;
    head.start_worker_and_join();
    const auto slot = head.dispatch(head.shell("sleep 100"));
    REQUIRE(head.wait_state(slot, SlotState::kRunning));
    REQUIRE(eventually([&] { return head.task(slot).pid.load() != 0; }));
    const int pid = static_cast<int>(head.task(slot).pid.load());
    head.worker().state.store(WorkerState::kDead);
    shm::wake(head.worker().agent.wake);
    CHECK(head.wait_exit() == 70);
    CHECK_FALSE(process_exists(pid));
}

TEST_CASE("Worker: a task taken from it is stopped, and its report refused", "[worker]") {
    HeadRig head;
    head.start_worker_and_join();
    const auto slot = head.dispatch(head.shell("sleep 100"));
    REQUIRE(head.wait_state(slot, SlotState::kRunning));
    REQUIRE(eventually([&] { return head.task(slot).pid.load() != 0; }));
    const int pid = static_cast<int>(head.task(slot).pid.load());
    const auto taken = SlotWord::make(1, 1, shm::kOwnerNone, SlotState::kQueued);
    head.task(slot).word.store(taken.raw);
    shm::wake(head.worker().agent.wake);
    CHECK(eventually([&] { return !process_exists(pid); }));
    CHECK(eventually([&] { return head.segment().header().fenced_reports.load() == 1; }));
    CHECK(head.word(slot) == taken);
    const auto events = head.events();
    CHECK(std::any_of(events.begin(), events.end(),
                      [](const auto& event) { return event.kind == EventKind::kReportRefused; }));
}

TEST_CASE("Worker: a second worker of the same name is refused", "[worker]") {
    HeadRig head;
    head.start_worker_and_join();
    const int first = head.agent_pid();
    head.start_worker();
    CHECK(head.wait_exit() == 5);
    CHECK(process_exists(first));
    ::kill(first, SIGKILL);
    ::kill(head.launcher_pid(), SIGKILL);
}

TEST_CASE("Worker: five hundred tasks through the rings", "[worker]") {
    HeadRig head;
    head.start_worker_and_join();
    auto spec = head.shell("");
    spec.clear_argv();
    spec.add_argv("/bin/true");
    std::vector<std::uint32_t> slots;
    for (int i = 0; i < 500; ++i) {
        slots.push_back(head.dispatch(spec));
        (void)head.events();
        (void)head.hints();
    }
    for (const auto slot : slots) {
        REQUIRE(eventually(
            [&] {
                (void)head.events();
                (void)head.hints();
                return head.word(slot).state() == SlotState::kEnded;
            },
            30'000));
        CHECK(head.outcome(slot) == Outcome::kSucceeded);
    }
    CHECK(head.segment().header().fenced_reports.load() == 0);
}

TEST_CASE("Worker: idle it uses no cpu to speak of", "[worker]") {
    HeadRig head;
    head.start_worker_and_join();
    const auto ticks = [&](int pid) {
        const auto text = read_file("/proc/" + std::to_string(pid) + "/schedstat");
        return std::strtoull(text.c_str(), nullptr, 10);
    };
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    const auto before = ticks(head.agent_pid()) + ticks(head.launcher_pid());
    std::this_thread::sleep_for(std::chrono::milliseconds(2000));
    const auto used = ticks(head.agent_pid()) + ticks(head.launcher_pid()) - before;
    CHECK(used < 6 * kMillisecond);  // 0.3 % of one core
}
