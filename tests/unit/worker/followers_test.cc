#include <chrono>
#include <filesystem>
#include <thread>

#include <signal.h>

#include "common/shm/ring.h"
#include "tests/support/catch.h"
#include "tests/unit/worker/head_rig.h"
#include "tests/unit/worker/launcher_rig.h"

namespace reeve::worker::test {
namespace {

using shm::SlotState;

// It appends its name when it begins, and again when it ends.
v1::TaskSpec marked(const HeadRig& head, const std::string& name, const std::string& between) {
    return head.shell("echo +" + name + " >> marks; " + between + "; echo -" + name + " >> marks");
}

std::string marks(const HeadRig& head) {
    return read_file(std::filesystem::path(head.cell().dir).parent_path() / "marks");
}

void pause_ms(int ms) {
    std::this_thread::sleep_for(std::chrono::milliseconds(ms));
}

}  // namespace

TEST_CASE("Followers: each begins when the one before it is over", "[worker]") {
    HeadRig head;
    head.start_worker_and_join();
    const auto first = head.dispatch(marked(head, "a", "sleep 0.4"));
    REQUIRE(head.wait_state(first, SlotState::kRunning));
    const auto second = head.dispatch_behind(first, marked(head, "b", "sleep 0.2"));
    const auto third = head.dispatch_behind(second, marked(head, "c", "true"));
    pause_ms(150);
    CHECK(head.word(second).state() == SlotState::kAssigned);
    CHECK(head.word(third).state() == SlotState::kAssigned);
    REQUIRE(head.wait_state(second, SlotState::kRunning));
    CHECK(head.word(third).state() == SlotState::kAssigned);
    REQUIRE(head.wait_state(third, SlotState::kEnded));
    for (const auto slot : {first, second, third}) {
        CHECK(head.outcome(slot) == Outcome::kSucceeded);
        CHECK(head.task(slot).started_wall_ns.load() != 0);
    }
    CHECK(head.task(second).started_wall_ns.load() >= head.task(first).ended_wall_ns.load());
    CHECK(head.task(third).started_wall_ns.load() >= head.task(second).ended_wall_ns.load());
    CHECK(marks(head) == "+a\n-a\n+b\n-b\n+c\n-c\n");
    std::size_t begun = 0;
    for (const auto& event : head.events()) {
        begun += shm::SlotWord{event.new_word}.state() == SlotState::kRunning ? 1 : 0;
    }
    CHECK(begun == 3);
    CHECK(head.segment().header().fenced_reports.load() == 0);
}

TEST_CASE("Followers: what is asked of one that waits is obeyed at once", "[worker]") {
    HeadRig head;
    head.start_worker_and_join();
    const auto first = head.dispatch(marked(head, "a", "sleep 0.8"));
    REQUIRE(head.wait_state(first, SlotState::kRunning));
    const auto second = head.dispatch_behind(first, marked(head, "b", "true"));
    pause_ms(100);
    SECTION("cancel") {
        head.intend(second, shm::kIntentCancel);
        REQUIRE(head.wait_state(second, SlotState::kEnded));
        CHECK(head.outcome(second) == Outcome::kCancelled);
    }
    SECTION("requeue") {
        head.intend(second, shm::kIntentRequeue);
        REQUIRE(head.wait_state(second, SlotState::kEnded));
        CHECK(head.outcome(second) == Outcome::kRequeued);
    }
    SECTION("taken back") {
        auto word = head.word(second).raw;
        const auto queued = shm::SlotWord{word}.to(SlotState::kQueued, shm::kOwnerNone);
        REQUIRE(head.task(second).word.compare_exchange_strong(word, queued.raw));
    }
    CHECK(head.word(first).state() == SlotState::kRunning);
    REQUIRE(head.wait_state(first, SlotState::kEnded));
    pause_ms(200);
    CHECK(marks(head) == "+a\n-a\n");
    CHECK(head.segment().header().fenced_reports.load() == 0);
    const auto later = head.dispatch(head.shell("exit 0"));
    CHECK(head.wait_state(later, SlotState::kEnded));
}

TEST_CASE("Followers: one to be suspended begins in the usual way", "[worker]") {
    HeadRig head;
    head.start_worker_and_join();
    const auto first = head.dispatch(marked(head, "a", "sleep 0.3"));
    const auto second = head.dispatch_behind(first, marked(head, "b", "true"));
    head.intend(second, shm::kIntentSuspend);
    REQUIRE(head.wait_state(first, SlotState::kEnded));
    pause_ms(100);
    CHECK(head.word(second).state() == SlotState::kAssigned);
    head.hand_on(second);
    REQUIRE(head.wait_state(second, SlotState::kSuspended));
    head.drop_intent(second, shm::kIntentSuspend);
    REQUIRE(head.wait_state(second, SlotState::kEnded));
}

TEST_CASE("Followers: one that came too late, or behind nobody, waits for its hint", "[worker]") {
    HeadRig head;
    head.start_worker_and_join();
    const auto first = head.dispatch(head.shell("exit 0"));
    REQUIRE(head.wait_state(first, SlotState::kEnded));
    const auto late = head.dispatch_behind(first, marked(head, "b", "true"));
    pause_ms(2500);  // the sweep for lost hints leaves it alone
    CHECK(head.word(late).state() == SlotState::kAssigned);
    head.hand_on(late);
    REQUIRE(head.wait_state(late, SlotState::kEnded));
    CHECK(marks(head) == "+b\n-b\n");
}

TEST_CASE("Followers: those behind one that came too late wait for it all the same", "[worker]") {
    HeadRig head;
    head.start_worker_and_join();
    const auto first = head.dispatch(head.shell("exit 0"));
    REQUIRE(head.wait_state(first, SlotState::kEnded));
    const auto late = head.dispatch_behind(first, marked(head, "b", "sleep 0.3"));
    const auto second = head.dispatch_behind(late, marked(head, "c", "true"));
    const auto third = head.dispatch_behind(second, marked(head, "d", "true"));
    pause_ms(100);
    CHECK(head.word(late).state() == SlotState::kAssigned);
    head.hand_on(late);
    REQUIRE(head.wait_state(late, SlotState::kRunning));
    CHECK(head.word(second).state() == SlotState::kAssigned);
    const auto fourth = head.dispatch_behind(third, marked(head, "e", "true"));
    REQUIRE(head.wait_state(fourth, SlotState::kEnded));  // without a hint for any but the late one
    CHECK(marks(head) == "+b\n-b\n+c\n-c\n+d\n-d\n+e\n-e\n");
    CHECK(head.segment().header().fenced_reports.load() == 0);
}

TEST_CASE("Followers: an ending is told while others wait behind the next one", "[worker]") {
    HeadRig head;
    head.start_worker_and_join();
    const auto first = head.dispatch(marked(head, "a", "sleep 0.3"));
    REQUIRE(head.wait_state(first, SlotState::kRunning));
    const auto second = head.dispatch_behind(first, head.shell("sleep 2"));
    const auto third = head.dispatch_behind(second, head.shell("true"));
    const auto fourth = head.dispatch_behind(third, head.shell("exit 0"));
    REQUIRE(head.wait_state(first, SlotState::kEnded));
    CHECK(head.word(second).state() == SlotState::kRunning);
    REQUIRE(head.wait_state(fourth, SlotState::kEnded));
    CHECK(head.outcome(second) == Outcome::kSucceeded);
}

TEST_CASE("Followers: the agent dies, each still runs once", "[worker]") {
    HeadRig head;
    head.start_worker_and_join();
    const auto first = head.dispatch(marked(head, "a", "sleep 0.5"));
    REQUIRE(head.wait_state(first, SlotState::kRunning));
    const auto second = head.dispatch_behind(first, marked(head, "b", "sleep 0.1"));
    pause_ms(100);
    head.kill_agent();
    SECTION("the first one ends while nobody is there") {
        REQUIRE(head.wait_state(second, SlotState::kRunning));
        SECTION("the second one too") {
            pause_ms(300);
        }
        head.start_worker_and_join();
    }
    SECTION("the next one comes in time: it is told of none, and none begins") {
        head.start_worker_and_join();
        REQUIRE(head.wait_state(first, SlotState::kEnded));
        pause_ms(100);
        CHECK(head.word(second).state() == SlotState::kAssigned);
        head.hand_on(second);
    }
    REQUIRE(head.wait_state(second, SlotState::kEnded));
    CHECK(head.outcome(second) == Outcome::kSucceeded);
    CHECK(head.wait_state(first, SlotState::kEnded));
    CHECK(marks(head) == "+a\n-a\n+b\n-b\n");
    CHECK(head.segment().header().fenced_reports.load() == 0);
}

TEST_CASE("Followers: a worker that stops gives them back", "[worker]") {
    HeadRig head;
    head.start_worker_and_join();
    const auto first = head.dispatch(marked(head, "a", "sleep 0.3"));
    REQUIRE(head.wait_state(first, SlotState::kRunning));
    const auto second = head.dispatch_behind(first, marked(head, "b", "true"));
    pause_ms(100);
    head.signal_agent(SIGTERM);
    REQUIRE(head.wait_state(second, SlotState::kEnded));
    CHECK(head.outcome(second) == Outcome::kRequeued);
    CHECK(head.wait_exit() == 0);
    CHECK(marks(head).find("+b") == std::string::npos);
}

TEST_CASE("Followers: one that begins while its worker is asked to stop is stopped as well",
          "[worker]") {
    HeadRig head;
    head.start_worker_and_join("launcher.after_begin:sleep=400");
    const auto first = head.dispatch(head.shell("sleep 0.2"));
    REQUIRE(head.wait_state(first, SlotState::kRunning));
    const auto second = head.dispatch_behind(first, head.shell("sleep 100"));
    REQUIRE(head.wait_state(second, SlotState::kRunning));  // of which the agent has not heard yet
    head.signal_agent(SIGTERM);
    REQUIRE(head.wait_state(second, SlotState::kEnded, 5'000));
    CHECK(head.outcome(second) == Outcome::kRequeued);
    CHECK(head.outcome(first) == Outcome::kSucceeded);
    CHECK(head.wait_exit() == 0);
}

TEST_CASE("Followers: after a rebuild none of the old segment begins", "[worker]") {
    HeadRig head;
    head.start_worker_and_join();
    const auto first = head.dispatch(marked(head, "a", "sleep 1"));
    REQUIRE(head.wait_state(first, SlotState::kRunning));
    (void)head.dispatch_behind(first, marked(head, "b", "true"));
    pause_ms(100);
    head.rebuild(first);
    head.await_alive();
    REQUIRE(head.wait_state(5, SlotState::kEnded));
    pause_ms(200);
    CHECK(marks(head) == "+a\n-a\n");
}

}  // namespace reeve::worker::test
