// The bodies of BasicClassIndex (class_index.h); a header because tests bring their own Policy.
#pragma once

#include <algorithm>
#include <utility>

#include "common/shm/class_index.h"

namespace reeve::shm {

template <typename Policy>
BasicClassIndex<Policy>::BasicClassIndex(const Segment& segment)
    : heap_(segment),
      owners_(&segment.at<std::atomic<std::uint32_t>>(segment.layout().chunk_owner, 0)),
      class_count_(segment.config().classes),
      heaps_(class_count_),
      filled_at_(class_count_, kNone32),
      class_of_(segment.layout().chunks, kNone32),
      position_(segment.layout().chunks, kNone32),
      parked_(class_count_, 0),
      effective_(class_count_) {
    changed_.reserve(heap_.chunk_count());  // a drain allocates nothing
    filled_.reserve(class_count_);
    rescan();
}

template <typename Policy>
void BasicClassIndex<Policy>::drain() {
    heap_.drain([this](std::uint32_t chunk) {
        heap_.prefetch_head(chunk);
        changed_.push_back(chunk);
    });
    for (const auto chunk : changed_) set(chunk);
    changed_.clear();
}

template <typename Policy>
std::uint32_t BasicClassIndex<Policy>::rescan() {
    std::uint32_t different = 0;
    for (std::uint32_t chunk = 0; chunk < heap_.chunk_count(); ++chunk) {
        different += set(chunk) ? 1U : 0U;
    }
    return different;
}

template <typename Policy>
std::optional<HeapEntry> BasicClassIndex<Policy>::load_head(std::uint32_t chunk) {
    bool damaged = false;
    auto head = heap_.chunk_head(chunk, &damaged);
    if (damaged) [[unlikely]] {
        heap_.heal_chunk(chunk);
        head = heap_.chunk_head(chunk);
    }
    return head;
}

template <typename Policy>
bool BasicClassIndex<Policy>::set(std::uint32_t chunk) {
    Policy::step();
    auto owner = owners_[chunk].load(std::memory_order_seq_cst);
    const auto head = load_head(chunk);
    if (owner >= class_count_ || !head) owner = kNone32;
    const auto filed = class_of_[chunk];
    if (filed != owner) {
        if (filed != kNone32) erase(filed, position_[chunk]);
        class_of_[chunk] = owner;
        if (owner != kNone32) insert(owner, Item{head->key, chunk, head->slot});
        return true;
    }
    if (owner == kNone32 || heaps_[owner][position_[chunk]].key == head->key) return false;
    change(owner, position_[chunk], *head);
    return true;
}

template <typename Policy>
void BasicClassIndex<Policy>::insert(std::uint32_t class_id, Item item) {
    auto& items = heaps_[class_id];
    if (items.empty()) note_filled(class_id);
    items.push_back(item);
    sift_up(items, items.size() - 1, item);
    publish_head(class_id);
}

template <typename Policy>
void BasicClassIndex<Policy>::erase(std::uint32_t class_id, std::uint32_t position) {
    auto& items = heaps_[class_id];
    REEVE_ASSERT(position < items.size());
    position_[items[position].chunk] = kNone32;
    const Item last = items.back();
    items.pop_back();
    if (items.empty()) note_empty(class_id);
    if (position < items.size()) {
        const auto removed_key = items[position].key;
        if (last.key < removed_key) {
            sift_up(items, position, last);
        } else {
            sift_down(items, position, last);
        }
    }
    publish_head(class_id);
}

template <typename Policy>
void BasicClassIndex<Policy>::change(std::uint32_t class_id, std::uint32_t position,
                                     const HeapEntry& head) {
    auto& items = heaps_[class_id];
    REEVE_ASSERT(position < items.size());
    const Item item{head.key, items[position].chunk, head.slot};
    if (head.key < items[position].key) {
        sift_up(items, position, item);
    } else {
        sift_down(items, position, item);
    }
    publish_head(class_id);
}

template <typename Policy>
void BasicClassIndex<Policy>::sift_up(Items& items, std::size_t at, Item item) {
    while (at != 0) {
        const auto parent = (at - 1) / 4;
        if (items[parent].key <= item.key) break;
        put(items, at, items[parent]);
        at = parent;
    }
    put(items, at, item);
}

template <typename Policy>
void BasicClassIndex<Policy>::sift_down(Items& items, std::size_t at, Item item) {
    const auto size = items.size();
    for (;;) {
        const auto first = at * 4 + 1;
        if (first >= size) break;
        auto smallest = first;
        if (first + 4 <= size) {
            const auto* children = &items[first];
            smallest += smallest_of_4([children](std::uint32_t i) { return children[i].key; }).at;
        } else {
            for (auto child = first + 1; child < size; ++child) {
                if (items[child].key < items[smallest].key) smallest = child;
            }
        }
        if (items[smallest].key >= item.key) break;
        put(items, at, items[smallest]);
        at = smallest;
    }
    put(items, at, item);
}

template <typename Policy>
void BasicClassIndex<Policy>::note_filled(std::uint32_t class_id) {
    filled_at_[class_id] = static_cast<std::uint32_t>(filled_.size());
    filled_.push_back(class_id);
}

template <typename Policy>
void BasicClassIndex<Policy>::note_empty(std::uint32_t class_id) {
    const auto at = std::exchange(filled_at_[class_id], kNone32);
    filled_[at] = filled_.back();
    if (filled_[at] != class_id) filled_at_[filled_[at]] = at;
    filled_.pop_back();
}

template <typename Policy>
void BasicClassIndex<Policy>::publish_head(std::uint32_t class_id) {
    const auto& items = heaps_[class_id];
    const bool visible = !items.empty() && parked_[class_id] == 0;
    effective_.set(class_id, visible ? items.front().key : MinTree::kInfinite);
}

template <typename Policy>
std::optional<HeapEntry> BasicClassIndex<Policy>::verified_head(std::uint32_t class_id) {
    const auto& items = heaps_[class_id];
    for (int tries = 0; tries < kClaimTriesMax && !items.empty(); ++tries) {
        const Item top = items.front();
        const auto head = load_head(top.chunk);
        if (head && head->key == top.key) return head;
        set(top.chunk);
    }
    return std::nullopt;
}

template <typename Policy>
std::optional<HeapEntry> BasicClassIndex<Policy>::peek(std::uint32_t class_id) {
    REEVE_ASSERT(class_id < class_count_);
    drain();
    return verified_head(class_id);
}

template <typename Policy>
std::optional<ClassHead> BasicClassIndex<Policy>::best() {
    drain();
    for (int tries = 0; tries < kClaimTriesMax; ++tries) {
        const auto class_id = effective_.best();
        if (class_id >= class_count_) return std::nullopt;
        const auto announced = effective_.get(class_id);
        if (announced == MinTree::kInfinite) return std::nullopt;
        const auto entry = verified_head(class_id);
        if (entry && entry->key == announced) return ClassHead{class_id, *entry};
    }
    return std::nullopt;
}

template <typename Policy>
std::optional<Claimed> BasicClassIndex<Policy>::claim(std::uint32_t class_id) {
    REEVE_ASSERT(class_id < class_count_);
    drain();
    for (int tries = 0; tries < kClaimTriesMax; ++tries) {
        const auto head = verified_head(class_id);
        if (!head) return std::nullopt;
        if (auto claimed = try_claim(class_id, head->slot, head->key); claimed) return claimed;
    }
    return std::nullopt;
}

template <typename Policy>
std::optional<Claimed> BasicClassIndex<Policy>::claim_best() {
    drain();
    for (int tries = 0; tries < kClaimTriesMax; ++tries) {
        const auto class_id = effective_.best();
        if (class_id >= class_count_ || effective_.get(class_id) == MinTree::kInfinite) {
            return std::nullopt;
        }
        const Item top = heaps_[class_id].front();
        const auto head = load_head(top.chunk);
        if (!head || head->key != top.key) {
            set(top.chunk);
            continue;
        }
        if (auto claimed = try_claim(class_id, head->slot, head->key); claimed) return claimed;
    }
    return std::nullopt;
}

template <typename Policy>
std::optional<Claimed> BasicClassIndex<Policy>::try_claim(std::uint32_t class_id,
                                                          std::uint32_t index,
                                                          std::uint64_t announced) {
    const auto chunk = index / kChunkSlots;
    auto& slot = heap_.slot(index);
    heap_.prefetch(index);
    Policy::step();
    const SlotWord word{slot.word.load(std::memory_order_seq_cst)};  // (1)
    Policy::step();
    const auto key = slot.key.load(std::memory_order_seq_cst);
    Policy::step();
    const bool ours =
        !Policy::kCheckOwner || owners_[chunk].load(std::memory_order_seq_cst) == class_id;  // (2)
    const SlotWord claimed = word.to(SlotState::kClaimed, kOwnerScheduler);
    bool won = false;
    if (word.state() == SlotState::kQueued && key == announced && ours) {
        auto expected = word.raw;
        Policy::step();
        won = slot.word.compare_exchange_strong(expected, claimed.raw,
                                                std::memory_order_seq_cst);  // (3)
    }
    heap_.climb(index);  // (4)
    set(chunk);
    if (!won) return std::nullopt;
    return Claimed{index, key, word, claimed};
}

template <typename Policy>
bool BasicClassIndex<Policy>::give_back(const Claimed& claimed) {
    auto& slot = heap_.slot(claimed.slot);
    auto expected = claimed.claimed.raw;
    const auto queued = claimed.claimed.to(SlotState::kQueued, kOwnerNone);
    Policy::step();
    if (!slot.word.compare_exchange_strong(expected, queued.raw, std::memory_order_seq_cst)) {
        return false;
    }
    heap_.climb(claimed.slot);
    set(claimed.slot / kChunkSlots);
    return true;
}

template <typename Policy>
void BasicClassIndex<Policy>::park(std::uint32_t class_id) {
    REEVE_ASSERT(class_id < class_count_);
    parked_[class_id] = 1;
    effective_.set(class_id, MinTree::kInfinite);
}

template <typename Policy>
void BasicClassIndex<Policy>::unpark(std::uint32_t class_id) {
    REEVE_ASSERT(class_id < class_count_);
    parked_[class_id] = 0;
    publish_head(class_id);
}

template <typename Policy>
void BasicClassIndex<Policy>::collect_queued(std::uint32_t chunk,
                                             std::vector<HeapEntry>& out) const {
    for (std::uint32_t i = 0; i < kChunkSlots; ++i) {
        const auto index = chunk * kChunkSlots + i;
        const auto key = heap_.cached_key(index);
        if (key != kEmptyKey) out.push_back(HeapEntry{key, index});
    }
}

// Chunks in order of their heads; each is opened (its 64 slots read) only when its head is due.
template <typename Policy>
template <typename Visit>
void BasicClassIndex<Policy>::for_each_in_class(std::uint32_t class_id, std::uint32_t limit,
                                                Visit visit) {
    REEVE_ASSERT(class_id < class_count_);
    const auto later = [](const auto& a, const auto& b) { return a.key > b.key; };
    const auto& items = heaps_[class_id];
    std::vector<HeapEntry> due;   // chunk positions still closed; slot = position in items
    std::vector<HeapEntry> open;  // tasks of opened chunks
    std::vector<HeapEntry> opened;
    if (!items.empty()) due.push_back(HeapEntry{items[0].key, 0});
    for (std::uint32_t seen = 0; seen < limit;) {
        const bool next_is_chunk = !due.empty() && (open.empty() || due[0].key <= open[0].key);
        if (next_is_chunk) {
            std::pop_heap(due.begin(), due.end(), later);
            const auto position = due.back().slot;
            due.pop_back();
            for (std::uint32_t child = position * 4 + 1;
                 child < position * 4 + 5 && child < items.size(); ++child) {
                due.push_back(HeapEntry{items[child].key, child});
                std::push_heap(due.begin(), due.end(), later);
            }
            opened.clear();
            collect_queued(items[position].chunk, opened);
            for (const auto& entry : opened) {
                open.push_back(entry);
                std::push_heap(open.begin(), open.end(), later);
            }
            continue;
        }
        if (open.empty()) return;
        std::pop_heap(open.begin(), open.end(), later);
        const HeapEntry entry = open.back();
        open.pop_back();
        ++seen;
        if (!visit(entry)) return;
    }
}

}  // namespace reeve::shm
