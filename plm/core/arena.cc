#include "plm/core/arena.h"

#include <iterator>

namespace reeve::plm {

void Arena::give_back(std::uint64_t offset, std::uint64_t bytes) {
    if (bytes == 0) return;
    free_bytes_ += bytes;
    auto next = by_offset_.lower_bound(offset);
    if (next != by_offset_.begin()) {
        const auto previous = std::prev(next);
        if (previous->first + previous->second == offset) {
            offset = previous->first;
            bytes += previous->second;
            by_size_.erase({previous->second, previous->first});
            by_offset_.erase(previous);
        }
    }
    if (next != by_offset_.end() && offset + bytes == next->first) {
        bytes += next->second;
        by_size_.erase({next->second, next->first});
        by_offset_.erase(next);
    }
    by_offset_.emplace(offset, bytes);
    by_size_.emplace(bytes, offset);
}

void Arena::take(std::map<std::uint64_t, std::uint64_t>::iterator at, std::uint64_t offset,
                 std::uint64_t bytes) {
    const auto [start, size] = *at;
    by_size_.erase({size, start});
    by_offset_.erase(at);
    free_bytes_ -= size;
    if (offset > start) give_back(start, offset - start);
    if (offset + bytes < start + size) give_back(offset + bytes, start + size - offset - bytes);
}

void Arena::release(std::uint64_t offset, std::uint64_t bytes) {
    const auto size = round_up(bytes);
    const auto granules = size / kGranule;
    if (granules > kSmallGranules) {
        give_back(offset, size);
        return;
    }
    small_[granules].push_back(offset);
    aside_bytes_ += size;
}

// True when anything was kept aside.
bool Arena::join_small() {
    if (aside_bytes_ == 0) return false;
    for (std::size_t granules = 1; granules <= kSmallGranules; ++granules) {
        for (const auto offset : small_[granules]) give_back(offset, granules * kGranule);
        small_[granules].clear();
    }
    aside_bytes_ = 0;
    return true;
}

std::optional<std::uint64_t> Arena::allocate(std::uint64_t bytes) {
    const auto wanted = round_up(bytes);
    const auto granules = wanted / kGranule;
    if (granules <= kSmallGranules && !small_[granules].empty()) {
        const auto offset = small_[granules].back();
        small_[granules].pop_back();
        aside_bytes_ -= wanted;
        return offset;
    }
    auto found = best_fit(wanted);
    if (!found && join_small()) found = best_fit(wanted);
    return found;
}

std::optional<std::uint64_t> Arena::best_fit(std::uint64_t wanted) {
    const auto best = by_size_.lower_bound({wanted, 0});
    if (best == by_size_.end()) return std::nullopt;
    const auto offset = best->second;
    take(by_offset_.find(offset), offset, wanted);
    return offset;
}

bool Arena::reserve(std::uint64_t offset, std::uint64_t bytes) {
    const auto wanted = round_up(bytes);
    auto at = by_offset_.upper_bound(offset);
    if (at == by_offset_.begin()) return false;
    --at;
    if (offset + wanted > at->first + at->second || offset % kGranule != 0) return false;
    take(at, offset, wanted);
    return true;
}

}  // namespace reeve::plm
