// PlacementCore turns (queue, workers) into placements: best head first, parked when it cannot run.
//
// The live scheduler's loop is: apply releases (worker_freed), then place(limit, on_place) until it
// returns less than the limit. A class whose shape fits nowhere is parked as a whole, so a million
// tasks that do not fit cost nothing to the one that does; a worker that frees room unparks exactly
// the classes it can satisfy. Pure: no clock, no I/O; the same calls give the same placements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "scheduler/core/parked_shapes.h"
#include "scheduler/core/ports.h"

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
    std::size_t place(std::size_t limit, OnPlace&& on_place) {
        std::size_t placed = 0;
        while (placed < limit) {
            const std::optional<ClassHead> head = queue_.best_head();
            if (!head) break;
            const ClassShape& shape = queue_.shape(head->cls);
            const WorkerRef worker = workers_.find(shape);
            if (worker == kNoRef) {
                parked_.park(head->cls, shape);
                queue_.park(head->cls);
                continue;
            }
            const Resources request = shape.request;
            if (!queue_.claim(*head)) continue;  // somebody else took it; the queue has noticed
            const std::optional<Grant> grant = workers_.claim(worker, request);
            REEVE_ASSERT(grant.has_value());
            on_place(Placement{head->task, head->cls, worker, request, *grant});
            ++placed;
        }
        return placed;
    }

    std::size_t parked_classes() const { return parked_.parked_classes(); }

private:
    Queue& queue_;
    Workers& workers_;
    ParkedShapes parked_;
};

}  // namespace reeve::sched
