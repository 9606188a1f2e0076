// PlacementCore turns (queue, workers) into placements: best head first, parked when it cannot run.
//
// The live scheduler's loop is: apply releases (worker_freed), then place(limit, on_place) until it
// returns less than the limit. A class whose shape fits nowhere is parked as a whole, so a million
// tasks that do not fit cost nothing to the one that does; a worker that frees room unparks exactly
// the classes it can satisfy. Pure: no clock, no I/O; the same calls give the same placements.
//
// A gang is a class whose tasks start together, each on a worker of its own, or not at all. All are
// claimed before the first is told.
//
// With reservations (reservation.h) their workers are passed over for tasks behind the reserved
// ones that would delay them; for all others where somebody was pushed aside to make the room. A
// class is judged by its first task.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "scheduler/core/parked_shapes.h"
#include "scheduler/core/ports.h"
#include "scheduler/core/reservation.h"

namespace reeve::sched {

template <QueueView Queue, WorkerIndex Workers>
class PlacementCore {
public:
    PlacementCore(Queue& queue, Workers& workers) : queue_(queue), workers_(workers) {}

    // A claim on this worker was given back, or it joined, was undrained, reopened or grew.
    void worker_freed(WorkerRef worker) {
        parked_.take_fitting(
            workers_.free_of(worker),
            [&](const ClassShape& shape) { return workers_.fits_on(worker, shape); },
            [&](ClassRef cls) { queue_.unpark(cls); });
    }

    // The class is new, or its entry now describes another shape: try it afresh.
    void class_changed(ClassRef cls) {
        if (parked_.remove(cls)) queue_.unpark(cls);
    }

    // Start over, as after a restart or a new segment: everything is tried again.
    void unpark_all() {
        parked_.take_all([&](ClassRef cls) { queue_.unpark(cls); });
    }

    // Places up to `limit` tasks, calling on_place(const Placement&) for each; both claims are made
    // by then. Returns how many; less than `limit` means nothing more can be placed now.
    template <typename OnPlace>
    std::size_t place(std::size_t limit, OnPlace&& on_place, std::uint64_t now_ns = 0) {
        std::size_t placed = 0;
        while (placed < limit) {
            const std::optional<ClassHead> head = queue_.best_head();
            if (!head) break;
            const ClassShape& shape = queue_.shape(head->cls);
            if (shape.gang()) {
                if (shape.nodes > limit - placed) break;
                placed += place_gang(*head, shape.nodes, on_place, now_ns);
                continue;
            }
            const WorkerRef worker = find(*head, shape, now_ns);
            if (worker == kNoRef) {
                parked_.park(head->cls, shape);
                queue_.park(head->cls);
                continue;
            }
            const Resources request = shape.request;
            const std::uint64_t limit_ns = reserved_.empty() ? 0 : queue_.limit_ns(*head);
            if (!queue_.claim(*head)) continue;  // somebody else took it; the queue has noticed
            const std::optional<Grant> grant = workers_.claim(worker, request);
            REEVE_ASSERT(grant.has_value());
            on_place(Placement{head->task, head->cls, worker, request, *grant, 0});
            if (!reserved_.empty()) keep_reservations(*head, worker, request, now_ns, limit_ns);
            ++placed;
        }
        return placed;
    }

    std::size_t parked_classes() const { return parked_.parked_classes(); }
    bool is_parked(ClassRef cls) const { return parked_.parked(cls); }

    // The best tasks that wait for room, best first. After place() said that no more can be placed.
    std::vector<ClassHead> parked_heads(std::size_t most) {
        std::vector<ClassHead> heads;
        parked_.for_each([&](ClassRef cls) {
            if (const auto head = queue_.peek(cls)) heads.push_back(*head);
        });
        std::sort(heads.begin(), heads.end(), [](const ClassHead& a, const ClassHead& b) {
            return std::pair(a.key, a.cls) < std::pair(b.key, b.cls);
        });
        if (heads.size() > most) heads.resize(most);
        return heads;
    }

    // At most one on a worker. Other tasks or other workers than before, or one that begins later:
    // those they held up are tried again.
    void reserve(std::vector<Reservation> reservations) {
        const bool same = std::equal(reservations.begin(), reservations.end(), reserved_.begin(),
                                     reserved_.end(), [](const auto& now, const auto& before) {
                                         return now.same_place(before) && now.at_ns <= before.at_ns;
                                     });
        reserved_ = std::move(reservations);
        if (!same) unpark_all();
    }
    const std::vector<Reservation>& reserved() const { return reserved_; }

private:
    // How many were placed: all or none. Then the class is hidden until that may be otherwise.
    template <typename OnPlace>
    std::size_t place_gang(const ClassHead& head, std::uint32_t nodes, OnPlace& on_place,
                           std::uint64_t now_ns) {
        const std::vector<ClassHead> members = queue_.members(head.cls);
        if (members.size() != nodes) {
            queue_.rest(head.cls);
            return 0;
        }
        const ClassShape shape = queue_.shape(head.cls);
        if (!find_gang(head, shape, now_ns)) {
            parked_.park(head.cls, shape);
            queue_.park(head.cls);
            return 0;
        }
        const std::uint64_t limit_ns = reserved_.empty() ? 0 : queue_.limit_ns(head);
        if (!queue_.claim_all(members)) {
            queue_.rest(head.cls);
            return 0;
        }
        std::vector<Grant> grants;
        for (const WorkerRef worker : gang_) {
            const std::optional<Grant> grant = workers_.claim(worker, shape.request);
            REEVE_ASSERT(grant.has_value());
            grants.push_back(*grant);
        }
        for (std::size_t i = 0; i < members.size(); ++i) {
            queue_.take_claim(i);
            const auto more = static_cast<std::uint32_t>(members.size() - i - 1);
            on_place(
                Placement{members[i].task, head.cls, gang_[i], shape.request, grants[i], more});
            if (!reserved_.empty()) {
                keep_reservations(head, gang_[i], shape.request, now_ns, limit_ns);
            }
        }
        return members.size();
    }

    bool find_gang(const ClassHead& head, const ClassShape& shape, std::uint64_t now_ns) {
        except_.clear();
        gang_.clear();
        while (gang_.size() < shape.nodes) {
            const WorkerRef worker = workers_.find(shape, except_);
            if (worker == kNoRef) return false;
            except_.push_back(worker);
            if (may_use(worker, head, shape, now_ns)) gang_.push_back(worker);
        }
        return true;
    }

    WorkerRef find(const ClassHead& head, const ClassShape& shape, std::uint64_t now_ns) {
        except_.clear();
        WorkerRef worker = workers_.find(shape, except_);
        while (worker != kNoRef && !may_use(worker, head, shape, now_ns)) {
            except_.push_back(worker);
            worker = workers_.find(shape, except_);
        }
        return worker;
    }

    bool may_use(WorkerRef worker, const ClassHead& head, const ClassShape& shape,
                 std::uint64_t now_ns) {
        for (const Reservation& reservation : reserved_) {
            if (reservation.worker != worker || reservation.is_for(head)) continue;
            if (!reservation.only) {
                if (head.key <= reservation.key) continue;
                if (reservation.ends_in_time(now_ns, queue_.limit_ns(head))) continue;
            }
            if (!shape.request.fits(reservation.spare)) return false;
        }
        return true;
    }

    void keep_reservations(const ClassHead& head, WorkerRef worker, const Resources& request,
                           std::uint64_t now_ns, std::uint64_t limit_ns) {
        for (Reservation& reservation : reserved_) {
            if (reservation.worker == worker && !reservation.is_for(head) &&
                request.fits(reservation.spare) &&
                (reservation.only || !reservation.ends_in_time(now_ns, limit_ns))) {
                reservation.spare -= request;
            }
        }
        const auto met = std::erase_if(
            reserved_, [&head](const Reservation& each) { return each.is_for(head); });
        if (met != 0) unpark_all();
    }

    Queue& queue_;
    Workers& workers_;
    ParkedShapes parked_;
    std::vector<Reservation> reserved_;
    std::vector<WorkerRef> except_;  // of one search
    std::vector<WorkerRef> gang_;    // found by the last one for a gang
};

}  // namespace reeve::sched
