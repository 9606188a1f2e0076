#include "scheduler/live_ports.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/shm/wake.h"
#include "scheduler/core/memory_ports.h"

namespace reeve::sched {
namespace {

constexpr std::uint32_t kWalkMax = 8;  // candidates of the worker heap before the capacity tree

}  // namespace

LiveQueue::LiveQueue(shm::Segment& segment)
    : segment_(segment), index_(segment), shapes_(segment.config().classes) {}

void LiveQueue::refresh_shape(ClassRef cls) {
    const auto& entry = segment_.task_class(cls);
    ClassShape shape{entry.request};
    if (entry.node_name[0] != '\0') {
        const std::string name(entry.node_name, strnlen(entry.node_name, sizeof entry.node_name));
        auto known = std::find(names_.begin(), names_.end(), name);
        if (known == names_.end()) known = names_.insert(names_.end(), name);
        shape.constraint = static_cast<std::uint64_t>(known - names_.begin());
    }
    if (shape == shapes_[cls]) return;
    shapes_[cls] = shape;
    changed_.push_back(cls);
}

std::vector<ClassRef> LiveQueue::take_changed() {
    // An entry changes only while its class has no task, so whoever has a head now is up to date.
    index_.drain();
    index_.for_each_head([this](const shm::ClassHead& head) { refresh_shape(head.class_id); });
    return std::exchange(changed_, {});
}

bool LiveQueue::wake_rested() {
    for (const auto cls : rested_) index_.unpark(cls);
    return !std::exchange(rested_, {}).empty();
}

std::optional<ClassHead> LiveQueue::best_head() {
    const auto head = index_.best();
    if (!head) return std::nullopt;
    refresh_shape(head->class_id);
    return ClassHead{head->entry.key, head->class_id, head->entry.slot};
}

std::optional<ClassHead> LiveQueue::peek(ClassRef cls) {
    const auto entry = index_.peek(cls);
    if (!entry) return std::nullopt;
    refresh_shape(cls);
    return ClassHead{entry->key, cls, entry->slot};
}

bool LiveQueue::claim(const ClassHead& head) {
    const auto claimed = index_.claim_slot(head.cls, head.task);
    if (!claimed) return false;
    if (segment_.task(claimed->slot).intent.load() != 0) {
        index_.give_back(*claimed);
        index_.park(head.cls);
        rested_.push_back(head.cls);
        shm::wake(segment_.participant(shm::kParticipantPlm).wake, shm::Urgency::kSoon);
        return false;
    }
    last_claim_ = *claimed;
    return true;
}

LiveWorkers::LiveWorkers(shm::Segment& segment, const LiveQueue& queue)
    : segment_(segment), queue_(queue), heap_(segment), tree_(segment.config().workers) {
    ranks_.resize(size(), shm::kEmptyKey);
    for (WorkerRef worker = 0; worker < size(); ++worker) publish(worker);
}

WorkerRef LiveWorkers::find(const ClassShape& shape, WorkerRef except) {
    const auto best = heap_.best();
    if (!best) return kNoRef;
    const auto takes = [&](WorkerRef worker) { return worker != except && fits_on(worker, shape); };
    if (takes(best->slot)) return best->slot;
    WorkerRef found = kNoRef;
    std::uint32_t looked = 0;
    heap_.walk([&](const shm::HeapEntry& entry) {
        if (takes(entry.slot)) found = entry.slot;
        return found == kNoRef && ++looked < kWalkMax;
    });
    if (found != kNoRef || looked < kWalkMax) return found;
    return tree_.first_fit(shape.request, takes);
}

bool LiveWorkers::allows(WorkerRef worker, const ClassShape& shape) const {
    const auto& slot = segment_.worker(worker);
    if (slot.state.load() != shm::WorkerState::kAlive) return false;
    return shape.constraint == 0 ||
           queue_.node_name(shape.constraint) ==
               std::string_view(slot.name, strnlen(slot.name, sizeof slot.name));
}

bool LiveWorkers::fits_on(WorkerRef worker, const ClassShape& shape) const {
    return tree_.fits(worker, shape.request) && (shape.constraint == 0 || allows(worker, shape));
}

std::optional<Grant> LiveWorkers::claim(WorkerRef worker, const Resources& request) {
    if (!tree_.fits(worker, request)) return std::nullopt;
    auto& slot = segment_.worker(worker);
    Grant grant;
    const auto owned = slot.gpu_used_mask.load();
    grant.gpu_mask = pick_gpus(~owned, request.gpus);
    slot.gpu_used_mask.store(owned | grant.gpu_mask);
    slot.used += request;
    publish(worker);
    return grant;
}

void LiveWorkers::release(WorkerRef worker, const Resources& request, const Grant& grant) {
    auto& slot = segment_.worker(worker);
    slot.gpu_used_mask.fetch_and(~grant.gpu_mask);
    if (request.fits(slot.used)) slot.used -= request;
    publish(worker);
}

void LiveWorkers::set_used(WorkerRef worker, const Resources& used, std::uint64_t gpu_mask) {
    auto& slot = segment_.worker(worker);
    slot.used = used;
    slot.gpu_used_mask.store(gpu_mask);
    publish(worker);
}

bool LiveWorkers::refresh(WorkerRef worker) {
    const bool before = tree_.is_open(worker);
    publish(worker);
    return !before && tree_.is_open(worker);
}

void LiveWorkers::publish(WorkerRef worker) {
    auto& slot = segment_.worker(worker);
    const auto hints = shm::dispatch_ring(segment_, worker);
    const bool open = slot.state.load() == shm::WorkerState::kAlive &&
                      hints.size() + 1 < hints.capacity() && slot.used.fits(slot.capacity);
    if (!open) {
        tree_.close(worker);
        rank(worker, shm::kEmptyKey);
        return;
    }
    auto free = slot.capacity;
    free -= slot.used;
    tree_.open(worker, free);
    // Cheapest first, then the fullest: packing leaves room for large requests elsewhere.
    const auto key = (static_cast<std::uint64_t>(slot.price_micro_usd_h.load()) << 32) |
                     std::min<std::uint64_t>(free.cpu_milli, 0xFFFFFFFEU);
    rank(worker, free.cpu_milli == 0 ? shm::kEmptyKey : key);
}

void LiveWorkers::rank(WorkerRef worker, std::uint64_t key) {
    ranks_[worker] = key;
    heap_.update(worker, key);
}

void LiveWorkers::rescan() {
    for (WorkerRef worker = 0; worker < size(); ++worker) {
        if (heap_.key(worker) != ranks_[worker]) heap_.update(worker, ranks_[worker]);
    }
    heap_.rescan();
}

}  // namespace reeve::sched
