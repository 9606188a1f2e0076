#include "scheduler/scheduler.h"

#include <algorithm>
#include <bit>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/log/log.h"
#include "common/role/role.h"
#include "common/shm/transitions.h"
#include "common/shm/used_slots.h"
#include "common/shm/wake.h"
#include "scheduler/ahead.h"
#include "scheduler/core/placement.h"
#include "scheduler/count_use.h"
#include "scheduler/live_ports.h"
#include "scheduler/planner.h"
#include "scheduler/preemption.h"

namespace reeve {
namespace {

using shm::SlotState;
using shm::SlotWord;

constexpr std::size_t kPlacePerRound = 1'024;
constexpr std::uint64_t kRescanNs = 50 * kMillisecond;
constexpr std::uint64_t kReconcileNs = kSecond;
constexpr std::uint64_t kGangsNs = 2 * kMillisecond;  // between looks at those that are not whole
constexpr std::uint64_t kPlanNs = kSecond;            // between looks at a reservation
constexpr std::size_t kHeadsPlanned = 8;  // of which the first possible one gets it, or each

class Scheduler {
public:
    explicit Scheduler(shm::Segment& segment)
        : segment_(segment),
          self_(segment.participant(shm::kParticipantScheduler)),
          events_(shm::event_ring(segment, shm::kEventRingScheduler)),
          queue_(segment),
          workers_(segment, queue_),
          core_(queue_, workers_),
          preemption_(segment, queue_, workers_, events_),
          ahead_(segment.config().classes),
          seen_(segment.config().workers) {
        take_over();
    }

    // Until asked to stop or the segment is retired.
    void run(const Cell& cell) {
        SegmentHold hold(cell, segment_);
        while (!stop_wanted() && hold.holds()) {
            const auto now = boot_ns();
            self_.heartbeat_ns.store(now, std::memory_order_relaxed);
            bool work = drain_completions();
            look_at_workers();
            if (now - last_rescan_ns_ >= kRescanNs) {
                last_rescan_ns_ = now;
                queue_.index().rescan();
                workers_.rescan();
                (void)queue_.wake_closed();
            }
            gangs_looked_at_ = now - last_gangs_ns_ >= kGangsNs;
            if (gangs_looked_at_ && queue_.incomplete()) {
                last_gangs_ns_ = now;
                queue_.wake_incomplete();
            }
            if (now - last_reconcile_ns_ >= kReconcileNs) reconcile(now);
            work = queue_.wake_rested() || work;
            work = place() > 0 || work;
            look_at_followers(now);
            if (now - last_plan_ns_ >= (core_.reserved().empty() ? kRescanNs : kPlanNs)) {
                plan_ahead(now);
            }
            wake_others();
            if (!work) sleep();
        }
    }

private:
    struct Seen {
        std::uint64_t incarnation = 0;
        shm::WorkerState state = shm::WorkerState::kFree;
    };
    struct Begun {
        sched::WorkerRef worker = 0;
        sched::ClassRef cls = 0;
        std::uint32_t slot = 0;
    };

    // A new scheduler in an old segment: claims of the dead one go back, uses are counted again.
    void take_over() {
        // First: who adopts attempts after the count is not alive here, and is counted when it is.
        for (std::uint32_t i = 0; i < seen_.size(); ++i) see(i, seen_now(i));
        std::vector<Resources> used(segment_.config().workers);
        std::vector<std::uint64_t> gpus(segment_.config().workers, 0);
        std::map<std::uint32_t, std::vector<Start>> gangs;  // being started when it died, by class
        for (std::uint32_t i = 0; i < segment_.config().task_slots; ++i) {
            auto& slot = segment_.task(i);
            const auto word = shm::load_word(slot);
            if (word.state() == SlotState::kClaimed && word.owner() == shm::kOwnerScheduler) {
                if (of_gang(slot)) {
                    gangs[slot.class_id].push_back({i, word});
                } else {
                    give_back(i, word);
                }
            } else if (word.held_by_worker() && word.worker_slot() < used.size()) {
                if (count_held(i, word, used, gpus)) announce(i, shm::load_word(slot));
            } else if (const auto claim = slot.claim.load(); claim != 0) {
                // Our predecessor may have died between taking it back and its event.
                const bool back = (claim & shm::kClaimAhead) != 0 && shm::is_pending(word.state());
                if (back) push_event(shm::EventKind::kObserved, i, word, word, wall_ns());
                slot.claim.store(0);
            }
        }
        REEVE_FAILPOINT("scheduler.counted");
        for (std::uint32_t i = 0; i < used.size(); ++i) workers_.set_used(i, used[i], gpus[i]);
        for (const auto& [cls, starts] : gangs) go_on_starting(starts);
        shm::wake(segment_.participant(shm::kParticipantPlm).wake, shm::Urgency::kSoon);
    }

    void give_back(std::uint32_t index, SlotWord word) {
        auto& slot = segment_.task(index);
        slot.claim.store(0);
        auto expected = word.raw;
        slot.word.compare_exchange_strong(expected,
                                          word.to(SlotState::kQueued, shm::kOwnerNone).raw);
        queue_.index().heap().touch(index);
    }

    bool of_gang(const shm::TaskSlot& slot) const {
        return slot.class_id < segment_.config().classes &&
               segment_.task_class(slot.class_id).nodes > 1;
    }

    // A task that is claimed, and the word it has.
    struct Start {
        std::uint32_t task = shm::kNone32;
        SlotWord word;
    };

    // What is left of a gang our predecessor was starting. Where its places are written down for
    // all (INVARIANT of start_gang: before the first is assigned) those are started, too; else none
    // was.
    void go_on_starting(const std::vector<Start>& starts) {
        bool sound = true;
        for (const auto& start : starts) {
            const auto& slot = segment_.task(start.task);
            const auto claim = slot.claim.load();
            sound = sound && claim != 0 && claim <= segment_.config().workers;
            if (!sound) break;
            const auto& worker = segment_.worker(claim - 1);
            auto after = worker.used;
            after += segment_.task_class(slot.class_id).request;
            sound = worker.state.load() == shm::WorkerState::kAlive &&
                    worker.incarnation.load() == slot.holder_incarnation.load() &&
                    after.fits(worker.capacity) &&
                    (worker.gpu_used_mask.load() & slot.gpu_mask.load()) == 0;
        }
        for (const auto& start : starts) {
            if (!sound) {
                give_back(start.task, start.word);
                continue;
            }
            const auto& slot = segment_.task(start.task);
            const auto worker = slot.claim.load() - 1;
            const auto gpus = segment_.worker(worker).gpu_used_mask.load() | slot.gpu_mask.load();
            auto used = segment_.worker(worker).used;
            const auto request = segment_.task_class(slot.class_id).request;
            used += request;
            workers_.set_used(worker, used, gpus);
            (void)commit(sched::Placement{start.task, slot.class_id, worker, request,
                                          sched::Grant{slot.gpu_mask.load()}, 0},
                         start.word, start.word.to(SlotState::kQueued, shm::kOwnerNone));
        }
    }

    // A follower that has not begun goes back: whom it waited for only our predecessor knew.
    // True: it is assigned, and may begin.
    bool count_held(std::uint32_t index, SlotWord word, std::vector<Resources>& used,
                    std::vector<std::uint64_t>& gpus) {
        auto& slot = segment_.task(index);
        if (word.state() == SlotState::kAssigned && (slot.claim.load() & shm::kClaimAhead) != 0) {
            observed(index, word);
            const bool back = retract(index, word);
            word = shm::load_word(slot);
            if (back || !word.held_by_worker()) {
                slot.claim.store(0);
                return false;
            }
        }
        sched::count_use(segment_, index, word, used, gpus);
        return word.state() == SlotState::kAssigned;
    }

    // ASSIGNED, and not begun: back into the queue, unless its worker begins it now. Killed after
    // the swap: the register heals the heap, the PLM infers the event, the claim is found.
    bool retract(std::uint32_t index, SlotWord word) {
        auto& slot = segment_.task(index);
        const auto queued = word.to(SlotState::kQueued, shm::kOwnerNone);
        REEVE_ASSERT(shm::is_lawful(shm::Role::kScheduler, word, queued));
        self_.intent_slot.store(index);
        auto expected = word.raw;
        const bool done = slot.word.compare_exchange_strong(expected, queued.raw);
        REEVE_FAILPOINT("scheduler.retracted");
        if (done) {
            queue_.index().heap().touch(index);
            push_event(shm::EventKind::kMoved, index, word, queued, wall_ns());
            plm_to_wake_ = true;
        }
        self_.intent_slot.store(shm::kNone32);
        return done;
    }

    void observed(std::uint32_t index, SlotWord word) {
        const auto assigned_ns = segment_.task(index).assigned_wall_ns.load();
        push_event(shm::EventKind::kObserved, index, word, word, assigned_ns);
    }

    // Our predecessor may have died between the CAS and either ring.
    void announce(std::uint32_t index, SlotWord word) {
        observed(index, word);
        (void)shm::dispatch_ring(segment_, word.worker_slot())
            .try_push(shm::SlotHint{word.raw, index});
        shm::wake(segment_.worker(word.worker_slot()).agent.wake);
    }

    void push_event(shm::EventKind kind, std::uint32_t index, SlotWord from, SlotWord to,
                    std::uint64_t wall) {
        const auto& slot = segment_.task(index);
        shm::Event event;
        event.kind = kind;
        event.slot = index;
        event.old_word = from.raw;
        event.new_word = to.raw;
        event.job = slot.job;
        event.element = slot.element;
        event.wall_ns = wall;
        event.worker_number = slot.holder_number.load();
        event.worker_incarnation = slot.holder_incarnation.load();
        event.worker_slot = to.owned_by_worker() ? to.worker_slot() : shm::kNone32;
        if (!events_.try_push(event)) segment_.header().sweep_requested.fetch_add(1);
    }

    // Gives a claim back once its task is no longer held by that worker.
    bool release(std::uint32_t index) {
        if (!segment_.valid_slot(index)) return false;
        auto& slot = segment_.task(index);
        const auto claim = slot.claim.load();
        const auto worker = shm::claimed_worker(claim);
        if (claim == 0 || worker >= segment_.config().workers) return false;
        const auto word = shm::load_word(slot);
        if (word.held_by_worker() && word.worker_slot() == worker) return false;
        if (word.state() == SlotState::kEnded) learn_run(slot);
        const bool held = (claim & shm::kClaimAhead) == 0;
        if (!held) ahead_.was_ahead(index);
        if (held && slot.class_id < segment_.config().classes && !hand_on(index, worker)) {
            workers_.release(worker, segment_.task_class(slot.class_id).request,
                             sched::Grant{slot.gpu_mask.load()});
            core_.worker_freed(worker);
        }
        slot.gpu_mask.store(0);
        slot.claim.store(0);
        plm_to_wake_ = true;
        return true;
    }

    // What it held is its follower's now, if it has one there. One that has not begun by now was
    // not there in time, and is told of as any other.
    bool hand_on(std::uint32_t index, sched::WorkerRef worker) {
        sched::Ahead::Follower follower;
        if (!ahead_.take(index, follower) || follower.worker != worker) return false;
        auto& slot = segment_.task(follower.slot);
        slot.claim.store(worker + 1);
        if (shm::load_word(slot) == follower.word) {
            (void)shm::dispatch_ring(segment_, worker).try_push({follower.word.raw, follower.slot});
            wake_worker(worker);
        }
        begun_.push_back({worker, follower.cls, follower.slot});
        return true;
    }

    void wake_worker(std::uint32_t worker) {
        workers_to_wake_ |= worker < 64 ? std::uint64_t{1} << worker : 0;
        if (worker >= 64) shm::wake(segment_.worker(worker).agent.wake);
    }

    void learn_run(const shm::TaskSlot& slot) {
        if (!may_follow(slot) || slot.class_id >= segment_.config().classes) return;
        const auto started = slot.started_wall_ns.load();
        const auto ended = slot.ended_wall_ns.load();
        if (started == 0) return;
        ahead_.ended(slot.class_id, ended > started ? ended - started : 0);
    }

    // Functions wait in their runners already; what may begin only once waits for its record.
    static bool may_follow(const shm::TaskSlot& slot) {
        return (slot.flags & (shm::kTaskFunction | shm::kTaskAtMostOnce)) == 0;
    }

    bool drain_completions() {
        bool any = false;
        for (std::uint32_t i = 0; i < segment_.config().workers; ++i) {
            if (seen_[i].state == shm::WorkerState::kFree) continue;
            auto ring = shm::completion_ring(segment_, i);
            while (const auto hint = ring.pop()) any = release(hint->slot) || any;
        }
        return any;
    }

    // Workers that joined, left, drained or died since we last looked.
    void look_at_workers() {
        for (std::uint32_t i = 0; i < segment_.config().workers; ++i) {
            const auto now = seen_now(i);
            if (now.state == seen_[i].state && now.incarnation == seen_[i].incarnation) {
                if (now.state == shm::WorkerState::kAlive && workers_.refresh(i)) {
                    core_.worker_freed(i);
                }
                continue;
            }
            const bool count = now.incarnation != seen_[i].incarnation ||
                               seen_[i].state == shm::WorkerState::kJoining;
            see(i, now);
            if (count) recount(i);
            workers_.refresh(i);
            if (now.state == shm::WorkerState::kAlive) core_.worker_freed(i);
        }
    }

    Seen seen_now(std::uint32_t worker) const {
        return {segment_.worker(worker).incarnation.load(), segment_.worker(worker).state.load()};
    }

    // It adopts attempts until it is alive: what is counted before that is not all of it.
    void see(std::uint32_t worker, const Seen& now) {
        seen_[worker] = now;
        workers_.keep_closed(worker, now.state != shm::WorkerState::kAlive &&
                                         now.state != shm::WorkerState::kDraining);
    }

    // What the slots say this worker slot's present owner holds (it may have adopted attempts).
    void recount(std::uint32_t worker) {
        std::vector<Resources> used(segment_.config().workers);
        std::vector<std::uint64_t> gpus(segment_.config().workers, 0);
        for (std::uint32_t i = 0; i < segment_.config().task_slots; ++i) {
            auto& slot = segment_.task(i);
            const auto word = shm::load_word(slot);
            if (word.held_by_worker() && word.worker_slot() == worker) {
                (void)count_held(i, word, used, gpus);
            } else if (shm::claimed_worker(slot.claim.load()) == worker) {
                slot.claim.store(0);
                plm_to_wake_ = true;
            }
        }
        workers_.set_used(worker, used[worker], gpus[worker]);
        ahead_.forget_worker(worker);
    }

    // Once a second: claims whose completion hint was lost with its writer.
    void reconcile(std::uint64_t now) {
        last_reconcile_ns_ = now;
        shm::for_each_used_slot(segment_, [this](std::uint32_t i, const shm::TaskSlot& slot) {
            if (slot.claim.load(std::memory_order_relaxed) != 0) (void)release(i);
        });
    }

    std::size_t place() {
        for (const auto cls : queue_.take_changed()) {
            core_.class_changed(cls);
            ahead_.forget_class(cls);
        }
        // Without room for its event no assignment is made: endings need the ring more.
        const auto room = events_.capacity() - events_.size();
        const auto limit = std::min<std::size_t>(kPlacePerRound, room > 64 ? room - 64 : 0);
        auto placed = core_.place(
            limit, [this](const sched::Placement& placement) { assign(placement); }, wall_ns());
        if (placed < limit && core_.parked_classes() == 1) placed += give_followers();
        begun_.clear();
        return placed;
    }

    std::size_t give_followers() {
        std::size_t given = 0;
        for (const auto& one : begun_) given += ahead_.is_brief(one.cls) ? give_line(one) : 0;
        // What is reserved was kept for these.
        if (given != 0 && !core_.reserved().empty()) core_.reserve({});
        return given;
    }

    std::size_t give_line(Begun first) {
        auto line = ahead_.line_behind(first.slot);
        std::size_t given = 0;
        for (; line.count < ahead_.line_of(first.cls); ++line.count, ++given) {
            first.slot = line.last;
            const auto next = give_follower(first);
            if (!next) break;
            line.last = *next;
        }
        return given;
    }

    // The next one behind a brief task that has just begun, while only tasks of its class wait
    // (ahead.h): whoever else waited would have a say in who comes next. Its slot, if there is one.
    std::optional<std::uint32_t> give_follower(const Begun& first) {
        const auto& shape = queue_.shape(first.cls);
        if (shape.gang() || shape.request.gpus != 0 || !core_.is_parked(first.cls) ||
            kept_for_others(first.cls) ||
            segment_.worker(first.worker).state.load() != shm::WorkerState::kAlive) {
            return std::nullopt;
        }
        const auto behind = shm::load_word(segment_.task(first.slot));
        if (!behind.held_by_worker() || behind.worker_slot() != first.worker) return std::nullopt;
        const auto head = queue_.peek(first.cls);
        if (!head || !may_follow(segment_.task(head->task)) ||
            !may_follow(segment_.task(first.slot)) || !queue_.claim(*head)) {
            return std::nullopt;
        }
        const shm::SlotHint before{behind.raw, first.slot, shm::HintKind::kBehind};
        const sched::Placement placement{head->task, first.cls, first.worker, shape.request, {}, 0};
        const auto claimed = queue_.last_claim();
        write_place(placement, shm::kClaimAhead);
        if (!commit(placement, claimed.claimed, claimed.queued, &before)) return std::nullopt;
        const auto word = claimed.claimed.next_attempt(SlotState::kAssigned, behind.owner());
        ahead_.give({head->task, word, first.slot, first.worker, first.cls, boot_ns(), head->key});
        return head->task;
    }

    bool kept_for_others(sched::ClassRef cls) const {
        return std::ranges::any_of(core_.reserved(), [cls](const sched::Reservation& one) {
            return one.cls != cls || one.only;
        });
    }

    // Followers whose turn it is not: somebody comes before them, or their worker takes no more.
    void look_at_followers(std::uint64_t now) {
        if (ahead_.empty()) return;
        const bool others = core_.parked_classes() > 1 || preemption_.pushing();
        sched::ClassRef cls = sched::kNoRef;  // mostly one for all
        std::optional<sched::ClassHead> head;
        ahead_.look(
            now,
            [&](const sched::Ahead::Follower& one) {
                if (std::exchange(cls, one.cls) != one.cls) head = queue_.peek(one.cls);
                return others || (head && head->key < one.key) ||
                       segment_.worker(one.worker).state.load() != shm::WorkerState::kAlive;
            },
            [this](const sched::Ahead::Follower& one) {
                if (retract(one.slot, one.word)) (void)release(one.slot);
            });
    }

    // Keeps places for the best tasks that do not fit (reservation.h).
    void plan_ahead(std::uint64_t now) {
        last_plan_ns_ = now;
        if (core_.parked_classes() == 0 && !preemption_.pushing()) return core_.reserve({});
        const auto heads = core_.parked_heads(kHeadsPlanned);
        auto single = heads;  // nobody is pushed aside for a gang
        std::erase_if(single, [this](const auto& head) { return queue_.shape(head.cls).gang(); });
        if (const auto push = preemption_.plan(single, now)) return core_.reserve({*push});
        core_.reserve(sched::Planner(segment_, queue_, workers_).plan(heads));
    }

    void assign(const sched::Placement& placement) {
        const auto claimed = queue_.last_claim();
        if (placement.more != 0 || !starting_.empty()) {
            starting_.emplace_back(placement, claimed);
            if (placement.more == 0) start_gang();
            return;
        }
        REEVE_FAILPOINT("scheduler.after_claim");
        write_place(placement);
        if (commit(placement, claimed.claimed, claimed.queued)) {
            begun_.push_back({placement.worker, placement.cls, placement.task});
        }
    }

    // INVARIANT: all their places are written down before the first is assigned, and none of them
    // while a task of it may still hold the place of an earlier attempt.
    void start_gang() {
        REEVE_FAILPOINT("scheduler.gang_claimed");
        for (const auto& [placement, claimed] : starting_) {
            segment_.task(placement.task).claim.store(0);
        }
        for (const auto& [placement, claimed] : starting_) {
            write_place(placement);
            REEVE_FAILPOINT("scheduler.gang_written");
        }
        for (const auto& [placement, claimed] : starting_) {
            (void)commit(placement, claimed.claimed, claimed.queued);
        }
        starting_.clear();
    }

    void write_place(const sched::Placement& placement, std::uint32_t ahead = 0) {
        auto& slot = segment_.task(placement.task);
        const auto& worker = segment_.worker(placement.worker);
        // Given back for a dead worker, and nobody's follower any more.
        if ((slot.claim.load() & shm::kClaimAhead) != 0) ahead_.was_ahead(placement.task);
        shm::fill(slot.holder_number, worker.number.load());
        shm::fill(slot.holder_incarnation, worker.incarnation.load());
        shm::fill(slot.gpu_mask, placement.grant.gpu_mask);
        slot.claim.store((placement.worker + 1) | ahead, std::memory_order_release);
    }

    // False: the register took it, for it believes us dead. What it says goes.
    bool commit(const sched::Placement& placement, SlotWord claimed, SlotWord queued,
                const shm::SlotHint* behind = nullptr) {
        auto& slot = segment_.task(placement.task);
        const auto now = wall_ns();
        shm::fill(slot.assigned_wall_ns, now);
        shm::fill(slot.started_wall_ns, 0);
        const auto owner = static_cast<std::uint16_t>(shm::kOwnerFirstWorker + placement.worker);
        const auto assigned = claimed.next_attempt(SlotState::kAssigned, owner);
        REEVE_ASSERT(shm::is_lawful(shm::Role::kScheduler, claimed, assigned));
        auto expected = claimed.raw;
        if (!slot.word.compare_exchange_strong(expected, assigned.raw)) {
            slot.claim.store(0);
            if (behind == nullptr) {
                workers_.release(placement.worker, placement.request, placement.grant);
            }
            segment_.header().fenced_reports.fetch_add(1, std::memory_order_relaxed);
            return false;
        }
        REEVE_FAILPOINT("scheduler.after_assign");
        push_event(shm::EventKind::kMoved, placement.task, queued, assigned, now);
        REEVE_FAILPOINT("scheduler.after_event");
        auto hints = shm::dispatch_ring(segment_, placement.worker);
        if (behind != nullptr) (void)hints.try_push(*behind);
        (void)hints.try_push({assigned.raw, placement.task,
                              behind != nullptr ? shm::HintKind::kFollower : shm::HintKind::kTask});
        segment_.header().placed.fetch_add(1, std::memory_order_relaxed);
        wake_worker(placement.worker);
        plm_to_wake_ = true;
        return true;
    }

    void wake_others() {
        for (auto bits = std::exchange(workers_to_wake_, 0); bits != 0; bits &= bits - 1) {
            const auto worker = static_cast<std::uint32_t>(std::countr_zero(bits));
            shm::wake(segment_.worker(worker).agent.wake);
        }
        if (std::exchange(plm_to_wake_, false)) {
            shm::wake(segment_.participant(shm::kParticipantPlm).wake, shm::Urgency::kSoon);
        }
    }

    void sleep() {
        const auto ticket = shm::prepare_sleep(self_.wake);
        bool work = stop_wanted();
        for (std::uint32_t i = 0; i < segment_.config().workers && !work; ++i) {
            const auto state = segment_.worker(i).state.load();
            work = state != seen_[i].state || (state != shm::WorkerState::kFree &&
                                               shm::completion_ring(segment_, i).size() != 0);
        }
        // Tasks that were touched before we prepared are in the heaps now.
        queue_.index().drain();
        if (work || queue_.index().best()) return shm::cancel_sleep(self_.wake);
        const bool gangs = queue_.incomplete() && !gangs_looked_at_;
        const auto longest = ahead_.empty() ? shm::kSleepMaxNs : sched::kAheadNs;
        shm::sleep(self_.wake, ticket, gangs ? std::min(kGangsNs, longest) : longest);
    }

    shm::Segment& segment_;
    shm::Participant& self_;
    shm::EventRing events_;
    sched::LiveQueue queue_;
    sched::LiveWorkers workers_;
    sched::PlacementCore<sched::LiveQueue, sched::LiveWorkers> core_;
    sched::Preemption preemption_;
    sched::Ahead ahead_;
    std::vector<Begun> begun_;  // in this round
    std::vector<Seen> seen_;
    std::uint64_t workers_to_wake_ = 0;
    bool plm_to_wake_ = false;
    std::uint64_t last_rescan_ns_ = 0;
    std::uint64_t last_reconcile_ns_ = 0;
    std::uint64_t last_plan_ns_ = 0;
    std::uint64_t last_gangs_ns_ = 0;
    std::vector<std::pair<sched::Placement, shm::Claimed>> starting_;  // a gang, until it is whole
    bool gangs_looked_at_ = false;                                     // in this round
};

}  // namespace

int scheduler_main(const Cell& cell, const SchedulerOptions&) {
    return run_role(cell, "scheduler", [&cell](shm::Segment& segment) {
        auto& own = segment.participant(shm::kParticipantScheduler);
        announce(segment, own);
        log::info("scheduler attached", {{"segment", segment.name()}});
        Scheduler(segment).run(cell);
        own.pid.store(0);
    });
}

}  // namespace reeve
