// TournamentTree keeps, above an array of leaves in shared memory, the smallest key of every group.
//
// An f-array (Jayanti, PODC 2002). Level 0 has one node per leaf, each further level one node per 8
// of the level below; the last level may have several nodes, then it is a forest (the task heap:
// levels of 64 and 8 nodes per chunk). Level 0 exists because the leaves lie far apart, each in its
// own record: eight neighbours' keys are two cache lines there instead of eight (measured: a climb
// in a million slots costs a third). Whoever changes a leaf climbs to its root and refreshes every
// node on the way: read the node, read its children, swap in their best. Tried twice per node, that
// is enough: had both swaps failed, the one that beat our second try began after our first and so
// read our leaf.
//
//      A: leaf = 3                        without the second try:
//      A: reads node v7                   B's swap carries what it read before A's leaf changed,
//      A's
//          B: read node v7, children      swap fails against v8, A goes away, and 3 is hidden until
//          B: swap v7 -> v8 (old best)    somebody passes by.
//      A: swap v7 -> fails; again: v8 -> v9
//
// The leaves are the truth; nodes are hints that anybody may recompute at any time.
//
// Progress     climb: lock-free, at most 2 swaps per level. best: lock-free; with nobody writing,
// wait-
//              free.
// ABA          32-bit version per node; to be fooled, a refresh must sleep through 2^32 others of
// the
//              same node and meet the same key and index; the effect is a stale hint.
// Death        killed within climb: the nodes above keep an older best until somebody climbs
// through
//              them or heal() runs; a best that is gone is noticed when it is claimed.
// Order        all seq_cst: the proof needs "my leaf, my node load, the other's swap, its node
// load, its
//              child loads" in one total order. On x86 only the swap costs anything.
// Untrusted    a child whose index lies outside its own subtree counts as empty.
//
// INVARIANT 1  when no climb is in progress or was cut off, node = best of its children.
//
// Tested in tests/unit/common/shm (model, interleavings, every instruction) and tests/stress.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>

#include "common/shm/layout.h"

namespace reeve::shm {

// What tests replace: step() is called before every shared access, so that a test can choose who
// goes next; the flags switch off one safeguard each, to prove that the tests notice.
struct LivePolicy {
    static void step() {}
    static constexpr bool kRefreshTwice = true;
    static constexpr bool kMarkLast = true;        // heaps: mark after the climb, after the key
    static constexpr bool kAlwaysCheckSum = true;  // task heap: sum bit looked at in any case
    static constexpr bool kCheckOwner = true;      // class index: chunk still of this class?
    static constexpr bool kOpenFloor = true;       // worker heap: no floor while keys are looked at
    static constexpr bool kExchangeMarks = true;   // worker heap: read and clear marks in one
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

// The key alone: enough to compare, and half a node needs no second look.
inline std::uint64_t load_node_key(const HeapNode& node) {
    return __atomic_load_n(reinterpret_cast<const AliasedBits64*>(&node), __ATOMIC_SEQ_CST);
}

// std::atomic of 16 bytes goes through libatomic, whose lock table is private to each process; this
// builtin is cmpxchg16b (-mcx16).
inline bool swap_node(HeapNode& node, const HeapNode& expected, const HeapNode& desired) {
    auto* bits = reinterpret_cast<AliasedBits128*>(&node);
    return __sync_bool_compare_and_swap(bits, node_bits(expected), node_bits(desired));
}

// Asks for a line as its only owner: reading it first and swapping later asks the other core twice.
[[gnu::always_inline]] inline void prefetch_to_write(const void* line) {
#if defined(__x86_64__)
    asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(line)));
#else
    __builtin_prefetch(line, 1);
#endif
}

// Which of eight keys, key(0) to key(7), is the smallest, and it; ties go to the left. Without
// branches: keys are random, and a wrong guess costs as much as a swap.
struct Smallest {
    std::uint64_t key;
    std::uint32_t at;
};
[[gnu::always_inline]] inline Smallest smaller(Smallest a, Smallest b) {
    const auto mask = std::uint64_t{0} - static_cast<std::uint64_t>(b.key < a.key);
    return Smallest{a.key ^ ((a.key ^ b.key) & mask),
                    a.at ^ ((a.at ^ b.at) & static_cast<std::uint32_t>(mask))};
}
template <typename Key>
[[gnu::always_inline]] inline Smallest smallest_of_4(Key key) {
    return smaller(smaller(Smallest{key(0), 0}, Smallest{key(1), 1}),
                   smaller(Smallest{key(2), 2}, Smallest{key(3), 3}));
}
template <typename Key>
[[gnu::always_inline]] inline Smallest smallest_of_8(Key key) {
    auto upper = smallest_of_4([&key](std::uint32_t i) { return key(i + 4); });
    upper.at += 4;
    return smaller(smallest_of_4(key), upper);
}

// The same without asking which.
[[gnu::always_inline]] inline std::uint64_t least(std::uint64_t a, std::uint64_t b) {
    return a ^ ((a ^ b) & (std::uint64_t{0} - static_cast<std::uint64_t>(b < a)));
}
template <typename Key>
[[gnu::always_inline]] inline std::uint64_t least_of_8(Key key) {
    return least(least(least(key(0), key(1)), least(key(2), key(3))),
                 least(least(key(4), key(5)), least(key(6), key(7))));
}

// Leaves is a class with `std::uint64_t load_key(std::uint32_t leaf) const` (kEmptyKey: no entry),
// which calls Policy::step() before each of its own shared loads, and `void prefetch(leaf) const`.
// kFixedLevels: 0 when only known at run time.
template <typename Policy, typename Leaves, std::uint32_t kFixedLevels = 0>
class TournamentTree {
public:
    static constexpr std::uint32_t kLevelsMax = 8;

    TournamentTree(Leaves leaves, std::uint32_t leaf_count)
        : leaves_(leaves), leaf_count_(leaf_count) {}

    // Nodes of a level, padded: refreshing reads eight neighbours always.
    static constexpr std::uint32_t padded(std::uint32_t nodes) {
        return (nodes + kFanOut - 1) / kFanOut * kFanOut;
    }
    // Levels from the leaves up; level l has ceil(leaf_count / 8^l) nodes and room for padded() of
    // them.
    void add_level(HeapNode* nodes) {
        nodes_[levels_] = nodes;
        counts_[levels_] = levels_ == 0 ? leaf_count_ : padded(counts_[levels_ - 1]) / kFanOut;
        ++levels_;
    }
    std::uint32_t levels() const { return kFixedLevels != 0 ? kFixedLevels : levels_; }
    std::uint32_t node_count(std::uint32_t level) const { return counts_[level]; }
    std::uint32_t leaf_count() const { return leaf_count_; }

    // Asks for the memory climb(leaf) will read and write, so that the misses overlap each other
    // and the caller's own: a locked instruction lets no later load start, a prefetch before it
    // does. Inlined always: gcc takes an outlined function of nothing but prefetches for pure and
    // drops the calls.
    [[gnu::always_inline]] void prefetch(std::uint32_t leaf) const {
        leaves_.prefetch(leaf);
        std::uint32_t at = leaf;
        for (std::uint32_t level = 0; level < levels(); ++level) {
            prefetch_to_write(&nodes_[level][at]);  // and the other half of its eight, to read
            __builtin_prefetch(&nodes_[level][at ^ (kFanOut / 2)]);
            at >>= kFanOutBits;
        }
    }
    // The same for the nodes above several neighbours.
    [[gnu::always_inline]] void prefetch_range(std::uint32_t first, std::uint32_t count) const {
        for (std::uint32_t at = first & ~(kFanOut - 1); at < first + count; at += kFanOut) {
            for (std::uint32_t level = 0; level < levels(); ++level) {
                prefetch_level(level, at >> (kFanOutBits * level));
            }
        }
    }
    [[gnu::always_inline]] void prefetch_leaf(std::uint32_t leaf) const { leaves_.prefetch(leaf); }
    [[gnu::always_inline]] void prefetch_level(std::uint32_t level, std::uint32_t at) const {
        const auto* siblings = &nodes_[level][at & ~(kFanOut - 1)];
        __builtin_prefetch(siblings);
        __builtin_prefetch(siblings + kFanOut / 2);
    }

    // After a change of `leaf`, by whoever changed it. Precondition: leaf < leaf_count().
    void climb(std::uint32_t leaf) {
        std::uint32_t at = leaf;
        refresh(0, at);
        for (std::uint32_t level = 1; level < levels(); ++level) {
            at >>= kFanOutBits;
            refresh(level, at);
        }
    }
    // The same after a change of several neighbours: each node above them once.
    void climb_range(std::uint32_t first, std::uint32_t count) {
        std::uint32_t low = first;
        std::uint32_t high = first + count - 1;
        for (std::uint32_t level = 0; level < levels(); ++level) {
            for (std::uint32_t at = low; at <= high; ++at) refresh(level, at);
            low >>= kFanOutBits;
            high >>= kFanOutBits;
        }
    }

    // The best below eight neighbouring nodes at once: the node above them, were there one.
    std::optional<HeapEntry> best_of_8(std::uint32_t level, std::uint32_t first,
                                       bool* damaged = nullptr) const {
        const auto node = compute(level + 1, first >> kFanOutBits, damaged);
        if (node.key == kEmptyKey) return std::nullopt;
        return HeapEntry{node.key, node.index};
    }
    // The best below a node, or nothing; an index outside its subtree is damage and reads as
    // nothing, `damaged` says so.
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
    // A leaf's key as level 0 has it.
    std::uint64_t cached_key(std::uint32_t leaf) const { return load_node_key(nodes_[0][leaf]); }

    // Refreshes a node, of the padding too, unless it is right; says whether it was wrong. Nobody's
    // proof rests on the swap of a healer, so looking is enough.
    bool heal_node(std::uint32_t level, std::uint32_t at) {
        const HeapNode before = load_node(nodes_[level][at]);
        const bool padding = at >= counts_[level];
        const HeapNode right = padding ? HeapNode{} : compute(level, at);
        if (before.key == right.key && before.index == right.index) return false;
        if (padding) {
            swap_node(nodes_[level][at], before, right);
        } else {
            refresh(level, at);
        }
        return true;
    }

private:
    bool is_below(std::uint32_t leaf, std::uint32_t level, std::uint32_t at) const {
        return leaf < leaf_count_ && (leaf >> (kFanOutBits * level)) == at;
    }

    void refresh(std::uint32_t level, std::uint32_t at) {
        if (refresh_once(level, at)) return;
        if (Policy::kRefreshTwice) refresh_once(level, at);
    }
    bool refresh_once(std::uint32_t level, std::uint32_t at) {
        HeapNode& node = nodes_[level][at];
        Policy::step();
        const HeapNode before = load_node(node);
        HeapNode after = compute(level, at);
        after.version = before.version + 1;
        Policy::step();
        return swap_node(node, before, after);  // also when nothing changed: others count on it
    }

    // What a node should hold, from its children.
    HeapNode compute(std::uint32_t level, std::uint32_t at, bool* damaged = nullptr) const {
        if (level == 0) {
            const auto key = leaves_.load_key(at);
            return HeapNode{key, 0, key == kEmptyKey ? kNone32 : at};
        }
        const std::uint32_t first = at << kFanOutBits;
        for (;;) {
            const HeapNode* children = &nodes_[level - 1][first];
            const auto best = smallest_of_8([children](std::uint32_t i) {
                Policy::step();
                return load_node_key(children[i]);
            });
            if (best.key == kEmptyKey) return HeapNode{};
            HeapNode winner{best.key, 0, first + best.at};  // level 0: the index is the position
            if (level > 1) {
                Policy::step();
                winner = load_node(nodes_[level - 1][first + best.at]);
                if (winner.key != best.key) continue;  // changed since: somebody got further
            }
            if (is_below(winner.index, level - 1, first + best.at)) [[likely]]
                return winner;
            if (damaged != nullptr) *damaged = true;
            return best_sound_child(level, at);
        }
    }
    // The slow way, for when some child is damaged.
    [[gnu::noinline, gnu::cold]] HeapNode best_sound_child(std::uint32_t level,
                                                           std::uint32_t at) const {
        HeapNode best;
        const std::uint32_t first = at << kFanOutBits;
        for (std::uint32_t i = 0; i < kFanOut; ++i) {
            Policy::step();
            const HeapNode child = load_node(nodes_[level - 1][first + i]);
            const auto index = level == 1 ? first + i : child.index;
            if (!is_below(index, level - 1, first + i) || child.key >= best.key) continue;
            best.key = child.key;
            best.index = index;
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
