// Start-up: the ledger is replayed into the model, the audit log brought level with it, and the
// segment re-used as it is or made anew.
//
// A live segment of this cell is kept: its slots are newer than the ledger (what happened while no
// PLM lived), its rings hold what happened since. A segment that is missing, of another layout, or
// damaged is retired and rebuilt from the ledger under the next epoch; attempts whose workers may
// still live become orphans which those workers take over, or the register requeues after a lease.

#include <cstdio>
#include <filesystem>
#include <random>

#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/log/log.h"
#include "common/process/proc_info.h"
#include "plm/core/core.h"

namespace reeve::plm {

using shm::SlotState;
using shm::SlotWord;

namespace {

constexpr char kMetaCellId[] = "cell_id";
constexpr std::uint32_t kShortEventRing = 1'024;  // where /dev/shm is small, as in most containers

std::uint64_t random_id() {
    std::random_device source;
    return (static_cast<std::uint64_t>(source()) << 32) | source();
}

}  // namespace

Status Core::open() {
    LedgerOptions ledger_options;
    ledger_options.durable = options_.durable;
    REEVE_TRY_ASSIGN(ledger_, Ledger::open(cell_.ledger, ledger_options));
    if (!ledger_->warning().empty()) log::warn("ledger", {{"repaired", ledger_->warning()}});
    auto cell_id = ledger_->get_meta(kMetaCellId);
    if (!cell_id) {
        if (cell_id.error().code != ErrorCode::kNotFound) return fail(std::move(cell_id).error());
        cell_id = std::to_string(random_id());
        REEVE_TRY(ledger_->put_meta(kMetaCellId, *cell_id));
        REEVE_TRY(ledger_->flush());  // the audit log is named after it
    }
    cell_id_ = std::stoull(*cell_id);
    REEVE_TRY(replay());
    REEVE_TRY(open_audit_log());
    const std::string path = cell_.ledger;
    Ledger* ledger = ledger_.get();
    HistoryOptions history_options;
    if (!options_.durable) history_options.before_commit = [ledger] { return ledger->flush(); };
    const auto catch_up = [path, ledger](auto after, const auto& take) {
        return catch_up_history(path, *ledger, after, take);
    };
    REEVE_TRY_ASSIGN(history_, History::open(cell_.history, catch_up, history_options));
    REEVE_FAILPOINT("plm.before_segment");
    REEVE_TRY(attach_segment());
    drop_stale_results();
    return commit();
}

Status Core::replay() {
    model_.usage.configure(options_.policy.half_life_s, {}, {}, wall_ns());
    REEVE_TRY_ASSIGN(const auto snapshot, ledger_->read_snapshot());
    if (snapshot.seq != 0) {
        std::string bytes;
        for (const auto& part : snapshot.parts) bytes += part;
        REEVE_TRY(model_.load(bytes));
        last_snapshot_bytes_ = bytes.size();
    }
    const auto replayed =
        ledger_->for_each_batch(snapshot.seq, [this](const Batch& batch) -> Status {
            std::vector<std::string> entries;
            const auto first_leaf = model_.next_leaf;
            REEVE_TRY(replay_frames(model_, batch.seq, batch.frames, &entries, nullptr));
            if (!entries.empty()) replayed_entries_.emplace_back(first_leaf, std::move(entries));
            bytes_since_snapshot_ += batch.frames.size();
            return {};
        });
    if (!replayed) return replayed;
    ledger_seq_ = ledger_->last_seq();
    // Dependents of jobs that ended just before the crash are looked at once more.
    for (auto& [id, job] : model_.jobs()) {
        if (!job.ended && job.extras->policy.deadline_ns != 0) deadline_times_.emplace(0, id);
        if (!job.ended && !job.extras->after.empty()) recheck_.push_back(id);
    }
    model_.just_ended().clear();
    return {};
}

// What a dying cell whose directory was removed may leave: a signed log without its key, and no
// ledger that it could go with. It is kept under another name, and a new log begins.
Status Core::set_orphaned_log_aside() {
    const bool signed_once = access((cell_.audit + "/checkpoint").c_str(), F_OK) == 0;
    const bool has_key = access(log_key().c_str(), F_OK) == 0;
    if (model_.next_leaf != 0 || has_key || !signed_once) return {};
    const auto aside = cell_.audit + ".without-key-" + std::to_string(wall_ns() / kSecond);
    if (rename(cell_.audit.c_str(), aside.c_str()) != 0) {
        return fail_errno("rename " + cell_.audit + " to " + aside, errno);
    }
    log::warn("an audit log without key and ledger was set aside", {{"path", aside}});
    return {};
}

Status Core::open_audit_log() {
    REEVE_TRY(set_orphaned_log_aside());
    char origin[64];
    std::snprintf(origin, sizeof origin, "reeve/%016llx",
                  static_cast<unsigned long long>(cell_id_));
    audit::EntryProvider provider;
    provider.end = model_.next_leaf;
    provider.first = replayed_entries_.empty() ? provider.end : replayed_entries_.front().first;
    provider.read = [this](std::uint64_t begin, std::uint64_t count,
                           std::vector<std::string>& out) -> Status {
        for (const auto& [first, entries] : replayed_entries_) {
            for (std::size_t i = 0; i < entries.size() && count > 0; ++i) {
                if (first + i != begin) continue;
                out.push_back(entries[i]);
                ++begin;
                --count;
            }
        }
        if (count == 0) return {};
        return fail(ErrorCode::kDataLoss, "the ledger lacks audit entry " + std::to_string(begin));
    };
    const audit::LogOptions log_options{cell_.audit, log_key(), origin};
    auto opened = audit::AuditLog::open(log_options, provider);
    if (!opened) return fail(std::move(opened).error().with("opening the audit log"));
    audit_log_ = std::make_unique<audit::AuditLog>(std::move(*opened));
    for (auto& [first, entries] : replayed_entries_) {
        const auto have = audit_log_->size();
        if (first + entries.size() <= have) continue;
        audit_log_->append(std::span<const std::string>(entries).subspan(have - first));
    }
    if (audit_log_->size() != model_.next_leaf) {
        return fail(ErrorCode::kDataLoss, "the audit log in " + cell_.audit +
                                              " and the ledger do not meet: restore either");
    }
    replayed_entries_.clear();
    if (model_.next_leaf == 0) {
        audit::Entry entry;
        entry.kind = audit::Kind::kLogOpened;
        batch_.audit(entry);
    }
    return {};
}

Status Core::attach_segment() {
    const auto name = read_segment_name(cell_);
    if (!name || !reuse_segment(*name)) {
        auto generation = model_.segment_generation + 1;
        REEVE_TRY(create_segment(generation));
    }
    auto& self = segment_->participant(shm::kParticipantPlm);
    self.pid.store(static_cast<std::uint32_t>(getpid()));
    self.start_ticks.store(start_ticks(getpid()).value_or(0));
    self.heartbeat_ns.store(boot_ns());
    rings_.clear();
    for (std::uint32_t i = 0; i < shm::event_ring_count(*segment_); ++i) {
        RingCursor cursor{shm::event_ring(*segment_, i)};
        cursor.at = cursor.limit = cursor.ring.head();
        rings_.push_back(cursor);
    }
    slots_->clear_entries();
    for (auto& [id, job] : model_.jobs()) model_.mark(job);
    apply_policy(options_.policy);
    reindex_dirty();
    for (const auto id : recheck_) check_dependencies(id);
    recheck_.clear();
    return {};
}

bool Core::reuse_segment(const std::string& name) {
    auto opened = shm::Segment::open(name, true);
    if (!opened) {
        if (opened.error().code != ErrorCode::kNotFound) {
            log::warn("the segment is not usable and will be rebuilt",
                      {{"segment", name}, {"why", opened.error().message}});
            shm::Segment::remove(name);
        }
        return false;
    }
    auto& header = (*opened)->header();
    if (header.cell_id != cell_id_ || header.epoch.load() != model_.epoch) {
        log::warn("the segment is of another epoch and will be rebuilt", {{"segment", name}});
        header.phase.store(shm::Phase::kRetired);
        shm::Segment::remove(name);
        return false;
    }
    segment_ = std::move(*opened);
    slots_ = std::make_unique<SlotTable>(*segment_);
    slots_->learn_from(model_.run_times);
    budgets_told_.clear();
    gather_budgets(open_);
    tell_budgets(open_);
    slots_->attach();
    for (std::uint32_t slot = 0; slot < segment_->config().task_slots; ++slot) adopt_slot(slot);
    slots_->finish_attach();
    slots_->heap().heal();
    log::info("segment taken over", {{"segment", name}, {"slots", slots_->bound_slots()}});
    return true;
}

// One slot of a segment that was there before us.
void Core::adopt_slot(std::uint32_t slot) {
    auto& shared = segment_->task(slot);
    auto word = shm::load_word(shared);
    if (word.state() == SlotState::kInit) {
        // Our predecessor died filling it; nobody else saw it.
        auto expected = word.raw;
        shared.word.compare_exchange_strong(
            expected, SlotWord::make(word.generation(), 0, shm::kOwnerNone, SlotState::kFree).raw);
        return;
    }
    if (word.state() == SlotState::kFree) return;
    Job* job = model_.find(shared.job);
    const auto ordinal = job == nullptr ? 0 : job->ordinal_of(shared.element);
    Task* task = job == nullptr ? nullptr : model_.find_task(job->id, ordinal);
    if (task == nullptr || task->slot != shm::kNone32) {
        // Its ending is in the record already; only the slot is left.
        slots_->adopt(slot, job, ordinal, word);
        if (job == nullptr) slots_->binding(slot).job = ~JobId{0};
        slots_->binding(slot).ended_durable = true;
        if (word.state() == SlotState::kEnded) {
            to_free_.push_back(slot);
        } else if (shm::is_pending(word.state())) {
            const auto ended = word.to(SlotState::kEnded, shm::kOwnerCancelled);
            if (slots_->move(slot, word, ended)) to_free_.push_back(slot);
        } else {
            shared.intent.fetch_or(shm::kIntentCancel);
            stale_.push_back(slot);
        }
        return;
    }
    // What the record knows of it; the rings and the sweep bring it up to the word in the slot.
    auto owner = shm::kOwnerNone;
    if (shm::is_placed(task->state))
        owner = word.attempt() == task->attempt ? word.owner() : shm::kOwnerOrphan;
    const auto known = SlotWord::make(word.generation(), task->attempt, owner, task->state);
    slots_->adopt(slot, job, ordinal, known);
    model_.bind_slot(*job, ordinal, *task, slot);
    if ((shared.claim.load() & shm::kClaimAhead) != 0) model_.note_ahead(*job, *task);
    if ((task->intent & shm::kIntentSuspend) == 0) shared.intent.fetch_and(~shm::kIntentSuspend);
    if (task->intent != 0) {
        shared.intent.fetch_or(task->intent);
        intents_.insert(slot);
    }
    if (shm::is_pending(task->state) && word.state() == SlotState::kEnded &&
        word.attempt() == task->attempt && word.owner() != shm::kOwnerCancelled) {
        slots_->binding(slot).known = word;  // its requeue is recorded, the move was not made
        to_requeue_.push_back(slot);
    }
}

// Result files of attempts that are over: we were killed between the commit and their removal.
void Core::drop_stale_results() {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(cell_.results, error)) {
        unsigned long long id = 0;
        unsigned long long element = 0;
        unsigned attempt = 0;
        const auto name = entry.path().filename().string();
        if (std::sscanf(name.c_str(), "%llu.%llu.%u", &id, &element, &attempt) == 3) {
            const Job* job = model_.find(id);
            const Task* task =
                job == nullptr ? nullptr : model_.find_task(id, job->ordinal_of(element));
            if (task != nullptr && task->attempt <= attempt) continue;
        }
        ::unlink(entry.path().c_str());
    }
}

Status Core::create_segment(std::uint32_t generation) {
    const auto name = "/reeve-" + cell_.hash + "-" + std::to_string(generation);
    shm::Segment::remove(name);
    auto config = options_.segment;
    auto created = shm::Segment::create(name, config, cell_id_, generation);
    if (!created && created.error().code == ErrorCode::kResourceExhausted &&
        config.worker_event_ring > kShortEventRing) {
        config.worker_event_ring = kShortEventRing;
        created = shm::Segment::create(name, config, cell_id_, generation);
        if (created) log::info("/dev/shm is small: event rings are short", {{"segment", name}});
    }
    if (!created) return fail(std::move(created).error().with("making the segment " + name));
    segment_ = std::move(*created);
    slots_ = std::make_unique<SlotTable>(*segment_);
    slots_->learn_from(model_.run_times);
    budgets_told_.clear();
    gather_budgets(open_);
    tell_budgets(open_);
    const auto epoch = model_.epoch + 1;
    audit::Entry entry;
    entry.kind = audit::Kind::kSchedulerEpoch;
    entry.code = static_cast<std::int32_t>(epoch);
    batch_.audit(entry);
    batch_.emit(EpochOpened{epoch, generation});
    auto& header = segment_->header();
    header.epoch.store(epoch);
    header.next_worker_number.store(model_.next_worker_number);
    header.next_worker_incarnation.store(model_.next_worker_incarnation);
    publish_orphans();
    // Durable before anybody can act in the new epoch.
    rings_.clear();
    seal();
    REEVE_TRY(flush());
    hand_on_entries();
    header.phase.store(shm::Phase::kReady);
    REEVE_TRY(write_segment_name(cell_, name));
    log::info("segment made", {{"segment", name}, {"epoch", epoch}});
    return {};
}

// Attempts whose worker has not been declared dead: it may come back and take them over.
void Core::publish_orphans() {
    for (auto& [id, job] : model_.jobs()) {
        for (const auto ordinal : job.tasks->ordinals()) {
            auto& task = job.tasks->at(ordinal);
            const bool running = shm::is_placed(task.state);
            if (!running && task.state != SlotState::kHeld) continue;
            // Its worker lets it go on when it takes it over, and is told of the intent anew.
            if (task.state == SlotState::kSuspended) {
                attempt_frozen(job, task, ordinal, false, wall_ns());
            }
            const auto slot = slots_->publish(job, ordinal, task,
                                              running ? SlotState::kRunning : SlotState::kHeld);
            if (!slot) {
                log::error("no slot for a running task after a rebuild", {{"job", id}});
                continue;
            }
            model_.bind_slot(job, ordinal, task, *slot);
            if (running) intents_.insert(*slot);
        }
    }
}

}  // namespace reeve::plm
