#include "register/slot_reaper.h"

#include <algorithm>
#include <cstdio>

#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/shm/transitions.h"
#include "common/shm/wake.h"
#include "register/core/requeue.h"

namespace reeve::registry {
namespace {

using shm::SlotState;
using shm::SlotWord;
using shm::TaskSlot;

// What the slot tells about the attempt that ended with its worker.
void write_result(TaskSlot& task, const Fate& fate) {
    task.deaths.store(fate.deaths);
    if (fate.queued()) return;
    task.outcome.store(static_cast<std::uint8_t>(fate.outcome));
    task.exit_code.store(0);
    task.ended_wall_ns.store(wall_ns());
    const char* why =
        fate.outcome == Outcome::kPoison ? "killed too many workers" : "its worker died";
    std::snprintf(task.detail, sizeof task.detail, "%s", why);
}

HeldTask read_task(const TaskSlot& task, SlotWord word) {
    const auto intent = task.intent.load();
    HeldTask held;
    held.started = word.state() != SlotState::kAssigned;
    held.at_most_once = (task.flags & shm::kTaskAtMostOnce) != 0;
    held.cancel_wanted = (intent & shm::kIntentCancel) != 0;
    held.hold_wanted = (intent & shm::kIntentHold) != 0;
    held.attempt = word.attempt();
    held.deaths = task.deaths.load();
    return held;
}

}  // namespace

WorkerId holder_of(const TaskSlot& task) {
    return WorkerId{task.holder_number.load(), task.holder_incarnation.load()};
}

SlotReaper::SlotReaper(const shm::Segment& segment, EventSink& events, std::uint32_t deaths_max)
    : segment_(segment), events_(events), heap_(segment), deaths_max_(std::max(1U, deaths_max)) {}

std::vector<std::uint32_t> SlotReaper::held_under(std::uint16_t owner,
                                                  std::optional<WorkerId> id) const {
    std::vector<std::uint32_t> slots;
    for_each([&](std::uint32_t slot, const TaskSlot& task, SlotWord word) {
        if (word.owner() != owner || !shm::has_holder(word.state())) return;
        if (!id || holder_of(task) == *id) slots.push_back(slot);
    });
    return slots;
}

bool SlotReaper::still_mentioned(std::uint32_t worker_slot) const {
    bool found = false;
    for_each([&](std::uint32_t, const TaskSlot& task, SlotWord word) {
        const bool held = word.held_by_worker() && word.worker_slot() == worker_slot;
        found = found || held || shm::claimed_worker(task.claim.load()) == worker_slot;
    });
    return found;
}

void SlotReaper::observe(const std::vector<std::uint32_t>& slots) {
    for (const auto slot : slots) {
        const auto& task = segment_.task(slot);
        const auto holder = holder_of(task);
        shm::Event event;
        event.kind = shm::EventKind::kObserved;
        event.slot = slot;
        event.new_word = shm::load_word(task).raw;
        event.old_word = event.new_word;
        event.job = task.job;
        event.element = task.element;
        event.wall_ns = wall_ns();
        event.worker_number = holder.number;
        event.worker_incarnation = holder.incarnation;
        event.code = task.exit_code.load();
        event.outcome = task.outcome.load();
        events_.push(event);
    }
}

void SlotReaper::observe_ended_of(WorkerId id) {
    std::vector<std::uint32_t> slots;
    for_each([&](std::uint32_t slot, const TaskSlot& task, SlotWord word) {
        if (word.state() == SlotState::kEnded && holder_of(task) == id) slots.push_back(slot);
    });
    observe(slots);
}

void SlotReaper::push_moved(std::uint32_t slot, SlotWord from, SlotWord to, WorkerId holder) {
    const auto& task = segment_.task(slot);
    shm::Event event;
    event.kind = shm::EventKind::kMoved;
    event.slot = slot;
    event.old_word = from.raw;
    event.new_word = to.raw;
    event.job = task.job;
    event.element = task.element;
    event.wall_ns = wall_ns();
    event.peer_number = holder.number;
    event.peer_incarnation = holder.incarnation;
    if (to.state() == SlotState::kEnded) event.outcome = task.outcome.load();
    events_.push(event);
}

bool SlotReaper::give_back_one(std::uint32_t slot, std::uint16_t owner, WorkerId holder) {
    auto& task = segment_.task(slot);
    const auto word = shm::load_word(task);
    if (word.owner() != owner || !shm::has_holder(word.state())) return false;
    const auto fate = decide_fate(read_task(task, word), deaths_max_);
    const auto to = fate.queued() ? word.to(SlotState::kQueued, shm::kOwnerNone)
                                  : word.to(SlotState::kEnded, shm::kOwnerPlm);
    REEVE_ASSERT(shm::is_lawful(shm::Role::kRegister, word, to));
    write_result(task, fate);  // (1)
    // The wish to stop this attempt is fulfilled; left standing it would stop the next one too.
    if (fate.queued()) task.intent.fetch_and(~shm::kIntentRequeue);
    REEVE_FAILPOINT("register.before_requeue");
    auto expected = word.raw;
    if (!task.word.compare_exchange_strong(expected, to.raw)) return false;  // (2)
    REEVE_FAILPOINT("register.mid_requeue");
    if (fate.queued()) heap_.touch(slot);
    push_moved(slot, word, to, holder);
    return true;
}

std::uint32_t SlotReaper::give_back(const std::vector<std::uint32_t>& slots, std::uint16_t owner,
                                    WorkerId holder) {
    auto& intent_slot = segment_.participant(shm::kParticipantRegister).intent_slot;
    std::uint32_t moved = 0;
    for (const auto slot : slots) {
        intent_slot.store(slot);
        if (give_back_one(slot, owner, holder)) ++moved;
    }
    intent_slot.store(shm::kNone32);
    return moved;
}

void SlotReaper::wake_everyone() {
    shm::wake(segment_.participant(shm::kParticipantScheduler).wake);
    shm::wake(segment_.participant(shm::kParticipantPlm).wake);
}

}  // namespace reeve::registry
