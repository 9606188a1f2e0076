// IntervalSet holds many 64-bit numbers as few inclusive ranges: the elements of an array that
// ended, the jobs that ended well. A million finished elements cost one range, not a million
// entries. An empty set is two words: most jobs have five of them.
//
// Not thread-safe. add, remove and contains are O(log ranges).
#pragma once

#include <cstdint>
#include <iterator>
#include <map>
#include <memory>

namespace reeve::plm {

class IntervalSet {
public:
    using Ranges = std::map<std::uint64_t, std::uint64_t>;  // first -> last, disjoint, not adjacent

    void add(std::uint64_t first, std::uint64_t last) {
        remove(first, last);
        count_ += last - first + 1;
        if (!ranges_) ranges_ = std::make_unique<Ranges>();
        auto next = ranges_->lower_bound(first);
        if (next != ranges_->begin()) {
            auto previous = std::prev(next);
            if (previous->second + 1 == first) {
                first = previous->first;
                ranges_->erase(previous);
            }
        }
        if (next != ranges_->end() && last + 1 == next->first) {
            last = next->second;
            ranges_->erase(next);
        }
        ranges_->emplace(first, last);
    }
    void add(std::uint64_t value) { add(value, value); }

    void remove(std::uint64_t first, std::uint64_t last) {
        if (!ranges_) return;
        auto at = ranges_->upper_bound(first);
        if (at != ranges_->begin()) --at;
        while (at != ranges_->end() && at->first <= last) {
            const auto [low, high] = *at;
            if (high < first) {
                ++at;
                continue;
            }
            at = ranges_->erase(at);
            const auto cut_low = low > first ? low : first;
            const auto cut_high = high < last ? high : last;
            count_ -= cut_high - cut_low + 1;
            if (low < first) ranges_->emplace(low, first - 1);
            if (high > last) at = std::next(ranges_->emplace(last + 1, high).first);
        }
        if (ranges_->empty()) ranges_.reset();
    }
    void remove(std::uint64_t value) { remove(value, value); }

    bool contains(std::uint64_t value) const {
        const auto& all = ranges();
        auto at = all.upper_bound(value);
        return at != all.begin() && std::prev(at)->second >= value;
    }
    // The smallest number >= value that is not in the set.
    std::uint64_t next_gap(std::uint64_t value) const {
        const auto& all = ranges();
        auto at = all.upper_bound(value);
        if (at == all.begin()) return value;
        --at;
        return at->second >= value ? at->second + 1 : value;
    }
    std::uint64_t count() const { return count_; }
    bool empty() const { return count_ == 0; }
    const Ranges& ranges() const {
        static const Ranges kNone;
        return ranges_ ? *ranges_ : kNone;
    }

private:
    std::unique_ptr<Ranges> ranges_;  // none when empty
    std::uint64_t count_ = 0;
};

}  // namespace reeve::plm
