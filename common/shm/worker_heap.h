// WorkerHeap finds the best worker: rank keys that all share, and the scheduler's private tree.
//
// The key of worker slot i is one atomic word (smaller is better, kEmptyKey: not to be placed on).
// The keys lie side by side, 32 to a group. For each group the one reader, the scheduler, announces
// a floor: the key it holds to be the group's least. Whoever stores a key below the floor marks the
// group; any other change needs no telling, for the reader looks at what it is about to hand out.
// A tree that all of them swap up to its root is slower: see docs/decisions/0004.
//
//   update: (1) store the key  (2) load the floor: done, unless the key is below
//           (3) set the mark   (4) set the bit of the mark's word in the sum
//   lower:  (5) take the sum, then the marks  (6) load the groups' keys, find less  (7) floor =
//   that raise:  (8) floor = none                  (9) load the group's keys         (10) floor =
//   least
//
// Progress     update: wait-free. best, replace, walk: lock-free; with nobody writing, wait-free.
//              scan: wait-free, for anybody, also on a read-only mapping.
// Order        (1) (2) (8) (9) seq_cst, in one total order: when (2) comes before (8), (1) does
//              too, and (9) sees the key; when it comes later it reads "none" or the outcome (10)
//              of that look, and marks what is below. (3) and (4) release, (5) acquires: both words
//              change by read-modify-writes alone, so whoever takes our sum bit finds our mark, and
//              whoever takes our mark loads our key or a newer one in (6). Neither is skipped when
//              it is set already: who set it may be dead before its (4). (7) and (10) relaxed: who
//              reads the higher floor of before marks a group too many.
// Linearizes   update at (1), replace at its swap, best where it found the key still there.
// Death        an updater after (1): its change is unseen until (6) or (9) of that group for
//              another reason, or rescan(). The reader: marks it took and floors it announced; its
//              successor raises every floor before it answers.
// Untrusted    any key and mark is possible, and a position is the only slot number. A damaged
//              floor hides updates until rescan() announces its own again.
//
// INVARIANT 1  no key of a group is below the reader's floor for it, but for marked groups and
//              updates between (1) and (4), or killed there.
// INVARIANT 2  the shared floor is the reader's own or, within raise, none.
//
// Tested in tests/unit/common/shm/worker_heap{,_interleaving}_test.cc and tests/stress.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <optional>
#include <vector>

#include "common/base/assert.h"
#include "common/shm/layout.h"
#include "common/shm/segment.h"
#include "common/shm/tournament_tree.h"

namespace reeve::shm {

// What all processes share.
template <typename Policy>
class BasicWorkerRanks {
public:
    explicit BasicWorkerRanks(const Segment& segment)
        : BasicWorkerRanks(&segment.at<std::atomic<std::uint64_t>>(segment.layout().worker_heap, 0),
                           &segment.at<RankFloor>(segment.layout().rank_floors, 0),
                           &segment.at<std::atomic<std::uint64_t>>(segment.layout().rank_marks, 0),
                           segment.config().workers) {}
    // One of `keys` per worker, of `floors` per group, of `marks` per 64 groups after a first one,
    // which is the sum.
    BasicWorkerRanks(std::atomic<std::uint64_t>* keys, RankFloor* floors,
                     std::atomic<std::uint64_t>* marks, std::uint32_t workers)
        : keys_(keys), floors_(floors), sum_(marks), marks_(marks + 1), workers_(workers) {
        REEVE_ASSERT(mark_words() <= 64);
    }

    // By anybody but the reader, which has its own.
    void update(std::uint32_t worker, std::uint64_t key) {
        const auto group = worker / kRankGroup;
        if (!Policy::kMarkLast) mark_below(group, key);
        store(worker, key);  // (1)
        if (Policy::kMarkLast) mark_below(group, key);
    }
    std::uint64_t key(std::uint32_t worker) const {
        REEVE_ASSERT(worker < workers_);
        Policy::step();
        return keys_[worker].load(std::memory_order_seq_cst);
    }
    // The best by the keys as they are now: a look at every one of them (4,096: some 3 us).
    std::optional<HeapEntry> scan() const {
        HeapEntry best;
        for (std::uint32_t worker = 0; worker < workers_; ++worker) {
            const auto found = key(worker);
            if (found < best.key) best = HeapEntry{found, worker};
        }
        if (best.key == kEmptyKey) return std::nullopt;
        return best;
    }
    std::uint32_t size() const { return workers_; }
    std::uint32_t groups() const { return (workers_ + kRankGroup - 1) / kRankGroup; }

    // The rest is the reader's.
    void store(std::uint32_t worker, std::uint64_t key) {
        REEVE_ASSERT(worker < workers_);
        Policy::step();
        keys_[worker].store(key, std::memory_order_seq_cst);
    }
    bool swap(std::uint32_t worker, std::uint64_t expected, std::uint64_t key) {
        REEVE_ASSERT(worker < workers_);
        Policy::step();
        return keys_[worker].compare_exchange_strong(expected, key, std::memory_order_seq_cst);
    }
    void open_floor(std::uint32_t group) {
        Policy::step();
        if (Policy::kOpenFloor) floors_[group].key.store(kEmptyKey, std::memory_order_seq_cst);
    }
    void set_floor(std::uint32_t group, std::uint64_t key) {
        Policy::step();
        floors_[group].key.store(key, std::memory_order_relaxed);
    }
    // The least key of a group: without branches, for keys are random, and without its place, which
    // is asked for less often.
    std::uint64_t least_of(std::uint32_t group) const {
        const auto* keys = &keys_[group * kRankGroup];
        const auto load = [keys](std::uint32_t i) {
            Policy::step();
            return keys[i].load(std::memory_order_seq_cst);
        };
        const auto count = count_of(group);
        auto found = kEmptyKey;
        std::uint32_t at = 0;
        for (; at + 8 <= count; at += 8) {
            found = least(found, least_of_8([&load, at](std::uint32_t i) { return load(at + i); }));
        }
        for (; at < count; ++at) found = least(found, load(at));
        return found;
    }
    // Who of a group has this key, or nobody (kNone32).
    std::uint32_t place_of(std::uint32_t group, std::uint64_t wanted) const {
        const auto end = group * kRankGroup + count_of(group);
        auto at = group * kRankGroup;
        for (; at + 8 <= end; at += 8) {
            std::uint32_t found = 0;
#pragma GCC unroll 8
            for (std::uint32_t i = 0; i < 8; ++i) {
                Policy::step();
                const bool same = keys_[at + i].load(std::memory_order_seq_cst) == wanted;
                found |= static_cast<std::uint32_t>(same) << i;
            }
            if (found != 0) return at + static_cast<std::uint32_t>(__builtin_ctz(found));
        }
        for (; at < end; ++at) {
            if (key(at) == wanted) return at;
        }
        return kNone32;
    }
    bool any_marks() const {
        return sum_->load(std::memory_order_relaxed) != 0;
    }
    std::uint64_t take_sum() {
        return take(*sum_);
    }
    std::uint64_t take_marks(std::uint32_t word) {
        return take(marks_[word]);
    }
    [[gnu::always_inline]] void prefetch_to_swap(std::uint32_t worker) const {
        prefetch_to_write(&keys_[worker]);
        prefetch_to_write(&floors_[worker / kRankGroup]);
    }
    [[gnu::always_inline]] void prefetch_group(std::uint32_t group) const {
        for (std::uint32_t i = 0; i < kRankGroup; i += 8) {
            __builtin_prefetch(&keys_[group * kRankGroup + i]);
        }
        prefetch_to_write(&floors_[group]);
    }
    std::uint32_t mark_words() const {
        return (groups() + 63) / 64;
    }

private:
    std::uint32_t count_of(std::uint32_t group) const {
        return std::min(workers_ - group * kRankGroup, kRankGroup);
    }
    static std::uint64_t take(std::atomic<std::uint64_t>& bits) {
        Policy::step();
        if (Policy::kExchangeMarks) return bits.exchange(0, std::memory_order_acquire);  // (5)
        const auto taken = bits.load(std::memory_order_acquire);
        Policy::step();
        bits.store(0, std::memory_order_relaxed);
        return taken;
    }
    void mark_below(std::uint32_t group, std::uint64_t key) {
        Policy::step();
        if (key >= floors_[group].key.load(std::memory_order_seq_cst)) return;  // (2)
        Policy::step();
        marks_[group / 64].fetch_or(std::uint64_t{1} << (group % 64),
                                    std::memory_order_release);  // (3)
        Policy::step();
        sum_->fetch_or(std::uint64_t{1} << (group / 64), std::memory_order_release);  // (4)
    }

    std::atomic<std::uint64_t>* keys_;
    RankFloor* floors_;
    std::atomic<std::uint64_t>* sum_;
    std::atomic<std::uint64_t>* marks_;
    std::uint32_t workers_;
};

// The one reader's: an 8-ary tree over its floors. Not thread-safe.
template <typename Policy>
class BasicWorkerHeap {
public:
    using Ranks = BasicWorkerRanks<Policy>;

    explicit BasicWorkerHeap(const Segment& segment) : BasicWorkerHeap(Ranks(segment)) {}
    explicit BasicWorkerHeap(Ranks ranks) : ranks_(ranks) {
        for (auto count = ranks_.groups();; count = (count + kFanOut - 1) / kFanOut) {
            levels_.emplace_back((count + kFanOut - 1) / kFanOut * kFanOut);
            if (count == 1) break;
        }
        marked_.reserve(ranks_.groups());
        rescan();
    }

    // Of equal ones, any.
    std::optional<HeapEntry> best() {
        for (;;) {
            drain();
            const auto top = levels_.back()[0];
            if (top.key == kEmptyKey) return std::nullopt;
            if (last_.key == top.key && ranks_.key(last_.slot) == top.key) return last_;
            const auto worker = ranks_.place_of(top.slot, top.key);
            if (worker != kNone32) {
                last_ = HeapEntry{top.key, worker};
                ranks_.prefetch_to_swap(worker);
                return last_;
            }
            raise(top.slot);  // who had it has another key by now
        }
    }
    void update(std::uint32_t worker, std::uint64_t key) {
        ranks_.store(worker, key);
        if (key < levels_[0][worker / kRankGroup].key) lower(worker / kRankGroup, key);
    }
    // Gives the worker another key if it still has this one.
    bool replace(const HeapEntry& expected, std::uint64_t key) {
        const auto group = expected.slot / kRankGroup;
        ranks_.open_floor(group);  // (8), before the swap: it was the least, so the floor will rise
        const bool won = ranks_.swap(expected.slot, expected.key, key);
        settle(group);
        return won;
    }
    std::uint64_t key(std::uint32_t worker) const { return ranks_.key(worker); }

    // Calls visit(HeapEntry) for workers in order of their keys until it returns false. Keys are as
    // of the moment their group was opened.
    template <typename Visit>
    void walk(Visit visit);

    // Looks at every key again (4,096: some 3 us), for marks that killed processes never set. How
    // many groups were not as held.
    std::uint32_t rescan() {
        std::uint32_t different = 0;
        for (std::uint32_t group = 0; group < ranks_.groups(); ++group) {
            different += raise(group) ? 1U : 0U;
        }
        return different;
    }
    std::uint32_t size() const { return ranks_.size(); }

private:
    struct Place {
        std::uint64_t key;
        std::uint32_t level;  // 0: a worker, above that of levels_[level - 1]
        std::uint32_t at;
    };

    void drain() {
        if (!ranks_.any_marks()) return;
        for (auto words = ranks_.take_sum(); words != 0; words &= words - 1) {  // (5)
            const auto word = static_cast<std::uint32_t>(__builtin_ctzll(words));
            if (word >= ranks_.mark_words()) break;
            for (auto left = ranks_.take_marks(word); left != 0; left &= left - 1) {
                const auto group = word * 64 + static_cast<std::uint32_t>(__builtin_ctzll(left));
                if (group >= ranks_.groups()) break;
                ranks_.prefetch_group(group);
                marked_.push_back(group);
            }
        }
        for (const auto group : marked_) {
            const auto least = ranks_.least_of(group);  // (6)
            if (least < levels_[0][group].key) lower(group, least);
        }
        marked_.clear();
    }
    void lower(std::uint32_t group, std::uint64_t key) {
        ranks_.set_floor(group, key);  // (7)
        (void)set(group, key);
    }
    bool raise(std::uint32_t group) {
        ranks_.open_floor(group);  // (8)
        return settle(group);
    }
    bool settle(std::uint32_t group) {
        const auto least = ranks_.least_of(group);  // (9)
        ranks_.set_floor(group, least);             // (10)
        return set(group, least);
    }
    // Private memory, so climbing may end where nothing changes. False: nothing did.
    bool set(std::uint32_t group, std::uint64_t key) {
        HeapEntry entry{key, group};
        auto at = group;
        for (std::size_t level = 0; levels_[level][at] != entry; ++level) {
            levels_[level][at] = entry;
            if (level + 1 == levels_.size()) return true;
            at /= kFanOut;
            const auto* children = &levels_[level][std::size_t{at} * kFanOut];
            entry =
                children[smallest_of_8([children](std::uint32_t i) { return children[i].key; }).at];
            if (levels_[level + 1][at] == entry) return true;
        }
        return false;
    }

    Ranks ranks_;
    std::vector<std::vector<HeapEntry>> levels_;  // {floor, group}: of groups, then eights, to one
    std::vector<std::uint32_t> marked_;           // groups of one drain; kept for its memory
    HeapEntry last_;                              // what best() answered
};

// A place stands for the best below it and is opened when that is due.
template <typename Policy>
template <typename Visit>
void BasicWorkerHeap<Policy>::walk(Visit visit) {
    drain();
    const auto later = [](const Place& a, const Place& b) { return a.key > b.key; };
    std::vector<Place> places;
    const auto add = [&](std::uint64_t key, std::uint32_t level, std::uint32_t at) {
        if (key == kEmptyKey) return;
        places.push_back(Place{key, level, at});
        std::push_heap(places.begin(), places.end(), later);
    };
    add(levels_.back()[0].key, static_cast<std::uint32_t>(levels_.size()), 0);
    while (!places.empty()) {
        std::pop_heap(places.begin(), places.end(), later);
        const Place place = places.back();
        places.pop_back();
        if (place.level == 0) {
            if (!visit(HeapEntry{place.key, place.at})) return;
        } else if (place.level == 1) {
            const auto first = place.at * kRankGroup;
            for (auto i = first; i < std::min(first + kRankGroup, size()); ++i) {
                add(ranks_.key(i), 0, i);
            }
        } else {
            const auto& below = levels_[place.level - 2];
            const auto first = place.at * kFanOut;
            for (auto i = first; i < first + kFanOut; ++i) add(below[i].key, place.level - 1, i);
        }
    }
}

using WorkerRanks = BasicWorkerRanks<LivePolicy>;
using WorkerHeap = BasicWorkerHeap<LivePolicy>;
extern template class BasicWorkerRanks<LivePolicy>;
extern template class BasicWorkerHeap<LivePolicy>;

}  // namespace reeve::shm
