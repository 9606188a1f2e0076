// The tree of RFC 6962 written down as its definition says, to judge the fast one by.
#pragma once

#include <bit>
#include <span>
#include <string>
#include <vector>

#include "common/merkle/hash.h"

namespace reeve::merkle::testing {

inline Hash reference_root(std::span<const Hash> leaves) {
    if (leaves.empty()) return empty_root();
    if (leaves.size() == 1) return leaves[0];
    const std::size_t split = std::bit_floor(leaves.size() - 1);
    return node_hash(reference_root(leaves.first(split)), reference_root(leaves.subspan(split)));
}

inline std::vector<Hash> reference_path(std::size_t index, std::span<const Hash> leaves) {
    if (leaves.size() == 1) return {};
    const std::size_t split = std::bit_floor(leaves.size() - 1);
    const bool left = index < split;
    auto path = left ? reference_path(index, leaves.first(split))
                     : reference_path(index - split, leaves.subspan(split));
    path.push_back(reference_root(left ? leaves.subspan(split) : leaves.first(split)));
    return path;
}

inline std::vector<Hash> reference_subproof(std::size_t old_size, std::span<const Hash> leaves,
                                            bool whole) {
    if (old_size == leaves.size()) {
        return whole ? std::vector<Hash>{} : std::vector<Hash>{reference_root(leaves)};
    }
    const std::size_t split = std::bit_floor(leaves.size() - 1);
    if (old_size <= split) {
        auto proof = reference_subproof(old_size, leaves.first(split), whole);
        proof.push_back(reference_root(leaves.subspan(split)));
        return proof;
    }
    auto proof = reference_subproof(old_size - split, leaves.subspan(split), false);
    proof.push_back(reference_root(leaves.first(split)));
    return proof;
}

inline std::vector<Hash> numbered_leaves(std::size_t count) {
    std::vector<Hash> leaves;
    for (std::size_t i = 0; i < count; ++i)
        leaves.push_back(leaf_hash("leaf " + std::to_string(i)));
    return leaves;
}

}  // namespace reeve::merkle::testing
