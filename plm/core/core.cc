#include "plm/core/core.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include <malloc.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/assert.h"
#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/log/log.h"
#include "common/shm/wake.h"

namespace reeve::plm {

constexpr int kLastRoundsMax = 100;
constexpr std::size_t kFewJobs = 16;  // of submit streams: their clients wait for each
constexpr unsigned kAdvancesPerCheckpoint = 8;
constexpr std::size_t kAdvanceBytes = 1U << 20;  // of audit entries: below, one publish is enough

Core::Core(const Cell& cell, const PlmOptions& options) : cell_(cell), options_(options) {}

Core::~Core() {
    stop();
    if (publisher_.joinable()) publisher_.join();
    ledger_.reset();  // its thread may be at a snapshot, which waits for history and audit log
}

void Core::stop() {
    {
        const std::lock_guard lock(publisher_mutex_);
        stopping_.store(true);
    }
    publisher_wanted_.notify_all();
    if (segment_) shm::wake(segment_->participant(shm::kParticipantPlm).wake);
}

void Core::post(std::function<void()> run, std::function<void()> refuse, MayRun may_run) {
    {
        const std::lock_guard lock(requests_mutex_);
        if (accepting_) {
            requests_.push_back({std::move(run), std::move(refuse), may_run});
            refuse = nullptr;
        }
    }
    if (refuse) refuse();
    if (segment_) shm::wake(segment_->participant(shm::kParticipantPlm).wake);
}

Status Core::run() {
    publisher_ = std::thread([this] { publish_loop(); });
    auto& self = segment_->participant(shm::kParticipantPlm);
    flusher_ = std::make_unique<Flusher>([&self] { shm::wake(self.wake); });
    Status result;
    while (!stopping_.load()) {
        self.heartbeat_ns.store(boot_ns(), std::memory_order_relaxed);
        result = check_home();
        if (!result) break;
        pace();
        if (!gather()) sleep_until_work();
        admit();
        result = commit();
        if (!result) break;
    }
    // Asked to stop: what the others did until now is recorded before we go.
    for (int round = 0; result && round < kLastRoundsMax && gather(); ++round) {
        result = commit();
    }
    flusher_.reset();
    return result;
}

// Once a second: are ledger and segment still where others find them? Without its ledger the PLM
// stops at once. Without its segment it stops in order, and its successor makes a new one: a role
// that runs in a segment nobody else can open looks alive and is not.
Status Core::check_home() {
    const auto now = boot_ns();
    if (now - last_look_ns_ < kSweepIntervalNs) return {};
    last_look_ns_ = now;
    watch_policy();
    struct stat info {};
    const bool found = ::stat(cell_.ledger.c_str(), &info) == 0;
    if (found && ledger_inode_ == 0) ledger_inode_ = info.st_ino;
    if (!found || info.st_ino != ledger_inode_) {
        return fail(ErrorCode::kDataLoss,
                    cell_.ledger +
                        " was removed or replaced while the cell runs; put it back, or "
                        "stop the cell with: reeve down");
    }
    if (const auto sound = segment_->check_mapped(); !sound) {
        log::warn("the segment is lost and will be made anew", {{"why", sound.error().message}});
        segment_->header().phase.store(shm::Phase::kRetired);
        stop();
    }
    return {};
}

// After run(): whoever still waits gets an answer; nothing of theirs was acknowledged.
void Core::refuse_rest() {
    for (auto& [sink, watcher] : watchers_) {
        watcher.sink->finish(fail(ErrorCode::kUnavailable, "the PLM is stopping; ask again"));
    }
    watchers_.clear();
    std::vector<Post> rest;
    {
        const std::lock_guard lock(requests_mutex_);
        accepting_ = false;
        rest.swap(requests_);
    }
    for (auto& request : rest) request.refuse();
    for (auto& action : actions_) {
        action->done(fail(ErrorCode::kUnavailable,
                          "the PLM is stopping and may have done a part of it; ask again"));
    }
    actions_.clear();
    // What waited for a flush that failed: an answer that is dropped says that nobody knows.
    sealed_ = {};
    open_ = {};
}

// True when anything was done.
bool Core::gather() {
    std::vector<Post> requests;
    {
        const std::lock_guard lock(requests_mutex_);
        requests.swap(requests_);
    }
    for (auto& request : requests) request.run();
    work_actions();
    const bool events = drain_events();
    const auto now = boot_ns();
    const auto wanted = segment_->header().sweep_requested.load();
    const auto interval = sweep_suspects_.empty() ? kSweepIntervalNs : kInferAfterNs;
    if (wanted != sweep_seen_ || now - last_sweep_ns_ >= interval) {
        sweep_seen_ = wanted;
        last_sweep_ns_ = now;
        sweep();
        keep_noticed_clear();
    }
    retry_intents();
    resolve_dependencies();
    const auto wall = wall_ns();
    while (!begin_times_.empty() && begin_times_.begin()->first <= wall) {
        if (Job* job = model_.find(begin_times_.begin()->second)) model_.mark(*job);
        begin_times_.erase(begin_times_.begin());
    }
    notice_deadlines(wall);
    look_at_gangs();
    reindex_dirty();
    const bool acting = !actions_.empty() && !stopping_.load();
    // Gathered beside the flush, with or without a record.
    const bool owed = !open_.acks.empty() || !open_.streamed.empty();
    return events || acting || owed || !requests.empty() || !batch_.empty() ||
           !model_.dirty().empty();
}

bool Core::asked() {
    const std::lock_guard lock(requests_mutex_);
    return stopping_.load() || !requests_.empty();
}

// Commits that only record what the others did may take a fifth of this thread's time: after each
// it rests for four times as long as that took, so that a busy cell's events are flushed many at
// once and leave the processors to the tasks. Requests, starts that wait for their record, and
// results somebody reads are not made to wait.
void Core::pace() {
    const auto now = boot_ns();
    if (now >= pace_until_ns_ || !actions_.empty()) return;
    if (!result_sinks_.empty() && result_sinks_.size() < kFewJobs) return;
    for (const auto& [sink, watcher] : watchers_) {
        if (watcher.results) return;
    }
    auto& wake = segment_->participant(shm::kParticipantPlm).wake;
    const auto ticket = shm::prepare_sleep(wake, shm::Urgency::kNow);
    if (asked()) {
        shm::cancel_sleep(wake);
        return;
    }
    shm::sleep(wake, ticket, pace_until_ns_ - now);
}

void Core::sleep_until_work() {
    auto& wake = segment_->participant(shm::kParticipantPlm).wake;
    const auto ticket = shm::prepare_sleep(wake);
    bool work = asked();
    for (const auto& cursor : rings_) {
        // A ring that is blocked on a late event does not keep us awake; the sweep looks at it.
        work = work || (cursor.ring.tail() != cursor.at && cursor.blocked_since_ns == 0);
    }
    for (const auto slot : to_free_) work = work || segment_->task(slot).claim.load() == 0;
    for (const auto slot : to_requeue_) work = work || segment_->task(slot).claim.load() == 0;
    if (work) {
        shm::cancel_sleep(wake);
        return;
    }
    auto timeout = shm::kSleepMaxNs;
    for (const auto* times : {&begin_times_, &deadline_times_}) {
        if (times->empty()) continue;
        const auto wall = wall_ns();
        const auto due = times->begin()->first;
        timeout = std::min(timeout, due > wall ? due - wall : 0);
    }
    bool blocked = !sweep_suspects_.empty();
    for (const auto& cursor : rings_) blocked = blocked || cursor.blocked_since_ns != 0;
    if (blocked) timeout = std::min(timeout, kInferAfterNs);
    shm::sleep(wake, ticket, timeout);
}

// The audit log's slower clock: publishes what the ledger already holds.
void Core::publish_loop() {
    std::unique_lock lock(publisher_mutex_);
    bool kept_much = false;
    while (!stopping_.load()) {
        publisher_wanted_.wait(lock, [this] { return unpublished_ || stopping_.load(); });
        const auto slice = std::chrono::microseconds(options_.checkpoint_interval_ms * 1000) /
                           kAdvancesPerCheckpoint;
        for (unsigned i = 0; i < kAdvancesPerCheckpoint && !stopping_.load(); ++i) {
            publisher_wanted_.wait_for(lock, slice, [this] { return stopping_.load(); });
            if (audit_log_->unpublished_bytes() < kAdvanceBytes) continue;
            lock.unlock();
            (void)audit_log_->advance();  // an error is publish's to tell
            lock.lock();
        }
        unpublished_ = false;
        lock.unlock();
        const bool published = publish_or_complain();
        // The allocator keeps what large batches needed; once they are over the tasks may use it.
        const bool large = large_batch_.exchange(false);
        if (kept_much && !large) malloc_trim(0);
        kept_much = large;
        lock.lock();
        // Looked at once more, even if nothing happens until then.
        unpublished_ = unpublished_ || kept_much;
        unpublished_ = unpublished_ || !published;  // again after the next interval
    }
    lock.unlock();
    (void)publish_or_complain();
}

// On any thread, as the next.
void Core::want_trim() {
    large_batch_.store(true);
    wake_publisher();
}

void Core::wake_publisher() {
    bool asleep = false;
    {
        const std::lock_guard lock(publisher_mutex_);
        asleep = !std::exchange(unpublished_, true);  // else it waits for its time
    }
    if (asleep) publisher_wanted_.notify_one();
}

bool Core::publish_or_complain() {
    const auto published = publish_audit();
    if (!published) {
        log::error("the audit log cannot be published", {{"why", published.error().message}});
    }
    return published.has_value();
}

Status Core::publish_audit() {
    {
        const std::lock_guard lock(publish_mutex_);
        const auto flush = [this] { return ledger_->flush(); };
        REEVE_TRY(audit_log_->publish(flush));
        REEVE_TRY(flush());  // of batches without entries, too
    }
    tell_events();
    return {};
}

void Core::tell_events() {
    const std::lock_guard lock(events_mutex_);
    const auto size = audit_log_->published_size();
    std::erase_if(event_sinks_, [size](const auto& sink) { return !sink->published(size); });
}

// Batches may go only once their rows are safe in history and their leaves in flushed tiles.
Status Core::make_files_durable(std::uint64_t leaves) {
    REEVE_TRY(history_->make_durable(30'000));
    REEVE_TRY(publish_audit());
    REEVE_TRY_ASSIGN(const auto flushed, audit_log_->sync_tiles());
    REEVE_ASSERT(flushed >= leaves);
    return {};
}

}  // namespace reeve::plm
