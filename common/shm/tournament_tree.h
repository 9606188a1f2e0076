// TournamentTree keeps, above an array of leaves in shared memory, the smallest key of every group.
//
// An f-array (Jayanti, PODC 2002): 8 children per node, each node the best of its children; the last
// level may have several nodes, then it is a forest (the chunk heaps: two levels, one root per chunk).
// Whoever changes a leaf climbs to its root and refreshes every node on the way: read the node, read
// its children, swap in their best. Tried twice per node, that is enough: had both swaps failed, the
// one that beat our second try began after our first and so read our leaf.
//
//      A: leaf = 3                        without the second try:
//      A: reads node v7                   B's swap carries what it read before A's leaf changed, A's
//          B: read node v7, children      swap fails against v8, A goes away, and 3 is hidden until
//          B: swap v7 -> v8 (old best)    somebody passes by.
//      A: swap v7 -> fails; again: v8 -> v9
//
// The leaves are the truth; nodes are hints that anybody may recompute at any time.
//
// Progress     climb: lock-free, at most 2 swaps per level. best, node reads: lock-free.
// ABA          32-bit version per node; to be fooled, a refresh must sleep through 2^32 others of the
//              same node and meet the same key and index; the effect is a stale hint.
// Death        killed within climb: the nodes above keep an older best until somebody climbs through
//              them or heal() runs; a best that is gone is noticed when it is claimed.
// Order        all seq_cst: the proof needs "my leaf, my node load, the other's swap, its node load, its
//              child loads" in one total order. On x86 only the swap costs anything.
// Untrusted    a child whose index lies outside its own subtree counts as empty.
//
// INVARIANT 1  when no climb is in progress or was cut off, node = best of its children.
//
// Tested in tests/unit/common/shm (model, interleavings, every instruction) and tests/stress.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "common/shm/layout.h"

namespace reeve::shm {

// What tests replace: step() is called before every shared access, so that a test can choose who goes
// next; the flags switch off one safeguard each, to prove that the tests notice.
struct LivePolicy {
    static void step() {}
    static constexpr bool kRefreshTwice = true;
    static constexpr bool kMarkAfterClimb = true;   // task heap: dirty bit after the climb
    static constexpr bool kAlwaysCheckSum = true;   // task heap: sum bit looked at in any case
    static constexpr bool kCheckOwner = true;       // class index: chunk still of this class?
};

inline constexpr std::uint32_t kFanOutBits = 3;
inline constexpr std::uint32_t kFanOut = 1U << kFanOutBits;

struct HeapEntry {
    std::uint64_t key = kEmptyKey;
    std::uint32_t slot = kNone32;
    bool operator==(const HeapEntry&) const = default;
};

__extension__ typedef unsigned __int128 Bits128;
using AliasedBits128 __attribute__((may_alias)) = Bits128;
using AliasedBits64 __attribute__((may_alias)) = std::uint64_t;

// Both halves of a node as of one moment: every swap changes the version, which lies in the upper
// half, so an upper half that is the same before and after belongs to the lower half between.
inline HeapNode load_node(const HeapNode& node) {
    const auto* halves = reinterpret_cast<const AliasedBits64*>(&node);
    for (;;) {
        const std::uint64_t upper = __atomic_load_n(halves + 1, __ATOMIC_SEQ_CST);
        const std::uint64_t key = __atomic_load_n(halves, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(halves + 1, __ATOMIC_SEQ_CST) != upper) continue;
        return HeapNode{key, static_cast<std::uint32_t>(upper),
                        static_cast<std::uint32_t>(upper >> 32)};
    }
}

inline Bits128 node_bits(const HeapNode& node) {
    const std::uint64_t upper = (std::uint64_t{node.index} << 32) | node.version;
    return (static_cast<Bits128>(upper) << 64) | node.key;
}

// std::atomic of 16 bytes goes through libatomic, whose lock table is private to each process; this
// builtin is cmpxchg16b (-mcx16).
inline bool swap_node(HeapNode& node, const HeapNode& expected, const HeapNode& desired) {
    auto* bits = reinterpret_cast<AliasedBits128*>(&node);
    return __sync_bool_compare_and_swap(bits, node_bits(expected), node_bits(desired));
}

// Leaves is a class with `std::uint64_t load_key(std::uint32_t leaf) const` (kEmptyKey: no entry)
// which calls Policy::step() before each of its own shared loads.
template <typename Policy, typename Leaves>
class TournamentTree {
public:
    static constexpr std::uint32_t kLevelsMax = 6;

    TournamentTree(Leaves leaves, std::uint32_t leaf_count)
        : leaves_(leaves), leaf_count_(leaf_count) {}

    // Levels from the leaves up; level l has ceil(leaf_count / 8^(l+1)) nodes.
    void add_level(HeapNode* nodes) {
        const auto below = levels_ == 0 ? leaf_count_ : counts_[levels_ - 1];
        nodes_[levels_] = nodes;
        counts_[levels_] = (below + kFanOut - 1) / kFanOut;
        ++levels_;
    }
    std::uint32_t levels() const { return levels_; }
    std::uint32_t node_count(std::uint32_t level) const { return counts_[level]; }
    std::uint32_t leaf_count() const { return leaf_count_; }

    // After a change of `leaf`, by whoever changed it. Precondition: leaf < leaf_count().
    void climb(std::uint32_t leaf) {
        std::uint32_t at = leaf;
        for (std::uint32_t level = 0; level < levels_; ++level) {
            at >>= kFanOutBits;
            refresh(level, at);
        }
    }
    // The same after a change of several neighbours: each node above them once.
    void climb_range(std::uint32_t first, std::uint32_t count) {
        std::uint32_t low = first;
        std::uint32_t high = first + count - 1;
        for (std::uint32_t level = 0; level < levels_; ++level) {
            low >>= kFanOutBits;
            high >>= kFanOutBits;
            for (std::uint32_t at = low; at <= high; ++at) refresh(level, at);
        }
    }

    // The best below a node, or nothing; an index outside its subtree is damage and reads as nothing,
    // `damaged` says so.
    std::optional<HeapEntry> best(std::uint32_t level, std::uint32_t at,
                                  bool* damaged = nullptr) const {
        Policy::step();
        const HeapNode node = load_node(nodes_[level][at]);
        if (node.key == kEmptyKey) return std::nullopt;
        if (!is_below(node.index, level, at)) [[unlikely]] {
            if (damaged != nullptr) *damaged = true;
            return std::nullopt;
        }
        return HeapEntry{node.key, node.index};
    }

    // Refreshes a node as climb() does and says whether its key or index was wrong before.
    bool heal_node(std::uint32_t level, std::uint32_t at) {
        const HeapNode before = load_node(nodes_[level][at]);
        refresh(level, at);
        const HeapNode after = load_node(nodes_[level][at]);
        return before.key != after.key || before.index != after.index;
    }

    std::uint64_t load_leaf(std::uint32_t leaf) const { return leaves_.load_key(leaf); }

private:
    bool is_below(std::uint32_t leaf, std::uint32_t level, std::uint32_t at) const {
        return leaf < leaf_count_ && (leaf >> (kFanOutBits * (level + 1))) == at;
    }

    void refresh(std::uint32_t level, std::uint32_t at) {
        if (refresh_once(level, at)) return;
        if (Policy::kRefreshTwice) refresh_once(level, at);
    }
    bool refresh_once(std::uint32_t level, std::uint32_t at) {
        HeapNode& node = nodes_[level][at];
        Policy::step();
        const HeapNode before = load_node(node);
        HeapNode after = level == 0 ? best_leaf(at) : best_child(level, at);
        after.version = before.version + 1;
        Policy::step();
        return swap_node(node, before, after);  // also when nothing changed: others count on it
    }

    HeapNode best_leaf(std::uint32_t at) const {
        HeapNode best;
        const std::uint32_t first = at << kFanOutBits;
        const std::uint32_t count = std::min(kFanOut, leaf_count_ - first);
        for (std::uint32_t i = 0; i < count; ++i) {
            const auto key = leaves_.load_key(first + i);
            const bool better = key < best.key;
            best.key = better ? key : best.key;
            best.index = better ? first + i : best.index;
        }
        return best;
    }
    HeapNode best_child(std::uint32_t level, std::uint32_t at) const {
        HeapNode best;
        const std::uint32_t first = at << kFanOutBits;
        const std::uint32_t count = std::min(kFanOut, counts_[level - 1] - first);
        for (std::uint32_t i = 0; i < count; ++i) {
            Policy::step();
            const HeapNode child = load_node(nodes_[level - 1][first + i]);
            const bool sound = is_below(child.index, level - 1, first + i);
            const bool better = sound && child.key < best.key;
            best.key = better ? child.key : best.key;
            best.index = better ? child.index : best.index;
        }
        return best;
    }

    Leaves leaves_;
    std::uint32_t leaf_count_ = 0;
    std::uint32_t levels_ = 0;
    std::array<HeapNode*, kLevelsMax> nodes_{};
    std::array<std::uint32_t, kLevelsMax> counts_{};
};

}  // namespace reeve::shm
