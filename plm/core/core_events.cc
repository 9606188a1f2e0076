// What the others did: events of all rings become records, in an order that is lawful per task.
//
// Worker tails are captured first, then the scheduler's, then the register's. A worker's event can
// only follow a dispatch the scheduler had already reported, and an assignment only a join the
// register had already reported, so every cause lies inside what was captured. Each ring is
// consumed in order and stops at an event whose predecessor is still missing; the others go on and
// unblock it. What stays blocked longer than kInferAfterNs (its predecessor's writer was killed
// between its CAS and its push) is forced: the missing links follow from the two words.

#include "common/base/clock.h"
#include "common/log/log.h"
#include "common/merkle/hash.h"
#include "common/process/task_space.h"
#include "common/shm/function_block.h"
#include "common/shm/used_slots.h"
#include "plm/core/core.h"

namespace reeve::plm {

using shm::Event;
using shm::EventKind;
using shm::SlotState;
using shm::SlotWord;

namespace {

constexpr std::uint64_t kBytesPerEvent = 4096;

Event synthetic(SlotWord to) {
    Event event;
    event.kind = EventKind::kObserved;
    event.new_word = to.raw;
    return event;
}

std::string detail_of(const shm::TaskSlot& slot) {
    return std::string(slot.detail, strnlen(slot.detail, sizeof slot.detail));
}

// Who held the task at `attempt`, if the event tells: later ones have overwritten the slot's
// fields.
WorkerId holder_in(const Event& event, std::uint16_t attempt) {
    if (event.kind == EventKind::kNothing || SlotWord{event.new_word}.attempt() != attempt)
        return {};
    const WorkerId peer{event.peer_number, event.peer_incarnation};
    return peer.none() ? WorkerId{event.worker_number, event.worker_incarnation} : peer;
}

bool may_retry(Outcome outcome) {
    return outcome == Outcome::kFailed || outcome == Outcome::kTimedOut ||
           outcome == Outcome::kOutOfMemory;
}

// A preemption asks for one of the two; both are a person's cancel on top of it.
bool pushed_aside(std::uint32_t intent) {
    return (intent & shm::kIntentPreempt) != 0 && (intent & shm::kIntentStop) != shm::kIntentStop;
}

}  // namespace

void Core::capture(RingCursor& cursor) {
    const auto tail = cursor.ring.tail();
    // A damaged index never makes us read more than the ring holds.
    cursor.limit = tail - cursor.at > cursor.ring.capacity() ? cursor.at : tail;
}

bool Core::drain_events() {
    const auto first_worker = shm::kEventRingFirstWorker;
    auto capture_all = [&] {
        for (std::size_t i = first_worker; i < rings_.size(); ++i) capture(rings_[i]);
        capture(rings_[shm::kEventRingScheduler]);
    };
    capture_all();
    capture(rings_[shm::kEventRingRegister]);
    auto& judge = rings_[shm::kEventRingRegister];
    for (auto at = judge.at; at != judge.limit; ++at) {
        // A verdict: the dead worker's own events, and what caused them, were pushed before it.
        const auto kind = judge.ring.peek(at).kind;
        if (kind == EventKind::kWorkerDead || kind == EventKind::kWorkerLeft ||
            kind == EventKind::kObserved) {
            capture_all();
            break;
        }
    }
    std::uint64_t budget = kEventsPerBatch;
    bool any = false;
    for (bool progress = true; progress && budget > 0;) {
        progress = false;
        for (std::uint32_t i = first_worker; i < rings_.size(); ++i) {
            progress = drain_ring(i, false, budget) || progress;
        }
        progress = drain_ring(shm::kEventRingScheduler, false, budget) || progress;
        if (progress) {
            any = true;
            continue;  // a verdict waits until the others are as far as they get
        }
        progress = drain_ring(shm::kEventRingRegister, false, budget);
        any = any || progress;
    }
    const auto now = boot_ns();
    for (std::uint32_t i = 0; i < rings_.size(); ++i) {
        auto& cursor = rings_[i];
        if (cursor.at == cursor.limit || budget == 0) {
            cursor.blocked_since_ns = 0;
        } else if (cursor.blocked_since_ns == 0) {
            cursor.blocked_since_ns = now;
        } else if (now - cursor.blocked_since_ns > kInferAfterNs) {
            cursor.blocked_since_ns = 0;
            any = drain_ring(i, true, budget) || any;
        }
    }
    return any;
}

// Whoever wrote the event has the slot in its processor's cache: asked for early, it comes while
// others are looked at. First the slot, then what the slot names.
void Core::fetch_ahead(const RingCursor& cursor) const {
    constexpr std::uint64_t kSlotAhead = 8;
    constexpr std::uint64_t kPayloadAhead = 4;
    const auto left = cursor.limit - cursor.at;
    if (left > kSlotAhead) {
        const auto slot = cursor.ring.peek(cursor.at + kSlotAhead).slot;
        if (segment_->valid_slot(slot)) {
            const auto* line = reinterpret_cast<const char*>(&segment_->task(slot));
            __builtin_prefetch(line);
            __builtin_prefetch(line + 64);
            __builtin_prefetch(line + 128);
            __builtin_prefetch(&slots_->binding(slot));
        }
    }
    if (left > kPayloadAhead) {
        const auto slot = cursor.ring.peek(cursor.at + kPayloadAhead).slot;
        if (segment_->valid_slot(slot)) shm::prefetch_function(*segment_, segment_->task(slot));
    }
}

// Consumes events of one ring until it is empty or blocked; `force` lets the first one through.
bool Core::drain_ring(std::uint32_t index, bool force, std::uint64_t& budget) {
    auto& cursor = rings_[index];
    bool any = false;
    while (cursor.at != cursor.limit && budget > 0) {
        fetch_ahead(cursor);
        const auto event = cursor.ring.peek(cursor.at);
        if (any && event.kind == EventKind::kWorkerDead) break;  // the others first: they name it
        if (!apply_event(event, force)) break;
        force = false;
        ++cursor.at;
        // Large results fill a batch sooner than many events do.
        budget -= std::min(budget, 1 + std::exchange(result_bytes_taken_, 0) / kBytesPerEvent);
        any = true;
    }
    return any;
}

// False: its predecessor is missing.
bool Core::apply_event(const Event& event, bool force) {
    switch (event.kind) {
        case EventKind::kMoved:
            return apply_moved(event, force);
        case EventKind::kObserved:
            return apply_moved(event, true);
        case EventKind::kWorkerJoined:
        case EventKind::kWorkerDead:
        case EventKind::kWorkerLeft:
        case EventKind::kWorkerDrained:
        case EventKind::kWorkerUndrained:
            worker_event(event);
            return true;
        case EventKind::kPreempt:
            preempt_asked(event);
            return true;
        case EventKind::kReportRefused: {
            batch_.audit_task(audit::Kind::kReportRefused, TaskId{event.job, event.element},
                              SlotWord{event.new_word}.attempt(),
                              WorkerId{event.worker_number, event.worker_incarnation},
                              event.wall_ns, event.code);
            return true;
        }
        case EventKind::kNothing:
            break;
    }
    log::warn("an event of an unknown kind was dropped",
              {{"kind", static_cast<std::uint32_t>(event.kind)}});
    return true;
}

bool Core::apply_moved(const Event& event, bool force) {
    if (!segment_->valid_slot(event.slot)) return true;
    const SlotWord to{event.new_word};
    const SlotWord from{event.old_word};
    const auto& binding = slots_->binding(event.slot);
    // Another life of the slot, or a slot the record has no task in: a repetition.
    if (binding.job == 0 || binding.ended_durable) return true;
    if (to.generation() != binding.known.generation()) return true;
    if (event.kind == EventKind::kMoved && binding.job != event.job) return true;
    if (to.rank() < binding.known.rank()) return true;
    if (to.rank() == binding.known.rank()) {
        const bool cycle = to != binding.known && from == binding.known;
        if (!cycle) return true;
    } else if (!force) {
        // One that begins earlier tells two links at once, the first of which is known already.
        if (from.rank() > binding.known.rank()) return false;
        if (to.state() == SlotState::kAssigned &&
            !model_.workers().contains(event.worker_incarnation)) {
            return false;
        }
    }
    advance(event.slot, to, event);
    return true;
}

// Walks from the known word to `target`, one recorded link at a time.
void Core::advance(std::uint32_t slot, SlotWord target, const Event& event) {
    auto& binding = slots_->binding(slot);
    Job* job = model_.find(binding.job);
    open_.starts_once = open_.starts_once || (job != nullptr && job->at_most_once);
    for (int links = 0; binding.known != target; ++links) {
        Task* task = job == nullptr ? nullptr : model_.find_task(job->id, binding.ordinal);
        if (task == nullptr || links > 3 * shm::kAttemptMax) return;
        const auto next = step(slot, *job, *task, target, event);
        if (next == binding.known) {
            log::error("a slot moved in a way no table allows",
                       {{"slot", slot},
                        {"job", job->id},
                        {"known", shm::to_string(binding.known.state())},
                        {"found", shm::to_string(target.state())}});
            binding.known = target;
            return;
        }
        binding.known = next;
        const bool to_be_frozen =
            target.state() == SlotState::kSuspended && next.state() == SlotState::kRunning;
        if (next.rank() > target.rank() || (next.rank() == target.rank() && !to_be_frozen)) {
            binding.known = target;
        }
    }
}

// Records the next link on the way and returns the word it leads to.
SlotWord Core::step(std::uint32_t slot, Job& job, Task& task, SlotWord target, const Event& event) {
    const auto known = slots_->binding(slot).known;
    const auto ordinal = slots_->binding(slot).ordinal;
    const bool same_attempt = target.attempt() == known.attempt();
    switch (known.state()) {
        case SlotState::kHeld:
        case SlotState::kQueued:
        case SlotState::kClaimed: {
            if (target.state() == SlotState::kEnded && target.owner() == shm::kOwnerCancelled) {
                finish_cancelled(job, ordinal, 0);
                return target;
            }
            if (same_attempt) {
                if (target.state() == SlotState::kHeld) hold_task(job, ordinal, task);
                if (target.state() == SlotState::kQueued) release_task(job, ordinal, task);
                return target;
            }
            const auto owner =
                target.attempt() == known.attempt() + 1 ? target.owner() : shm::kOwnerNone;
            const auto word = known.next_attempt(SlotState::kAssigned, owner);
            attempt_assigned(slot, job, task, word, event);
            return word;
        }
        case SlotState::kAssigned:
        case SlotState::kRunning:
        case SlotState::kSuspended: {
            const bool started = task.started_ns != 0 || orphan_of_dead(target, task.worker);
            const bool must_start =
                !started && same_attempt &&
                (target.state() == SlotState::kRunning || target.state() == SlotState::kSuspended ||
                 (target.state() == SlotState::kEnded &&
                  segment_->task(slot).started_wall_ns.load() != 0));
            if (must_start) {
                const auto at = segment_->task(slot).started_wall_ns.load();
                attempt_started(slot, job, task, at != 0 ? at : event.wall_ns);
                // An orphan of a rebuild stands as running whether or not the record knew it.
                if (known.state() != SlotState::kRunning) {
                    return known.to(SlotState::kRunning, known.owner());
                }
            }
            if (same_attempt && target.state() == SlotState::kSuspended) {
                if (known.state() != SlotState::kSuspended) {
                    attempt_frozen(job, task, ordinal, true, event.wall_ns);
                }
                return target;
            }
            if (same_attempt && known.state() == SlotState::kSuspended && thawed(slot, target)) {
                attempt_frozen(job, task, ordinal, false, event.wall_ns);
                return known.to(SlotState::kRunning, known.owner());
            }
            if (same_attempt && target.state() == SlotState::kEnded) {
                attempt_ended(slot, job, task, event);
                return target;
            }
            if (same_attempt &&
                (target.state() == SlotState::kRunning || target.state() == SlotState::kAssigned)) {
                return target;  // adopted, or resumed
            }
            attempt_requeued(job, task, ordinal, event);
            return known.to(SlotState::kQueued, shm::kOwnerNone);
        }
        default:
            return known;
    }
}

void Core::attempt_assigned(std::uint32_t slot, Job& job, Task& task, SlotWord word,
                            const Event& event) {
    const auto& shared = segment_->task(slot);
    const bool direct =
        event.kind == EventKind::kMoved && SlotWord{event.new_word}.state() == SlotState::kAssigned;
    WorkerId worker = holder_in(event, word.attempt());
    // The scheduler wrote the holder, and whether it is ahead of its room, before its CAS.
    if (worker.none()) worker = {shared.holder_number.load(), shared.holder_incarnation.load()};
    if (!model_.workers().contains(worker.incarnation)) {
        Event joined;  // its own event is still under way, and will be a repetition
        joined.kind = EventKind::kWorkerJoined;
        joined.worker_number = worker.number;
        joined.worker_incarnation = worker.incarnation;
        joined.worker_slot = word.owned_by_worker() ? word.worker_slot() : shm::kNone32;
        worker_event(joined);
    }
    const auto ordinal = slots_->binding(slot).ordinal;
    const auto when = direct ? event.wall_ns : shared.assigned_wall_ns.load();
    batch_.audit_task(audit::Kind::kAssigned, TaskId{job.id, job.element_of(ordinal)},
                      word.attempt(), worker, when);
    auto moved = record_of(job.id, ordinal, task, when);
    moved.state = SlotState::kAssigned;
    moved.attempt = word.attempt();
    moved.worker = worker;
    batch_.emit(moved);
    if ((shared.claim.load() & shm::kClaimAhead) != 0) model_.note_ahead(job, task);
}

void Core::attempt_started(std::uint32_t slot, Job& job, Task& task, std::uint64_t wall_time) {
    const auto ordinal = slots_->binding(slot).ordinal;
    batch_.audit_task(audit::Kind::kStarted, TaskId{job.id, job.element_of(ordinal)}, task.attempt,
                      task.worker, wall_time);
    auto moved = record_of(job.id, ordinal, task, wall_time);
    moved.state = SlotState::kRunning;
    batch_.emit(moved);
}

// REQUEUED: a task goes back to the queue from `holder`, whose death, if it is dead, is the cause.
// Returns whether it is.
bool Core::record_requeued(TaskId task, std::uint16_t attempt, WorkerId holder,
                           std::uint64_t wall_time, std::int32_t code) {
    audit::Entry entry;
    entry.kind = audit::Kind::kRequeued;
    entry.task = audit::to_id(task);
    entry.attempt = attempt;
    entry.peer = audit::to_id(holder);
    entry.time_ns = wall_time;
    entry.code = code;
    const auto* death = death_of(holder);
    if (death != nullptr) entry.cause = death->death_leaf;
    batch_.audit(entry);
    return death != nullptr;
}

// Taken from its holder: by the register (dead or gone), or retracted by the scheduler.
void Core::attempt_requeued(Job& job, Task& task, std::uint64_t ordinal, const Event& event) {
    const TaskId id{job.id, job.element_of(ordinal)};
    const bool dead = record_requeued(id, task.attempt, task.worker, event.wall_ns, event.code);
    TaskEnded attempt;  // of this attempt only
    attempt.job = job.id;
    attempt.ordinal = ordinal;
    attempt.attempt = task.attempt;
    attempt.outcome = Outcome::kRequeued;
    attempt.final = false;
    attempt.worker = task.worker;
    attempt.assigned_ns = task.assigned_ns;
    attempt.started_ns = task.started_ns;
    attempt.ended_ns = event.wall_ns != 0 ? event.wall_ns : wall_ns();
    attempt.detail = dead ? "its worker died" : "taken back from its worker";
    attempt.deaths = task.deaths + (dead ? 1U : 0U);
    batch_.emit(attempt);
    auto moved = record_of(job.id, ordinal, task, event.wall_ns);
    moved.state = SlotState::kQueued;
    moved.worker = {};
    moved.deaths = attempt.deaths;
    batch_.emit(moved);
}

void Core::attempt_ended(std::uint32_t slot, Job& job, Task& task, const Event& event) {
    const auto& shared = segment_->task(slot);
    const auto ordinal = slots_->binding(slot).ordinal;
    const TaskId id{job.id, job.element_of(ordinal)};
    auto& ended = begin_ending(task);
    ended.job = job.id;
    ended.ordinal = ordinal;
    const auto raw_outcome = shared.outcome.load();
    ended.outcome = raw_outcome == 0 || raw_outcome > static_cast<std::uint8_t>(Outcome::kRequeued)
                        ? Outcome::kFailed
                        : static_cast<Outcome>(raw_outcome);
    ended.core_dumped = shared.core_dumped.load() != 0;
    ended.exit_code = shared.exit_code.load();
    ended.ended_ns = shared.ended_wall_ns.load();
    if (ended.ended_ns == 0) ended.ended_ns = event.wall_ns != 0 ? event.wall_ns : wall_ns();
    ended.user_us = shared.user_us.load();
    ended.system_us = shared.system_us.load();
    ended.max_rss_bytes = shared.max_rss_bytes.load();
    if (ended.outcome == Outcome::kSucceeded && job.function) {
        take_result(slot, id, ended);
    }
    // The register counts in the slot; the record learns of a death with the next move only.
    ended.deaths = std::max(task.deaths, shared.deaths.load());
    if (ended.outcome != Outcome::kSucceeded) {
        ended.detail = detail_of(shared);
        // What the task itself said is longer than a slot's line.
        auto said = shared.has_text.load() != 0 ? take_text(cell_, id, task.attempt)
                                                : fail(ErrorCode::kNotFound, "");
        if (said) ended.detail = std::move(*said);
    }

    const bool cancel_asked = (task.intent & shm::kIntentCancel) != 0;
    if (ended.outcome == Outcome::kRequeued && cancel_asked) ended.outcome = Outcome::kCancelled;
    if ((task.intent & shm::kIntentPreempt) != 0) tell_preempted(slot, task, ended);
    const bool again =
        ended.outcome == Outcome::kRequeued ||
        (may_retry(ended.outcome) && task.retries_used < job.retries_max && !cancel_asked);
    ended.final = !again;
    if (job.gang() && ended.outcome == Outcome::kRequeued) ended.detail = "its gang starts again";
    record_ending(id, task, ended, event);
    const auto hold = (task.intent & shm::kIntentHold) != 0;
    const auto retries = task.retries_used + (ended.outcome == Outcome::kRequeued ? 0U : 1U);
    const auto deaths = task.deaths;
    const auto attempt = task.attempt;
    batch_.emit(ended);
    if (!watched_jobs_.empty() && watched_jobs_.contains(job.id) && ended.final) {
        open_.results.push_back(result_of(job, ended));
    }
    const bool failed = ended.outcome != Outcome::kSucceeded;
    const auto ended_ns = ended.ended_ns;
    if (ended.final) note_result(job, ended);
    intents_.erase(slot);
    if (again) {
        const auto state = hold ? SlotState::kHeld : SlotState::kQueued;
        if (hold) batch_.audit_task(audit::Kind::kHeld, id, attempt, {}, ended_ns);
        batch_.emit(
            TaskMoved{job.id, ordinal, state, attempt, WorkerId{}, ended_ns, deaths, retries, 0});
        open_.requeued.push_back(slot);
        return;
    }
    slots_->binding(slot).ended_durable = true;
    open_.ended.push_back(slot);
    if (failed && job.extras->max_failures != 0 && job.failed.count() >= job.extras->max_failures &&
        !job.ended) {
        cancel_job(job, kCodeMaxFailures, "too many failed tasks");
    }
}

// The audit entries of an attempt's end; STARTED is already there when the attempt ran.
void Core::record_ending(TaskId id, const Task& task, const TaskEnded& ended, const Event& event) {
    auto requeued = [&](std::int32_t code) {
        record_requeued(id, task.attempt, task.worker, ended.ended_ns, code);
    };
    auto failed = [&](std::int32_t code) {
        batch_.audit_task(audit::Kind::kFailed, id, task.attempt, task.worker, ended.ended_ns,
                          code);
        // A retry: the task goes back to the queue by the PLM's hand.
        if (!ended.final) requeued(code);
    };
    const auto why = pushed_aside(task.intent) ? kCodePreempted : 0;
    switch (ended.outcome) {
        case Outcome::kSucceeded: {
            if (task.started_ns == 0) {
                batch_.audit_task(audit::Kind::kStarted, id, task.attempt, task.worker,
                                  event.wall_ns);
            }
            const auto& shared = segment_->task(task.slot);
            std::string digest(shared.detail, shared.has_digest.load() != 0 ? 32 : 0);
            if (!ended.result.empty()) {
                const auto hash = merkle::sha256(ended.result);
                digest.assign(reinterpret_cast<const char*>(hash.data()), hash.size());
            }
            batch_.audit_task(audit::Kind::kFinished, id, task.attempt, task.worker, ended.ended_ns,
                              0, digest);
            break;
        }
        case Outcome::kTimedOut:
            failed(kCodeTimedOut);
            break;
        case Outcome::kOutOfMemory:
            failed(kCodeOutOfMemory);
            break;
        case Outcome::kRequeued:
            requeued(why);
            break;
        case Outcome::kLost:
        case Outcome::kPoison: {
            const auto code = ended.outcome == Outcome::kLost ? kCodeLost : kCodePoison;
            requeued(code);
            batch_.audit_task(audit::Kind::kCancelled, id, task.attempt, {}, ended.ended_ns, code);
            break;
        }
        case Outcome::kCancelled:
            batch_.audit_task(audit::Kind::kCancelled, id, task.attempt, task.worker,
                              ended.ended_ns, why);
            break;
        case Outcome::kFailed:
        case Outcome::kNone:
            failed(ended.exit_code);
            break;
    }
}

// The scheduler wants this very attempt stopped for a better task: done as if a person had asked.
// What is over, protected, or being stopped already is left alone; so asking twice does no harm.
void Core::preempt_asked(const Event& event) {
    if (!segment_->valid_slot(event.slot)) return;
    const auto& binding = slots_->binding(event.slot);
    const SlotWord wanted{event.new_word};
    if (binding.job == 0 || binding.job != event.job || binding.ended_durable) return;
    Job* job = model_.find(binding.job);
    Task* task = job == nullptr ? nullptr : model_.find_task(job->id, binding.ordinal);
    if (task == nullptr || wanted.generation() != binding.known.generation()) return;
    const auto mode = preempt_mode(*job);
    if (!shm::is_placed(task->state) || task->attempt != wanted.attempt() ||
        mode == v1::PREEMPT_NEVER || (task->intent & shm::kIntentStop) != 0) {
        return;
    }
    const auto stop = mode == v1::PREEMPT_CANCEL ? shm::kIntentCancel : shm::kIntentRequeue;
    preempted_for_[event.slot] = event.peer_number;
    ask_holder(*job, binding.ordinal, *task, stop | shm::kIntentPreempt);
}

// For whom the attempt had to go, unless it ended by itself before it was stopped. A PLM that was
// restarted meanwhile no longer knows whom.
void Core::tell_preempted(std::uint32_t slot, const Task& task, TaskEnded& ended) {
    const auto found = preempted_for_.find(slot);
    const bool known = found != preempted_for_.end();
    if (!pushed_aside(task.intent)) {
        if (ended.outcome == Outcome::kCancelled) ended.detail = model_.find(ended.job)->reason;
    } else if (ended.outcome == Outcome::kRequeued || ended.outcome == Outcome::kCancelled) {
        ended.detail = known ? "preempted for job " + std::to_string(found->second) : "preempted";
    }
    if (known) preempted_for_.erase(found);
}

void Core::worker_event(const Event& event) {
    const WorkerId id{event.worker_number, event.worker_incarnation};
    auto& workers = model_.workers();
    const auto known = workers.find(id.incarnation);
    audit::Entry entry;
    entry.worker = audit::to_id(id);
    entry.time_ns = event.wall_ns;
    entry.code = event.code;
    std::string name;
    std::uint32_t price = 0;
    WorkerChange change = WorkerChange::kJoined;
    if (event.kind == EventKind::kWorkerJoined) {
        if (slots_->number_again()) wake_scheduler();
        if (known != workers.end()) return;  // a repetition, or back after a rebuild
        entry.kind = audit::Kind::kWorkerJoined;
        if (event.worker_slot < segment_->config().workers) {
            const auto& slot = segment_->worker(event.worker_slot);
            name.assign(slot.name, strnlen(slot.name, sizeof slot.name));
            // Whoever stands there by now may be another one.
            if (slot.incarnation.load() == id.incarnation) price = slot.price_micro.load();
        }
        log::info("worker joined", {{"worker", id.number}, {"name", name}});
    } else if (event.kind == EventKind::kWorkerDead || event.kind == EventKind::kWorkerLeft) {
        if (known == workers.end() || !known->second.alive) return;
        const bool dead = event.kind == EventKind::kWorkerDead;
        entry.kind = dead ? audit::Kind::kWorkerDead : audit::Kind::kWorkerLeft;
        change = dead ? WorkerChange::kDead : WorkerChange::kLeft;
    } else {
        entry.kind = audit::Kind::kAdmin;
        entry.detail = event.kind == EventKind::kWorkerDrained ? "drain" : "undrain";
        batch_.audit(entry);
        return;
    }
    const auto leaf = batch_.audit(entry);
    batch_.emit(WorkerChanged{id, change, name, leaf, price});
}

// Looks for slots whose word the record does not know and that no ring explains: their mover was
// killed between its CAS and its push. What two sweeps in a row find unchanged is inferred.
void Core::sweep() {
    std::map<std::uint32_t, std::uint64_t> suspects;
    shm::for_each_used_slot(*segment_, [&](std::uint32_t slot, const shm::TaskSlot& shared) {
        const auto& binding = slots_->binding(slot);
        if (binding.job == 0 || binding.ended_durable) return;
        const auto word = shm::load_word(shared);
        if (word == binding.known || word.state() == SlotState::kClaimed) return;
        if (word.generation() != binding.known.generation()) return;
        if (word.rank() < binding.known.rank()) return;
        const auto seen = sweep_suspects_.find(slot);
        if (seen != sweep_suspects_.end() && seen->second == word.raw) {
            advance(slot, word, synthetic(word));
        } else {
            suspects.emplace(slot, word.raw);
        }
    });
    sweep_suspects_ = std::move(suspects);
}

}  // namespace reeve::plm
