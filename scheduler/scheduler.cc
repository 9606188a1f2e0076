#include "scheduler/scheduler.h"

#include <algorithm>
#include <bit>
#include <map>
#include <utility>
#include <vector>

#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/log/log.h"
#include "common/role/role.h"
#include "common/shm/run_code.h"
#include "common/shm/transitions.h"
#include "common/shm/used_slots.h"
#include "common/shm/wake.h"
#include "scheduler/core/placement.h"
#include "scheduler/core/run_bound.h"
#include "scheduler/live_ports.h"
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
constexpr std::uint64_t kPatienceNs = 600 * kSecond;  // then tasks without a limit keep away too

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

    // A new scheduler in an old segment: claims of the dead one go back, uses are counted again.
    void take_over() {
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
                count_use(i, word, used, gpus);
                if (word.state() == SlotState::kAssigned) announce(i, word);
            } else if (slot.claim.load() != 0) {
                slot.claim.store(0);
            }
        }
        for (std::uint32_t i = 0; i < used.size(); ++i) {
            const auto& worker = segment_.worker(i);
            seen_[i] = Seen{worker.incarnation.load(), worker.state.load()};
            workers_.set_used(i, used[i], gpus[i]);
        }
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
            commit(sched::Placement{start.task, slot.class_id, worker, request,
                                    sched::Grant{slot.gpu_mask.load()}, 0},
                   start.word, start.word.to(SlotState::kQueued, shm::kOwnerNone));
        }
    }

    void count_use(std::uint32_t index, SlotWord word, std::vector<Resources>& used,
                   std::vector<std::uint64_t>& gpus) {
        auto& slot = segment_.task(index);
        if (slot.class_id >= segment_.config().classes) return;
        used[word.worker_slot()] += segment_.task_class(slot.class_id).request;
        gpus[word.worker_slot()] |= slot.gpu_mask.load();
        slot.claim.store(word.worker_slot() + 1);
    }

    // Our predecessor may have died between the CAS and either ring.
    void announce(std::uint32_t index, SlotWord word) {
        const auto& slot = segment_.task(index);
        push_event(shm::EventKind::kObserved, index, word, word, slot.assigned_wall_ns.load());
        (void)shm::dispatch_ring(segment_, word.worker_slot())
            .try_push(shm::SlotHint{word.raw, index, 0});
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
        if (claim == 0 || claim > segment_.config().workers) return false;
        const auto worker = claim - 1;
        const auto word = shm::load_word(slot);
        if (word.held_by_worker() && word.worker_slot() == worker) return false;
        if (slot.class_id < segment_.config().classes) {
            workers_.release(worker, segment_.task_class(slot.class_id).request,
                             sched::Grant{slot.gpu_mask.load()});
        }
        slot.gpu_mask.store(0);
        slot.claim.store(0);
        core_.worker_freed(worker);
        plm_to_wake_ = true;
        return true;
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
            const auto& worker = segment_.worker(i);
            const Seen now{worker.incarnation.load(), worker.state.load()};
            if (now.state == seen_[i].state && now.incarnation == seen_[i].incarnation) {
                if (now.state == shm::WorkerState::kAlive && workers_.refresh(i)) {
                    core_.worker_freed(i);
                }
                continue;
            }
            if (now.incarnation != seen_[i].incarnation ||
                seen_[i].state == shm::WorkerState::kJoining) {
                recount(i);
            }
            seen_[i] = now;
            workers_.refresh(i);
            if (now.state == shm::WorkerState::kAlive) core_.worker_freed(i);
        }
    }

    // What the slots say this worker slot's present owner holds (it may have adopted attempts).
    void recount(std::uint32_t worker) {
        std::vector<Resources> used(segment_.config().workers);
        std::vector<std::uint64_t> gpus(segment_.config().workers, 0);
        for (std::uint32_t i = 0; i < segment_.config().task_slots; ++i) {
            auto& slot = segment_.task(i);
            const auto word = shm::load_word(slot);
            if (word.held_by_worker() && word.worker_slot() == worker) {
                count_use(i, word, used, gpus);
            } else if (slot.claim.load() == worker + 1) {
                slot.claim.store(0);
                plm_to_wake_ = true;
            }
        }
        workers_.set_used(worker, used[worker], gpus[worker]);
    }

    // Once a second: claims whose completion hint was lost with its writer.
    void reconcile(std::uint64_t now) {
        last_reconcile_ns_ = now;
        shm::for_each_used_slot(segment_, [this](std::uint32_t i, const shm::TaskSlot& slot) {
            if (slot.claim.load(std::memory_order_relaxed) != 0) (void)release(i);
        });
    }

    std::size_t place() {
        for (const auto cls : queue_.take_changed()) core_.class_changed(cls);
        // Without room for its event no assignment is made: endings need the ring more.
        const auto room = events_.capacity() - events_.size();
        const auto limit = std::min<std::size_t>(kPlacePerRound, room > 64 ? room - 64 : 0);
        return core_.place(
            limit, [this](const sched::Placement& placement) { assign(placement); }, wall_ns());
    }

    // Keeps places for the best tasks that do not fit (reservation.h).
    void plan_ahead(std::uint64_t now) {
        last_plan_ns_ = now;
        if (core_.parked_classes() == 0 && !preemption_.pushing()) return core_.reserve({});
        const auto heads = core_.parked_heads(kHeadsPlanned);
        auto single = heads;  // nobody is pushed aside for a gang
        std::erase_if(single, [this](const auto& head) { return is_gang(head); });
        if (const auto push = preemption_.plan(single, now)) return core_.reserve({*push});
        core_.reserve(plan_for(heads));
    }

    std::vector<sched::Reservation> plan_for(const std::vector<sched::ClassHead>& heads) {
        const auto backfill = static_cast<sched::Backfill>(segment_.header().backfill.load());
        std::vector<sched::Reservation> out;
        if (backfill == sched::Backfill::kNone) return out;
        const std::size_t most = backfill == sched::Backfill::kConservative ? heads.size() : 1;
        const auto outlooks = look_ahead(false);
        std::size_t served = 0;
        for (const auto& head : heads) {
            const auto waits_since = segment_.task(head.task).submit_wall_ns;
            const bool strict = waits_since + kPatienceNs <= wall_ns();
            auto kept = places_for(head, outlooks, out);
            // So many workers do not come free by themselves where nobody knows how long things
            // run.
            if (kept.empty() && strict && is_gang(head)) {
                kept = places_for(head, look_ahead(true), out);
            }
            for (auto& reservation : kept) {
                reservation.cls = head.cls;
                reservation.key = head.key;
                reservation.strict = strict;
                out.push_back(reservation);
            }
            served += kept.empty() ? 0 : 1;
            if (served == most) break;
        }
        return out;
    }

    bool is_gang(const sched::ClassHead& head) const { return queue_.shape(head.cls).nodes > 1; }

    // Where it fits first, on workers that are kept for nobody yet: one, for a gang all of its own.
    std::vector<sched::Reservation> places_for(const sched::ClassHead& head,
                                               const std::vector<sched::WorkerOutlook>& outlooks,
                                               const std::vector<sched::Reservation>& taken) const {
        const auto& shape = queue_.shape(head.cls);
        std::vector<sched::WorkerOutlook> allowed;
        for (const auto& outlook : outlooks) {
            const bool kept = std::any_of(taken.begin(), taken.end(), [&](const auto& other) {
                return other.worker == outlook.worker;
            });
            if (!kept && workers_.allows(outlook.worker, shape)) allowed.push_back(outlook);
        }
        if (shape.nodes > 1) return sched::plan_gang(shape.request, shape.nodes, allowed);
        const auto one = sched::plan_reservation(shape.request, allowed);
        return one ? std::vector{*one} : std::vector<sched::Reservation>{};
    }

    static std::uint64_t since(const shm::TaskSlot& slot) {
        const auto started = slot.started_wall_ns.load();
        return started != 0 ? started : slot.assigned_wall_ns.load();
    }

    // How long it will likely have run in the end, never longer than its limit. 0: nobody knows.
    static std::uint64_t likely_run_ns(const shm::TaskSlot& slot, std::uint64_t now) {
        const auto began = since(slot);
        const auto elapsed = now > began ? sched::whole_seconds(now - began) : 0;
        return sched::likely_run_ns(shm::run_ns_of(slot.expected), elapsed, slot.time_limit_ns);
    }

    // What is free on each worker, and what comes back when. Of what nobody knows the end of
    // nothing does; with `guess` it is half over.
    std::vector<sched::WorkerOutlook> look_ahead(bool guess) {
        std::vector<sched::WorkerOutlook> out(segment_.config().workers);
        for (std::uint32_t i = 0; i < out.size(); ++i) {
            const auto& worker = segment_.worker(i);
            out[i].worker = i;
            if (worker.used.fits(worker.capacity)) {
                out[i].free = worker.capacity;
                out[i].free -= worker.used;
            }
        }
        const auto soon = wall_ns() + kSecond;
        shm::for_each_used_slot(segment_, [&](std::uint32_t, const shm::TaskSlot& slot) {
            const auto word = shm::load_word(slot);
            if (!word.held_by_worker() || word.worker_slot() >= out.size()) return;
            if (slot.class_id >= segment_.config().classes) return;
            auto run = likely_run_ns(slot, soon);
            if (run == 0 && guess) run = 2 * (soon - std::min(soon, since(slot)));
            if (run == 0) return;
            const auto end = std::max(since(slot) + run, soon);
            out[word.worker_slot()].ends.push_back(sched::Ending{
                static_cast<std::int64_t>(end), segment_.task_class(slot.class_id).request});
        });
        return out;
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
        commit(placement, claimed.claimed, claimed.queued);
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
            commit(placement, claimed.claimed, claimed.queued);
        }
        starting_.clear();
    }

    void write_place(const sched::Placement& placement) {
        auto& slot = segment_.task(placement.task);
        const auto& worker = segment_.worker(placement.worker);
        shm::fill(slot.holder_number, worker.number.load());
        shm::fill(slot.holder_incarnation, worker.incarnation.load());
        shm::fill(slot.gpu_mask, placement.grant.gpu_mask);
        slot.claim.store(placement.worker + 1, std::memory_order_release);
    }

    void commit(const sched::Placement& placement, SlotWord claimed, SlotWord queued) {
        auto& slot = segment_.task(placement.task);
        const auto now = wall_ns();
        shm::fill(slot.assigned_wall_ns, now);
        shm::fill(slot.started_wall_ns, 0);
        const auto owner = static_cast<std::uint16_t>(shm::kOwnerFirstWorker + placement.worker);
        const auto assigned = claimed.next_attempt(SlotState::kAssigned, owner);
        REEVE_ASSERT(shm::is_lawful(shm::Role::kScheduler, claimed, assigned));
        auto expected = claimed.raw;
        if (!slot.word.compare_exchange_strong(expected, assigned.raw)) {
            // The register took it: it believes us dead. What it says goes.
            slot.claim.store(0);
            workers_.release(placement.worker, placement.request, placement.grant);
            segment_.header().fenced_reports.fetch_add(1, std::memory_order_relaxed);
            return;
        }
        REEVE_FAILPOINT("scheduler.after_assign");
        push_event(shm::EventKind::kMoved, placement.task, queued, assigned, now);
        REEVE_FAILPOINT("scheduler.after_event");
        (void)shm::dispatch_ring(segment_, placement.worker)
            .try_push(shm::SlotHint{assigned.raw, placement.task, 0});
        segment_.header().placed.fetch_add(1, std::memory_order_relaxed);
        workers_to_wake_ |= placement.worker < 64 ? std::uint64_t{1} << placement.worker : 0;
        if (placement.worker >= 64) shm::wake(segment_.worker(placement.worker).agent.wake);
        plm_to_wake_ = true;
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
        if (const auto head = queue_.index().best(); head && !work) work = true;
        if (work) {
            shm::cancel_sleep(self_.wake);
            return;
        }
        const bool soon = queue_.incomplete() && !gangs_looked_at_;
        shm::sleep(self_.wake, ticket, soon ? kGangsNs : shm::kSleepMaxNs);
    }

    shm::Segment& segment_;
    shm::Participant& self_;
    shm::EventRing events_;
    sched::LiveQueue queue_;
    sched::LiveWorkers workers_;
    sched::PlacementCore<sched::LiveQueue, sched::LiveWorkers> core_;
    sched::Preemption preemption_;
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
