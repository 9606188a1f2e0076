// WorkerHeap finds the best worker: the tournament tree over the worker slots' rank keys.
//
// The key of worker slot i is WorkerSlot::rank_key, one atomic word (smaller is better, kEmptyKey:
// not to be placed on). The scheduler writes it; anybody may read the best, climb or heal. Reading
// the best is one load of a root node; k-best walks the tree without taking anything out.
//
// Progress     update, best, walk: lock-free.
// Order        key store (1), then climb: seq_cst, as tournament_tree.h explains.
// Death        after (1), before the climb ends: the best may be out of date until the next update
// of
//              that subtree or heal().
//
// Tested in tests/unit/common/shm/worker_heap_test.cc.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "common/base/assert.h"
#include "common/shm/layout.h"
#include "common/shm/segment.h"
#include "common/shm/tournament_tree.h"

namespace reeve::shm {

// `stride` apart from each other: in the segment a worker slot, in a benchmark what it likes.
template <typename Policy>
class RankLeaves {
public:
    RankLeaves(std::atomic<std::uint64_t>* first, std::size_t stride)
        : first_(reinterpret_cast<char*>(first)), stride_(stride) {}
    std::atomic<std::uint64_t>& key(std::uint32_t worker) const {
        return *reinterpret_cast<std::atomic<std::uint64_t>*>(first_ + worker * stride_);
    }
    std::uint64_t load_key(std::uint32_t worker) const {
        Policy::step();
        return key(worker).load(std::memory_order_seq_cst);
    }

    [[gnu::always_inline]] void prefetch(std::uint32_t worker) const {
        __builtin_prefetch(&key(worker), 1);
    }

private:
    char* first_;
    std::size_t stride_;
};

template <typename Policy>
class BasicWorkerHeap {
public:
    explicit BasicWorkerHeap(const Segment& segment)
        : BasicWorkerHeap(RankLeaves<Policy>(&segment.worker(0).rank_key, sizeof(WorkerSlot)),
                          segment.config().workers,
                          &segment.at<HeapNode>(segment.layout().worker_heap, 0)) {}
    BasicWorkerHeap(RankLeaves<Policy> leaves, std::uint32_t workers, HeapNode* nodes)
        : leaves_(leaves), tree_(leaves, workers) {
        do {
            tree_.add_level(nodes);
            nodes += tree_.padded(tree_.node_count(tree_.levels() - 1));
        } while (tree_.node_count(tree_.levels() - 1) > 1);
    }

    void update(std::uint32_t worker, std::uint64_t key) {
        REEVE_ASSERT(worker < tree_.leaf_count());
        tree_.prefetch(worker);
        Policy::step();
        leaves_.key(worker).store(key, std::memory_order_seq_cst);  // (1)
        tree_.climb(worker);
    }
    std::optional<HeapEntry> best() const { return tree_.best(tree_.levels() - 1, 0); }
    std::uint64_t key(std::uint32_t worker) const {
        REEVE_ASSERT(worker < tree_.leaf_count());
        return leaves_.key(worker).load(std::memory_order_seq_cst);
    }

    // Calls visit(HeapEntry) for workers in order of their keys until it returns false. A snapshot
    // per node, not of the whole; keys are as of the visit.
    template <typename Visit>
    void walk(Visit visit) const;

    std::uint64_t heal() {
        std::uint64_t wrong = 0;
        for (std::uint32_t level = 0; level < tree_.levels(); ++level) {
            for (std::uint32_t at = 0; at < tree_.padded(tree_.node_count(level)); ++at) {
                wrong += tree_.heal_node(level, at) ? 1U : 0U;
            }
        }
        return wrong;
    }
    std::uint32_t size() const { return tree_.leaf_count(); }

private:
    struct Place {
        std::uint64_t key;
        std::uint32_t level;
        std::uint32_t at;
    };
    void open(const Place& place, std::vector<Place>& out) const;

    RankLeaves<Policy> leaves_;
    TournamentTree<Policy, RankLeaves<Policy>> tree_;
};

template <typename Policy>
void BasicWorkerHeap<Policy>::open(const Place& place, std::vector<Place>& out) const {
    const auto later = [](const Place& a, const Place& b) { return a.key > b.key; };
    const auto level = place.level - 1;
    const auto end = std::min(tree_.node_count(level), (place.at + 1) * kFanOut);
    for (auto at = place.at * kFanOut; at < end; ++at) {
        const auto entry = tree_.best(level, at);
        if (!entry) continue;
        out.push_back(Place{entry->key, level, at});
        std::push_heap(out.begin(), out.end(), later);
    }
}

template <typename Policy>
template <typename Visit>
void BasicWorkerHeap<Policy>::walk(Visit visit) const {
    const auto later = [](const Place& a, const Place& b) { return a.key > b.key; };
    std::vector<Place> places;
    const auto top = tree_.levels() - 1;
    if (const auto root = best()) places.push_back(Place{root->key, top, 0});
    while (!places.empty()) {
        std::pop_heap(places.begin(), places.end(), later);
        const Place place = places.back();
        places.pop_back();
        if (place.level == 0) {
            if (!visit(HeapEntry{place.key, place.at})) return;
        } else {
            open(place, places);
        }
    }
}

using WorkerHeap = BasicWorkerHeap<LivePolicy>;
extern template class BasicWorkerHeap<LivePolicy>;

}  // namespace reeve::shm
