#include "worker/function_pool.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/log/log.h"
#include "common/shm/wake.h"
#include "worker/ending.h"

namespace reeve::worker {
namespace {

constexpr std::size_t kQueueMax = 512;    // requests in one runner
constexpr std::uint32_t kUsersMax = 4;    // times slots: runners at all
constexpr std::uint32_t kStartTries = 3;  // then its tasks fail with what it said
constexpr std::uint64_t kBackoffNs = 50 * kMillisecond;
constexpr std::uint64_t kNever = ~std::uint64_t{0};
constexpr int kNapsMax = 4;  // short sleeps without an answer, then a long one
constexpr long kNapNs = 50'000;
constexpr std::uint32_t kRunnersMax = 1024;

void nap(long ns) {
    const timespec pause{0, ns};
    ::nanosleep(&pause, nullptr);
}

void set_detail(EndedRecord& record, std::string_view text) {
    std::snprintf(record.detail, sizeof record.detail, "%.*s", static_cast<int>(text.size()),
                  text.data());
}

}  // namespace

FunctionPool::FunctionPool(FunctionOwner& owner, std::mutex& mutex, std::uint32_t slots)
    : owner_(owner), mutex_(mutex), slots_(std::max(1U, slots)) {}

FunctionPool::~FunctionPool() {
    shut_down();
}

void FunctionPool::shut_down() {
    over_.store(true);
    for (auto& runner : runners_) {
        if (runner->ring) shm::wake(runner->ring->header().wake_agent);
        if (runner->thread.joinable()) runner->thread.join();
    }
}

FunctionPool::Runner& FunctionPool::make(std::uint32_t index) {
    while (runners_.size() <= index) {
        runners_.push_back(std::make_unique<Runner>());
        runners_.back()->index = static_cast<std::uint32_t>(runners_.size() - 1);
    }
    return *runners_[index];
}

// The user's runner with the shortest queue; a new one while all are busy and there may be more.
FunctionPool::Runner* FunctionPool::choose(std::uint32_t uid) {
    Runner* best = nullptr;
    Runner* idle = nullptr;  // another user's
    std::uint32_t count = 0;
    const auto now = boot_ns();
    for (auto& runner : runners_) {
        if (runner->uid != uid) {
            if (runner->queue.empty()) idle = runner.get();
            continue;
        }
        ++count;
        if (runner->killed || (!runner->ring && runner->not_before_ns > now)) continue;
        if (best == nullptr || runner->queue.size() < best->queue.size()) best = runner.get();
    }
    const bool enough = best != nullptr && (best->queue.empty() || count >= slots_);
    if (enough || count >= slots_) return best;
    if (runners_.size() < std::size_t{slots_} * kUsersMax) {
        auto& fresh = make(static_cast<std::uint32_t>(runners_.size()));
        fresh.uid = uid;
        return &fresh;
    }
    if (idle == nullptr) return best;
    if (idle->ring && !idle->killed) {
        idle->killed = true;  // its place is free once it has ended
        owner_.kill_runner(idle->launch_id);
    }
    if (!idle->ring) idle->uid = uid;
    return idle->uid == uid ? idle : best;
}

bool FunctionPool::has_room(std::uint32_t uid, std::size_t bytes) {
    const auto* runner = choose(uid);
    if (runner == nullptr || runner->queue.size() >= kQueueMax) return false;
    if (!runner->ring) return true;
    const auto& header = runner->ring->header();
    const auto used = header.request_tail.load() - header.released.load();
    // A skip may cost as much again as the record.
    return used + 2 * (bytes + sizeof(RequestRecord) + 8) <= kRequestBytes;
}

bool FunctionPool::ensure_started(Runner& runner) {
    if (runner.ring) return true;
    if (runner.not_before_ns > boot_ns()) return false;
    auto ring = RunnerRing::create(runner.uid);
    if (!ring) {
        log::error("cannot make a runner's ring", {{"why", ring.error().message}});
        return false;
    }
    runner.ring = std::move(*ring);
    runner.next_sequence = 1;
    runner.killed = false;
    runner.launch_id = owner_.start_runner(runner.index, ++runner.life, *runner.ring);
    if (runner.launch_id == 0) {
        runner.ring.reset();
        runner.not_before_ns = boot_ns() + kSecond;
        return false;
    }
    if (!runner.thread.joinable()) runner.thread = std::thread([this, &runner] { reap(runner); });
    return true;
}

void FunctionPool::start_all(std::uint32_t uid) {
    for (std::uint32_t i = 0; i < slots_; ++i) {
        auto& runner = make(i);
        if (!runner.ring) runner.uid = uid;
        (void)ensure_started(runner);
    }
}

std::optional<std::uint32_t> FunctionPool::feed(const FunctionStart& start) {
    auto* runner = choose(start.uid);
    if (runner == nullptr || runner->queue.size() >= kQueueMax || !ensure_started(*runner)) {
        return std::nullopt;
    }
    RequestRecord head;
    head.sequence = runner->next_sequence;
    head.job = start.task.job;
    head.element = start.task.element;
    head.attempt = start.attempt;
    auto* request = runner->ring->push_request(head, start.handler, start.data);
    if (request == nullptr) return std::nullopt;
    Entry entry;
    entry.sequence = runner->next_sequence++;
    entry.id = start.id;
    entry.task = start.task;
    entry.attempt = start.attempt;
    entry.end = runner->ring->request_tail();
    entry.request = request;
    entry.time_limit_ns = start.time_limit_ns;
    entry.grace_ns = start.grace_ns;
    runner->queue.push_back(entry);
    runner->fed = true;
    return runner->ring->header().ready.load();
}

void FunctionPool::wake_fed() {
    for (auto& runner : runners_) {
        if (std::exchange(runner->fed, false) && runner->ring) {
            shm::wake(runner->ring->header().wake_runner);
        }
    }
}

void FunctionPool::stop(std::uint64_t id, StopReason reason, bool no_grace) {
    for (auto& runner : runners_) {
        for (auto& entry : runner->queue) {
            if (entry.id != id) continue;
            if (reason == StopReason::kFenced) entry.id = 0;
            entry.reason = reason;
            entry.kill_at_ns = boot_ns() + (no_grace ? 0 : entry.grace_ns);
            if (entry.request != nullptr) entry.request->cancel.store(1);
            return;
        }
    }
}

std::uint64_t FunctionPool::look_at_deadlines(std::uint64_t now_ns) {
    auto next = kNever;
    for (auto& runner : runners_) {
        if (!runner->ring || runner->queue.empty() || runner->killed) continue;
        auto& front = runner->queue.front();
        if (front.time_limit_ns == 0 && front.kill_at_ns == 0) continue;
        const auto& header = runner->ring->header();
        if (header.begun.load() == front.sequence) end_front(*runner, now_ns);
        auto due = front.kill_at_ns;
        if (due == 0) {
            // Not begun: it cannot be over before a whole limit has passed.
            const auto from =
                header.begun.load() == front.sequence ? header.begun_ns.load() : now_ns;
            due = from + front.time_limit_ns;
        }
        next = std::min(next, std::max(due, now_ns + kMillisecond));
    }
    return next;
}

// The front has begun: told to stop when its time is up, killed when its grace is.
void FunctionPool::end_front(Runner& runner, std::uint64_t now_ns) {
    auto& front = runner.queue.front();
    auto& header = runner.ring->header();
    const bool late =
        front.time_limit_ns != 0 && header.begun_ns.load() + front.time_limit_ns <= now_ns;
    if (late && front.kill_at_ns == 0) {
        front.reason = StopReason::kTimeLimit;
        front.kill_at_ns = now_ns + front.grace_ns;
        front.request->cancel.store(1);
    }
    if (front.kill_at_ns == 0 || front.kill_at_ns > now_ns) return;
    header.halt.store(1);                         // (6)
    if (header.begun.load() != front.sequence) {  // it got through after all
        header.halt.store(0);
        return;
    }
    runner.killed = true;
    owner_.kill_runner(runner.launch_id);
}

bool FunctionPool::take_answers(Runner& runner) {
    bool any = false;
    const auto ring = runner.ring;
    const auto waiting = ring->header().response_tail.load() - ring->header().response_head.load();
    while (const auto response = ring->next_response()) {
        take_answer(runner, *response);
        ring->release_response(response->end);
        any = true;
    }
    // It may be waiting for room.
    if (waiting > kResponseBytes / 2) shm::wake(ring->header().wake_runner);
    return any;
}

void FunctionPool::take_answer(Runner& runner, const Response& response) {
    while (!runner.queue.empty() && runner.queue.front().sequence <= response.head.sequence) {
        const auto entry = runner.queue.front();
        runner.queue.pop_front();
        // An older one was answered to the agent before us.
        if (entry.sequence == response.head.sequence && entry.id != 0)
            tell(runner, entry, response);
        runner.ring->header().released.store(entry.end);
    }
    runner.failures = 0;
}

void FunctionPool::describe_stop(const Entry& entry, EndedRecord& record) {
    EndingFacts facts;
    facts.reason = entry.reason;
    facts.time_limit_ns = entry.time_limit_ns;
    describe_stopped(facts, record);
}

void FunctionPool::tell(const Runner& runner, const Entry& entry, const Response& response) {
    const auto& head = response.head;
    FunctionAnswer answer;
    answer.id = entry.id;
    auto& record = answer.record;
    record.started_wall_ns = head.started_wall_ns;
    record.ended_wall_ns = head.ended_wall_ns != 0 ? head.ended_wall_ns : wall_ns();
    record.user_us = head.user_us;
    record.system_us = head.system_us;
    record.exit_code = head.code;
    record.pid = runner.ring->header().ready.load();
    record.stopped_for = entry.reason;
    if (head.status == CallStatus::kOk) {
        record.outcome = Outcome::kSucceeded;
        answer.result = response.result;
    } else {
        record.outcome = Outcome::kFailed;
        set_detail(record, response.text.empty() ? "exit status " + std::to_string(head.code)
                                                 : std::string(response.text));
        if (entry.reason != StopReason::kNone) describe_stop(entry, record);
    }
    owner_.answered(answer);
}

void FunctionPool::tell_ended(const Entry& entry, const EndedRecord& record) {
    if (entry.id == 0) return;
    FunctionAnswer answer;
    answer.id = entry.id;
    answer.record = record;
    answer.record.outcome = Outcome::kFailed;
    answer.record.stopped_for = entry.reason;
    if (entry.reason != StopReason::kNone) describe_stop(entry, answer.record);
    owner_.answered(answer);
}

bool FunctionPool::runner_ended(const EndedRecord& record) {
    const auto found = std::find_if(runners_.begin(), runners_.end(), [&](const auto& one) {
        return one->ring && one->launch_id == record.id;
    });
    if (found == runners_.end()) return false;
    auto& runner = **found;
    (void)take_answers(runner);
    const auto ring = std::exchange(runner.ring, nullptr);
    auto& header = ring->header();
    auto queue = std::exchange(runner.queue, {});
    const bool was_ready = header.ready.load() != 0;
    if (!queue.empty() && header.begun.load() == queue.front().sequence) {
        tell_ended(queue.front(), record);
        queue.pop_front();
    }
    if (!was_ready) {
        ++runner.failures;
        runner.not_before_ns = boot_ns() + (kBackoffNs << std::min(runner.failures, 7U));
        header.problem[sizeof header.problem - 1] = '\0';
        log::error("a runner did not start", {{"runner", runner.index},
                                              {"why", std::string(header.problem)},
                                              {"ended", std::string(record.detail)}});
    } else if (!runner.killed) {
        log::warn("a runner died", {{"runner", runner.index}, {"how", std::string(record.detail)}});
    }
    const bool hopeless = runner.failures >= kStartTries;
    for (const auto& entry : queue) {
        if (entry.id == 0) continue;
        if (entry.reason != StopReason::kNone) {
            tell_ended(entry, EndedRecord{});
        } else if (hopeless) {
            EndedRecord failed = record;
            failed.exit_code = 125;
            set_detail(failed, header.problem[0] != '\0' ? header.problem : record.detail);
            tell_ended(entry, failed);
        } else {
            owner_.again(entry.id);
        }
    }
    runner.killed = false;
    owner_.flush();
    shm::wake(header.wake_agent);  // our thread lets go of the old ring
    return true;
}

void FunctionPool::adopt(const AliveRecord& alive) {
    const auto path = "/proc/" + std::to_string(alive.pid) + "/fd/0";
    const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    auto ring = fd >= 0 ? RunnerRing::map(fd) : fail_errno("open " + path, errno);
    if (!ring || alive.name.element >= kRunnersMax) {
        log::warn("a runner cannot be taken over and is ended",
                  {{"runner", alive.name.element}, {"pid", alive.pid}});
        owner_.kill_runner(alive.id);
        return;
    }
    auto& runner = make(static_cast<std::uint32_t>(alive.name.element));
    runner.ring = std::move(*ring);
    runner.uid = runner.ring->header().uid;
    runner.life = alive.name.attempt;
    runner.launch_id = alive.id;
    auto at = runner.ring->header().released.load();
    while (auto* request = runner.ring->next_request(at)) {
        Entry entry;
        entry.sequence = request->sequence;
        entry.task = {request->job, request->element};
        entry.attempt = request->attempt;
        entry.end = at;
        entry.request = request;
        runner.next_sequence = request->sequence + 1;
        runner.queue.push_back(entry);
    }
    if (runner.queue.empty()) runner.next_sequence = runner.ring->header().begun.load() + 1;
    runner.ring->header().halt.store(0);
    if (!runner.thread.joinable()) runner.thread = std::thread([this, &runner] { reap(runner); });
}

bool FunctionPool::claim(TaskId task, std::uint32_t attempt, const FunctionStart& start) {
    for (auto& runner : runners_) {
        for (auto& entry : runner->queue) {
            if (entry.id != 0 || entry.task != task || entry.attempt != attempt) continue;
            entry.id = start.id;
            entry.time_limit_ns = start.time_limit_ns;
            entry.grace_ns = start.grace_ns;
            return true;
        }
    }
    return false;
}

void FunctionPool::pause() {
    paused_ = true;
    for (auto& runner : runners_) {
        for (auto& entry : runner->queue) entry.id = 0;
    }
}

void FunctionPool::resume() {
    paused_ = false;
    for (auto& runner : runners_) {
        for (auto& entry : runner->queue) {
            if (entry.id == 0 && entry.request != nullptr) entry.request->cancel.store(1);
        }
    }
}

// The thread of one runner: waits for answers and takes them.
void FunctionPool::reap(Runner& runner) {
    int naps = kNapsMax;
    while (!over_.load()) {
        std::shared_ptr<RunnerRing> ring;
        bool any = false;
        bool more = false;
        bool paused = false;
        {
            const std::lock_guard lock(mutex_);
            ring = runner.ring;
            paused = paused_;
            if (ring && !paused) any = take_answers(runner);
            more = !runner.queue.empty();
            if (any) owner_.flush();
        }
        naps = any ? 0 : naps + 1;
        if (!ring || paused) {
            nap(20 * kMillisecond);
        } else if (more && naps < kNapsMax) {
            nap(kNapNs);  // more will be there in a moment: take them together
        } else {
            const auto ticket = shm::prepare_sleep(ring->header().wake_agent);
            if (ring->next_response() || over_.load()) {
                shm::cancel_sleep(ring->header().wake_agent);
                naps = 0;
                continue;
            }
            shm::sleep(ring->header().wake_agent, ticket, shm::kSleepMaxNs);
            naps = 0;
        }
    }
}

}  // namespace reeve::worker
