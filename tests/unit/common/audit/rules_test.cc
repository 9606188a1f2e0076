#include "common/audit/rules.h"
#include "tests/support/catch.h"
#include "tests/unit/common/audit/story.h"

using namespace reeve;
using namespace reeve::audit;
using namespace reeve::audit::testing;

namespace {

struct Verdict {
    std::uint64_t index = kNoIndex;
    std::string wrong;
};

Verdict judge(const std::vector<std::string>& entries) {
    Auditor auditor;
    for (std::size_t i = 0; i < entries.size(); ++i) {
        const auto entry = decode(entries[i]);
        if (!entry) return {i, entry.error().message};
        if (auto wrong = auditor.add(*entry)) return {i, *wrong};
    }
    return {};
}

bool passes(const Story& story) {
    const auto verdict = judge(story.entries);
    if (!verdict.wrong.empty()) WARN(verdict.wrong);
    return verdict.wrong.empty();
}

// The story's last entry, and only it, is refused, with these words in the reason.
void check_refused(const Story& story, const std::string& words) {
    const auto verdict = judge(story.entries);
    CHECK(verdict.index == story.entries.size() - 1);
    INFO(verdict.wrong);
    CHECK(verdict.wrong.find(words) != std::string::npos);
}

Story with_workers() {
    Story story;
    story.worker(Kind::kWorkerJoined, 1);
    story.worker(Kind::kWorkerJoined, 2);
    return story;
}

// Two workers; task 7 runs on worker 1.
Story running() {
    Story story = with_workers();
    story.submit(7);
    story.assign(7, 1);
    story.report(Kind::kStarted, 7);
    return story;
}

void spoil(Story& story, std::function<void(Entry&)> how) {
    story.raw = std::move(how);
}

}  // namespace

TEST_CASE("Auditor: the demo log passes", "[audit]") {
    const auto verdict = judge(demo_entries());
    INFO(verdict.wrong);
    CHECK(verdict.wrong.empty());
}

TEST_CASE("Auditor: a life with everything in it passes", "[audit]") {
    Story story = with_workers();
    story.scheduler(Kind::kSchedulerEpoch);
    story.submit(1);
    story.task(Kind::kHeld, 1);
    story.task(Kind::kUpdated, 1);
    story.task(Kind::kReleased, 1);
    story.task(Kind::kUpdated, 1);
    story.assign(1, 1);
    story.requeue(1);
    story.assign(1, 2);
    story.report(Kind::kStarted, 1);
    story.report(Kind::kPreempted, 1);
    story.report(Kind::kResumed, 1);
    story.report(Kind::kFailed, 1);
    story.requeue(1);
    story.assign(1, 1);
    story.report(Kind::kStarted, 1);
    const auto death = story.worker(Kind::kWorkerDead, 1);
    story.requeue(1, death);
    story.task(Kind::kHeld, 1);
    story.task(Kind::kCancelled, 1);
    story.add(Kind::kReportRefused, {1, 0}, {1, 1}, {}, 3);
    story.run_task(2, 2);
    story.worker(Kind::kWorkerLeft, 2);
    story.worker(Kind::kWorkerJoined, 3);
    story.submit(3);
    story.assign(3, 3);
    const auto second = story.worker(Kind::kWorkerDead, 3);
    story.worker(Kind::kWorkerJoined, 4);
    story.reassign(3, 4, second);
    story.report(Kind::kStarted, 3);
    story.report(Kind::kFinished, 3);
    CHECK(passes(story));
}

TEST_CASE("Auditor: counts tasks and those not ended", "[audit]") {
    Story story = with_workers();
    for (std::uint64_t job = 1; job <= 5000; ++job) story.run_task(job, 1 + job % 2);
    story.submit(9001);
    // Arrays' own entries, ended or not, are of no task.
    story.add(Kind::kTaskSubmitted, {9002, kHeaderElement}, {}, {}, 0);
    story.add(Kind::kTaskSubmitted, {9003, kHeaderElement}, {}, {}, 0);
    story.add(Kind::kCancelled, {9003, kHeaderElement}, {}, {}, 0);
    Auditor auditor;
    for (const auto& bytes : story.entries) REQUIRE_FALSE(auditor.add(*decode(bytes)));
    CHECK(auditor.tasks() == 5001);
    // One that failed has ended, until it is tried again; cancelled behind that, it stays ended.
    Story more;
    more.worker(Kind::kWorkerJoined, 1);
    const auto open_after = [&more] {
        Auditor again;
        for (const auto& bytes : more.entries) REQUIRE_FALSE(again.add(*decode(bytes)));
        return again.open_tasks();
    };
    more.submit(1);
    more.assign(1, 1);
    more.report(Kind::kStarted, 1);
    CHECK(open_after() == 1);
    more.report(Kind::kFailed, 1);
    CHECK(open_after() == 0);
    more.requeue(1);
    CHECK(open_after() == 1);
    more.assign(1, 1);
    more.report(Kind::kFailed, 1);
    more.task(Kind::kCancelled, 1);
    CHECK(open_after() == 0);
    CHECK(auditor.open_tasks() == 1);
    CHECK(auditor.entries() == story.entries.size());
}

TEST_CASE("Auditor: the state table is the one of the format", "[audit]") {
    using State = TaskState;
    const std::map<State, std::string> allowed{
        {State::kNone, "TASK_SUBMITTED"},
        {State::kQueued, "ASSIGNED HELD UPDATED CANCELLED"},
        {State::kHeld, "RELEASED UPDATED CANCELLED"},
        {State::kAssigned, "STARTED FAILED PREEMPTED REASSIGNED REQUEUED CANCELLED"},
        {State::kRunning, "FINISHED FAILED PREEMPTED REASSIGNED REQUEUED CANCELLED"},
        {State::kPreempted, "RESUMED REASSIGNED REQUEUED CANCELLED"},
        {State::kFailed, "REQUEUED CANCELLED"},
        {State::kDone, ""}};
    for (const auto& [state, kinds] : allowed) {
        for (std::uint8_t number = 1; number <= 13; ++number) {
            const auto kind = static_cast<Kind>(number);
            const std::string name(to_string(kind));
            const bool expected = (" " + kinds + " ").find(" " + name + " ") != std::string::npos;
            INFO(to_string(state) << " " << name);
            CHECK(next_state(state, kind).has_value() == expected);
        }
    }
}

TEST_CASE("Auditor: a dropped, doubled or swapped entry breaks the chain", "[audit]") {
    Story story = running();
    story.report(Kind::kFinished, 7);
    auto entries = story.entries;
    entries.erase(entries.begin() + 4);  // ASSIGNED
    CHECK(judge(entries).index == 4);
    entries = story.entries;
    entries.insert(entries.begin() + 5, entries[4]);
    CHECK(judge(entries).index == 5);
    entries = story.entries;
    std::swap(entries[4], entries[5]);
    CHECK(judge(entries).index == 4);
    entries = story.entries;
    entries.erase(entries.begin() + 1);  // the first WORKER_JOINED: later indexes shift
    CHECK_FALSE(judge(entries).wrong.empty());
}

TEST_CASE("Auditor: forged chain pointers are refused", "[audit]") {
    Story story = running();
    SECTION("seq") {
        spoil(story, [](Entry& entry) { entry.seq += 1; });
        story.report(Kind::kFinished, 7);
        check_refused(story, "seq is 4");
    }
    SECTION("prev") {
        spoil(story, [](Entry& entry) { entry.prev -= 1; });
        story.report(Kind::kFinished, 7);
        check_refused(story, "prev is");
    }
    SECTION("prev of a first entry") {
        spoil(story, [](Entry& entry) { entry.prev = 0; });
        story.submit(8);
        check_refused(story, "prev is 0");
    }
    SECTION("a future cause") {
        spoil(story, [&](Entry& entry) { entry.cause = story.entries.size(); });
        story.requeue(7);
        check_refused(story, "cause");
    }
    SECTION("the scheduler's chain") {
        spoil(story, [](Entry& entry) { entry.seq = 7; });
        story.scheduler(Kind::kSchedulerEpoch);
        check_refused(story, "seq is 7");
    }
    SECTION("a worker's chain") {
        spoil(story, [](Entry& entry) { entry.prev = kNoIndex; });
        story.worker(Kind::kWorkerDead, 1);
        check_refused(story, "prev is none");
    }
}

TEST_CASE("Auditor: results come from the holder alone", "[audit]") {
    Story story = running();
    SECTION("a zombie") {
        story.worker(Kind::kWorkerDead, 1);
        story.report(Kind::kFinished, 7);
        check_refused(story, "declared dead");
    }
    SECTION("a living worker that does not hold it") {
        spoil(story, [](Entry& entry) { entry.worker = {2, 1}; });
        story.report(Kind::kFinished, 7);
        check_refused(story, "the holder is");
    }
    SECTION("the same worker in another incarnation") {
        spoil(story, [](Entry& entry) { entry.worker = {1, 2}; });
        story.report(Kind::kFailed, 7);
        check_refused(story, "the holder is");
    }
    SECTION("a stale attempt") {
        story.requeue(7);
        story.assign(7, 1);
        story.report(Kind::kStarted, 7);
        spoil(story, [](Entry& entry) { entry.attempt = 1; });
        story.report(Kind::kFinished, 7);
        check_refused(story, "attempt 1");
    }
    SECTION("the old holder after the task was taken") {
        const auto death = story.worker(Kind::kWorkerDead, 1);
        story.requeue(7, death);
        story.assign(7, 2);
        story.report(Kind::kStarted, 7);
        spoil(story, [](Entry& entry) {
            entry.worker = {1, 1};
            entry.attempt = 1;
        });
        story.report(Kind::kFinished, 7);
        check_refused(story, "the holder is");
    }
}

TEST_CASE("Auditor: a task goes to living workers only, attempt by attempt", "[audit]") {
    Story story = with_workers();
    story.submit(7);
    SECTION("unknown worker") {
        story.assign(7, 5);
        check_refused(story, "not a living worker");
    }
    SECTION("dead worker") {
        story.worker(Kind::kWorkerDead, 1);
        story.assign(7, 1);
        check_refused(story, "not a living worker");
    }
    SECTION("worker that left") {
        story.worker(Kind::kWorkerLeft, 1);
        story.assign(7, 1);
        check_refused(story, "not a living worker");
    }
    SECTION("attempt skipped") {
        spoil(story, [](Entry& entry) { entry.attempt = 2; });
        story.assign(7, 1);
        check_refused(story, "as attempt 2 after attempt 0");
    }
    SECTION("attempt repeated") {
        story.assign(7, 1);
        story.requeue(7);
        spoil(story, [](Entry& entry) { entry.attempt = 1; });
        story.assign(7, 2);
        check_refused(story, "as attempt 1 after attempt 1");
    }
}

TEST_CASE("Auditor: taking a task names its holder, and the death of a dead one", "[audit]") {
    Story story = running();
    SECTION("wrong peer") {
        spoil(story, [](Entry& entry) { entry.peer = {2, 1}; });
        story.requeue(7);
        check_refused(story, "as peer");
    }
    SECTION("no peer") {
        spoil(story, [](Entry& entry) { entry.peer = {}; });
        story.requeue(7);
        check_refused(story, "as peer");
    }
    SECTION("a dead holder without cause") {
        story.worker(Kind::kWorkerDead, 1);
        story.requeue(7);
        check_refused(story, "with cause none");
    }
    SECTION("a dead holder, citing something else") {
        story.worker(Kind::kWorkerDead, 1);
        story.requeue(7, 1);
        check_refused(story, "with cause 1");
    }
    SECTION("a dead holder, citing another's death") {
        story.worker(Kind::kWorkerDead, 1);
        const auto other = story.worker(Kind::kWorkerDead, 2);
        story.requeue(7, other);
        check_refused(story, "its WORKER_DEAD is");
    }
    SECTION("a living holder, citing another's death") {
        const auto other = story.worker(Kind::kWorkerDead, 2);
        story.requeue(7, other);
        check_refused(story, "another worker");
    }
    SECTION("reassigned without cause") {
        story.worker(Kind::kWorkerDead, 1);
        story.reassign(7, 2, kNoIndex);
        check_refused(story, "with cause none");
    }
    SECTION("reassigned to itself") {
        story.reassign(7, 1, kNoIndex);
        check_refused(story, "to the worker it was taken from");
    }
    SECTION("reassigned to a dead worker") {
        story.worker(Kind::kWorkerDead, 2);
        story.reassign(7, 2, kNoIndex);
        check_refused(story, "not a living worker");
    }
}

TEST_CASE("Auditor: steps the table does not have are refused", "[audit]") {
    Story story = running();
    SECTION("a task unknown") {
        story.task(Kind::kHeld, 99);
        check_refused(story, "HELD of a task that is unknown");
    }
    SECTION("finished twice") {
        story.report(Kind::kFinished, 7);
        story.report(Kind::kFinished, 7);
        check_refused(story, "of a task that is done");
    }
    SECTION("submitted twice") {
        story.submit(7);
        check_refused(story, "of a task that is running");
    }
    SECTION("risen again") {
        story.report(Kind::kFinished, 7);
        story.requeue(7);
        check_refused(story, "of a task that is done");
    }
    SECTION("started twice") {
        story.report(Kind::kStarted, 7);
        check_refused(story, "STARTED of a task that is running");
    }
    SECTION("finished without a start") {
        story.submit(8);
        story.assign(8, 1);
        story.report(Kind::kFinished, 8);
        check_refused(story, "FINISHED of a task that is assigned");
    }
}

TEST_CASE("Auditor: workers join once and die once, and the log opens once", "[audit]") {
    Story story = with_workers();
    SECTION("joined twice") {
        story.worker(Kind::kWorkerJoined, 1);
        check_refused(story, "twice");
    }
    SECTION("died twice") {
        story.worker(Kind::kWorkerDead, 1);
        story.worker(Kind::kWorkerDead, 1);
        check_refused(story, "dead already");
    }
    SECTION("died unborn") {
        story.worker(Kind::kWorkerDead, 9);
        check_refused(story, "never joined");
    }
    SECTION("opened twice") {
        story.scheduler(Kind::kLogOpened);
        check_refused(story, "past index 0");
    }
}
