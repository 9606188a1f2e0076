// Holding and releasing, whole jobs and single tasks; what is recorded of suspended ones.

#include "common/base/clock.h"
#include "plm/core/act_result.h"
#include "plm/core/core.h"

namespace reeve::plm {

using shm::SlotState;
using shm::SlotWord;

bool Core::hold_task(Job& job, std::uint64_t ordinal, Task& task) {
    if (task.slot != shm::kNone32) {
        const auto& binding = slots_->binding(task.slot);
        const auto word = shm::load_word(segment_->task(task.slot));
        if (word.state() != SlotState::kHeld && binding.known.state() != SlotState::kEnded) {
            if (!slots_->move(task.slot, binding.known,
                              binding.known.to(SlotState::kHeld, shm::kOwnerNone))) {
                return false;
            }
            slots_->heap().touch(task.slot);
        }
    }
    room_blocked_key_ = kNotIndexed;  // what is held gives way
    const auto now = wall_ns();
    batch_.audit_task(audit::Kind::kHeld, TaskId{job.id, job.element_of(ordinal)}, task.attempt, {},
                      now);
    auto moved = record_of(job.id, ordinal, task, now);
    moved.state = SlotState::kHeld;
    moved.worker = {};
    moved.intent &= ~shm::kIntentHold;
    batch_.emit(moved);
    return true;
}

bool Core::release_task(Job& job, std::uint64_t ordinal, Task& task) {
    if (task.slot != shm::kNone32) {
        const auto& binding = slots_->binding(task.slot);
        const auto word = shm::load_word(segment_->task(task.slot));
        if (word.state() == SlotState::kHeld && gated_ && !tolls_of(job).empty() &&
            slots_->swap_out(task.slot, job)) {
            // It gave its token up, and gets a slot again when it has one.
            model_.bind_slot(job, ordinal, task, shm::kNone32);
        } else if (word.state() == SlotState::kHeld) {
            if (!slots_->move(task.slot, binding.known,
                              binding.known.to(SlotState::kQueued, shm::kOwnerNone))) {
                return false;
            }
            touched_.push_back(task.slot);
        }
    }
    const auto now = wall_ns();
    batch_.audit_task(audit::Kind::kReleased, TaskId{job.id, job.element_of(ordinal)}, task.attempt,
                      {}, now);
    auto moved = record_of(job.id, ordinal, task, now);
    moved.state = SlotState::kQueued;
    moved.worker = {};
    batch_.emit(moved);
    return true;
}

// Those that left the run. How many.
std::uint64_t Core::hold_queued(Job& job) {
    const auto ordinals =
        job.tasks->ordinals([](const Task& task) { return task.state == SlotState::kQueued; });
    for (const auto ordinal : ordinals) {
        auto& task = job.tasks->at(ordinal);
        if (!hold_task(job, ordinal, task)) ask_holder(job, ordinal, task, shm::kIntentHold);
    }
    return ordinals.size();
}

void Core::hold_job(Job& job, v1::ActResult& result) {
    const auto changed = result.changed() + job.in_run() + hold_queued(job);
    if (changed == 0) {
        nothing_to_do(result, "all of it is running");
        return;
    }
    // A single task without a task record, and an array's header, carry the HELD entry themselves.
    if (job.tasks->empty() || job.array) record_job_held(job, audit::Kind::kHeld);
    batch_.emit(JobChanged{job.id, JobChange::kHold, 0, 0, {}});
    result.set_changed(changed);
}

void Core::release_job(Job& job, v1::ActResult& result) {
    auto changed = result.changed();
    const auto ordinals =
        job.tasks->ordinals([](const Task& task) { return task.state == SlotState::kHeld; });
    for (const auto ordinal : ordinals) {
        if (release_task(job, ordinal, job.tasks->at(ordinal))) ++changed;
    }
    changed += job.held ? job.in_run() : job.held_elements.count();
    if (job.held) {
        if (job.tasks->empty() || job.array) record_job_held(job, audit::Kind::kReleased);
        batch_.emit(JobChanged{job.id, JobChange::kRelease, 0, 0, {}});
    }
    if (!job.held_elements.empty()) {
        const auto last = static_cast<std::int64_t>(job.count - 1);
        batch_.emit(JobChanged{job.id, JobChange::kReleaseElements, 0, last, {}});
    }
    if (changed == 0) {
        nothing_to_do(result, "it is not held");
        return;
    }
    result.set_changed(changed);
}

// A job held as a whole becomes one each of whose tasks is held, so that some can be let go.
void Core::hold_each(Job& job) {
    if (!job.array) return;
    const auto rest = rest_of(job);
    (void)hold_queued(job);
    for (const auto* ranges : {&rest.singly, &rest.together}) {
        for (const auto& [first, last] : *ranges) {
            batch_.emit(JobChanged{job.id,
                                   JobChange::kHoldElements,
                                   static_cast<std::int64_t>(first),
                                   static_cast<std::int64_t>(last),
                                   {}});
        }
    }
    record_job_held(job, audit::Kind::kReleased);
    batch_.emit(JobChanged{job.id, JobChange::kRelease, 0, 0, {}});
}

// Whether it went on before it came to `target`: it does before it ends, unless its worker died.
bool Core::thawed(std::uint32_t slot, SlotWord target) const {
    if (target.state() == SlotState::kRunning) return true;
    const auto outcome = static_cast<Outcome>(segment_->task(slot).outcome.load());
    return target.state() == SlotState::kEnded && outcome != Outcome::kLost &&
           outcome != Outcome::kPoison;
}

void Core::attempt_frozen(Job& job, Task& task, std::uint64_t ordinal, bool frozen,
                          std::uint64_t wall_time) {
    batch_.audit_task(frozen ? audit::Kind::kPreempted : audit::Kind::kResumed,
                      TaskId{job.id, job.element_of(ordinal)}, task.attempt, task.worker,
                      wall_time);
    auto moved = record_of(job.id, ordinal, task, wall_time);
    moved.state = frozen ? SlotState::kSuspended : SlotState::kRunning;
    batch_.emit(moved);
}

// HELD or RELEASED of a job whose tasks have not left the run: on its header or only task.
void Core::record_job_held(const Job& job, audit::Kind kind) {
    if (job.array && job.rest_cancelled) return;
    const TaskId subject{job.id, job.array ? kHeaderElement : 0};
    batch_.audit_task(kind, subject, 0, {}, wall_ns());
}

}  // namespace reeve::plm
