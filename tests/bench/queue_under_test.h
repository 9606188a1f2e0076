// The two queues heap_bench compares, behind one interface: the chunk heaps with the class index,
// and the mutex heap. Both move the slot's word on push and pop, as the product does; under the
// lock plain stores do.
#pragma once

#include <memory>
#include <optional>

#include "common/shm/class_index.h"
#include "tests/bench/mutex_heap.h"

namespace reeve::bench {

inline constexpr std::uint32_t kBenchSlots = 1U << 20;

class BenchSegment {
public:
    explicit BenchSegment(const std::string& name, std::uint32_t classes) {
        shm::SegmentConfig config;
        config.task_slots = kBenchSlots;
        config.classes = 256;
        config.workers = 1;
        config.jobs = 1;
        config.arena_bytes = MutexHeap::bytes(kBenchSlots) + 4'096;
        shm::Segment::remove(name);
        auto made = shm::Segment::create(name, config, 1, 1);
        if (!made) {
            std::fprintf(stderr, "%s\n", made.error().message.c_str());
            std::exit(1);
        }
        segment_ = std::move(*made);
        shm::Segment::remove(name);  // the mapping is inherited
        for (std::uint32_t chunk = 0; chunk < segment_->layout().chunks; ++chunk) {
            segment_->chunk_owner(chunk).store(chunk % classes);
        }
    }
    const shm::Segment& operator*() const { return *segment_; }

private:
    std::unique_ptr<shm::Segment> segment_;
};

inline void free_slot(shm::TaskSlot& slot) {
    const auto word = shm::load_word(slot);
    slot.word.store(word.to(shm::SlotState::kFree, 0).raw, std::memory_order_release);
}
inline shm::SlotWord next_queued(const shm::TaskSlot& slot) {
    const shm::SlotWord word{slot.word.load(std::memory_order_relaxed)};
    return shm::SlotWord::make(word.generation() + 1, 0, 0, shm::SlotState::kQueued);
}

class ChunkQueue {
public:
    static constexpr const char* kName = "chunk heaps";
    explicit ChunkQueue(const shm::Segment& segment) : segment_(segment), heap_(segment) {}

    void create() {}
    void attach_consumer() { index_ = std::make_unique<shm::ClassIndex>(segment_); }
    void prefetch(std::uint32_t slot) const { heap_.prefetch(slot); }
    void push(std::uint32_t index, std::uint64_t key) {
        auto& slot = segment_.task(index);
        auto expected = slot.word.load(std::memory_order_relaxed);
        const auto queued = next_queued(slot);
        slot.key.store(key, std::memory_order_relaxed);
        slot.word.compare_exchange_strong(expected, queued.raw);
        heap_.touch(index);
    }
    std::optional<shm::HeapEntry> pop() {
        const auto claimed = index_->claim_best();
        if (!claimed) return std::nullopt;
        return shm::HeapEntry{claimed->key, claimed->slot};
    }
    // claimed -> queued by somebody else, as the register does.
    void requeue(std::uint32_t index) {
        auto& slot = segment_.task(index);
        const auto word = shm::load_word(slot);
        auto expected = word.raw;
        slot.word.compare_exchange_strong(expected, word.to(shm::SlotState::kQueued, 0).raw);
        heap_.touch(index);
    }
    shm::TaskHeap& heap() { return heap_; }
    shm::ClassIndex& index() { return *index_; }

private:
    const shm::Segment& segment_;
    shm::TaskHeap heap_;
    std::unique_ptr<shm::ClassIndex> index_;
};

class LockedQueue {
public:
    static constexpr const char* kName = "mutex heap";
    explicit LockedQueue(const shm::Segment& segment)
        : segment_(segment), heap_(segment.arena() + 64) {}

    void create() { heap_.create(); }
    void attach_consumer() {}
    void prefetch(std::uint32_t slot) const { __builtin_prefetch(&segment_.task(slot), 1); }
    void push(std::uint32_t index, std::uint64_t key) {
        auto& slot = segment_.task(index);
        heap_.push(key, index, [&] {
            slot.key.store(key, std::memory_order_relaxed);
            slot.word.store(next_queued(slot).raw, std::memory_order_relaxed);
        });
    }
    std::optional<shm::HeapEntry> pop() {
        return heap_.pop([&](std::uint32_t index) {
            auto& slot = segment_.task(index);
            const shm::SlotWord word{slot.word.load(std::memory_order_relaxed)};
            slot.word.store(word.to(shm::SlotState::kClaimed, shm::kOwnerScheduler).raw,
                            std::memory_order_relaxed);
        });
    }
    void requeue(std::uint32_t index) {
        auto& slot = segment_.task(index);
        heap_.push(slot.key.load(std::memory_order_relaxed), index, [&] {
            const shm::SlotWord word{slot.word.load(std::memory_order_relaxed)};
            slot.word.store(word.to(shm::SlotState::kQueued, 0).raw, std::memory_order_relaxed);
        });
    }

private:
    const shm::Segment& segment_;
    MutexHeap heap_;
};

}  // namespace reeve::bench
