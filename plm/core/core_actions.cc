// What people do to tasks: cancel, hold, release, requeue, retry, update; see core_act.cc.
//
// A task nobody holds is moved by the PLM itself with one CAS. One that the scheduler or a worker
// holds gets an intent, durable before it is set; the holder obeys, and what it could not obey in
// time (it died, the claim was given back) retry_intents() does.

#include <algorithm>

#include "common/base/clock.h"
#include "plm/core/act_result.h"
#include "plm/core/core.h"

namespace reeve::plm {

using shm::SlotState;
using shm::SlotWord;

namespace {

// Without a time limit a task is taken to need an hour.
std::uint64_t urgent_from_ns(const Job& job) {
    const auto limit = job.time_limit_ns == 0 ? 3600 * kSecond : job.time_limit_ns;
    const auto from =
        sched::urgent_from(static_cast<std::int64_t>(job.extras->policy.deadline_ns / kSecond),
                           static_cast<std::int64_t>(limit / kSecond));
    return from < 0 ? 0 : static_cast<std::uint64_t>(from) * kSecond;
}

// Why an ended element is not tried again, or nullptr.
const char* no_retry(const Job& job, std::uint64_t ordinal) {
    if (job.gang()) return "it is one of a gang, which only starts as a whole; submit it again";
    if (job.ok.contains(ordinal)) return "it succeeded";
    if (job.cancelled.contains(ordinal)) return "it was cancelled; submit it again";
    if (job.at_most_once) return "it may be started only once; submit it again";
    if (job.closed.contains(ordinal)) return "it was given up as lost; submit it again";
    return nullptr;
}

std::string text_of(const Job& job, const std::pair<std::uint64_t, std::uint64_t>& range) {
    return std::to_string(job.element_of(range.first)) + "-" +
           std::to_string(job.element_of(range.second));
}

}  // namespace

void Core::act_on_element(Job& job, std::uint64_t ordinal, v1::ActionKind action,
                          v1::ActResult& result) {
    if (job.ended_element(ordinal)) {
        if (action == v1::ACTION_RETRY) {
            const char* why = no_retry(job, ordinal);
            if (why != nullptr) {
                refuse(result, why);
                return;
            }
            retry_element(job, ordinal);
            result.set_changed(result.changed() + 1);
        } else {
            refuse(result, "it has ended");
        }
        return;
    }
    Task* const found = job.tasks->find(ordinal);
    if (found == nullptr) {
        act_on_waiting(job, ordinal, action, result);
        return;
    }
    Task& task = *found;
    const bool pending = shm::is_pending(task.state);
    if (action == v1::ACTION_SUSPEND || action == v1::ACTION_RESUME) {
        if (!pending) {
            act_on_placed(job, ordinal, task, action, result);
            return;
        }
        action = action == v1::ACTION_SUSPEND ? v1::ACTION_HOLD : v1::ACTION_RELEASE;
    }
    switch (action) {
        case v1::ACTION_CANCEL:
            cancel_task(job, ordinal, 0);
            break;
        case v1::ACTION_HOLD:
            if (task.state != SlotState::kQueued) {
                refuse(result, pending ? "it is held already" : "it is running");
                return;
            }
            if (!hold_task(job, ordinal, task)) ask_holder(job, ordinal, task, shm::kIntentHold);
            break;
        case v1::ACTION_RELEASE:
            if (task.state != SlotState::kHeld) {
                refuse(result, "it is not held");
                return;
            }
            (void)release_task(job, ordinal, task);
            break;
        case v1::ACTION_REQUEUE:
            if (pending) {
                refuse(result, "it is not running");
                return;
            }
            if ((task.intent & shm::kIntentCancel) != 0) {
                refuse(result, "it is being cancelled");
                return;
            }
            if (job.at_most_once) {
                refuse(result, "it may be started only once; cancel it and submit it again");
                return;
            }
            ask_holder(job, ordinal, task, shm::kIntentRequeue);
            break;
        default:
            refuse(result, "it has not ended");
            return;
    }
    result.set_changed(result.changed() + 1);
}

// An element that is still in its job's run.
void Core::act_on_waiting(Job& job, std::uint64_t ordinal, v1::ActionKind action,
                          v1::ActResult& result) {
    const auto value = static_cast<std::int64_t>(ordinal);
    switch (action) {
        case v1::ACTION_CANCEL:
            cancel_run(job, ordinal, ordinal, 0);
            break;
        case v1::ACTION_SUSPEND:
        case v1::ACTION_HOLD:
            if (job.held_elements.contains(ordinal)) {
                refuse(result, "it is held already");
                return;
            }
            batch_.emit(JobChanged{job.id, JobChange::kHoldElements, value, value, {}});
            break;
        case v1::ACTION_RESUME:
        case v1::ACTION_RELEASE:
            if (!job.held_elements.contains(ordinal)) {
                refuse(result, job.held ? "its job is held as a whole" : "it is not held");
                return;
            }
            batch_.emit(JobChanged{job.id, JobChange::kReleaseElements, value, value, {}});
            break;
        default:
            refuse(result, "it has not started");
            return;
    }
    result.set_changed(result.changed() + 1);
}

// Everything of a job at once, for a reason of the cell's own.
void Core::cancel_job(Job& job, std::int32_t code, const std::string& reason) {
    if (!reason.empty()) batch_.emit(JobChanged{job.id, JobChange::kReason, 0, 0, reason});
    for (const auto ordinal : job.tasks->ordinals()) cancel_task(job, ordinal, code);
    cancel_rest(job, code);
}

void Core::cancel_rest(Job& job, std::int32_t code) {
    const auto rest = rest_of(job);
    for (const auto& [first, last] : rest.singly) cancel_run(job, first, last, code);
    cancel_stretches(job, rest.together, code);
}

void Core::cancel_stretches(Job& job, const Stretches& ranges, std::int32_t code) {
    if (ranges.empty()) return;
    std::string detail;
    for (const auto& range : ranges) detail += (detail.empty() ? "" : ",") + text_of(job, range);
    const auto now = wall_ns();
    batch_.audit_task(audit::Kind::kCancelled, TaskId{job.id, kHeaderElement}, 0, {}, now, code,
                      detail);
    for (std::size_t i = 0; i < ranges.size(); ++i) {
        batch_.emit(
            RunCancelled{job.id, ranges[i].first, ranges[i].second, i + 1 == ranges.size(), now});
    }
}

// Everything still in the run: for an array one entry on the header, with the ranges as its detail;
// what that has no room for gets entries of its own, the smallest ranges first.
RestOfRun Core::rest_of(const Job& job) const {
    RestOfRun rest;
    if (job.ended || job.rest_cancelled) return rest;
    auto& ranges = rest.together;
    std::size_t room = 0;
    for (std::uint64_t at = 0; at < job.count;) {
        if (job.tasks->contains(at)) {
            ++at;
            continue;
        }
        auto next = job.cancelled.next_gap(job.failed.next_gap(job.ok.next_gap(at)));
        if (next != at) {
            at = next;
            continue;
        }
        // A free stretch: up to the next task or ended element.
        auto end = std::min(job.count, job.tasks->next(at));
        for (const auto* set : {&job.ok, &job.failed, &job.cancelled}) {
            end = std::min(end, set->next_first(at));
        }
        ranges.emplace_back(at, end - 1);
        room += text_of(job, ranges.back()).size() + 1;
        at = end;
    }
    if (!job.array) {
        rest.singly.swap(ranges);
    } else if (room > audit::kDetailSizeMax) {
        std::stable_sort(ranges.begin(), ranges.end(), [](const auto& a, const auto& b) {
            return a.second - a.first > b.second - b.first;
        });
        while (room > audit::kDetailSizeMax) {
            room -= text_of(job, ranges.back()).size() + 1;
            rest.singly.push_back(ranges.back());
            ranges.pop_back();
        }
        std::sort(ranges.begin(), ranges.end());
    }
    return rest;
}

// A few elements of a run: each gets its own entries, the rest of the run goes on.
void Core::cancel_run(Job& job, std::uint64_t first, std::uint64_t last, std::int32_t code) {
    const auto now = wall_ns();
    const auto header = job.chain.last_leaf;
    for (auto ordinal = first; ordinal <= last; ++ordinal) {
        if (job.array) record_submitted(job, ordinal, header);
        batch_.audit_task(audit::Kind::kCancelled, TaskId{job.id, job.element_of(ordinal)}, 0, {},
                          now, code);
    }
    batch_.emit(RunCancelled{job.id, first, last, false, now});
}

void Core::cancel_task(Job& job, std::uint64_t ordinal, std::int32_t code) {
    Task& task = job.tasks->at(ordinal);
    if (!shm::is_pending(task.state)) {
        ask_holder(job, ordinal, task, shm::kIntentCancel);
        return;
    }
    if (task.slot != shm::kNone32) {
        const auto from = slots_->binding(task.slot).known;
        if (from.state() != SlotState::kEnded) {  // else: waits to be queued again
            // Nothing of the slot may be written before this CAS: a holder may be filling it.
            if (!slots_->move(task.slot, from, from.to(SlotState::kEnded, shm::kOwnerCancelled))) {
                ask_holder(job, ordinal, task, shm::kIntentCancel);  // just being placed
                return;
            }
            slots_->heap().touch(task.slot);
        }
    }
    finish_cancelled(job, ordinal, code);
}

// The record of a cancelled task that nobody holds; its slot, if any, waits to be freed.
void Core::finish_cancelled(Job& job, std::uint64_t ordinal, std::int32_t code) {
    const Task task = job.tasks->at(ordinal);
    TaskEnded ended;
    ended.job = job.id;
    ended.ordinal = ordinal;
    ended.attempt = task.attempt;
    ended.outcome = Outcome::kCancelled;
    ended.ended_ns = wall_ns();
    ended.detail = acting_reason_.empty() ? *job.reason : acting_reason_;
    batch_.audit_task(audit::Kind::kCancelled, TaskId{job.id, job.element_of(ordinal)},
                      task.attempt, {}, ended.ended_ns, code);
    batch_.emit(ended);
    if (watched_jobs_.contains(job.id)) open_.results.push_back(result_of(job, ended));
    if (task.slot == shm::kNone32) return;
    intents_.erase(task.slot);
    slots_->binding(task.slot).ended_durable = true;
    open_.ended.push_back(task.slot);
}

void Core::ask_holder(Job& job, std::uint64_t ordinal, Task& task, std::uint32_t intent) {
    if ((task.intent & intent) == intent) return;
    record_intent(job, ordinal, task, task.intent | intent);
    if (task.slot != shm::kNone32) open_.intents.emplace_back(task.slot, intent);
}

void Core::let_go_on(Job& job, std::uint64_t ordinal, Task& task) {
    record_intent(job, ordinal, task, task.intent & ~shm::kIntentSuspend);
    if (task.slot != shm::kNone32) open_.intents.emplace_back(task.slot, 0);
}

void Core::record_intent(const Job& job, std::uint64_t ordinal, const Task& task,
                         std::uint32_t intent) {
    const auto when = task.state == SlotState::kAssigned ? task.assigned_ns : wall_ns();
    auto moved = record_of(job.id, ordinal, task, when);
    moved.intent = intent;
    batch_.emit(moved);
}

// Suspend or resume of a task that a worker has.
void Core::act_on_placed(Job& job, std::uint64_t ordinal, Task& task, v1::ActionKind action,
                         v1::ActResult& result) {
    const bool asked = (task.intent & shm::kIntentSuspend) != 0;
    if ((task.intent & shm::kIntentStop) != 0) {
        refuse(result, "it is being stopped");
    } else if (action == v1::ACTION_RESUME && !asked) {
        refuse(result, "it is not suspended");
    } else if (action == v1::ACTION_RESUME) {
        let_go_on(job, ordinal, task);
        result.set_changed(result.changed() + 1);
    } else if (job.function) {
        refuse(result,
               "a function shares its runner and cannot be suspended; hold what has not started, "
               "or cancel it");
    } else if (asked) {
        refuse(result, "it is suspended already");
    } else {
        ask_holder(job, ordinal, task, shm::kIntentSuspend);
        result.set_changed(result.changed() + 1);
    }
}

void Core::retry_element(Job& job, std::uint64_t ordinal) {
    const auto failed = job.failed_attempts->at(ordinal);
    const auto now = wall_ns();
    record_requeued(TaskId{job.id, job.element_of(ordinal)}, failed.attempt, failed.worker, now, 0);
    batch_.emit(TaskRetried{job.id, ordinal, failed.attempt, now});
}

// Brings what the slots say of a job's order up to date. A queued task leaves its heap for it:
// killed in between it is in `init`, and the next PLM publishes it anew.
void Core::write_keys(Job& job) {
    job.tasks->for_each([&](std::uint64_t ordinal, const Task& task) {
        if (task.slot == shm::kNone32) return;
        if (!shm::is_pending(task.state)) {
            slots_->write_policy(task.slot, job, task);
            return;
        }
        const auto from = slots_->binding(task.slot).known;
        const auto init = from.to(SlotState::kInit, shm::kOwnerPlm);
        if (from.state() == SlotState::kEnded || !slots_->move(task.slot, from, init)) return;
        auto& shared = segment_->task(task.slot);
        const auto key = key_of(job, ordinal);
        shared.key.store(key);
        shared.priority = job.priority;
        slots_->write_policy(task.slot, job, task);
        shared.time_limit_ns = job.time_limit_ns;
        (void)slots_->move(task.slot, init, from);
        touched_.push_back(task.slot);
        backlog_.moved(job, key);
    });
}

// When the job becomes urgent, or ceases to be.
void Core::watch_deadline(Job& job) {
    const auto deadline = job.extras->policy.deadline_ns;
    if (deadline == 0 || job.ended) return;
    const auto now = wall_ns();
    for (const auto at : {urgent_from_ns(job), deadline}) {
        if (at > now) deadline_times_.emplace(at, job.id);
    }
}

// True when it counts otherwise than before.
bool Core::settle_urgency(Job& job, std::uint64_t now_ns) {
    const auto deadline = job.extras->policy.deadline_ns;
    const bool urgent = deadline != 0 && now_ns >= urgent_from_ns(job) && now_ns < deadline;
    if (urgent == job.extras->policy.urgent) return false;
    job.extras.edit().policy.urgent = urgent;
    return true;
}

void Core::notice_deadlines(std::uint64_t now_ns) {
    while (!deadline_times_.empty() && deadline_times_.begin()->first <= now_ns) {
        const bool restarted = deadline_times_.begin()->first == 0;  // see replay()
        Job* job = model_.find(deadline_times_.begin()->second);
        deadline_times_.erase(deadline_times_.begin());
        if (job == nullptr || job->ended) continue;
        const bool changed = settle_urgency(*job, now_ns);
        watch_deadline(*job);
        if (!changed && !restarted) continue;
        write_keys(*job);
        model_.mark(*job);
    }
}

void Core::update_job(Job& job, const v1::ActRequest& request) {
    if (request.set_priority()) {
        batch_.emit(JobChanged{job.id, JobChange::kPriority, request.priority(), 0, {}});
    }
    if (request.set_time_limit()) {
        batch_.emit(JobChanged{job.id,
                               JobChange::kTimeLimit,
                               static_cast<std::int64_t>(request.time_limit_ms()),
                               0,
                               {}});
    }
    if (job.extras->policy.deadline_ns != 0) {
        (void)settle_urgency(job, wall_ns());
        watch_deadline(job);
    }
    write_keys(job);
    audit::Entry entry;
    entry.kind = audit::Kind::kUpdated;
    entry.task = audit::to_id(TaskId{job.id, job.array ? kHeaderElement : 0});
    const bool lawful = job.array ? !job.rest_cancelled : job.running == 0;
    if (lawful) batch_.audit(entry);
}

}  // namespace reeve::plm
