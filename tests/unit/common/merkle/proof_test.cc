#include <algorithm>
#include <random>

#include "common/merkle/compact_range.h"
#include "common/merkle/proof.h"
#include "tests/support/catch.h"
#include "tests/unit/common/merkle/reference.h"

using namespace reeve;
using namespace reeve::merkle;
using namespace reeve::merkle::testing;

namespace {

constexpr std::size_t kLeaves = 300;

struct Tree {
    std::vector<Hash> leaves = numbered_leaves(kLeaves);
    std::vector<std::vector<Hash>> levels;  // complete subtrees by height
    std::vector<Hash> roots;                // by size

    Tree() {
        levels.push_back(leaves);
        while (levels.back().size() > 1) {
            std::vector<Hash> next;
            for (std::size_t i = 0; i + 1 < levels.back().size(); i += 2) {
                next.push_back(node_hash(levels.back()[i], levels.back()[i + 1]));
            }
            levels.push_back(next);
        }
        CompactRange range;
        roots.push_back(range.root());
        for (const Hash& leaf : leaves) {
            range.append(leaf);
            roots.push_back(range.root());
        }
    }
    SubtreeHash subtrees() const {
        return [this](unsigned height, std::uint64_t index) -> Result<Hash> {
            return levels.at(height).at(index);
        };
    }
};

const Tree& tree() {
    static const Tree one;
    return one;
}

Hash flipped(Hash hash, std::size_t bit) {
    hash[bit / 8 % 32] = static_cast<std::uint8_t>(hash[bit / 8 % 32] ^ (1U << (bit % 8)));
    return hash;
}

}  // namespace

TEST_CASE("Proofs: every inclusion proof to size 300 is the definition's and verifies",
          "[merkle]") {
    bool all = true;
    for (std::size_t size = 1; size <= kLeaves; ++size) {
        for (std::size_t index = 0; index < size; ++index) {
            const auto proof = inclusion_proof(index, size, tree().subtrees());
            const auto& leaf = tree().leaves[index];
            all = all && proof && verify_inclusion(index, size, leaf, *proof, tree().roots[size]);
        }
    }
    CHECK(all);
    for (const std::size_t size : {1U, 2U, 3U, 7U, 8U, 9U, 100U, 255U, 256U, 257U, 300U}) {
        for (std::size_t index = 0; index < size; index += 1 + size / 16) {
            const auto leaves = std::span(tree().leaves).first(size);
            REQUIRE(*inclusion_proof(index, size, tree().subtrees()) ==
                    reference_path(index, leaves));
        }
    }
}

TEST_CASE("Proofs: every consistency proof to size 300 is the definition's and verifies",
          "[merkle]") {
    bool all = true;
    for (std::size_t size = 1; size <= kLeaves; ++size) {
        for (std::size_t old_size = 1; old_size <= size; ++old_size) {
            const auto proof = consistency_proof(old_size, size, tree().subtrees());
            all = all && proof &&
                  verify_consistency(old_size, size, tree().roots[old_size], tree().roots[size],
                                     *proof);
        }
    }
    CHECK(all);
    for (const std::size_t size : {2U, 3U, 7U, 8U, 9U, 100U, 256U, 257U}) {
        for (std::size_t old_size = 1; old_size <= size; old_size += 1 + size / 16) {
            const auto leaves = std::span(tree().leaves).first(size);
            REQUIRE(*consistency_proof(old_size, size, tree().subtrees()) ==
                    reference_subproof(old_size, leaves, true));
        }
    }
}

TEST_CASE("Proofs: no proof is made for what is not there", "[merkle]") {
    CHECK_FALSE(inclusion_proof(5, 5, tree().subtrees()));
    CHECK_FALSE(inclusion_proof(0, 0, tree().subtrees()));
    CHECK_FALSE(consistency_proof(0, 5, tree().subtrees()));
    CHECK_FALSE(consistency_proof(6, 5, tree().subtrees()));
}

TEST_CASE("Inclusion: anything changed is refused", "[merkle]") {
    bool none = true;
    const auto refused = [&](bool verified) { none = none && !verified; };
    for (std::size_t size = 1; size <= 70; ++size) {
        for (std::size_t index = 0; index < size; ++index) {
            const Hash& leaf = tree().leaves[index];
            const Hash& root = tree().roots[size];
            const auto proof = *inclusion_proof(index, size, tree().subtrees());
            refused(verify_inclusion(index, size, flipped(leaf, index), proof, root));
            refused(verify_inclusion(index, size, leaf, proof, flipped(root, size)));
            refused(verify_inclusion(size, size, leaf, proof, root));
            refused(verify_inclusion(index + size, size, leaf, proof, root));
            if (size > 1) {
                refused(verify_inclusion(index ^ 1, size, leaf, proof, root));
                refused(verify_inclusion(index + 1, size, leaf, proof, root));
                refused(verify_inclusion(index, size, leaf, {}, root));
                refused(verify_inclusion(index, size, leaf, std::span(proof).subspan(1), root));
                refused(verify_inclusion(index, size, leaf,
                                         std::span(proof).first(proof.size() - 1), root));
            }
            auto longer = proof;
            longer.push_back(leaf);
            refused(verify_inclusion(index, size, leaf, longer, root));
            longer.pop_back();
            longer.insert(longer.begin(), leaf);
            refused(verify_inclusion(index, size, leaf, longer, root));
            for (std::size_t i = 0; i < proof.size(); ++i) {
                auto changed = proof;
                changed[i] = flipped(changed[i], 13 * i);
                refused(verify_inclusion(index, size, leaf, changed, root));
            }
            if (proof.size() > 1) {
                auto swapped = proof;
                std::swap(swapped.front(), swapped.back());
                refused(verify_inclusion(index, size, leaf, swapped, root));
            }
        }
    }
    CHECK(none);
}

TEST_CASE("Inclusion: an inner node does not pass as a leaf", "[merkle]") {
    const Hash inner = node_hash(tree().leaves[0], tree().leaves[1]);
    const std::vector<Hash> proof{node_hash(tree().leaves[2], tree().leaves[3])};
    // The shape fits a tree of two; with the checkpoint's own size it is refused.
    CHECK(verify_inclusion(0, 2, inner, proof, tree().roots[4]));
    CHECK_FALSE(verify_inclusion(0, 4, inner, proof, tree().roots[4]));
}

TEST_CASE("Inclusion: absurd sizes end, and are refused", "[merkle]") {
    const Hash leaf = tree().leaves[0];
    const std::vector<Hash> long_proof(64, leaf);
    CHECK_FALSE(verify_inclusion(0, kSizeMax, leaf, long_proof, leaf));
    CHECK_FALSE(verify_inclusion(0, kSizeMax + 1, leaf, std::span(long_proof).first(63), leaf));
    CHECK_FALSE(
        verify_inclusion(kSizeMax - 1, kSizeMax, leaf, std::span(long_proof).first(63), leaf));
    CHECK_FALSE(verify_inclusion(0, 0, leaf, {}, leaf));
}

TEST_CASE("Consistency: anything changed is refused", "[merkle]") {
    bool none = true;
    const auto refused = [&](bool verified) { none = none && !verified; };
    for (std::size_t size = 1; size <= 70; ++size) {
        for (std::size_t old_size = 1; old_size <= size; ++old_size) {
            const Hash& old_root = tree().roots[old_size];
            const Hash& root = tree().roots[size];
            const auto proof = *consistency_proof(old_size, size, tree().subtrees());
            refused(verify_consistency(old_size, size, flipped(old_root, size), root, proof));
            refused(verify_consistency(old_size, size, old_root, flipped(root, 9), proof));
            refused(verify_consistency(0, size, old_root, root, proof));
            refused(verify_consistency(0, size, empty_root(), root, {}));
            auto longer = proof;
            longer.push_back(root);
            refused(verify_consistency(old_size, size, old_root, root, longer));
            longer.pop_back();
            longer.insert(longer.begin(), old_root);
            refused(verify_consistency(old_size, size, old_root, root, longer));
            if (old_size == size) continue;
            refused(verify_consistency(size, old_size, root, old_root, proof));
            refused(verify_consistency(old_size, size, root, old_root, proof));
            refused(verify_consistency(old_size, size, old_root, root, {}));
            refused(verify_consistency(old_size, size, old_root, root,
                                       std::span(proof).first(proof.size() - 1)));
            refused(
                verify_consistency(old_size, size, old_root, root, std::span(proof).subspan(1)));
            for (std::size_t i = 0; i < proof.size(); ++i) {
                auto changed = proof;
                changed[i] = flipped(changed[i], 7 * i);
                refused(verify_consistency(old_size, size, old_root, root, changed));
            }
        }
    }
    CHECK(none);
}

TEST_CASE("Consistency: made-up roots do not chain a shrinking log", "[merkle]") {
    const Hash a = tree().leaves[0];
    const Hash b = tree().leaves[1];
    CHECK_FALSE(verify_consistency(3, 2, node_hash(a, b), node_hash(a, b), {}));
    const std::vector<Hash> proof{a, b};
    CHECK_FALSE(verify_consistency(3, 2, node_hash(b, a), node_hash(a, b), proof));
}

TEST_CASE("Consistency: a log rewritten below the old size is refused", "[merkle]") {
    auto leaves = tree().leaves;
    leaves[3] = leaf_hash("another");
    for (std::size_t old_size = 5; old_size < 40; ++old_size) {
        const Hash rewritten = reference_root(std::span(leaves).first(64));
        const auto proof =
            reference_subproof(old_size, std::span<const Hash>(leaves).first(64), true);
        CHECK_FALSE(verify_consistency(old_size, 64, tree().roots[old_size], rewritten, proof));
    }
}
