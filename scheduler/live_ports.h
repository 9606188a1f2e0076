// The live ports of scheduler/core: QueueView over the chunk heaps, WorkerIndex over the worker
// slots.
//
// Where all workers cost the same and none is spot, the shared worker heap has the answer for tasks
// that want nothing but cpus, memory and GPUs. All others are asked of NodeIndex, as in the
// simulator.
//
// Not thread-safe; one scheduler per segment. What is written to shared memory here: `used`,
// `gpu_used_mask` and rank keys of worker slots. CapacityTree is a private index beside them.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "common/shm/class_index.h"
#include "common/shm/ring.h"
#include "common/shm/segment.h"
#include "common/shm/worker_heap.h"
#include "scheduler/core/capacity_tree.h"
#include "scheduler/core/node_index.h"
#include "scheduler/core/ports.h"

namespace reeve::sched {

class LiveQueue {
public:
    explicit LiveQueue(const shm::Segment& segment);

    std::optional<ClassHead> best_head();
    std::optional<ClassHead> peek(ClassRef cls);
    // A task somebody wants cancelled or held is not claimed; its class rests until rested().
    bool claim(const ClassHead& head);
    void park(ClassRef cls) { index_.park(cls); }
    void unpark(ClassRef cls) { index_.unpark(cls); }
    const ClassShape& shape(ClassRef cls) const { return shapes_[cls]; }

    // Gangs: all that are queued of one; take_claim() makes last_claim() that of the i-th.
    std::vector<ClassHead> members(ClassRef cls);
    bool claim_all(const std::vector<ClassHead>& members);
    void take_claim(std::size_t i) { last_claim_ = gang_claims_[i]; }
    void rest(ClassRef cls);
    // Lets gangs be looked at again that were not whole.
    void wake_incomplete();
    bool incomplete() const { return !incomplete_.empty(); }

    // Its time limit, without one twice what was learned of its kind.
    std::uint64_t limit_ns(const ClassHead& head) const;

    const shm::Claimed& last_claim() const { return last_claim_; }
    shm::ClassIndex& index() { return index_; }
    // Classes whose shape is not as it was when last looked at; each is told once.
    std::vector<ClassRef> take_changed();
    // Lets classes that rested for a wanted task be looked at again; true if there were any.
    bool wake_rested();
    // The same for classes that were closed and no longer are.
    bool wake_closed();
    // What a task of this shape wants. Valid until the next call.
    const JobRequest& job(const ClassShape& shape) const;

private:
    // Of the classes with the same wants; `constraint` of a shape is their hash.
    struct Wanted {
        mutable JobRequest job;
        std::uint32_t classes = 0;
    };

    bool closed(ClassRef cls) const;
    void refresh_shape(ClassRef cls);
    void forget(std::uint64_t constraint);

    const shm::Segment& segment_;
    shm::ClassIndex index_;
    std::vector<ClassShape> shapes_;
    std::unordered_map<std::uint64_t, Wanted> wanted_;
    mutable JobRequest plain_;  // constraint 0
    std::vector<ClassRef> changed_;
    std::vector<ClassRef> rested_;
    std::vector<ClassRef> closed_;
    std::vector<ClassRef> incomplete_;
    std::vector<shm::Claimed> gang_claims_;
    shm::Claimed last_claim_;
};

class LiveWorkers {
public:
    LiveWorkers(const shm::Segment& segment, const LiveQueue& queue);

    WorkerRef find(const ClassShape& shape, std::span<const WorkerRef> except);
    // Apart from room: is it there, with the labels, at the price?
    bool allows(WorkerRef worker, const ClassShape& shape) const;
    bool fits_on(WorkerRef worker, const ClassShape& shape) const;
    std::optional<Grant> claim(WorkerRef worker, const Resources& request);
    void release(WorkerRef worker, const Resources& request, const Grant& grant);
    Resources free_of(WorkerRef worker) const { return tree_.free_of(worker); }

    // Takes over what the slots say is used on a worker, and whether it takes new work.
    void set_used(WorkerRef worker, const Resources& used, std::uint64_t gpu_mask);
    // One whose holdings are to be counted (anew) takes nothing, whatever its state says by now.
    void keep_closed(WorkerRef worker, bool closed) { uncounted_[worker] = closed; }
    // Looks at the worker's state again; true when it opened (joined, undrained, ring has room).
    bool refresh(WorkerRef worker);
    // Puts right what somebody damaged in the shared keys and floors; some 10 us for 4,096 workers.
    void rescan();
    std::uint32_t size() const { return segment_.config().workers; }

private:
    void publish(WorkerRef worker);
    void rank(WorkerRef worker, std::uint64_t key);
    void learn(WorkerRef worker, std::uint64_t incarnation);
    void build_index();
    bool wants_nothing(const ClassShape& shape) const {
        return shape.constraint == 0 && one_price_;
    }

    const shm::Segment& segment_;
    const LiveQueue& queue_;
    shm::WorkerHeap heap_;
    std::vector<std::uint64_t> ranks_;  // what the shared keys should be
    CapacityTree tree_;
    std::vector<NodeOffer> offers_;     // labels and prices; always open, nothing used
    std::vector<std::uint64_t> known_;  // the incarnation offers_ is of
    std::vector<bool> uncounted_;
    bool one_price_ = true;  // and no spot worker
    bool indexed_ = false;   // index_ is kept: somebody needed it
    NodeIndex index_;
};

static_assert(QueueView<LiveQueue>);
static_assert(WorkerIndex<LiveWorkers>);

}  // namespace reeve::sched
