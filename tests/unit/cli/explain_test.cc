#include "cli/explain.h"

#include <algorithm>

#include "tests/support/catch.h"

namespace reeve::cli {

namespace {

constexpr std::uint64_t kGiB = 1ULL << 30;

Resources want(std::uint32_t cpu_milli, std::uint64_t memory = 0, std::uint32_t gpus = 0) {
    Resources out;
    out.cpu_milli = cpu_milli;
    out.memory_bytes = memory;
    out.gpus = gpus;
    return out;
}

WorkerView worker(std::uint32_t slot, const char* name, const Resources& capacity) {
    WorkerView out;
    out.slot = slot;
    out.number = slot + 1;
    out.name = name;
    out.state = shm::WorkerState::kAlive;
    out.capacity = capacity;
    return out;
}

// A cell drawn by hand: running tasks take what they ask for.
struct Drawing {
    Picture picture;
    std::uint64_t next_key = 1;

    Drawing() { picture.now_ns = 1'000'000'000'000; }
    void running(std::uint64_t job, std::uint32_t worker_slot, const Resources& request) {
        PictureTask task;
        task.job = job;
        task.state = shm::SlotState::kRunning;
        task.worker_slot = worker_slot;
        task.request = request;
        picture.tasks.push_back(task);
        picture.workers[worker_slot].used += request;
    }
    void queued(std::uint64_t job, std::uint32_t class_id, const Resources& request) {
        PictureTask task;
        task.job = job;
        task.class_id = class_id;
        task.request = request;
        task.key = next_key++;
        picture.tasks.push_back(task);
    }
};

ExplainJob waiting(std::uint64_t id, const Resources& request) {
    ExplainJob job;
    job.status.set_job(id);
    job.status.set_state("active");
    job.status.set_elements(1);
    job.status.set_queued(1);
    job.request = request;
    return job;
}

std::string first_code(const Answer& answer) {
    REQUIRE_FALSE(answer.reasons.empty());
    return answer.reasons.front().code;
}

bool has(const Answer& answer, const std::string& code) {
    return std::any_of(answer.reasons.begin(), answer.reasons.end(),
                       [&](const Reason& reason) { return reason.code == code; });
}

}  // namespace

TEST_CASE("explain: names the tasks that hold what is missing, the sufficient ones first",
          "[cli]") {
    Drawing cell;
    cell.picture.workers = {worker(0, "a", want(4000, 8 * kGiB)), worker(1, "b", want(1000))};
    cell.running(3, 0, want(1000, kGiB));
    cell.running(4, 0, want(3000, kGiB));
    cell.queued(9, 1, want(2000));
    const auto answer = explain_job(cell.picture, waiting(9, want(2000)));
    CHECK(first_code(answer) == "resources");
    CHECK(answer.reasons.front().jobs == std::vector<std::uint64_t>{4});
    REQUIRE(answer.workers.size() == 2);
    CHECK(answer.workers[0].code == "busy");
    CHECK(answer.workers[0].missing == want(2000));
    REQUIRE(answer.workers[0].holders.size() == 2);
    CHECK(answer.workers[0].holders[0].task->job == 4);
    CHECK(answer.workers[0].holders[0].enough);
    CHECK_FALSE(answer.workers[0].holders[1].enough);
    CHECK(answer.workers[1].code == "too-small");
    CHECK(answer.workers[1].missing == want(1000));
}

TEST_CASE("explain: only holders of what is missing are named", "[cli]") {
    Drawing cell;
    cell.picture.workers = {worker(0, "a", want(8000, 8 * kGiB, 1))};
    cell.running(3, 0, want(1000));
    cell.running(4, 0, want(1000, 0, 1));
    cell.queued(9, 1, want(1000, 0, 1));
    const auto answer = explain_job(cell.picture, waiting(9, want(1000, 0, 1)));
    REQUIRE(answer.workers[0].holders.size() == 1);
    CHECK(answer.workers[0].holders[0].task->job == 4);
}

TEST_CASE("explain: a drained worker that is needed is named with what undrains it", "[cli]") {
    Drawing cell;
    cell.picture.workers = {worker(0, "a", want(2000)), worker(1, "b", want(2000)),
                            worker(2, "small", want(500)), worker(3, "c", want(2000))};
    cell.picture.workers[1].drain_wanted = true;
    cell.picture.workers[2].drain_wanted = true;
    cell.queued(9, 1, want(1000));
    auto gang = waiting(9, want(1000));
    gang.nodes = 3;
    const auto one = explain_job(cell.picture, gang);
    CHECK(first_code(one) == "drained");
    CHECK(one.reasons.front().text ==
          "needs 3 workers with 1 cpu at once, 2 of them take tasks; b is drained; let it take "
          "tasks again with: reeve node undrain b");
    gang.nodes = 4;  // one more than there are, were none drained
    CHECK(first_code(explain_job(cell.picture, gang)) == "impossible");
    gang.nodes = 2;
    CHECK(first_code(explain_job(cell.picture, gang)) == "starting");

    cell.picture.workers[3].drain_wanted = true;
    const auto two = explain_job(cell.picture, gang);
    CHECK(two.reasons.front().text ==
          "needs 2 workers with 1 cpu at once, 1 of them takes tasks; b, c are drained; let them "
          "take tasks again with: reeve node undrain NAME");
    CHECK(first_code(explain_job(cell.picture, waiting(9, want(1000)))) == "starting");
    // Those that take tasks are too small for it.
    cell.picture.workers[0].capacity = want(100);
    CHECK(first_code(explain_job(cell.picture, waiting(9, want(1000)))) == "drained");
}

TEST_CASE("explain: one reason for each cause", "[cli]") {
    Drawing cell;
    cell.picture.workers = {worker(0, "a", want(2000, kGiB))};
    const auto free_cell = cell.picture;

    cell.queued(9, 1, want(1000));
    CHECK(first_code(explain_job(cell.picture, waiting(9, want(1000)))) == "starting");
    CHECK(first_code(explain_job(cell.picture, waiting(9, want(64'000)))) == "impossible");

    auto node = waiting(9, want(1000));
    node.wants.node_name = "gpu7";
    CHECK(first_code(explain_job(cell.picture, node)) == "node");

    auto held = waiting(9, want(1000));
    held.status.set_state("held");
    held.status.set_held(1);
    held.status.set_queued(0);
    CHECK(first_code(explain_job(cell.picture, held)) == "held");

    auto begin = waiting(9, want(1000));
    begin.status.set_state("waiting");
    begin.status.mutable_spec()->set_not_before_unix_ms(2'000'000);
    CHECK(first_code(explain_job(cell.picture, begin)) == "begin");

    auto array = waiting(9, want(1000));
    array.status.mutable_spec()->set_max_running(2);
    array.status.set_running(2);
    CHECK(first_code(explain_job(cell.picture, array)) == "max-running");

    Picture none = free_cell;
    none.workers.clear();
    CHECK(first_code(explain_job(none, waiting(9, want(1000)))) == "no-worker");
    Picture draining = free_cell;
    draining.workers[0].state = shm::WorkerState::kDraining;
    const auto drained = explain_job(draining, waiting(9, want(1000)));
    CHECK(first_code(drained) == "no-worker");
    CHECK(drained.workers[0].code == "draining");
    CHECK(drained.reasons.front().text ==
          "a is drained; let it take tasks again with: reeve node undrain a");

    Picture silent = cell.picture;
    silent.scheduler_silent_ns = 12'000'000'000;
    CHECK(first_code(explain_job(silent, waiting(9, want(1000)))) == "scheduler-silent");
    silent.scheduler_present = false;
    CHECK(first_code(explain_job(silent, waiting(9, want(1000)))) == "scheduler-down");
    silent.acknowledging = false;
    CHECK(has(explain_job(silent, waiting(9, want(1000))), "ledger-down"));

    Picture backlog = free_cell;
    backlog.backlog = 1'000'000;
    CHECK(first_code(explain_job(backlog, waiting(9, want(1000)))) == "backlog");
    CHECK_FALSE(has(explain_job(backlog, waiting(9, want(1000))), "starting"));
    backlog.full = true;
    CHECK(first_code(explain_job(backlog, waiting(9, want(1000)))) == "turn");
    CHECK_FALSE(has(explain_job(backlog, waiting(9, want(1000))), "starting"));
}

TEST_CASE("explain: dependencies that have not ended, with their state", "[cli]") {
    Drawing cell;
    cell.picture.workers = {worker(0, "a", want(2000))};
    auto job = waiting(9, want(1000));
    job.status.set_state("waiting");
    v1::JobStatus running;
    running.set_job(3);
    running.set_state("active");
    running.set_running(1);
    v1::JobStatus ended;
    ended.set_job(4);
    ended.set_state("ended");
    for (const std::uint64_t id : {3, 4, 5}) {
        v1::Dependency dependency;
        dependency.set_job(id);
        std::optional<v1::JobStatus> status;
        if (id == 3) status = running;
        if (id == 4) status = ended;
        job.after.emplace_back(dependency, status);
    }
    const auto answer = explain_job(cell.picture, job);
    REQUIRE(answer.reasons.size() == 2);
    CHECK(answer.reasons[0].code == "dependency");
    CHECK(answer.reasons[0].text.find("job 3 (running)") != std::string::npos);
    CHECK(answer.reasons[1].jobs == std::vector<std::uint64_t>{5});
}

TEST_CASE("explain: counts what is ahead, alike or not", "[cli]") {
    Drawing cell;
    cell.picture.workers = {worker(0, "a", want(2000))};
    cell.queued(1, 7, want(1000));
    cell.queued(2, 8, want(500));
    cell.queued(9, 7, want(1000));
    cell.queued(10, 7, want(1000));
    const auto answer = explain_job(cell.picture, waiting(9, want(1000)));
    CHECK(answer.ahead == 2);
    CHECK(answer.ahead_alike == 1);
    CHECK(first_code(answer) == "ahead");
}

TEST_CASE("explain: running and ended jobs are no riddle", "[cli]") {
    Drawing cell;
    cell.picture.workers = {worker(0, "a", want(2000))};
    cell.running(9, 0, want(1000));
    auto job = waiting(9, want(1000));
    job.status.set_queued(0);
    job.status.set_running(1);
    const auto running = explain_job(cell.picture, job);
    CHECK(first_code(running) == "running");
    CHECK(running.reasons[0].text == "runs on a");
    job.status.set_state("ended");
    job.status.set_succeeded(1);
    CHECK(first_code(explain_job(cell.picture, job)) == "ended");
}

TEST_CASE("explain: the earliest start is planned by time limits, behind who is ahead", "[cli]") {
    Drawing cell;
    cell.picture.workers = {worker(0, "a", want(4000)), worker(1, "b", want(2000))};
    const auto now = cell.picture.now_ns;
    const auto minutes = [](std::uint64_t count) { return count * 60'000'000'000; };
    cell.running(3, 0, want(4000));
    cell.picture.tasks.back().started_ns = now - minutes(4);
    cell.picture.tasks.back().time_limit_ns = minutes(10);
    cell.running(4, 1, want(2000));
    cell.queued(8, 1, want(3000));
    cell.picture.tasks.back().time_limit_ns = minutes(30);
    cell.queued(9, 2, want(2000));
    const auto start = [&](const Resources& request) {
        return explain_job(cell.picture, waiting(9, request)).earliest_start_ns;
    };
    // Worker b is held without a limit. On a, job 8 comes at 6 minutes and takes three of four
    // cpus.
    CHECK(start(want(1000)) == now + minutes(6));
    CHECK(start(want(2000)) == now + minutes(36));
    CHECK(start(want(64'000)) == 0);
    CHECK(explain_job(cell.picture, waiting(8, want(3000))).earliest_start_ns == now + minutes(6));
    cell.picture.tasks[0].time_limit_ns = 0;
    CHECK(start(want(2000)) == 0);
}

TEST_CASE("explain: the score is priority and hours waited", "[cli]") {
    Drawing cell;
    cell.picture.workers = {worker(0, "a", want(1000))};
    cell.running(3, 0, want(1000));
    cell.queued(9, 1, want(1000));
    cell.picture.now_ns += 20'000'000'000'000;
    auto job = waiting(9, want(1000));
    job.status.set_priority(4);
    job.status.set_submit_ns(cell.picture.now_ns - 5'400'000'000'000);
    const auto answer = explain_job(cell.picture, job);
    REQUIRE(answer.order);
    CHECK(answer.order->score() == Approx(5.5));
    CHECK_FALSE(explain_job(cell.picture, waiting(10, want(1000))).order);
}

}  // namespace reeve::cli
