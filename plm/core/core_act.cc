// A person's action as a whole: which jobs and elements it means, and how a large one is done in
// pieces. What is done to each element is core_actions.cc's.
//
// Actions are done one after the other, each piece in a batch of its own, so that the core never
// turns its back on everybody else for longer than a piece takes; the answer follows the last.
// Killed in between, the ledger holds what was done until then, each element whole, and who asked
// hears that the PLM went away. While a job is being cancelled or held nothing more of it enters a
// slot.

#include <algorithm>

#include "common/base/clock.h"
#include "plm/core/act_result.h"
#include "plm/core/core.h"

namespace reeve::plm {

using shm::SlotState;

namespace {

constexpr std::uint64_t kAllElements = ~std::uint64_t{0};
constexpr std::uint64_t kElementsAtOnce = 100'000;  // each has entries of its own in the audit log
constexpr std::uint64_t kPieceNs = 20'000'000;
constexpr std::uint64_t kRunPiece = 1'024;  // elements of a run between two looks at the clock

bool may_act(const Identity& who, const Job& job) {
    return who.uid == 0 || who.uid == job.uid;
}

std::uint64_t elements_asked(const Job& job, const v1::Selection& selection) {
    std::uint64_t asked = 0;
    for (const auto& range : selection.elements()) {
        const auto last = std::min(range.last(), job.element_of(job.count - 1));
        if (range.first() > last) continue;
        asked += std::min(last - range.first(), kElementsAtOnce) + 1;
    }
    return asked;
}

// Of a job none of whose tasks failed.
const char* why_no_retry(const Job& job) {
    if (job.cancelled.empty()) return "nothing of it failed";
    return job.cancelled.count() == job.count
               ? "it was cancelled; submit it again"
               : "nothing of it failed; submit again what was cancelled";
}

}  // namespace

void Core::act(Identity who, v1::ActRequest request, Done<v1::ActReply> done) {
    if (segment_->header().acknowledging.load() == 0) {
        done(fail(ErrorCode::kResourceExhausted,
                  "the ledger cannot be written (disk full?); free space in " + cell_.dir +
                      " and ask again"));
        return;
    }
    auto action = std::make_shared<Action>(who, std::move(request), done);
    post([this, action] { actions_.push_back(action); }, refusal(done));
}

// As much of the people's actions as there is time for in one batch.
void Core::work_actions() {
    const auto until = boot_ns() + kPieceNs;
    while (!actions_.empty() && !stopping_.load() && boot_ns() < until) {
        const auto action = actions_.front();
        const auto known = check_known(action->request);
        if (known && !go_on(*action, until)) return;
        auto reply = known ? Result<v1::ActReply>(std::move(action->reply)) : fail(known.error());
        open_.acks.push_back([done = action->done, reply = std::move(reply)] { done(reply); });
        actions_.pop_front();
    }
}

// Some job was heard of.
Status Core::check_known(const v1::ActRequest& request) const {
    const auto& selections = request.selections();
    const bool unknown = std::all_of(selections.begin(), selections.end(), [this](const auto& one) {
        return one.job() == 0 || one.job() >= model_.next_job;
    });
    if (!unknown || selections.empty()) return {};
    return fail(ErrorCode::kNotFound, "there is no job " + std::to_string(selections[0].job()) +
                                          "; see which exist with: reeve ls --all");
}

// True when all of it is done, false when the time is up.
bool Core::go_on(Action& action, std::uint64_t until) {
    const auto& request = action.request;
    while (action.selection < request.selections_size()) {
        if (boot_ns() >= until) return false;
        const auto& selection = request.selections(action.selection);
        Job* job = model_.find(selection.job());
        if (begin_selection(action, job)) {
            acting_reason_ = request.reason();
            const bool finished = act_on_job(*job, action, until);
            acting_reason_.clear();
            const bool stays =
                selection.elements().empty() &&
                (request.action() == v1::ACTION_CANCEL || request.action() == v1::ACTION_HOLD ||
                 request.action() == v1::ACTION_SUSPEND);
            acting_on_ = !finished && stays ? job->id : 0;
            model_.mark(*job);  // it may start, or not, as of now
            if (!finished) return false;
            if (action.result.changed() != 0 && !request.reason().empty()) {
                batch_.emit(JobChanged{job->id, JobChange::kReason, 0, 0, request.reason()});
            }
        }
        *action.reply.add_results() = std::move(action.result);
        action.next_selection();
    }
    return true;
}

// False: there is nothing to be done to this job, and the result says why.
bool Core::begin_selection(Action& action, Job* job) {
    const auto& selection = action.request.selections(action.selection);
    auto& result = action.result;
    result.set_job(selection.job());
    if (job == nullptr) {
        acting_on_ = 0;
        if (action.begun) return false;  // it ended between two pieces, and was forgotten
        if (selection.job() != 0 && selection.job() < model_.next_job) {
            // Its chains in the audit log are not kept either: nothing can be added to them.
            const bool again = action.request.action() == v1::ACTION_RETRY;
            nothing_to_do(result, again ? "it ended too long ago to be tried again; submit it "
                                          "again, as reeve show " +
                                              std::to_string(selection.job()) + " --env tells it"
                                        : "ended long ago");
        } else {
            refuse(result, "there is no such job");
        }
        return false;
    }
    if (action.begun) return true;
    action.begun = true;
    if (!may_act(action.who, *job)) {
        refuse(result, "it belongs to another user");
        return false;
    }
    if (const auto asked = elements_asked(*job, selection); asked > kElementsAtOnce) {
        refuse(result,
               "more than " + std::to_string(kElementsAtOnce) +
                   " elements at once; name fewer, or the whole job",
               asked);
        return false;
    }
    return true;
}

bool Core::act_on_job(Job& job, Action& action, std::uint64_t until) {
    auto& result = action.result;
    const auto& selection = action.request.selections(action.selection);
    if (action.request.action() == v1::ACTION_UPDATE) {
        if (job.ended) {
            refuse(result, "it has ended");
        } else if (job.backlog() + job.held_tasks + job.queued_in_slots == 0) {
            refuse(result, "nothing of it is waiting; update changes what has not started");
        } else {
            update_job(job, action.request);
            result.set_changed(1);
        }
        return true;
    }
    if (selection.elements().empty()) return act_on_all(job, action, until);
    for (; action.range < selection.elements_size(); ++action.range, action.at = 0) {
        const auto& range = selection.elements(action.range);
        for (auto element = std::max(range.first(), action.at); element <= range.last();
             ++element) {
            const auto ordinal = job.ordinal_of(element);
            if (ordinal >= job.count) {
                // Skip to the next span instead of counting through a hole.
                refuse(result, "it has no element " + std::to_string(element));
                break;
            }
            act_on_named(job, element, action);
            if (element == kAllElements) break;
            action.at = element + 1;
            if (boot_ns() >= until) return false;
        }
    }
    if (const auto text = action.refused.text(job.array); !text.empty()) {
        const auto before = result.message();  // of elements it has not
        result.set_message(before.empty() ? text : before + "; " + text);
    }
    return true;
}

// An element a person named; a refusal names it, too.
void Core::act_on_named(Job& job, std::uint64_t element, Action& action) {
    auto& result = action.result;
    const auto ordinal = job.ordinal_of(element);
    const auto kind = action.request.action();
    const bool lets_go = kind == v1::ACTION_RELEASE || kind == v1::ACTION_RESUME;
    if (lets_go && job.held && !job.ended_element(ordinal)) hold_each(job);
    v1::ActResult own;
    act_on_element(job, ordinal, kind, own);
    result.set_changed(result.changed() + own.changed());
    if (own.refused() == 0) return;
    result.set_refused(result.refused() + own.refused());
    action.refused.add(element, own.message());
}

// Does something to each of the job's tasks from action.at on. False: the time is up.
template <typename Act>
bool Core::for_tasks(Job& job, Action& action, std::uint64_t until, Act act) {
    while (true) {
        const auto ordinal = job.tasks->next(action.at);
        if (ordinal == TaskTable<Task>::kNone) return true;
        action.at = ordinal + 1;
        act(ordinal, job.tasks->at(ordinal));
        if (boot_ns() >= until) return false;
    }
}

// The many first, piece by piece; then what is left of them, and the job itself, at once.
bool Core::act_on_all(Job& job, Action& action, std::uint64_t until) {
    auto& result = action.result;
    const bool begins = action.at == 0;
    const auto kind = action.request.action();
    if (job.ended && kind != v1::ACTION_RETRY) {
        if (begins) nothing_to_do(result, "it has ended");
        return true;
    }
    switch (kind) {
        case v1::ACTION_CANCEL:
            return cancel_all(job, action, until);
        case v1::ACTION_HOLD:
            if (job.held && begins) {
                nothing_to_do(result, "it is held already");
                return true;
            }
            if (!for_tasks(job, action, until, [&](std::uint64_t ordinal, Task& task) {
                    hold_or_release(job, ordinal, task, true, result);
                })) {
                return false;
            }
            hold_job(job, result);
            return true;
        case v1::ACTION_RELEASE:
            // Those let go one by one before have waited for their job.
            if (begins && job.held) result.set_changed(job.tasks->loose_count());
            if (!for_tasks(job, action, until, [&](std::uint64_t ordinal, Task& task) {
                    hold_or_release(job, ordinal, task, false, result);
                })) {
                return false;
            }
            release_job(job, result);
            return true;
        case v1::ACTION_SUSPEND:
        case v1::ACTION_RESUME:
            return suspend_all(job, action, until);
        case v1::ACTION_RETRY:
            while (true) {
                const auto ordinal =
                    job.failed.contains(action.at) ? action.at : job.failed.next_first(action.at);
                if (ordinal == IntervalSet::kNone) break;
                action.at = ordinal + 1;
                act_on_element(job, ordinal, kind, result);
                if (boot_ns() >= until) return false;
            }
            if (action.at == 0) nothing_to_do(result, why_no_retry(job));
            return true;
        default:
            break;
    }
    // Requeue: what waits is queued already.
    bool running = !begins;
    const bool finished = for_tasks(job, action, until, [&](std::uint64_t ordinal, Task& task) {
        if (shm::is_pending(task.state)) return;
        running = true;
        act_on_element(job, ordinal, kind, result);
    });
    if (finished && !running) nothing_to_do(result, "nothing of it is running");
    return finished;
}

void Core::hold_or_release(Job& job, std::uint64_t ordinal, Task& task, bool hold,
                           v1::ActResult& result) {
    const bool done = hold ? task.state == SlotState::kQueued && hold_task(job, ordinal, task)
                           : task.state == SlotState::kHeld && release_task(job, ordinal, task);
    if (done) result.set_changed(result.changed() + 1);
}

// What runs is suspended or goes on; what waits is held or released.
bool Core::suspend_all(Job& job, Action& action, std::uint64_t until) {
    auto& result = action.result;
    const auto kind = action.request.action();
    const bool suspend = kind == v1::ACTION_SUSPEND;
    if (!for_tasks(job, action, until, [&](std::uint64_t ordinal, Task& task) {
            if (!shm::is_pending(task.state)) {
                act_on_placed(job, ordinal, task, kind, result);
            } else {
                hold_or_release(job, ordinal, task, suspend, result);
            }
        })) {
        return false;
    }
    const auto queued = job.queued_in_slots + job.tasks->loose_count();
    const bool waiting = suspend ? !job.held && job.in_run() + queued != 0 : job.all_held() != 0;
    if (waiting) {
        suspend ? hold_job(job, result) : release_job(job, result);
    } else if (result.changed() + result.refused() == 0) {
        nothing_to_do(result, suspend ? "it is held already" : "it is not suspended");
    }
    return true;
}

bool Core::cancel_all(Job& job, Action& action, std::uint64_t until) {
    auto& result = action.result;
    if (!action.rest) {
        const auto ended_before = job.ended_count();
        const bool finished =
            for_tasks(job, action, until,
                      [&](std::uint64_t ordinal, const Task&) { cancel_task(job, ordinal, 0); });
        result.set_changed(result.changed() + job.ended_count() - ended_before);
        if (!finished || job.ended) return finished;
        // What runs will be cancelled by its worker, the rest below.
        result.set_changed(result.changed() + job.count - job.ended_count());
        action.rest = rest_of(job);
    }
    // A failure of what ran may have cancelled the rest meanwhile.
    while (!action.rest->singly.empty() && !job.ended && !job.rest_cancelled) {
        auto& [first, last] = action.rest->singly.back();
        const auto end = std::min(last, first + kRunPiece - 1);
        cancel_run(job, first, end, 0);
        first = end + 1;
        if (first > last) action.rest->singly.pop_back();
        if (boot_ns() >= until) return false;
    }
    for (const auto ordinal : job.tasks->ordinals()) cancel_task(job, ordinal, 0);
    if (!job.ended && !job.rest_cancelled) cancel_stretches(job, action.rest->together, 0);
    return true;
}

}  // namespace reeve::plm
