#include "scheduler/core/rigid.h"

#include <algorithm>
#include <array>
#include <limits>

#include "common/base/assert.h"

namespace reeve::sched {
namespace {

constexpr std::array<std::pair<RigidPolicy, std::string_view>, 7> kNames{{
    {RigidPolicy::kFcfs, "fcfs"},
    {RigidPolicy::kSjf, "sjf"},
    {RigidPolicy::kEasy, "easy"},
    {RigidPolicy::kEasySjbf, "easy-sjbf"},
    {RigidPolicy::kSjfEasy, "sjf-easy"},
    {RigidPolicy::kConservative, "conservative"},
    {RigidPolicy::kReeve, "reeve"},
}};

// Conservative backfilling plans this many jobs; the ones behind them wait unplanned.
constexpr std::size_t kPlannedMax = 128;

}  // namespace

std::string_view to_string(RigidPolicy policy) {
    for (const auto& [value, name] : kNames) {
        if (value == policy) return name;
    }
    return "unknown";
}

std::optional<RigidPolicy> parse_rigid_policy(std::string_view name) {
    for (const auto& [value, known] : kNames) {
        if (known == name) return value;
    }
    return std::nullopt;
}

RigidCore::RigidCore(std::int64_t machine, RigidPolicy policy)
    : machine_(machine), policy_(policy), free_(machine) {
    REEVE_ASSERT(machine > 0);
}

// Queue order. Refs are in (submit, id) order, so they break every tie.
bool RigidCore::before(Ref a, Ref b) const {
    if (policy_ == RigidPolicy::kSjf || policy_ == RigidPolicy::kSjfEasy) {
        const std::int64_t left = entries_[a].job.estimate;
        const std::int64_t right = entries_[b].job.estimate;
        if (left != right) return left < right;
    }
    if (policy_ == RigidPolicy::kReeve && entries_[a].rank != entries_[b].rank) {
        return entries_[a].rank > entries_[b].rank;
    }
    return a < b;
}

void RigidCore::submit(std::int64_t now, Ref ref, const RigidJob& job) {
    REEVE_ASSERT(job.size > 0 && job.size <= machine_ && job.estimate > 0);
    if (ref >= entries_.size()) entries_.resize(std::size_t{ref} + 1);
    entries_[ref] = Entry{};
    entries_[ref].job = job;
    if (policy_ == RigidPolicy::kReeve) own_submitted(now, ref);
    const auto place = std::lower_bound(queue_.begin(), queue_.end(), ref,
                                        [this](Ref a, Ref b) { return before(a, b); });
    queue_.insert(place, ref);
    if (policy_ == RigidPolicy::kEasySjbf) {
        const auto shorter = [this](Ref a, Ref b) {
            const std::int64_t left = entries_[a].job.estimate;
            const std::int64_t right = entries_[b].job.estimate;
            return left != right ? left < right : a < b;
        };
        other_order_.insert(
            std::lower_bound(other_order_.begin(), other_order_.end(), ref, shorter), ref);
    }
    if (policy_ == RigidPolicy::kReeve) other_order_.push_back(ref);
}

void RigidCore::end(std::int64_t now, Ref ref) {
    REEVE_ASSERT(ref < entries_.size() && entries_[ref].start >= 0);
    Entry& entry = entries_[ref];
    const std::int64_t expected = entry.start + entry.job.estimate;
    auto found = std::lower_bound(
        running_.begin(), running_.end(), expected,
        [](const Running& running, std::int64_t time) { return running.expected_end < time; });
    while (found != running_.end() && found->ref != ref) ++found;
    REEVE_ASSERT(found != running_.end());
    running_.erase(found);
    free_ += entry.job.size;
    if (policy_ == RigidPolicy::kReeve) own_ended(now, ref);
}

void RigidCore::start(std::int64_t now, Ref ref, std::vector<Ref>& started) {
    Entry& entry = entries_[ref];
    REEVE_ASSERT(entry.job.size <= free_ && entry.start < 0);
    entry.start = now;
    entry.leaving = true;
    free_ -= entry.job.size;
    const std::int64_t expected = now + entry.job.estimate;
    const auto place = std::upper_bound(
        running_.begin(), running_.end(), expected,
        [](std::int64_t time, const Running& running) { return time < running.expected_end; });
    running_.insert(place, Running{expected, ref});
    if (policy_ == RigidPolicy::kReeve) own_started(now, ref);
    started.push_back(ref);
}

void RigidCore::remove_started() {
    const auto gone = [this](Ref ref) { return entries_[ref].leaving; };
    std::erase_if(queue_, gone);
    std::erase_if(other_order_, gone);
}

void RigidCore::start_heads(std::int64_t now, std::vector<Ref>& started) {
    const std::size_t before_count = started.size();
    for (const Ref ref : queue_) {
        if (entries_[ref].job.size > free_) break;
        start(now, ref, started);
    }
    if (started.size() != before_count) remove_started();
}

void RigidCore::pass(std::int64_t now, std::vector<Ref>& started) {
    if (queue_.empty() || free_ == 0) return;
    switch (policy_) {
        case RigidPolicy::kFcfs:
        case RigidPolicy::kSjf:
            start_heads(now, started);
            return;
        case RigidPolicy::kEasy:
        case RigidPolicy::kEasySjbf:
        case RigidPolicy::kSjfEasy:
            pass_easy(now, started);
            return;
        case RigidPolicy::kConservative:
            pass_conservative(now, started);
            return;
        case RigidPolicy::kReeve:
            pass_own(now, started);
            return;
    }
}

void RigidCore::pass_easy(std::int64_t now, std::vector<Ref>& started) {
    start_heads(now, started);
    if (queue_.size() < 2 || free_ == 0) return;
    const Ref head = queue_.front();
    std::int64_t available = free_;
    std::int64_t shadow = 0;
    std::int64_t extra = 0;
    for (std::size_t i = 0; i < running_.size();) {
        const std::int64_t end = running_[i].expected_end;
        while (i < running_.size() && running_[i].expected_end == end) {
            available += entries_[running_[i++].ref].job.size;
        }
        if (available >= entries_[head].job.size) {
            shadow = end;
            extra = available - entries_[head].job.size;
            break;
        }
    }
    const std::size_t before_count = started.size();
    for (const Ref ref : policy_ == RigidPolicy::kEasySjbf ? other_order_ : queue_) {
        if (free_ == 0) break;
        const RigidJob& job = entries_[ref].job;
        if (ref == head || job.size > free_) continue;
        if (now + job.estimate <= shadow) {
            start(now, ref, started);
        } else if (job.size <= extra) {
            extra -= job.size;
            start(now, ref, started);
        }
    }
    backfilled_ += started.size() - before_count;
    if (started.size() != before_count) remove_started();
}

void RigidCore::fill_profile(std::int64_t now) {
    profile_.reset(now, free_);
    for (const Running& running : running_) {
        profile_.add_release(running.expected_end, entries_[running.ref].job.size);
    }
}

void RigidCore::pass_conservative(std::int64_t now, std::vector<Ref>& started) {
    fill_profile(now);
    const std::size_t before_count = started.size();
    const std::size_t planned = std::min(queue_.size(), kPlannedMax);
    for (std::size_t i = 0; i < planned && free_ > 0; ++i) {
        const Ref ref = queue_[i];
        const RigidJob& job = entries_[ref].job;
        const std::int64_t at = profile_.earliest(job.estimate, job.size);
        profile_.reserve(at, job.estimate, job.size);
        if (at > now) continue;
        backfilled_ += i > started.size() - before_count ? 1 : 0;
        start(now, ref, started);
    }
    if (started.size() != before_count) remove_started();
}

}  // namespace reeve::sched
