// Inclusion and consistency proofs of RFC 6962 section 2.1: construction over a callback that knows
// the hashes of complete subtrees, and verification that trusts nothing.
//
// A proof does not bind the tree size by itself: size and root must come together from one verified
// checkpoint, never from whoever hands over the proof. Pure; thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "common/base/result.h"
#include "common/merkle/hash.h"

namespace reeve::merkle {

inline constexpr std::size_t kProofHashesMax = 63;

// The hash of the complete subtree over leaves [index << height, (index + 1) << height).
using SubtreeHash = std::function<Result<Hash>(unsigned height, std::uint64_t index)>;

// MTH(D[begin:end]). Precondition: begin is a multiple of the smallest power of two >= end - begin,
// which every range of a proof is.
Result<Hash> range_hash(std::uint64_t begin, std::uint64_t end, const SubtreeHash& hash);

// Errors: kInvalidArgument (index >= size; old_size is 0 or > new_size), or the callback's own.
Result<std::vector<Hash>> inclusion_proof(std::uint64_t index, std::uint64_t size,
                                          const SubtreeHash& hash);
Result<std::vector<Hash>> consistency_proof(std::uint64_t old_size, std::uint64_t new_size,
                                            const SubtreeHash& hash);

bool verify_inclusion(std::uint64_t index, std::uint64_t size, const Hash& leaf,
                      std::span<const Hash> proof, const Hash& root);

// old_size 0 is refused here; the witness protocol allows it with an empty proof and checks that
// itself.
bool verify_consistency(std::uint64_t old_size, std::uint64_t new_size, const Hash& old_root,
                        const Hash& new_root, std::span<const Hash> proof);

}  // namespace reeve::merkle
