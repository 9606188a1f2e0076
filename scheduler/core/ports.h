// The two ports through which the decision core sees the world: QueueView and WorkerIndex.
//
// Live they are the shared heaps (common/shm), in the simulator and in tests plain memory
// (memory_ports.h); tests/unit/scheduler/placement_suite.h runs against any pair. They are
// concepts, not virtual classes: a decision costs well under a microsecond, so calls have to
// inline.
//
// A class is (share group, request shape). What cannot run now is parked as a whole class and never
// stands in front of what can. The core is single-threaded and owns no task: it asks the queue for
// the best unparked head, asks the index for a worker, and claims both.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "common/model/resources.h"

namespace reeve::sched {

using ClassRef = std::uint32_t;   // ClassEntry index
using TaskRef = std::uint32_t;    // TaskSlot index
using WorkerRef = std::uint32_t;  // WorkerSlot index

inline constexpr std::uint32_t kNoRef = 0xFFFFFFFFU;

inline bool is_among(std::span<const WorkerRef> workers, WorkerRef worker) {
    return std::find(workers.begin(), workers.end(), worker) != workers.end();
}

// What all tasks of a class share. Two classes with equal shapes fit the same workers.
struct ClassShape {
    Resources request;
    std::uint64_t constraint = 0;  // 0: none; else the port's own id of labels and named resources
    WorkerRef only_worker = kNoRef;  // kNoRef: any
    std::uint32_t nodes = 1;         // more: the class is one gang of so many, on a worker each
    bool gang() const { return nodes > 1; }
    auto operator<=>(const ClassShape&) const = default;
};

// The first task of a class. The smaller key starts first, over all classes.
struct ClassHead {
    std::uint64_t key = ~std::uint64_t{0};
    ClassRef cls = kNoRef;
    TaskRef task = kNoRef;
};

// A worker's share given to one task. `gpu_mask` names its GPU indices on that worker.
struct Grant {
    std::uint64_t gpu_mask = 0;
};

struct Placement {
    TaskRef task = kNoRef;
    ClassRef cls = kNoRef;
    WorkerRef worker = kNoRef;
    Resources request;
    Grant grant;
    std::uint32_t more = 0;  // of its gang, told after this one
};

// best_head   the smallest key over all unparked classes; may be stale in a live queue.
// peek        the head of one class, parked or not.
// claim       takes exactly that task (queued -> claimed); false when it is gone or changed: the
//             queue must then have refreshed that class, or the core would ask again for ever.
// park        hides a class from best_head until unpark. Both are idempotent.
// shape       of a live class.
// limit_ns    how long that task may run, or is taken to; 0: nobody knows.
// members     of a gang's class, as far as they can be claimed; fewer than it has: it waits.
// claim_all   claim() of each of them, or of none.
// take_claim  the claim of the i-th is what on_place is told of next.
// rest        hides a gang's class until its members may have changed.
template <typename Q>
concept QueueView = requires(Q queue, const Q& view, ClassRef cls, const ClassHead& head) {
    { queue.best_head() } -> std::same_as<std::optional<ClassHead>>;
    { queue.peek(cls) } -> std::same_as<std::optional<ClassHead>>;
    { queue.claim(head) } -> std::same_as<bool>;
    queue.park(cls);
    queue.unpark(cls);
    { queue.members(cls) } -> std::same_as<std::vector<ClassHead>>;
    { queue.claim_all(std::vector<ClassHead>{}) } -> std::same_as<bool>;
    queue.take_claim(std::size_t{});
    queue.rest(cls);
    { view.shape(cls) } -> std::convertible_to<const ClassShape&>;
    { view.limit_ns(head) } -> std::same_as<std::uint64_t>;
};

// find      the best-ranked worker but those of `except` on which the shape fits now and which
// takes
//           new work, or kNoRef.
//           What it returns must be claimable: a draining worker, or one whose dispatch ring is
//           full, is not offered (close it in the index; open it and call worker_freed() later).
// fits_on   the same question for one worker.
// claim     all or nothing; nullopt only if the shape does not fit.
// release   gives a claim back; exactly once per claim.
template <typename W>
concept WorkerIndex = requires(W index, const W& view, WorkerRef worker, const ClassShape& shape,
                               const Resources& request, const Grant& grant,
                               std::span<const WorkerRef> except) {
    { index.find(shape, except) } -> std::same_as<WorkerRef>;
    { view.fits_on(worker, shape) } -> std::same_as<bool>;
    { index.claim(worker, request) } -> std::same_as<std::optional<Grant>>;
    index.release(worker, request, grant);
    { view.free_of(worker) } -> std::convertible_to<Resources>;
};

}  // namespace reeve::sched
