// What was gathered becomes durable, and only then takes effect.
//
//   core      gather | seal N | gather_beside N+1 ........ | effects N | gather | seal N+1 | ...
//   flusher           | write and flush N                  |
//
// Between seal N and effects N the model is ahead of the ledger by what gather_beside() adds. So
// everything others are told of the model is copied by seal(), what moves slots waits in Effects,
// and a snapshot or an answer that reads the model has the flush before it to itself. What
// effects() itself reads there (queues of loose tasks, limits) holds nothing that is not durable:
// tasks become loose by admissions and actions, and neither is gathered beside a flush.
//
// A failed flush is tried again with the same bytes; what was gathered beside it follows with the
// next batch.

#include <algorithm>

#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/log/log.h"
#include "common/shm/wake.h"
#include "plm/core/core.h"

namespace reeve::plm {

constexpr std::size_t kLargeBatchBytes = 1U << 20;

Status Core::commit() {
    seal();
    if (!sealed_batch_.empty()) {
        REEVE_TRY(flush());
    }
    effects();
    return {};
}

void Core::seal() {
    sealed_ = std::exchange(open_, {});
    for (const auto& cursor : rings_) sealed_.ring_heads.push_back(cursor.at);
    if (!batch_.projection().empty()) {
        sealed_.rows = batch_.projection().take(model_, ledger_seq_ + 1, history_->spare());
    }
    batch_.seal(sealed_batch_);
    gather_budgets(sealed_);
    gather_news(sealed_);
    for (auto* job : model_.dirty()) {
        job->dirty = false;
        if (const auto entry = slots_->entry_of(*job, model_)) {
            sealed_.entries.emplace_back(*entry, job_record(*job, model_));
        }
        const auto backlog = job->backlog();
        backlog_tasks_ += backlog - job->backlog_counted;
        job->backlog_counted = backlog;
    }
    model_.dirty().clear();
    sealed_.backlog_tasks = backlog_tasks_;
}

Status Core::flush() {
    REEVE_FAILPOINT("plm.before_commit");
    const bool small =
        sealed_batch_.bytes() < kHandOverBytes && !REEVE_FAILPOINT_SKIPS("plm.small_batches_alone");
    const bool alone = small || sealed_.acks_read_model || snapshot_due() || !flusher_;
    auto written = alone ? write_batch() : write_beside_gathering();
    if (!written) REEVE_TRY(keep_trying(std::move(written)));
    if (segment_->header().acknowledging.exchange(1) == 0) {
        log::info("the ledger can be written again", {});
    }
    REEVE_FAILPOINT("plm.after_commit");
    // A large batch has many together already.
    const bool many = sealed_.ended.size() >= kManyEnded && !sealed_.others_waited;
    const auto& rest = many ? kLongRest : kRest;
    pace_until_ns_ = small ? boot_ns() + std::min(rest.times * flush_ns_, rest.max_ns) : 0;
    ++commits_;
    ledger_seq_ = ledger_->last_seq();
    const auto bytes = sealed_batch_.frames().size();
    bytes_since_snapshot_ += bytes;
    if (bytes > kLargeBatchBytes) large_batch_.store(true);  // its entries wake the publisher
    return {};
}

// On the core's thread or the flusher's.
Status Core::write_batch() {
    const auto begun = boot_ns();
    auto written = ledger_->commit(sealed_batch_.frames(), sealed_batch_.first_leaf(),
                                   sealed_batch_.entries().count, sealed_.starts_once);
    flush_ns_ = boot_ns() - begun;
    return written;
}

Status Core::write_beside_gathering() {
    flusher_->start([this] { flushed_ = write_batch(); });
    auto& self = segment_->participant(shm::kParticipantPlm);
    while (!flusher_->landed()) {
        self.heartbeat_ns.store(boot_ns(), std::memory_order_relaxed);
        const bool full = !gather_beside();
        REEVE_FAILPOINT("plm.gathered_beside");
        // Deaf to events, which are many: they are looked at every kBesideLookNs.
        const auto ticket = shm::prepare_sleep(self.wake, shm::Urgency::kNow);
        if (flusher_->landed() || (!full && asked_beside())) {
            shm::cancel_sleep(self.wake);
        } else {
            shm::sleep(self.wake, ticket, full ? shm::kSleepMaxNs : kBesideLookNs);
        }
    }
    return std::exchange(flushed_, {});
}

bool Core::asked_beside() {
    const std::lock_guard lock(requests_mutex_);
    return !requests_.empty() && requests_.front().may_run == MayRun::kBesideFlush;
}

// What only adds to the next batch: events, and requests up to the first that has to wait. False:
// the batch is large enough.
bool Core::gather_beside() {
    if (batch_.bytes() >= kBesideBytesMax) return false;
    std::vector<Post> requests;
    {
        const std::lock_guard lock(requests_mutex_);
        const auto end = std::find_if(requests_.begin(), requests_.end(), [](const auto& request) {
            return request.may_run != MayRun::kBesideFlush;
        });
        requests.assign(std::make_move_iterator(requests_.begin()), std::make_move_iterator(end));
        requests_.erase(requests_.begin(), end);
    }
    for (auto& request : requests) request.run();
    (void)drain_events();
    return true;
}

// The ledger refused the batch: nothing is acknowledged until it takes it.
Status Core::keep_trying(Status written) {
    while (!written) {
        if (segment_->header().acknowledging.exchange(0) == 1) {
            log::error("the ledger cannot be written; nothing is acknowledged until it can",
                       {{"why", written.error().message}, {"path", cell_.ledger}});
        }
        if (stopping_.load()) return fail(std::move(written).error().with("writing the ledger"));
        segment_->participant(shm::kParticipantPlm).heartbeat_ns.store(boot_ns());
        // Requests that arrive meanwhile are refused at once (see submit()).
        ::usleep(200'000);
        written = ledger_->resume_commit(sealed_batch_.frames(), sealed_batch_.first_leaf(),
                                         sealed_batch_.entries().count);
    }
    return {};
}

// Of the sealed batch, which is durable (or empty).
void Core::effects() {
    for (std::size_t i = 0; i < rings_.size(); ++i) {
        auto& ring = rings_[i].ring;
        if (ring.head() != sealed_.ring_heads[i]) ring.advance(sealed_.ring_heads[i]);
    }
    REEVE_FAILPOINT("plm.before_push");
    for (const auto& [slot, bits] : sealed_.intents) {
        auto& intent = segment_->task(slot).intent;
        bits != 0 ? intent.fetch_or(bits) : intent.fetch_and(~shm::kIntentSuspend);
        intents_.insert(slot);
        wake_holder(shm::load_word(segment_->task(slot)));
    }
    for (const auto& path : sealed_.result_files) ::unlink(path.c_str());
    tell_budgets(sealed_);
    to_free_.insert(to_free_.end(), sealed_.ended.begin(), sealed_.ended.end());
    to_requeue_.insert(to_requeue_.end(), sealed_.requeued.begin(), sealed_.requeued.end());
    release_slots();
    publish_loose();
    if (!touched_.empty()) {
        slots_->touch(touched_);
        wake_scheduler();
    }
    hand_on_entries();  // wakes threads that can wait until the tasks are on their way
    sealed_batch_.clear();
    // Before anybody is told: who waited for a job looks at its entry next.
    for (const auto& [entry, record] : sealed_.entries) slots_->write_entry(entry, record);
    notify_watchers(sealed_);
    tell_results(sealed_);
    segment_->header().backlog_tasks.store(sealed_.backlog_tasks, std::memory_order_relaxed);
    for (auto& job : model_.evict_ended()) slots_->drop_entry(job.mapped());
    REEVE_FAILPOINT("plm.before_ack");
    for (auto& ack : sealed_.acks) ack();
    sealed_.acks.clear();
    maybe_snapshot();
}

// What is recorded now also belongs to the audit log's tree and to history.
void Core::hand_on_entries() {
    const auto& entries = sealed_batch_.entries();
    if (entries.count != 0) audit_log_->append_buffer(sealed_batch_.entry_bytes(), entries.count);
    // The publisher also flushes what is not durable yet.
    if (entries.count != 0 || (!options_.durable && !sealed_batch_.empty())) wake_publisher();
    if (sealed_.rows.seq != 0) {
        (void)history_->push(std::exchange(sealed_.rows, {}));
        ledger_->keep_batches_after(history_->last_seq());
    }
}

// Whose budget is spent starts nothing more; what runs goes on.
void Core::gather_budgets(Effects& due) {
    for (const auto& [uid, budget] : options_.budget_nano) {
        const auto spent = model_.spend.of_user(uid);
        const auto [told, fresh] = budgets_told_.try_emplace(uid, spent);
        if (!fresh && told->second == spent) continue;
        told->second = spent;
        due.budgets.push_back({uid, spent, budget});
    }
}

void Core::tell_budgets(Effects& due) {
    for (const auto& [uid, spent, budget] : due.budgets) slots_->set_budget(uid, spent, budget);
    due.budgets.clear();
}

void Core::wake_scheduler() {
    shm::wake(segment_->participant(shm::kParticipantScheduler).wake);
}

void Core::wake_holder(shm::SlotWord word) {
    if (word.owned_by_worker() && word.worker_slot() < segment_->config().workers) {
        shm::wake(segment_->worker(word.worker_slot()).agent.wake);
    } else {
        wake_scheduler();
    }
}

std::vector<std::string> Core::snapshot_parts() {
    bytes_since_snapshot_ = 0;
    auto parts = model_.save_parts(kSnapshotPartBytesMax);
    last_snapshot_bytes_ = 0;
    for (const auto& part : parts) last_snapshot_bytes_ += part.size();
    return parts;
}

bool Core::snapshot_due() const {
    return bytes_since_snapshot_ >= std::max(options_.snapshot_bytes, 2 * last_snapshot_bytes_);
}

// Only when the model is what the ledger holds: the next flush has the core's thread to itself.
void Core::maybe_snapshot() {
    if (!snapshot_due() || !batch_.empty()) return;
    const auto told = [this](Status written) {
        want_trim();  // its copy of the model was as large as the model
        if (written) return;
        log::warn("the ledger's snapshot failed", {{"why", written.error().message}});
    };
    ledger_->snapshot_in_background(
        snapshot_parts(), ledger_seq_, told,
        [this, leaves = model_.next_leaf] { return make_files_durable(leaves); });
}

}  // namespace reeve::plm
