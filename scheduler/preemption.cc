#include "scheduler/preemption.h"

#include <algorithm>

#include "common/base/clock.h"
#include "common/log/log.h"
#include "common/shm/task_policy.h"
#include "common/shm/used_slots.h"
#include "common/shm/wake.h"

namespace reeve::sched {

using shm::SlotState;
using shm::SlotWord;

namespace {

constexpr std::uint64_t kAskAgainNs = 5 * kSecond;  // the PLM may have been away
constexpr std::uint64_t kTakeRoomNs = 2 * kSecond;  // then the room is not what was hoped for
constexpr std::uint64_t kLookEveryNs = kSecond;     // at all that runs
constexpr std::uint64_t kQuietNs = kSecond / 4;     // after a look that found no victims
constexpr std::uint64_t kRingKept = 1'024;          // entries that starts and ends may need

// The numbers of v1::SlaClass, as the segment has them.
SlaClass sla_of(std::uint8_t sla) {
    constexpr SlaClass kClasses[] = {SlaClass::kStandard, SlaClass::kCritical, SlaClass::kFlexible,
                                     SlaClass::kSpot};
    return kClasses[sla & 3U];
}

PreemptMode mode_of(std::uint8_t mode) {
    constexpr PreemptMode kModes[] = {PreemptMode::kRequeue, PreemptMode::kCancel,
                                      PreemptMode::kNever, PreemptMode::kNever};
    return kModes[mode & 3U];
}

bool same_attempt(SlotWord a, SlotWord b) {
    return a.generation() == b.generation() && a.attempt() == b.attempt();
}

double seconds(std::uint64_t ns) {
    return static_cast<double>(ns) / kSecond;
}

}  // namespace

Preemption::Preemption(shm::Segment& segment, const LiveQueue& queue, const LiveWorkers& workers,
                       shm::EventRing& events)
    : segment_(segment),
      queue_(queue),
      workers_(workers),
      events_(events),
      first_event_(events.tail()) {
    segment_.header().pushing_for.store(0);
}

double Preemption::importance_of(std::uint32_t slot) const {
    const auto& task = segment_.task(slot);
    const auto policy = shm::TaskPolicy::unpack(task.policy.load(std::memory_order_relaxed));
    return importance(task.priority, sla_of(policy.sla), policy.pushed);
}

// Having been pushed aside protects; it pushes nobody.
double Preemption::waiting_importance(std::uint32_t slot) const {
    const auto& task = segment_.task(slot);
    const auto policy = shm::TaskPolicy::unpack(task.policy.load(std::memory_order_relaxed));
    return importance(task.priority, sla_of(policy.sla), 0);
}

// What is free on each worker once those have gone that are stopped already, and who else runs.
Preemption::Scene Preemption::look() const {
    Scene scene;
    scene.workers.resize(segment_.config().workers);
    for (std::uint32_t i = 0; i < scene.workers.size(); ++i) {
        const auto& worker = segment_.worker(i);
        scene.workers[i].node = i;
        if (!worker.used.fits(worker.capacity)) continue;
        scene.workers[i].free = worker.capacity;
        scene.workers[i].free -= worker.used;
    }
    const auto now = wall_ns();
    shm::for_each_used_slot(segment_, [&](std::uint32_t i, const shm::TaskSlot& slot) {
        const auto claim = slot.claim.load(std::memory_order_relaxed);
        if (claim == 0 || claim > scene.workers.size()) return;
        if (slot.class_id >= segment_.config().classes) return;
        const auto word = shm::load_word(slot);
        auto& node = scene.workers[claim - 1];
        Victim victim;
        victim.holds = segment_.task_class(slot.class_id).request;
        if (!word.held_by_worker() || (slot.intent.load() & shm::kIntentStop) != 0) {
            node.free += victim.holds;
            return;
        }
        const auto policy = shm::TaskPolicy::unpack(slot.policy.load(std::memory_order_relaxed));
        const auto started = slot.started_wall_ns.load();
        victim.job = i;
        victim.importance = importance_of(i);
        victim.ran_s = started == 0 || started > now ? 0 : seconds(now - started);
        victim.lost_work_s = victim.ran_s;
        victim.minimum_run_s = policy.minimum_run_s;
        victim.mode = mode_of(policy.preempt);
        scene.least = scene.any ? std::min(scene.least, victim.importance) : victim.importance;
        scene.any = true;
        node.running.push_back(victim);
    });
    return scene;
}

std::optional<Reservation> Preemption::plan(std::span<const ClassHead> heads,
                                            std::uint64_t now_ns) {
    if (push_ && goes_on(now_ns)) return reservation();
    if (push_) {
        push_.reset();
        segment_.header().pushing_for.store(0);
    }
    // What our predecessor asked for is not yet in the intents.
    if (events_.head() < first_event_ || now_ns < quiet_until_ns_) return std::nullopt;
    double most = 0;
    for (const auto& head : heads) {
        most = &head == heads.data() ? waiting_importance(head.task)
                                     : std::max(most, waiting_importance(head.task));
    }
    // Nobody who runs was that unimportant when we last looked.
    if (heads.empty() ||
        (now_ns - least_looked_ns_ < kLookEveryNs && most - least_ < kGapToLoseWork)) {
        return std::nullopt;
    }
    const auto scene = look();
    least_looked_ns_ = now_ns;
    least_ = scene.least;
    if (!scene.any || most - least_ < kGapToLoseWork) return std::nullopt;
    for (const auto& head : heads) {
        const auto& shape = queue_.shape(head.cls);
        const auto important = waiting_importance(head.task);
        if (important - scene.least < kGapToLoseWork) continue;
        std::vector<NodeVictims> allowed;
        bool room_comes = false;
        for (const auto& node : scene.workers) {
            if (!workers_.allows(node.node, shape)) continue;
            room_comes = room_comes || shape.request.fits(node.free);
            allowed.push_back(node);
        }
        if (room_comes) continue;
        if (const auto choice = choose_victims(shape.request, important, allowed)) {
            begin(head, *choice, now_ns);
            if (push_) return reservation();
        }
    }
    quiet_until_ns_ = now_ns + kQuietNs;
    return std::nullopt;
}

void Preemption::begin(const ClassHead& head, const PreemptChoice& choice, std::uint64_t now_ns) {
    if (events_.capacity() - events_.size() < kRingKept + choice.jobs.size()) return;
    Push push;
    push.head = head;
    push.word = shm::load_word(segment_.task(head.task));
    push.worker = choice.node;
    push.asked_ns = now_ns;
    push_ = push;
    segment_.header().pushing_for.store(head.task + 1);
    const auto& task = segment_.task(head.task);
    for (const auto slot : choice.jobs) {
        const Asked victim{slot, shm::load_word(segment_.task(slot))};
        if (!victim.word.held_by_worker()) continue;  // over by now: so much the better
        push_->victims.push_back(victim);
        (void)ask(victim);
        log::info("asked to stop a task for a better one",
                  {{"task", segment_.task(slot).job},
                   {"element", segment_.task(slot).element},
                   {"for", task.job}});
    }
    shm::wake(segment_.participant(shm::kParticipantPlm).wake);
}

bool Preemption::ask(const Asked& victim) {
    const auto& slot = segment_.task(victim.slot);
    const auto& better = segment_.task(push_->head.task);
    shm::Event event;
    event.kind = shm::EventKind::kPreempt;
    event.slot = victim.slot;
    event.old_word = event.new_word = victim.word.raw;
    event.job = slot.job;
    event.element = slot.element;
    event.wall_ns = wall_ns();
    event.worker_number = slot.holder_number.load();
    event.worker_incarnation = slot.holder_incarnation.load();
    event.peer_number = better.job;
    event.peer_incarnation = better.element;
    event.worker_slot = push_->worker;
    return events_.try_push(event);
}

// Whether the room is still being made, or about to be taken.
bool Preemption::goes_on(std::uint64_t now_ns) {
    const auto& task = segment_.task(push_->head.task);
    const auto word = shm::load_word(task);
    const bool waits = same_attempt(word, push_->word) &&
                       (word.state() == SlotState::kQueued || word.state() == SlotState::kClaimed);
    if (!waits || !workers_.allows(push_->worker, queue_.shape(push_->head.cls))) return false;
    push_->head.key = task.key.load();
    std::erase_if(push_->victims, [this](const Asked& victim) {
        const auto now = shm::load_word(segment_.task(victim.slot));
        return !same_attempt(now, victim.word) || !now.held_by_worker();
    });
    if (push_->victims.empty()) {
        if (push_->cleared_ns == 0) push_->cleared_ns = now_ns;
        return now_ns - push_->cleared_ns < kTakeRoomNs;
    }
    if (now_ns - push_->asked_ns < kAskAgainNs) return true;
    push_->asked_ns = now_ns;
    // Whoever was not asked by now never will be: it may be protected since.
    const bool heard = events_.size() < events_.capacity() / 2;
    for (const auto& victim : push_->victims) {
        const auto intent = segment_.task(victim.slot).intent.load();
        if ((intent & shm::kIntentStop) == 0 && heard) (void)ask(victim);
    }
    return true;
}

Reservation Preemption::reservation() const {
    Reservation out;
    out.cls = push_->head.cls;
    out.key = push_->head.key;
    out.worker = push_->worker;
    out.strict = true;
    out.only = true;
    const auto& worker = segment_.worker(push_->worker);
    auto room = worker.used.fits(worker.capacity) ? worker.capacity : Resources{};
    if (worker.used.fits(worker.capacity)) room -= worker.used;
    for (const auto& victim : push_->victims) {
        const auto& slot = segment_.task(victim.slot);
        if (slot.class_id < segment_.config().classes) {
            room += segment_.task_class(slot.class_id).request;
        }
    }
    const auto& request = queue_.shape(push_->head.cls).request;
    if (request.fits(room)) {
        out.spare = room;
        out.spare -= request;
    }
    return out;
}

}  // namespace reeve::sched
