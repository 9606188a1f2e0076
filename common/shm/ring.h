// Ring is a single-producer single-consumer queue over a RingHeader and entries in the segment.
//
// Progress     try_push, pop: wait-free.
// Capacity     a power of two, fixed; a full ring says so and changes nothing.
// Order        (1) release store of tail pairs with (2) acquire load of tail: the entry is written
//              before it is seen. (3) release store of head pairs with (4) acquire load of head:
//              the entry is read before it is overwritten.
// Death        a producer killed before (1) leaves nothing visible; its successor overwrites the
//              entry. A consumer killed before (3) reads the entry again: entries are idempotent.
// Several Ring objects may exist for one ring, used one after another by the side they belong to.
// Untrusted    head and tail may hold anything: size() clamps, entries are read at masked indices.
//
// INVARIANT 1  tail - head <= capacity, as long as both sides keep to the contract.
#pragma once

#include <cstdint>
#include <optional>

#include "common/shm/layout.h"
#include "common/shm/segment.h"

namespace reeve::shm {

template <typename T>
class Ring {
public:
    Ring() = default;
    Ring(RingHeader* header, T* entries, std::uint64_t capacity)
        : header_(header), entries_(entries), mask_(capacity - 1) {}

    std::uint64_t capacity() const { return mask_ + 1; }

    // Producer.
    bool try_push(const T& entry) {
        const auto tail = header_->tail.load(std::memory_order_relaxed);
        if (tail - known_head_ > mask_) {
            known_head_ = header_->head.load(std::memory_order_acquire);  // (4)
            if (tail - known_head_ > mask_) return false;
        }
        entries_[tail & mask_] = entry;
        header_->tail.store(tail + 1, std::memory_order_release);  // (1)
        return true;
    }
    std::uint64_t produced() const { return header_->tail.load(std::memory_order_acquire); }

    // Consumer. peek(i) reads entry i without consuming; advance(i) consumes all before i.
    std::uint64_t head() const { return header_->head.load(std::memory_order_acquire); }
    std::uint64_t tail() const { return header_->tail.load(std::memory_order_acquire); }  // (2)
    T peek(std::uint64_t index) const { return entries_[index & mask_]; }
    void advance(std::uint64_t head) {
        header_->head.store(head, std::memory_order_release);
    }  // (3)
    std::optional<T> pop() {
        const auto at = header_->head.load(std::memory_order_relaxed);
        if (known_tail_ - at - 1 > mask_) {
            known_tail_ = tail();
            if (known_tail_ == at) return std::nullopt;
        }
        T entry = entries_[at & mask_];
        advance(at + 1);
        return entry;
    }
    // Entries waiting, clamped to the capacity if the indices are damaged.
    std::uint64_t size() const {
        const auto waiting = tail() - head();
        return waiting > capacity() ? capacity() : waiting;
    }

private:
    RingHeader* header_ = nullptr;
    T* entries_ = nullptr;
    std::uint64_t mask_ = 0;
    // The other side's index as last seen, so that its line is not asked for each time. Private to
    // this object; only trusted where it says that there is room, or something to take, within a
    // capacity.
    std::uint64_t known_head_ = 0;
    std::uint64_t known_tail_ = 0;
};

using EventRing = Ring<Event>;
using HintRing = Ring<SlotHint>;

// The rings of a segment. Event ring index: 0 scheduler, 1 register, 2 + i worker slot i.
inline constexpr std::uint32_t kEventRingScheduler = 0;
inline constexpr std::uint32_t kEventRingRegister = 1;
inline constexpr std::uint32_t kEventRingFirstWorker = 2;
inline std::uint32_t event_ring_count(const Segment& segment) {
    return kEventRingFirstWorker + segment.config().workers;
}
EventRing event_ring(const Segment& segment, std::uint32_t index);
HintRing dispatch_ring(const Segment& segment, std::uint32_t worker_slot);
HintRing completion_ring(const Segment& segment, std::uint32_t worker_slot);

}  // namespace reeve::shm
