// ClassIndex is the scheduler's private view of the queue: the best task of every class at once.
//
// The shared part (TaskHeap) knows the best task of each chunk of 64 slots, and which class owns
// the chunk. This keeps, per class, a heap of chunk heads, and over the classes a min tree, so that
// "the best task of all classes that may run now" is one look, parking a class is one write, and a
// million parked tasks cost nothing. It is a cache: what it says is checked against the shared head
// and decided by the slot's word; losing it costs a rescan (0.3 ms).
//
// Only one may exist per segment: it clears the dirty bits. The register confirms a scheduler's
// death before the next one starts. Not thread-safe.
//
// claim(): (1) read the slot word: queued, key as announced (2) chunk owner is still this class
//          (3) CAS the word of (1) to claimed (4) climb, also when (3) failed: that heals what a
//          dead claimer or pusher left. The generation in the word grows when a slot is reused, and
//          an owner changes only while all its slots are free, so (3) succeeding proves (2) held.
//
// Progress     claim: lock-free; gives up after kClaimTriesMax lost races (the next loop tries
// again). Death        after (3): the slot is claimed by kOwnerScheduler; the next scheduler gives
// it back. Linearizes   at (3).
//
// Tested in tests/unit/common/shm/{class_index,interleaving,every_instruction}_test.cc,
// tests/stress.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "common/shm/layout.h"
#include "common/shm/min_tree.h"
#include "common/shm/segment.h"
#include "common/shm/task_heap.h"

namespace reeve::shm {

struct ClassHead {
    std::uint32_t class_id = kNone32;
    HeapEntry entry;
};

struct Claimed {
    std::uint32_t slot = kNone32;
    std::uint64_t key = kEmptyKey;
    SlotWord queued;   // the word it had, for the event
    SlotWord claimed;  // the word it has now, for the next CAS
};

template <typename Policy>
class BasicClassIndex {
public:
    static constexpr int kClaimTriesMax = 1'000;

    explicit BasicClassIndex(const Segment& segment);  // reads all chunk heads

    // Takes in what changed since the last call. The others do it where it matters: best, peek and
    // claim drain first, for_each_head and head do not.
    void drain();
    // Reads every chunk head again (0.1 ms for a million slots); about every 50 ms, for the bits a
    // killed process never set. Returns how many chunks were not as cached.
    std::uint32_t rescan();

    // The best task of a class, parked or not, checked against the shared heads.
    std::optional<HeapEntry> peek(std::uint32_t class_id);
    // The best task over all classes that are not parked.
    std::optional<ClassHead> best();
    // Takes the best task of a class: queued -> claimed, owner kOwnerScheduler.
    std::optional<Claimed> claim(std::uint32_t class_id);
    // The same for the best task over all classes that are not parked.
    std::optional<Claimed> claim_best();
    // Takes this very task, if it is still queued (backfill: not the first of its class).
    std::optional<Claimed> claim_slot(std::uint32_t class_id, std::uint32_t slot) {
        return try_claim(class_id, slot, heap_.slot(slot).key.load(std::memory_order_seq_cst));
    }
    // claimed -> queued again. False when somebody else moved it meanwhile (then it is theirs).
    bool give_back(const Claimed& claimed);

    // A parked class is skipped by best(); its tasks stay where they are. Parking is not lasting: a
    // new ClassIndex starts with nothing parked.
    void park(std::uint32_t class_id);
    void unpark(std::uint32_t class_id);
    bool parked(std::uint32_t class_id) const { return parked_[class_id] != 0; }

    // Calls visit(ClassHead) for each class with a queued task, parked ones too, in no order.
    template <typename Visit>
    void for_each_head(Visit visit) {
        // Backwards: a look may empty the class looked at, whose place the last one takes.
        for (auto at = filled_.size(); at-- > 0;) {
            const auto id = filled_[at];
            if (auto entry = verified_head(id)) visit(ClassHead{id, *entry});
        }
    }
    bool empty(std::uint32_t class_id) const { return heaps_[class_id].empty(); }
    // Calls visit(HeapEntry) for the best `limit` tasks of a class, best first, without taking
    // them; stops when visit returns false. For backfill and explain.
    template <typename Visit>
    void for_each_in_class(std::uint32_t class_id, std::uint32_t limit, Visit visit);

    std::uint32_t class_count() const { return class_count_; }
    BasicTaskHeap<Policy>& heap() { return heap_; }

private:
    struct Item {
        std::uint64_t key;
        std::uint32_t chunk;
        std::uint32_t slot;  // where the key was, for prefetching
    };
    using Items = std::vector<Item>;  // 4-ary heap

    bool set(
        std::uint32_t chunk);  // the chunk's owner and head into the cache; true: was different
    void insert(std::uint32_t class_id, Item item);
    void erase(std::uint32_t class_id, std::uint32_t position);
    void change(std::uint32_t class_id, std::uint32_t position, const HeapEntry& head);
    void sift_up(Items& items, std::size_t at, Item item);
    void sift_down(Items& items, std::size_t at, Item item);
    void put(Items& items, std::size_t at, Item item) {
        items[at] = item;
        position_[item.chunk] = static_cast<std::uint32_t>(at);
        if (at <= 4) heap_.prefetch_candidate(item.slot);  // among the next to be claimed
    }
    void publish_head(std::uint32_t class_id);
    void note_filled(std::uint32_t class_id);
    void note_empty(std::uint32_t class_id);
    std::optional<Claimed> try_claim(std::uint32_t class_id, std::uint32_t slot, std::uint64_t key);
    std::optional<HeapEntry> verified_head(std::uint32_t class_id);
    std::optional<HeapEntry> load_head(std::uint32_t chunk);
    void collect_queued(std::uint32_t chunk, std::vector<HeapEntry>& out) const;

    BasicTaskHeap<Policy> heap_;
    std::atomic<std::uint32_t>* owners_;
    std::uint32_t class_count_;
    std::vector<Items> heaps_;              // per class
    std::vector<std::uint32_t> filled_;     // classes with a chunk, in no order
    std::vector<std::uint32_t> filled_at_;  // per class: where it is among them
    std::vector<std::uint32_t> class_of_;   // per chunk: where it is filed, or kNone32
    std::vector<std::uint32_t> position_;   // per chunk: index in its class's heap
    std::vector<std::uint8_t> parked_;      // per class
    std::vector<std::uint32_t> changed_;    // chunks of one drain; kept for its memory
    MinTree effective_;                     // per class: head key, or infinite when empty or parked
};

using ClassIndex = BasicClassIndex<LivePolicy>;
extern template class BasicClassIndex<LivePolicy>;

}  // namespace reeve::shm

#include "common/shm/class_index_inline.h"
