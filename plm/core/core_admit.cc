// Runs into slots and out again: the window each run and each class has in the segment, and who
// makes room for whom.
//
// The backlog (backlog.h) tells whose turn it is: admit() turns elements of runs into tasks, which
// needs a record; publish_loose() gives loose tasks slots after the commit. Where a class has its
// window full, its worst queued task gives way to a better one; where the table is full, the worst
// chunk's queued tasks do.

#include <algorithm>

#include "common/base/assert.h"
#include "common/base/clock.h"
#include "common/log/log.h"
#include "plm/core/core.h"

namespace reeve::plm {

using shm::SlotState;
using shm::SlotWord;

// Held, waiting for dependencies or for its begin time: nothing of it may enter a slot.
bool Core::startable(Job& job) const {
    if (job.ended) return false;
    JobId broken = 0;
    job.waiting = !dependencies_met(job, broken) || job.extras->not_before_ns > wall_ns();
    return !job.held && !job.waiting && job.id != acting_on_;
}

// Brings a job's places in the backlog up to date.
void Core::reindex(Job& job) {
    auto run_key = kNotIndexed;
    auto loose_key = kNotIndexed;
    if (startable(job)) {
        const auto next = job.next_in_run();
        const auto waiting = job.tasks->loose_count() + job.queued_in_slots;
        const bool window = waiting < kRunWindow / 2 && job.room_beside(job.admitted()) != 0;
        if (next < job.count && window) run_key = key_of(job, next);
        if (job.tasks->loose_count() != 0 && job.room_beside(job.in_use()) != 0) {
            loose_key = key_of(job, job.tasks->first_loose());
        }
    } else if (job.extras->not_before_ns > wall_ns()) {
        begin_times_.emplace(job.extras->not_before_ns, job.id);
    }
    if (gated_) pass_gates(job, run_key, loose_key);
    backlog_.place(job, run_key, loose_key);
}

// Jobs that changed, and those that may go on because of it.
void Core::reindex_dirty() {
    for (std::size_t i = 0; i < model_.dirty().size(); ++i) reindex(*model_.dirty()[i]);
    while (!woken_.empty()) {
        const auto id = woken_.back();
        woken_.pop_back();
        Job* job = model_.find(id);
        if (job == nullptr) continue;
        model_.mark(*job);
        reindex(*job);
    }
}

// Turns elements of the best runs into tasks, as far as slots could take them.
void Core::admit() {
    std::uint64_t budget = std::min<std::uint64_t>(kAdmitPerBatch, slots_->free_slots());
    const auto due = backlog_.loose_due();
    budget -= std::min(budget, due);
    // The best run may always bring a few: they may push worse tasks out of a full table.
    if (budget < shm::kChunkSlots && due < shm::kChunkSlots) budget = shm::kChunkSlots;
    while (budget > 0 && backlog_.best_run() != 0) {
        Job& job = *model_.find(backlog_.best_run());
        const auto waiting = job.tasks->loose_count() + job.queued_in_slots;
        auto room = std::min(budget, kRunWindow - std::min<std::uint64_t>(waiting, kRunWindow));
        room = std::min(room, backlog_.room(job));
        room = std::min(room, job.room_beside(job.admitted()));
        if (gates_.knows(job.id)) {
            const auto tokens = gates_.tokens(job.id);
            REEVE_ASSERT(tokens > job.admitted());  // else reindex() had not let it in
            room = std::min(room, tokens - job.admitted());
        }
        const auto first = job.next_in_run();
        const auto count = std::max<std::uint64_t>(job.stretch_in_run(first, room), 1);
        batch_.emit(Admitted{job.id, first, count, false});
        if (job.array) {
            const auto cause = job.chain.last_leaf;
            for (std::uint64_t i = 0; i < count; ++i) record_submitted(job, first + i, cause);
        }
        budget -= count;
        reindex(job);
    }
}

// TASK_SUBMITTED: of a single task or an array's header at submission (ordinal == count), of an
// element when it leaves the run, citing the header.
void Core::record_submitted(const Job& job, std::uint64_t ordinal, std::uint64_t cause) {
    audit::Entry entry;
    entry.kind = audit::Kind::kTaskSubmitted;
    const auto element = ordinal < job.count ? job.element_of(ordinal)
                         : job.array         ? kHeaderElement
                                             : 0;
    entry.task = audit::to_id(TaskId{job.id, element});
    entry.cause = cause;
    entry.time_ns = ordinal < job.count ? 0 : job.submit_ns;
    const auto digest = job.spec_digest();
    entry.detail = merkle::as_bytes(digest);
    batch_.audit(entry);
}

// Gives loose tasks slots, best first. All of them are durable by now.
void Core::publish_loose() {
    int jobs_without_room = 0;
    for (auto* queue : backlog_.loose_queues()) {
        for (auto at = queue->loose.begin(); at != queue->loose.end(); ++at) {
            Job& job = *model_.find(at->second);
            bool room = publish_job(job);
            // With each round for its best task that is still loose: others of it may be in slots.
            while (!room && make_room(key_of(job, job.tasks->first_loose()))) {
                room = publish_job(job);
            }
            model_.mark(job);
            if (!room && ++jobs_without_room == 64) break;
            // The class has what it may have.
            const bool own_limit = job.room_beside(job.in_use()) == 0;
            if (job.tasks->loose_count() != 0 && room && has_token(job) && !own_limit) break;
        }
        if (jobs_without_room == 64) break;
    }
    if (jobs_without_room != 0) take_turns();
    reindex_dirty();
}

// More classes wait than there are chunks, and none of those that have one leaves it: once a second
// the last of them give way to others, in turns, for what has been looked at for a second and not
// started does not fit now. The best classes always stay.
void Core::take_turns() {
    const auto now = boot_ns();
    if (now - turns_taken_ns_ < kTurnNs || slots_->chunk_free()) return;
    turns_taken_ns_ = now;
    for (const auto slot : slots_->worst_chunks(kTurnChunks)) (void)swap_out(slot);
    if (!slots_->chunk_free()) return;
    reindex_dirty();
    auto queues = backlog_.loose_queues();
    std::rotate(queues.begin(),
                std::find_if(queues.begin(), queues.end(),
                             [this](const auto* queue) { return queue->loose_listed > turn_key_; }),
                queues.end());
    slots_->keep_new_chunks(now + kTurnNs);
    for (auto* queue : queues) {
        if (!slots_->chunk_free()) break;
        turn_key_ = queue->loose_listed;
        Job& job = *model_.find(queue->loose.begin()->second);
        (void)publish_job(job, shm::kChunkSlots);
        model_.mark(job);
    }
    slots_->keep_new_chunks(0);
}

// Gives the job's loose tasks slots, `most` at most, as far as its class lets them in. False: no
// slot is free.
bool Core::publish_job(Job& job, std::uint64_t most) {
    for (std::uint64_t given = 0; job.tasks->loose_count() != 0 && given < most; ++given) {
        const auto ordinal = job.tasks->first_loose();
        const auto key = key_of(job, ordinal);
        if (!has_token(job)) return true;
        const auto& queue = *job.queue;
        if (!queue.loose_may_enter(key)) return true;
        if (job.room_beside(job.in_use()) == 0) return true;
        if (queue.in_slots >= kClassWindow && !take_place(job, key)) return true;
        auto& task = job.tasks->at(ordinal);
        const auto slot = slots_->publish(job, ordinal, task, SlotState::kQueued);
        if (!slot) return false;
        model_.bind_slot(job, ordinal, task, *slot);
        backlog_.entered(job, key);
        if (task.intent != 0) intents_.insert(*slot);
        touched_.push_back(*slot);
    }
    return true;
}

// Takes a queued or held task out of its slot. False: the scheduler was faster, or it is another by
// now.
bool Core::swap_out(std::uint32_t slot) {
    const auto binding = slots_->binding(slot);
    Job* job = binding.job == 0 ? nullptr : model_.find(binding.job);
    Task* task = job == nullptr ? nullptr : job->tasks->find(binding.ordinal);
    if (task == nullptr || !shm::is_pending(task->state)) return false;
    if (!slots_->swap_out(slot, *job)) return false;
    model_.bind_slot(*job, binding.ordinal, *task, shm::kNone32);
    if (task->state == SlotState::kQueued) backlog_.left(*job);
    model_.mark(*job);
    return true;
}

// A class has its window full: its worst queued task gives way if `key` precedes it.
bool Core::take_place(Job& job, std::uint64_t key) {
    auto& queue = *job.queue;
    for (bool fresh = false;;) {
        if (queue.worst.empty() || queue.worst.back().first <= key) {
            if (fresh) break;
            queue.worst = slots_->worst_queued(job, kWorstKept);
            fresh = true;
            continue;
        }
        const auto [worst, slot] = queue.worst.back();
        queue.worst.pop_back();
        if (segment_->task(slot).key.load() == worst && swap_out(slot)) return true;
    }
    backlog_.set_worst(queue, queue.worst.empty() ? 0 : queue.worst.back().first);
    return false;
}

// Swaps the least important chunk of waiting tasks out if it is worse than `key`.
bool Core::make_room(std::uint64_t key) {
    if (key >= room_blocked_key_) return false;
    bool any = false;
    for (const auto slot : slots_->swap_candidates(key)) any = swap_out(slot) || any;
    if (!any) room_blocked_key_ = key;
    return any;
}

// Slots whose ending is durable, once the scheduler has taken its claim back.
void Core::release_slots() {
    constexpr std::size_t kAhead = 8;
    std::size_t seen = 0;
    std::erase_if(to_free_, [this, &seen](const std::uint32_t& slot) {
        // The scheduler's processor has it since the claim went.
        if (++seen + kAhead < to_free_.size()) {
            shm::prefetch_to_write(&segment_->task(to_free_[seen + kAhead]));
        }
        if (segment_->task(slot).claim.load() != 0) return false;
        auto& binding = slots_->binding(slot);
        Job* job = model_.find(binding.job);
        if (!slots_->release(slot, binding.known, job)) {
            const auto found = shm::load_word(segment_->task(slot));
            log::error("an ended slot moved by itself",
                       {{"slot", slot},
                        {"known", shm::to_string(binding.known.state())},
                        {"known_attempt", binding.known.attempt()},
                        {"found", shm::to_string(found.state())},
                        {"found_attempt", found.attempt()}});
        }
        room_blocked_key_ = kNotIndexed;
        if (job != nullptr) model_.mark(*job);
        return true;
    });
    std::erase_if(stale_, [this](std::uint32_t slot) {
        const auto word = shm::load_word(segment_->task(slot));
        if (word.state() != SlotState::kEnded && word.state() != SlotState::kQueued) return false;
        auto& binding = slots_->binding(slot);
        binding.known = word;
        const auto ended = word.to(SlotState::kEnded, shm::kOwnerCancelled);
        if (word.state() == SlotState::kQueued && !slots_->move(slot, word, ended)) return false;
        to_free_.push_back(slot);
        return true;
    });
    std::erase_if(to_requeue_, [this](std::uint32_t slot) {
        auto& binding = slots_->binding(slot);
        if (binding.job == 0 || binding.ended_durable) return true;  // cancelled meanwhile
        auto& shared = segment_->task(slot);
        if (shared.claim.load() != 0) return false;
        const Task* task = model_.find_task(binding.job, binding.ordinal);
        if (task == nullptr) return true;
        shared.intent.store(0);
        shared.outcome.store(0);
        shared.started_wall_ns.store(0);
        shared.deaths.store(task->deaths);
        if (task->pushed != 0) {
            slots_->write_policy(slot, *model_.find(binding.job), *task);
        }
        if (slots_->move(slot, binding.known, binding.known.to(task->state, shm::kOwnerNone))) {
            touched_.push_back(slot);
        }
        return true;
    });
}

// A cancel that met the scheduler in the middle of a claim, or whose holder died: try again.
void Core::retry_intents() {
    for (auto at = intents_.begin(); at != intents_.end();) {
        const auto slot = *at++;
        const auto& binding = slots_->binding(slot);
        Job* job = binding.job == 0 ? nullptr : model_.find(binding.job);
        Task* task = job == nullptr ? nullptr : model_.find_task(job->id, binding.ordinal);
        if (task == nullptr || task->intent == 0) {
            intents_.erase(slot);
            continue;
        }
        if (!shm::is_pending(task->state)) continue;
        if (shm::load_word(segment_->task(slot)) != binding.known) continue;
        if ((task->intent & shm::kIntentCancel) != 0) {
            cancel_task(*job, binding.ordinal, 0);
        } else if ((task->intent & shm::kIntentHold) != 0 && task->state == SlotState::kQueued) {
            (void)hold_task(*job, binding.ordinal, *task);
        } else {
            // What was asked (requeue) is the case.
            segment_->task(slot).intent.store(0);
            auto moved = record_of(job->id, binding.ordinal, *task, wall_ns());
            moved.intent = 0;
            batch_.emit(moved);
            intents_.erase(slot);
        }
    }
}

}  // namespace reeve::plm
