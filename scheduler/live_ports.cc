#include "scheduler/live_ports.h"

#include <algorithm>
#include <utility>

#include "common/base/clock.h"
#include "common/shm/class_wants.h"
#include "common/shm/run_code.h"
#include "common/shm/wake.h"
#include "scheduler/core/memory_ports.h"
#include "scheduler/core/run_bound.h"

namespace reeve::sched {
namespace {

constexpr std::uint32_t kWalkMax = 8;  // candidates of the worker heap before the capacity tree

}  // namespace

LiveQueue::LiveQueue(const shm::Segment& segment)
    : segment_(segment), index_(segment), shapes_(segment.config().classes) {}

void LiveQueue::refresh_shape(ClassRef cls) {
    const auto& entry = segment_.task_class(cls);
    auto& shape = shapes_[cls];
    const std::uint32_t nodes = std::max<std::uint32_t>(entry.nodes, 1);
    if (entry.request == shape.request && entry.wants_hash == shape.constraint &&
        nodes == shape.nodes) {
        return;
    }
    forget(shape.constraint);
    shape = ClassShape{entry.request, entry.wants_hash, kNoRef, nodes};
    if (shape.constraint != 0) {
        auto& wanted = wanted_[shape.constraint];
        if (wanted.classes++ == 0) wanted.job = request_for(shm::read_wants(entry), {});
    }
    changed_.push_back(cls);
}

void LiveQueue::forget(std::uint64_t constraint) {
    const auto known = wanted_.find(constraint);
    if (known != wanted_.end() && --known->second.classes == 0) wanted_.erase(known);
}

const JobRequest& LiveQueue::job(const ClassShape& shape) const {
    const auto known = wanted_.find(shape.constraint);
    auto& job = known == wanted_.end() ? plain_ : known->second.job;
    job.request = shape.request;
    return job;
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

bool LiveQueue::closed(ClassRef cls) const {
    return segment_.task_class(cls).closed.load(std::memory_order_relaxed) != 0;
}

bool LiveQueue::wake_closed() {
    const auto woken = std::erase_if(closed_, [this](ClassRef cls) {
        if (closed(cls)) return false;
        index_.unpark(cls);
        return true;
    });
    return woken != 0;
}

std::optional<ClassHead> LiveQueue::best_head() {
    while (const auto head = index_.best()) {
        if (closed(head->class_id)) {
            index_.park(head->class_id);
            closed_.push_back(head->class_id);
            continue;
        }
        refresh_shape(head->class_id);
        return ClassHead{head->entry.key, head->class_id, head->entry.slot};
    }
    return std::nullopt;
}

std::optional<ClassHead> LiveQueue::peek(ClassRef cls) {
    const auto entry = index_.peek(cls);
    if (!entry || closed(cls)) return std::nullopt;  // no room is kept for what may not start
    refresh_shape(cls);
    const auto& shape = shapes_[cls];
    if (shape.gang() && members(cls).size() != shape.nodes) return std::nullopt;
    return ClassHead{entry->key, cls, entry->slot};
}

std::vector<ClassHead> LiveQueue::members(ClassRef cls) {
    const auto& entry = segment_.task_class(cls);
    std::vector<ClassHead> out;
    index_.for_each_in_class(cls, shapes_[cls].nodes, [&](const shm::HeapEntry& found) {
        if (segment_.task(found.slot).job == entry.gang) {
            out.push_back({found.key, cls, found.slot});
        }
        return true;
    });
    return out;
}

bool LiveQueue::claim_all(const std::vector<ClassHead>& members) {
    gang_claims_.clear();
    for (const auto& member : members) {
        if (claim(member)) {
            gang_claims_.push_back(last_claim_);
            continue;
        }
        for (const auto& claimed : gang_claims_) (void)index_.give_back(claimed);
        return false;
    }
    return true;
}

void LiveQueue::rest(ClassRef cls) {
    index_.park(cls);
    incomplete_.push_back(cls);
}

void LiveQueue::wake_incomplete() {
    for (const auto cls : std::exchange(incomplete_, {})) index_.unpark(cls);
}

std::uint64_t LiveQueue::limit_ns(const ClassHead& head) const {
    const auto& slot = segment_.task(head.task);
    if (slot.time_limit_ns != 0) return slot.time_limit_ns;
    const auto expected = whole_seconds(shm::run_ns_of(slot.expected));
    return static_cast<std::uint64_t>(backfill_bound_s(expected, 0)) * kSecond;
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

LiveWorkers::LiveWorkers(const shm::Segment& segment, const LiveQueue& queue)
    : segment_(segment),
      queue_(queue),
      heap_(segment),
      tree_(segment.config().workers),
      offers_(segment.config().workers),
      known_(segment.config().workers, 0),
      uncounted_(segment.config().workers) {
    ranks_.resize(size(), shm::kEmptyKey);
    for (WorkerRef worker = 0; worker < size(); ++worker) publish(worker);
}

WorkerRef LiveWorkers::find(const ClassShape& shape, std::span<const WorkerRef> except) {
    if (!wants_nothing(shape)) {
        if (!indexed_) build_index();
        const auto found = index_.best(queue_.job(shape), [except](std::uint32_t worker) {
            return !is_among(except, worker);
        });
        return found.value_or(kNoRef);
    }
    const auto best = heap_.best();
    if (!best) return kNoRef;
    const auto takes = [&](WorkerRef worker) {
        return !is_among(except, worker) && fits_on(worker, shape);
    };
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
    if (segment_.worker(worker).state.load() != shm::WorkerState::kAlive) return false;
    return wants_nothing(shape) || barrier_of(queue_.job(shape), offers_[worker]) == Refusal::kNone;
}

bool LiveWorkers::fits_on(WorkerRef worker, const ClassShape& shape) const {
    return tree_.fits(worker, shape.request) && (wants_nothing(shape) || allows(worker, shape));
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

// Another worker stands in the slot than the last time.
void LiveWorkers::learn(WorkerRef worker, std::uint64_t incarnation) {
    const auto& slot = segment_.worker(worker);
    auto& offer = offers_[worker];
    offer.capacity = slot.capacity;
    offer.price_per_hour = price_of(slot.on_demand_micro);
    offer.spot_price_per_hour = price_of(slot.price_micro.load());
    offer.spot = slot.spot != 0;
    offer.labels = shm::labels_of(slot);
    known_[worker] = incarnation;
    if (indexed_) index_.replace(worker, offer);
    one_price_ = true;
    for (WorkerRef other = 0; other < size(); ++other) {
        if (known_[other] == 0) continue;
        one_price_ &= !offers_[other].spot && offers_[other].price() == offer.price();
    }
}

void LiveWorkers::build_index() {
    for (const auto& offer : offers_) index_.add(offer);
    indexed_ = true;
    for (WorkerRef worker = 0; worker < size(); ++worker) publish(worker);
}

void LiveWorkers::publish(WorkerRef worker) {
    auto& slot = segment_.worker(worker);
    const auto hints = shm::dispatch_ring(segment_, worker);
    const bool open = !uncounted_[worker] && slot.state.load() == shm::WorkerState::kAlive &&
                      hints.size() + 1 < hints.capacity() && slot.used.fits(slot.capacity);
    if (!open) {
        tree_.close(worker);
        rank(worker, shm::kEmptyKey);
        if (indexed_) index_.set_open(worker, false);
        return;
    }
    const auto incarnation = slot.incarnation.load(std::memory_order_relaxed);
    if (known_[worker] != incarnation) learn(worker, incarnation);
    auto free = slot.capacity;
    free -= slot.used;
    tree_.open(worker, free);
    // Cheapest first, then the fullest: packing leaves room for large requests elsewhere.
    const auto key =
        (static_cast<std::uint64_t>(slot.price_micro.load()) << 32) | room_of(free, slot.capacity);
    rank(worker, free.cpu_milli == 0 ? shm::kEmptyKey : key);
    if (indexed_) index_.set_used(worker, slot.used, true);
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
