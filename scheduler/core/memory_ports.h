// QueueView and WorkerIndex in plain memory: for the simulator, for benches and as the tests'
// model.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <unordered_map>
#include <vector>

#include "scheduler/core/capacity_tree.h"
#include "scheduler/core/ports.h"

namespace reeve::sched {

class MemoryQueue {
public:
    ClassRef add_class(const ClassShape& shape);
    void push(ClassRef cls, TaskRef task, std::uint64_t key);
    // Takes a queued task out (cancel, hold); false when it is not there.
    bool erase(ClassRef cls, TaskRef task, std::uint64_t key);
    std::size_t size() const { return size_; }

    std::optional<ClassHead> best_head();
    std::optional<ClassHead> peek(ClassRef cls);
    bool claim(const ClassHead& head) { return erase(head.cls, head.task, head.key); }
    void park(ClassRef cls);
    void unpark(ClassRef cls);
    const ClassShape& shape(ClassRef cls) const { return classes_[cls].shape; }
    std::vector<ClassHead> members(ClassRef cls) const;
    bool claim_all(const std::vector<ClassHead>& members);
    void take_claim(std::size_t) {}
    // Until another task of it is pushed.
    void rest(ClassRef cls);
    std::uint64_t limit_ns(const ClassHead& head) const {
        const auto found = limits_.find(head.task);
        return found == limits_.end() ? 0 : found->second;
    }
    void set_limit_ns(TaskRef task, std::uint64_t limit_ns) { limits_[task] = limit_ns; }

private:
    using Entry = std::pair<std::uint64_t, TaskRef>;
    struct Class {
        ClassShape shape;
        std::set<Entry> tasks;
        bool parked = false;
        bool rests = false;
    };
    void list(ClassRef cls);    // into heads_, if it is unparked and not empty
    void unlist(ClassRef cls);  // out of heads_

    std::vector<Class> classes_;
    std::unordered_map<TaskRef, std::uint64_t> limits_;
    std::set<std::pair<std::uint64_t, ClassRef>> heads_;
    std::size_t size_ = 0;
};

class MemoryWorkers {
public:
    // Workers are ranked in the order they are added.
    WorkerRef add(const Resources& capacity);
    void set_open(WorkerRef worker, bool open);  // false: draining, down
    std::size_t size() const { return workers_.size(); }
    const Resources& used_of(WorkerRef worker) const { return workers_[worker].used; }
    const Resources& capacity_of(WorkerRef worker) const { return workers_[worker].capacity; }

    WorkerRef find(const ClassShape& shape, std::span<const WorkerRef> except);
    bool fits_on(WorkerRef worker, const ClassShape& shape) const;
    std::optional<Grant> claim(WorkerRef worker, const Resources& request);
    void release(WorkerRef worker, const Resources& request, const Grant& grant);
    const Resources& free_of(WorkerRef worker) const { return tree_.free_of(worker); }

private:
    struct Worker {
        Resources capacity;
        Resources used;
        std::uint64_t gpu_free = 0;  // bit i: GPU i is nobody's
        bool open = true;
    };
    void publish(WorkerRef worker);

    std::vector<Worker> workers_;
    CapacityTree tree_;
};

// The lowest `count` set bits of `free`; the caller knows there are as many.
std::uint64_t pick_gpus(std::uint64_t free, std::uint32_t count);

static_assert(QueueView<MemoryQueue>);
static_assert(WorkerIndex<MemoryWorkers>);

}  // namespace reeve::sched
