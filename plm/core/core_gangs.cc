// Gangs: jobs whose tasks start together, each on a worker of its own, or not at all.
//
// The scheduler claims all of them, and writes all their places down, before it assigns the first;
// when it dies in between the next one goes on. What is torn by the loss of the segment, a worker's
// death or a task that is tried again is mended here, from the states alone, so it does not matter
// who died, or when: while a part of a gang is placed and a part waits, the placed ones are asked
// to go back to the queue; once all are there, the scheduler starts all. A task that failed for
// good, or was cancelled, ends the others; and so does one that would have to start again after
// another has succeeded, for what has ended is not run twice.

#include "common/log/log.h"
#include "plm/core/core.h"

namespace reeve::plm {

namespace {

bool all_asked(const Job& job, std::uint32_t intents) {
    bool all = true;
    job.tasks->for_each(
        [&](std::uint64_t, const Task& task) { all = all && (task.intent & intents) != 0; });
    return all;
}

}  // namespace

void Core::look_at_gangs() {
    if (!gangs_) return;
    for (std::size_t i = 0; i < model_.dirty().size(); ++i) {
        if (Job& job = *model_.dirty()[i]; job.gang()) mend_gang(job);
    }
    for (auto at = torn_gangs_.begin(); at != torn_gangs_.end();) {
        Job* job = model_.find(*at++);
        if (job != nullptr) mend_gang(*job);
    }
}

void Core::mend_gang(Job& job) {
    if (job.id == acting_on_) return;  // a person is at it
    const std::uint64_t placed = job.running;
    const auto waiting = job.count - job.ended_count() - placed;
    const bool ended_badly = !job.failed.empty() || !job.cancelled.empty();
    const bool begun = placed != 0 || !job.ok.empty();
    if (!job.ended && (ended_badly || (!job.ok.empty() && waiting != 0 && some_waits(job)))) {
        torn_gangs_.erase(job.id);
        if (job.in_run() == 0 && all_asked(job, shm::kIntentCancel)) return;
        const char* why = !job.failed.empty()      ? "a task of its gang failed"
                          : !job.cancelled.empty() ? "a task of its gang was cancelled"
                                                   : "its gang cannot start again: others of it "
                                                     "have succeeded";
        cancel_job(job, kCodeGang, why);
        return;
    }
    if (job.ended || !begun || waiting == 0) {
        torn_gangs_.erase(job.id);
        return;
    }
    torn_gangs_.insert(job.id);
    if (!some_waits(job)) return;
    for (const auto ordinal : job.tasks->ordinals()) {
        Task& task = job.tasks->at(ordinal);
        if (!shm::is_placed(task.state) || task.slot == shm::kNone32) continue;
        // An intent may have been for the attempt before, which the register ended.
        if ((segment_->task(task.slot).intent.load() & shm::kIntentStop) != 0) continue;
        record_intent(job, ordinal, task, task.intent | shm::kIntentRequeue);
        open_.intents.emplace_back(task.slot, shm::kIntentRequeue);
        log::info("a gang is torn; its task goes back to the queue",
                  {{"task", job.id}, {"element", job.element_of(ordinal)}});
    }
}

// Whether a task of it does wait: not only as far as the record has come. The scheduler claims all
// before it assigns the first, so what is still queued beside one that is placed was not started
// with it.
bool Core::some_waits(const Job& job) const {
    if (job.in_run() != 0) return true;
    bool any = false;
    job.tasks->for_each([&](std::uint64_t, const Task& task) {
        if (!shm::is_pending(task.state)) return;
        any = any || task.slot == shm::kNone32 ||
              shm::load_word(segment_->task(task.slot)) == slots_->binding(task.slot).known;
    });
    return any;
}

}  // namespace reeve::plm
