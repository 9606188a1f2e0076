#include "common/merkle/proof.h"

#include <algorithm>
#include <bit>

#include "common/base/assert.h"
#include "common/merkle/compact_range.h"

namespace reeve::merkle {
namespace {

struct Range {
    std::uint64_t begin;
    std::uint64_t end;
};

// The hashes of ranges that were collected from the root downwards, leaf side first.
Result<std::vector<Hash>> hashes_of(const std::vector<Range>& ranges, const SubtreeHash& hash) {
    std::vector<Hash> proof;
    proof.reserve(ranges.size());
    for (auto range = ranges.rbegin(); range != ranges.rend(); ++range) {
        REEVE_TRY_ASSIGN(auto one, range_hash(range->begin, range->end, hash));
        proof.push_back(one);
    }
    return proof;
}

// Walks the path bits of a proof: `at` is the node on the path, `last` the last node of its level.
struct Walk {
    std::uint64_t at;
    std::uint64_t last;

    bool left_sibling() const { return (at & 1) != 0 || at == last; }
    void up() {
        at >>= 1;
        last >>= 1;
    }
    // A node without a right sibling is its own parent; skips those levels. Guarded against at = 0,
    // where the loop would never end.
    void skip_to_right_child() {
        while ((at & 1) == 0 && at != 0) up();
    }
};

}  // namespace

Result<Hash> range_hash(std::uint64_t begin, std::uint64_t end, const SubtreeHash& hash) {
    REEVE_ASSERT(begin < end);
    const std::uint64_t count = end - begin;
    if (std::has_single_bit(count)) {
        const auto height = static_cast<unsigned>(std::countr_zero(count));
        REEVE_ASSERT((begin & (count - 1)) == 0);
        return hash(height, begin >> height);
    }
    const std::uint64_t split = begin + std::bit_floor(count);
    REEVE_TRY_ASSIGN(auto left, range_hash(begin, split, hash));
    REEVE_TRY_ASSIGN(auto right, range_hash(split, end, hash));
    return node_hash(left, right);
}

Result<std::vector<Hash>> inclusion_proof(std::uint64_t index, std::uint64_t size,
                                          const SubtreeHash& hash) {
    if (index >= size || size > kSizeMax) {
        return fail(ErrorCode::kInvalidArgument, "inclusion proof: index " + std::to_string(index) +
                                                     " is not in a tree of size " +
                                                     std::to_string(size));
    }
    std::vector<Range> siblings;
    Range here{0, size};
    while (here.end - here.begin > 1) {
        const std::uint64_t split = here.begin + std::bit_floor(here.end - here.begin - 1);
        if (index < split) {
            siblings.push_back({split, here.end});
            here.end = split;
        } else {
            siblings.push_back({here.begin, split});
            here.begin = split;
        }
    }
    return hashes_of(siblings, hash);
}

Result<std::vector<Hash>> consistency_proof(std::uint64_t old_size, std::uint64_t new_size,
                                            const SubtreeHash& hash) {
    if (old_size == 0 || old_size > new_size || new_size > kSizeMax) {
        return fail(ErrorCode::kInvalidArgument, "consistency proof: no proof leads from size " +
                                                     std::to_string(old_size) + " to size " +
                                                     std::to_string(new_size));
    }
    std::vector<Range> parts;
    Range here{0, new_size};
    while (old_size != here.end) {
        const std::uint64_t split = here.begin + std::bit_floor(here.end - here.begin - 1);
        if (old_size <= split) {
            parts.push_back({split, here.end});
            here.end = split;
        } else {
            parts.push_back({here.begin, split});
            here.begin = split;
        }
    }
    // The verifier knows the old root itself; any other last part has to be told.
    if (here.begin != 0) parts.push_back(here);
    return hashes_of(parts, hash);
}

bool verify_inclusion(std::uint64_t index, std::uint64_t size, const Hash& leaf,
                      std::span<const Hash> proof, const Hash& root) {
    if (index >= size || size > kSizeMax || proof.size() > kProofHashesMax) return false;
    Walk walk{index, size - 1};
    Hash here = leaf;
    for (const Hash& sibling : proof) {
        if (walk.last == 0) return false;
        if (walk.left_sibling()) {
            here = node_hash(sibling, here);
            walk.skip_to_right_child();
        } else {
            here = node_hash(here, sibling);
        }
        walk.up();
    }
    return walk.last == 0 && here == root;
}

bool verify_consistency(std::uint64_t old_size, std::uint64_t new_size, const Hash& old_root,
                        const Hash& new_root, std::span<const Hash> proof) {
    if (old_size == 0 || old_size > new_size || new_size > kSizeMax) return false;
    if (old_size == new_size) return proof.empty() && old_root == new_root;
    if (proof.empty() || proof.size() > kProofHashesMax) return false;

    Walk walk{old_size - 1, new_size - 1};
    while ((walk.at & 1) != 0) walk.up();
    // A power of two is a complete subtree, whose hash the verifier knows: the old root.
    const bool starts_with_root = std::has_single_bit(old_size);
    Hash old_here = starts_with_root ? old_root : proof.front();
    Hash new_here = old_here;
    for (const Hash& hash : proof.subspan(starts_with_root ? 0 : 1)) {
        if (walk.last == 0) return false;
        if (walk.left_sibling()) {
            old_here = node_hash(hash, old_here);
            new_here = node_hash(hash, new_here);
            walk.skip_to_right_child();
        } else {
            new_here = node_hash(new_here, hash);
        }
        walk.up();
    }
    return walk.last == 0 && old_here == old_root && new_here == new_root;
}

}  // namespace reeve::merkle
