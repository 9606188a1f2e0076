// TaskHeap is the shared part of the queue: a two-level tournament tree per chunk of 64 task slots.
//
// A task is in it iff its slot word says queued; its place is its key, smaller first. Everybody
// works on it: the PLM pushes, the scheduler claims, the register requeues, and each calls touch()
// after it moved a slot into or out of queued, or changed the key of a queued one. A two-level
// bitmap tells the scheduler's ClassIndex which chunks changed. The best of a chunk is the best of
// its 8 group nodes, found by whoever asks: a root node would cost every push one more swap.
//
//   touch:  (1) slot word or key changed by the caller   (2) climb 2 levels
//           (3) dirty bit of the chunk, unless set       (4) sum bit of the dirty word, unless set
//   drain:  (5) sum.exchange(0)   (6) dirty.exchange(0)  (7) read the chunk's owner and head
//
// Progress     touch, chunk_head: lock-free; at most 4 swaps and 2 bit sets.
// Order        all seq_cst. (7) comes after (6), (6) after (3), (3) after (2): a head read in (7)
// is at
//              least as new as the climb whose bit was cleared. A skipped (3) found the bit set, so
//              its clearing is still to come and reads what we climbed; a skipped (3) must still do
//              (4), for whoever set the dirty bit may have died before its own (4).
// Death        after (1), before (2) ends: the task may be hidden behind an old node until somebody
//              climbs there; between (2) and (4): until the scheduler's rescan(). heal() cures
//              both, with nobody stopped. A process stopped anywhere in here blocks nobody.
// Untrusted    indices outside their subtree read as empty; heal() recomputes from the slots.
//
// INVARIANT 1  quiet heap: chunk_head(c) is the smallest key of the queued slots of chunk c.
// INVARIANT 2  quiet heap: a chunk whose head changed since the last drain has both its bits set.
//
// Tested in tests/unit/common/shm/{task_heap,interleaving,every_instruction}_test.cc, tests/stress.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <optional>

#include "common/base/assert.h"
#include "common/shm/layout.h"
#include "common/shm/segment.h"
#include "common/shm/tournament_tree.h"

namespace reeve::shm {

// The slots as leaves: the key while queued, else nothing. Word and key need not be of one moment:
// whoever changes either climbs afterwards.
template <typename Policy>
class SlotLeaves {
public:
    explicit SlotLeaves(TaskSlot* slots) : slots_(slots) {}
    std::uint64_t load_key(std::uint32_t slot) const {
        Policy::step();
        const SlotWord word{slots_[slot].word.load(std::memory_order_seq_cst)};
        Policy::step();
        const auto key = slots_[slot].key.load(std::memory_order_seq_cst);
        return word.state() == SlotState::kQueued ? key : kEmptyKey;
    }
    [[gnu::always_inline]] void prefetch(std::uint32_t slot) const {
        prefetch_to_write(&slots_[slot]);
    }

private:
    TaskSlot* slots_;
};

template <typename Policy>
class BasicTaskHeap {
public:
    explicit BasicTaskHeap(const Segment& segment)
        : slots_(&segment.at<TaskSlot>(segment.layout().task_slots, 0)),
          dirty_(&segment.at<std::atomic<std::uint64_t>>(segment.layout().dirty, 0)),
          sums_(&segment.at<Sum>(segment.layout().dirty_sum, 0)),
          slot_count_(segment.config().task_slots),
          chunk_count_(segment.layout().chunks),
          tree_(SlotLeaves<Policy>(slots_), slot_count_) {
        tree_.add_level(&segment.at<HeapNode>(segment.layout().heap_slot_nodes, 0));
        tree_.add_level(&segment.at<HeapNode>(segment.layout().heap_group_nodes, 0));
        REEVE_ASSERT(tree_.node_count(kGroupLevel) == chunk_count_ * kFanOut);
    }

    // After any change of a slot that enters, leaves or moves within the heap.
    void touch(std::uint32_t slot) {
        REEVE_ASSERT(slot < slot_count_);
        const auto chunk = slot / kChunkSlots;
        if (!Policy::kMarkLast) mark_chunk(chunk);
        prefetch_to_write(&dirty_[chunk / 64]);  // the drainer had them; the climb takes as long
        prefetch_to_write(&sums_[chunk / 64 / 64]);
        tree_.climb(slot);
        if (Policy::kMarkLast) mark_chunk(chunk);
    }
    // Worth calling as soon as a slot is known that will be moved and touched.
    [[gnu::always_inline]] void prefetch(std::uint32_t slot) const {
        REEVE_ASSERT(slot < slot_count_);
        tree_.prefetch(slot);
    }
    // Before neighbours are published with touch_range().
    [[gnu::always_inline]] void prefetch_range(std::uint32_t first, std::uint32_t count) const {
        tree_.prefetch_range(first, count);
    }
    // For a slot that may be claimed soon, without taking the lines from whoever works on them.
    [[gnu::always_inline]] void prefetch_candidate(std::uint32_t slot) const {
        __builtin_prefetch(&slots_[slot]);
        tree_.prefetch_level(0, slot);
        tree_.prefetch_level(kGroupLevel, slot / kFanOut);
    }
    [[gnu::always_inline]] void prefetch_head(std::uint32_t chunk) const {
        tree_.prefetch_level(kGroupLevel, chunk * kFanOut);
    }
    // touch() without the bits: for the drainer itself, which reads the chunk's head right after.
    void climb(std::uint32_t slot) {
        REEVE_ASSERT(slot < slot_count_);
        tree_.climb(slot);
    }
    // touch() for neighbours, at a fraction of the price: 64 cost about as much as 8 alone.
    void touch_range(std::uint32_t first, std::uint32_t count) {
        if (count == 0) return;
        REEVE_ASSERT(first < slot_count_ && count <= slot_count_ - first);
        tree_.climb_range(first, count);
        const auto last_chunk = (first + count - 1) / kChunkSlots;
        for (auto chunk = first / kChunkSlots; chunk <= last_chunk; ++chunk) mark_chunk(chunk);
    }
    // Tells the scheduler to look at a chunk again. touch() does it; the PLM also after it gave a
    // chunk (all of whose slots are free) to another class.
    void mark_chunk(std::uint32_t chunk) {
        const auto word = chunk / 64;
        const auto bit = std::uint64_t{1} << (chunk % 64);
        Policy::step();
        const bool marked = (dirty_[word].load(std::memory_order_seq_cst) & bit) != 0;
        if (!marked) {
            Policy::step();
            dirty_[word].fetch_or(bit, std::memory_order_seq_cst);
        }
        if (marked && !Policy::kAlwaysCheckSum) return;
        auto& sum = sums_[word / 64].bits;
        const auto sum_bit = std::uint64_t{1} << (word % 64);
        Policy::step();
        if ((sum.load(std::memory_order_seq_cst) & sum_bit) != 0) return;
        Policy::step();
        sum.fetch_or(sum_bit, std::memory_order_seq_cst);
    }

    // The smallest key of a chunk. A hint until the slot is claimed. Works on read-only mappings.
    std::optional<HeapEntry> chunk_head(std::uint32_t chunk, bool* damaged = nullptr) const {
        REEVE_ASSERT(chunk < chunk_count_);
        return tree_.best_of_8(kGroupLevel, chunk * kFanOut, damaged);
    }

    // Recompute from the slots; the number of nodes that were wrong. Safe at any time, by anybody.
    std::uint64_t heal() {
        std::uint64_t wrong = 0;
        for (std::uint32_t chunk = 0; chunk < chunk_count_; ++chunk) wrong += heal_chunk(chunk);
        return wrong;
    }
    std::uint64_t heal_chunk(std::uint32_t chunk) {
        REEVE_ASSERT(chunk < chunk_count_);
        std::uint64_t wrong = 0;
        for (std::uint32_t i = 0; i < 64; ++i) {
            tree_.prefetch_leaf(std::min(chunk * 64 + i + kHealAhead, slot_count_ - 1));
            wrong += heal_node(0, chunk * 64 + i);
        }
        for (std::uint32_t i = 0; i < 8; ++i) wrong += heal_node(kGroupLevel, chunk * 8 + i);
        if (wrong != 0) mark_chunk(chunk);
        return wrong;
    }
    // What touch() does, for somebody else's slot (Participant::intent_slot of a dead process).
    std::uint64_t heal_slot(std::uint32_t slot) {
        REEVE_ASSERT(slot < slot_count_);
        const auto wrong = heal_node(0, slot) + heal_node(kGroupLevel, slot / kFanOut);
        mark_chunk(slot / kChunkSlots);
        return wrong;
    }

    // For the one drainer (ClassIndex): calls changed(chunk) for every marked chunk, after clearing
    // its bit. Other readers look at all heads instead and never drain. (Leaving few sum bits set
    // for good, to spare both sides the line, was tried: no gain.)
    template <typename Changed>
    void drain(Changed changed) {
        const auto words = (chunk_count_ + 63) / 64;
        for (std::uint32_t sum = 0; sum < (words + 63) / 64; ++sum) {
            prefetch_to_write(&sums_[sum]);  // reading it first would ask for the line twice
            Policy::step();
            if (sums_[sum].bits.load(std::memory_order_seq_cst) == 0) continue;
            Policy::step();
            auto waiting = sums_[sum].bits.exchange(0, std::memory_order_seq_cst);  // (5)
            for (; waiting != 0; waiting &= waiting - 1) {
                const auto word = sum * 64 + static_cast<std::uint32_t>(__builtin_ctzll(waiting));
                if (word < words) drain_word(word, changed);
            }
        }
    }

    // A slot's key as the heap has it (kEmptyKey: not queued): dense memory, a hint.
    std::uint64_t cached_key(std::uint32_t slot) const {
        REEVE_ASSERT(slot < slot_count_);
        return tree_.cached_key(slot);
    }
    std::uint32_t chunk_count() const { return chunk_count_; }
    std::uint32_t slot_count() const { return slot_count_; }
    TaskSlot& slot(std::uint32_t index) const {
        REEVE_ASSERT(index < slot_count_);
        return slots_[index];
    }

private:
    static constexpr std::uint32_t kGroupLevel = 1;  // level 0: slots
    static_assert(kChunkSlots == kFanOut * kFanOut);
    static constexpr std::uint32_t kHealAhead = 32;  // slots asked for ahead of the one looked at

    struct alignas(64) Sum {
        std::atomic<std::uint64_t> bits;
    };
    static_assert(sizeof(Sum) == 64);

    std::uint64_t heal_node(std::uint32_t level, std::uint32_t at) {
        return tree_.heal_node(level, at) ? 1U : 0U;
    }

    template <typename Changed>
    void drain_word(std::uint32_t word, Changed& changed) {
        Policy::step();
        auto marked = dirty_[word].exchange(0, std::memory_order_seq_cst);  // (6)
        for (; marked != 0; marked &= marked - 1) {
            const auto chunk = word * 64 + static_cast<std::uint32_t>(__builtin_ctzll(marked));
            if (chunk < chunk_count_) changed(chunk);  // (7)
        }
    }

    TaskSlot* slots_;
    std::atomic<std::uint64_t>* dirty_;
    Sum* sums_;
    std::uint32_t slot_count_;
    std::uint32_t chunk_count_;
    TournamentTree<Policy, SlotLeaves<Policy>, kGroupLevel + 1> tree_;
};

using TaskHeap = BasicTaskHeap<LivePolicy>;
extern template class BasicTaskHeap<LivePolicy>;

}  // namespace reeve::shm
