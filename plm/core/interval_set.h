// IntervalSet holds many 64-bit numbers as few inclusive ranges: the elements of an array that
// ended, the jobs that ended well. A million finished elements cost one range, not a million
// entries. An empty set is one word, since most jobs have five of them, and one range needs no
// tree.
//
// Not thread-safe. add, remove and contains are O(log ranges).
#pragma once

#include <cstdint>
#include <iterator>
#include <map>
#include <memory>
#include <utility>

namespace reeve::plm {

class IntervalSet {
public:
    using Ranges = std::map<std::uint64_t, std::uint64_t>;  // first -> last, disjoint, not adjacent

    void add(std::uint64_t first, std::uint64_t last) {
        if (!body_) {
            body_ = std::make_unique<Body>(Body{last - first + 1, first, last, {}});
            return;
        }
        if (body_->ranges.empty()) {
            // The one range grows by what follows or precedes it.
            if (body_->last + 1 == first) {
                body_->count += last - first + 1;
                body_->last = last;
                return;
            }
            body_->ranges.emplace(body_->first, body_->last);
        }
        add_to_tree(first, last);
        fold();
    }
    void add(std::uint64_t value) { add(value, value); }

    void remove(std::uint64_t first, std::uint64_t last) {
        if (!body_) return;
        if (body_->ranges.empty()) body_->ranges.emplace(body_->first, body_->last);
        remove_from_tree(first, last);
        fold();
    }
    void remove(std::uint64_t value) { remove(value, value); }

    bool contains(std::uint64_t value) const { return next_gap(value) != value; }
    // The smallest number >= value that is not in the set.
    std::uint64_t next_gap(std::uint64_t value) const {
        if (!body_) return value;
        if (body_->ranges.empty()) {
            return value >= body_->first && value <= body_->last ? body_->last + 1 : value;
        }
        auto at = body_->ranges.upper_bound(value);
        if (at == body_->ranges.begin()) return value;
        --at;
        return at->second >= value ? at->second + 1 : value;
    }
    // The first number of the first range that begins at `value` or later, or kNone.
    std::uint64_t next_first(std::uint64_t value) const {
        if (!body_) return kNone;
        if (body_->ranges.empty()) return body_->first >= value ? body_->first : kNone;
        const auto at = body_->ranges.lower_bound(value);
        return at == body_->ranges.end() ? kNone : at->first;
    }
    std::uint64_t count() const { return body_ ? body_->count : 0; }
    bool empty() const { return !body_; }
    // A copy, in order.
    Ranges ranges() const {
        if (!body_) return {};
        if (body_->ranges.empty()) return {{body_->first, body_->last}};
        return body_->ranges;
    }

    static constexpr std::uint64_t kNone = ~std::uint64_t{0};

private:
    struct Body {
        std::uint64_t count = 0;
        std::uint64_t first = 0;  // the only range, while `ranges` is empty
        std::uint64_t last = 0;
        Ranges ranges;
    };

    void add_to_tree(std::uint64_t first, std::uint64_t last) {
        auto& ranges = body_->ranges;
        auto next = ranges.lower_bound(first);
        auto previous = next == ranges.begin() ? ranges.end() : std::prev(next);
        const bool apart = (next == ranges.end() || next->first > last) &&
                           (previous == ranges.end() || previous->second < first);
        if (!apart) {
            remove_from_tree(first, last);
            next = ranges.lower_bound(first);
            previous = next == ranges.begin() ? ranges.end() : std::prev(next);
        }
        body_->count += last - first + 1;
        const bool joins_next = next != ranges.end() && last + 1 == next->first;
        if (previous != ranges.end() && previous->second + 1 == first) {
            previous->second = joins_next ? next->second : last;
            if (joins_next) ranges.erase(next);
        } else if (joins_next) {
            // It begins earlier, in the same node.
            const auto after = std::next(next);
            auto node = ranges.extract(next);
            node.key() = first;
            ranges.insert(after, std::move(node));
        } else {
            ranges.emplace_hint(next, first, last);
        }
    }

    void remove_from_tree(std::uint64_t first, std::uint64_t last) {
        auto& ranges = body_->ranges;
        auto at = ranges.upper_bound(first);
        if (at != ranges.begin()) --at;
        while (at != ranges.end() && at->first <= last) {
            const auto [low, high] = *at;
            if (high < first) {
                ++at;
                continue;
            }
            at = ranges.erase(at);
            const auto cut_low = low > first ? low : first;
            const auto cut_high = high < last ? high : last;
            body_->count -= cut_high - cut_low + 1;
            if (low < first) ranges.emplace(low, first - 1);
            if (high > last) at = std::next(ranges.emplace(last + 1, high).first);
        }
    }

    // Nothing, or one range, needs no tree.
    void fold() {
        if (body_->count == 0) {
            body_.reset();
        } else if (body_->ranges.size() == 1) {
            body_->first = body_->ranges.begin()->first;
            body_->last = body_->ranges.begin()->second;
            body_->ranges.clear();
        }
    }

    std::unique_ptr<Body> body_;  // none when empty
};

}  // namespace reeve::plm
