#include "common/merkle/compact_range.h"

#include <bit>

#include "common/base/assert.h"
#include "common/base/bytes.h"

namespace reeve::merkle {

Result<CompactRange> CompactRange::from(std::uint64_t size, std::vector<Hash> subtrees) {
    if (size > kSizeMax || subtrees.size() != static_cast<std::size_t>(std::popcount(size))) {
        return fail(ErrorCode::kInvalidArgument, "compact range: the hashes do not match the size");
    }
    CompactRange range;
    range.size_ = size;
    range.stack_ = std::move(subtrees);
    return range;
}

void CompactRange::append_subtree(unsigned height, const Hash& hash) {
    const std::uint64_t leaves = std::uint64_t{1} << height;
    REEVE_ASSERT((size_ & (leaves - 1)) == 0);
    REEVE_ASSERT(size_ <= kSizeMax - leaves);
    Hash top = hash;
    // Each set bit of the size at or above height is a subtree waiting for its right sibling.
    for (std::uint64_t bits = size_ >> height; (bits & 1) != 0; bits >>= 1) {
        top = node_hash(stack_.back(), top);
        stack_.pop_back();
    }
    stack_.push_back(top);
    size_ += leaves;
}

Hash CompactRange::root() const {
    if (stack_.empty()) return empty_root();
    Hash root = stack_.back();
    for (std::size_t i = stack_.size() - 1; i-- > 0;) root = node_hash(stack_[i], root);
    return root;
}

std::string CompactRange::serialise() const {
    std::string out(8, '\0');
    put_big_endian(out.data(), size_);
    for (const Hash& hash : stack_) out.append(as_bytes(hash));
    return out;
}

Result<CompactRange> CompactRange::parse(std::string_view bytes) {
    if (bytes.size() < 8 || (bytes.size() - 8) % kHashSize != 0) {
        return fail(ErrorCode::kDataLoss, "compact range: wrong length");
    }
    std::vector<Hash> subtrees;
    for (std::size_t at = 8; at < bytes.size(); at += kHashSize) {
        subtrees.push_back(to_hash(bytes.substr(at, kHashSize)));
    }
    auto range = from(get_big_endian<std::uint64_t>(bytes.data()), std::move(subtrees));
    if (!range) return fail(ErrorCode::kDataLoss, range.error().message);
    return range;
}

}  // namespace reeve::merkle
