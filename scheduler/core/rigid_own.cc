// RigidCore's own policy, "reeve". The formula and its reasons are in docs/policy.md.
//
// Order: expected slowdown grows fastest for short work, so rank = (wait + kPatience) /
// predicted^kShortness, with a preference for narrow jobs that turns into one for wide jobs where
// width is what fragments the machine. Nothing is reserved for the head: whoever fits starts. The
// one job that will otherwise wait longer than the worst backlog seen gets a reservation, made early
// enough that the machine can drain for it.
#include <algorithm>
#include <cmath>

#include "common/base/assert.h"
#include "scheduler/core/rigid.h"

namespace reeve::sched {
namespace {

constexpr double kPatience = 600;         // seconds every job is taken to have waited already
constexpr double kShortness = 0.75;       // 1: slowdown order; 0: first come first served
constexpr double kNarrowness = 0.5;       // rank falls with size^this ...
constexpr double kWidth = 8;              // ... and grows with (1 + kWidth * size / machine)^2
constexpr double kOverdueShare = 0.8;     // of the longest backlog: the wait nobody shall exceed
constexpr double kOverdueLeast = 86'400;  // seconds; before that nobody is overdue
constexpr std::int64_t kRankInterval = 60;

}  // namespace

double RigidCore::rank_of(std::int64_t now, const Entry& entry) const {
    const double share = static_cast<double>(entry.job.size) / static_cast<double>(machine_);
    const double wait = static_cast<double>(now - entry.job.submit);
    const double wide = 1 + kWidth * share;
    return (wait + kPatience) / std::pow(entry.predicted, kShortness) /
           std::pow(share, kNarrowness) * wide * wide;
}

// The job is predicted, ranked, and the backlog in front of it measured: the work that runs and
// waits, over the machine. Its maximum is what first come first served would make somebody wait.
void RigidCore::own_submitted(std::int64_t now, Ref ref) {
    Entry& entry = entries_[ref];
    entry.predicted = predictor_.predict(
        {entry.job.user, entry.job.size, entry.job.estimate, entry.job.program});
    double work = 0;
    for (const Running& running : running_) {
        const Entry& other = entries_[running.ref];
        const double left = other.predicted - static_cast<double>(now - other.start);
        work += std::max(0.0, left) * static_cast<double>(other.job.size);
    }
    for (const Ref other : queue_) {
        work += entries_[other].predicted * static_cast<double>(entries_[other].job.size);
    }
    longest_drain_ = std::max(longest_drain_, work / static_cast<double>(machine_));
    entry.rank = rank_of(now, entry);
}

void RigidCore::rank_queue(std::int64_t now) {
    if (ranked_at_ >= 0 && now - ranked_at_ < kRankInterval) return;
    ranked_at_ = now;
    for (const Ref ref : queue_) entries_[ref].rank = rank_of(now, entries_[ref]);
    std::sort(queue_.begin(), queue_.end(), [this](Ref a, Ref b) { return before(a, b); });
}

// When how much will be free, by predicted ends; a job that outlives its prediction is expected to
// run half as long again, up to its limit.
void RigidCore::likely_releases(std::int64_t now) {
    likely_.clear();
    for (const Running& running : running_) {
        const Entry& entry = entries_[running.ref];
        std::int64_t end = entry.start + static_cast<std::int64_t>(entry.predicted);
        if (end <= now) {
            const std::int64_t elapsed = now - entry.start;
            end = entry.start + std::min(entry.job.estimate, elapsed + elapsed / 2 + 60);
        }
        likely_.emplace_back(end, entry.job.size);
    }
    std::sort(likely_.begin(), likely_.end());
    std::int64_t free = free_;
    for (auto& [time, size] : likely_) {
        free += size;
        size = free;
    }
}

// The oldest job that, started when the machine has drained for it, would have waited too long.
std::optional<RigidCore::Ref> RigidCore::overdue(std::int64_t now) {
    likely_releases(now);
    const double limit = std::max(kOverdueLeast, kOverdueShare * longest_drain_);
    std::optional<Ref> oldest;
    for (const Ref ref : queue_) {
        if (oldest && *oldest < ref) continue;
        const RigidJob& job = entries_[ref].job;
        std::int64_t at = now;
        if (job.size > free_) {
            const auto room = std::lower_bound(
                likely_.begin(), likely_.end(), job.size,
                [](const auto& release, std::int64_t size) { return release.second < size; });
            if (room != likely_.end()) at = room->first;
        }
        if (static_cast<double>(at - job.submit) > limit) oldest = ref;
    }
    return oldest;
}

void RigidCore::pass_own(std::int64_t now, std::vector<Ref>& started) {
    rank_queue(now);
    const std::size_t before_count = started.size();
    const std::optional<Ref> guarded = overdue(now);
    bool reserved = false;
    if (guarded) {
        const RigidJob& job = entries_[*guarded].job;
        if (job.size <= free_) {
            start(now, *guarded, started);
        } else {
            fill_profile(now);
            profile_.reserve(profile_.earliest(job.estimate, job.size), job.estimate, job.size);
            reserved = true;
        }
    }
    for (const Ref ref : queue_) {
        if (free_ == 0) break;
        const RigidJob& job = entries_[ref].job;
        if (job.size > free_ || entries_[ref].leaving) continue;
        if (reserved) {
            if (ref == *guarded || !profile_.fits_now(job.estimate, job.size)) continue;
            profile_.reserve(now, job.estimate, job.size);
            ++backfilled_;
        }
        start(now, ref, started);
    }
    if (started.size() != before_count) remove_started();
}

}  // namespace reeve::sched
