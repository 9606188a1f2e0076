#include "scheduler/core/profile.h"

#include <algorithm>

#include "common/base/assert.h"

namespace reeve::sched {

void FreeProfile::reset(std::int64_t now, std::int64_t free) {
    steps_.clear();
    steps_.push_back(Step{now, free, free});
}

void FreeProfile::add_release(std::int64_t time, std::int64_t size) {
    const std::int64_t at = std::max(time, now() + 1);
    Step& last = steps_.back();
    if (last.time == at) {
        last.free += size;
        return;
    }
    REEVE_ASSERT(at > last.time);
    steps_.push_back(Step{at, last.free + size, steps_.front().free});
}

std::size_t FreeProfile::first_at_or_after(std::int64_t time) const {
    const auto found =
        std::lower_bound(steps_.begin(), steps_.end(), time,
                         [](const Step& step, std::int64_t wanted) { return step.time < wanted; });
    return static_cast<std::size_t>(found - steps_.begin());
}

bool FreeProfile::fits_now(std::int64_t duration, std::int64_t size) const {
    const std::size_t end = first_at_or_after(now() + std::max<std::int64_t>(duration, 1));
    return steps_[end - 1].least_so_far >= size;
}

std::int64_t FreeProfile::earliest(std::int64_t duration, std::int64_t size) const {
    std::size_t start = 0;
    while (start < steps_.size()) {
        if (steps_[start].free < size) {
            ++start;
            continue;
        }
        const std::int64_t until = steps_[start].time + duration;
        std::size_t at = start;
        while (at < steps_.size() && steps_[at].time < until && steps_[at].free >= size) ++at;
        if (at == steps_.size() || steps_[at].time >= until) break;
        start = at + 1;
    }
    REEVE_ASSERT(start < steps_.size());  // in the end everything is free
    return steps_[start].time;
}

std::size_t FreeProfile::cut(std::int64_t time) {
    const std::size_t at = first_at_or_after(time);
    if (at < steps_.size() && steps_[at].time == time) return at;
    Step step = steps_[at - 1];
    step.time = time;
    steps_.insert(steps_.begin() + static_cast<std::ptrdiff_t>(at), step);
    return at;
}

void FreeProfile::reserve(std::int64_t start, std::int64_t duration, std::int64_t size) {
    const std::size_t from = cut(start);
    const std::size_t to = cut(start + std::max<std::int64_t>(duration, 1));
    for (std::size_t i = from; i < to; ++i) {
        steps_[i].free -= size;
        REEVE_ASSERT(steps_[i].free >= 0);
    }
    std::int64_t least = from == 0 ? steps_[0].free : steps_[from - 1].least_so_far;
    for (std::size_t i = from; i < steps_.size(); ++i) {
        least = std::min(least, steps_[i].free);
        steps_[i].least_so_far = least;
    }
}

}  // namespace reeve::sched
