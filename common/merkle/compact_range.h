// CompactRange is the smallest state from which an RFC 6962 tree can grow: one hash per set bit of
// its size, at most 63.
//
// append is O(1) amortised; root folds the stack from the right. A plain value: copying it is a
// snapshot of the tree. Not thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/merkle/hash.h"

namespace reeve::merkle {

inline constexpr std::uint64_t kSizeMax = (std::uint64_t{1} << 63) - 1;

class CompactRange {
public:
    CompactRange() = default;
    // Takes over the hashes of the complete subtrees of a tree of this size, largest first.
    // Error kInvalidArgument: their count is not the number of set bits of size.
    static Result<CompactRange> from(std::uint64_t size, std::vector<Hash> subtrees);

    void append(const Hash& leaf) { append_subtree(0, leaf); }
    // Appends a complete subtree of 2^height leaves. Precondition: size is a multiple of 2^height.
    void append_subtree(unsigned height, const Hash& hash);

    Hash root() const;
    std::uint64_t size() const { return size_; }
    const std::vector<Hash>& subtrees() const { return stack_; }

    // size u64 big-endian, then the hashes. Error kDataLoss: wrong length or size.
    std::string serialise() const;
    static Result<CompactRange> parse(std::string_view bytes);

    bool operator==(const CompactRange&) const = default;

private:
    std::uint64_t size_ = 0;
    std::vector<Hash> stack_;
};

}  // namespace reeve::merkle
