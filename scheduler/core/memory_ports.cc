#include "scheduler/core/memory_ports.h"

#include <algorithm>
#include <utility>

#include "common/base/assert.h"

namespace reeve::sched {

ClassRef MemoryQueue::add_class(const ClassShape& shape) {
    classes_.push_back(Class{shape, {}, false, false});
    return static_cast<ClassRef>(classes_.size() - 1);
}

void MemoryQueue::list(ClassRef cls) {
    const Class& entry = classes_[cls];
    if (!entry.parked && !entry.tasks.empty()) heads_.emplace(entry.tasks.begin()->first, cls);
}

void MemoryQueue::unlist(ClassRef cls) {
    const Class& entry = classes_[cls];
    if (!entry.parked && !entry.tasks.empty()) heads_.erase({entry.tasks.begin()->first, cls});
}

void MemoryQueue::push(ClassRef cls, TaskRef task, std::uint64_t key) {
    Class& entry = classes_[cls];
    const bool leads = entry.tasks.empty() || Entry{key, task} < *entry.tasks.begin();
    if (leads) unlist(cls);
    const bool fresh = entry.tasks.emplace(key, task).second;
    REEVE_ASSERT(fresh);
    if (leads) list(cls);
    ++size_;
    if (std::exchange(entry.rests, false)) unpark(cls);
}

std::vector<ClassHead> MemoryQueue::members(ClassRef cls) const {
    std::vector<ClassHead> out;
    for (const auto& [key, task] : classes_[cls].tasks) {
        if (out.size() < classes_[cls].shape.nodes) out.push_back({key, cls, task});
    }
    return out;
}

bool MemoryQueue::claim_all(const std::vector<ClassHead>& members) {
    for (const auto& member : members) {
        if (!classes_[member.cls].tasks.contains({member.key, member.task})) return false;
    }
    for (const auto& member : members) REEVE_ASSERT(claim(member));
    return true;
}

void MemoryQueue::rest(ClassRef cls) {
    park(cls);
    classes_[cls].rests = true;
}

bool MemoryQueue::erase(ClassRef cls, TaskRef task, std::uint64_t key) {
    if (cls >= classes_.size()) return false;
    Class& entry = classes_[cls];
    const auto found = entry.tasks.find({key, task});
    if (found == entry.tasks.end()) return false;
    const bool leads = found == entry.tasks.begin();
    if (leads) unlist(cls);
    entry.tasks.erase(found);
    if (leads) list(cls);
    --size_;
    return true;
}

std::optional<ClassHead> MemoryQueue::best_head() {
    if (heads_.empty()) return std::nullopt;
    return peek(heads_.begin()->second);
}

std::optional<ClassHead> MemoryQueue::peek(ClassRef cls) {
    const Class& entry = classes_[cls];
    if (entry.tasks.empty()) return std::nullopt;
    return ClassHead{entry.tasks.begin()->first, cls, entry.tasks.begin()->second};
}

void MemoryQueue::park(ClassRef cls) {
    if (classes_[cls].parked) return;
    unlist(cls);
    classes_[cls].parked = true;
}

void MemoryQueue::unpark(ClassRef cls) {
    if (!classes_[cls].parked) return;
    classes_[cls].parked = false;
    list(cls);
}

WorkerRef MemoryWorkers::add(const Resources& capacity) {
    REEVE_ASSERT(capacity.gpus <= 64);
    const auto worker = static_cast<WorkerRef>(workers_.size());
    Worker entry;
    entry.capacity = capacity;
    entry.gpu_free =
        capacity.gpus == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << capacity.gpus) - 1;
    workers_.push_back(entry);
    if (tree_.size() <= worker) tree_.resize(std::max(64U, worker * 2));
    publish(worker);
    return worker;
}

void MemoryWorkers::publish(WorkerRef worker) {
    const Worker& entry = workers_[worker];
    Resources free = entry.capacity;
    free -= entry.used;
    tree_.open(worker, free);
    if (!entry.open) tree_.close(worker);
}

void MemoryWorkers::set_open(WorkerRef worker, bool open) {
    workers_[worker].open = open;
    publish(worker);
}

WorkerRef MemoryWorkers::find(const ClassShape& shape, std::span<const WorkerRef> except) {
    if (shape.only_worker != kNoRef) {
        const bool fits = !is_among(except, shape.only_worker) && fits_on(shape.only_worker, shape);
        return fits ? shape.only_worker : kNoRef;
    }
    return tree_.first_fit(shape.request,
                           [except](std::uint32_t worker) { return !is_among(except, worker); });
}

bool MemoryWorkers::fits_on(WorkerRef worker, const ClassShape& shape) const {
    if (shape.only_worker != kNoRef && shape.only_worker != worker) return false;
    return worker < workers_.size() && tree_.fits(worker, shape.request);
}

std::optional<Grant> MemoryWorkers::claim(WorkerRef worker, const Resources& request) {
    Worker& entry = workers_[worker];
    if (!request.fits(tree_.free_of(worker))) return std::nullopt;
    entry.used += request;
    const Grant grant{pick_gpus(entry.gpu_free, request.gpus)};
    entry.gpu_free &= ~grant.gpu_mask;
    publish(worker);
    return grant;
}

void MemoryWorkers::release(WorkerRef worker, const Resources& request, const Grant& grant) {
    Worker& entry = workers_[worker];
    REEVE_ASSERT(request.fits(entry.used));
    REEVE_ASSERT((entry.gpu_free & grant.gpu_mask) == 0);
    entry.used -= request;
    entry.gpu_free |= grant.gpu_mask;
    publish(worker);
}

std::uint64_t pick_gpus(std::uint64_t free, std::uint32_t count) {
    std::uint64_t picked = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
        REEVE_ASSERT(free != 0);
        const std::uint64_t lowest = free & (~free + 1);
        picked |= lowest;
        free ^= lowest;
    }
    return picked;
}

}  // namespace reeve::sched
