// RigidCore's own policy, "reeve". The formula and its reasons are in docs/policy.md.
//
// Order: slowdown grows fastest for short work, so a job's rank is (wait + kPatience) / predicted
// run time, times a factor that prefers narrow jobs among small ones and wide jobs where width is
// what fragments the machine. The head of the queue holds no reservation as such: whoever fits
// starts, which keeps the machine full. Two rules bound the wait. Nobody shall wait much longer
// than first come first served would have made somebody wait at the worst moment seen; so whenever
// that limit could not be kept for some job even if the queue were served by arrival from now on,
// the oldest job starts next or holds a reservation that nobody delays. And the best-ranked job
// that does not fit gets one when it has waited half of that.
#include <algorithm>
#include <cmath>

#include "common/base/assert.h"
#include "scheduler/core/rigid.h"
#include "scheduler/core/run_bound.h"

namespace reeve::sched {
namespace {

constexpr double kPatience = 10'000;    // seconds every job is taken to have waited already
constexpr double kNarrowness = 0.7;     // rank falls with (size / machine)^this ...
constexpr double kWidth = 8;            // ... and grows with (1 + kWidth * size / machine)^2
constexpr double kLimitShare = 1.05;    // of the longest backlog: the wait nobody shall exceed
constexpr double kLimitLeast = 86'400;  // seconds; that much anybody may wait
constexpr double kDueShare = 0.5;       // of that wait: when a job that leads gets a reservation
constexpr int kDueReservations = 1;
constexpr std::int64_t kRankInterval = 60;  // seconds between re-rankings

RunKey key_of(const RigidJob& job) {
    return RunKey{job.user, job.size, job.estimate, job.program};
}

}  // namespace

// The job is predicted and weighed, and the backlog in front of it measured: the work that runs and
// waits, over the machine. Its maximum is what first come first served would make somebody wait.
void RigidCore::own_submitted(std::int64_t now, Ref ref) {
    Entry& entry = entries_[ref];
    entry.predicted = predictor_.predict(key_of(entry.job));
    const double share = static_cast<double>(entry.job.size) / static_cast<double>(machine_);
    const double wide = 1 + kWidth * share;
    entry.weight = wide * wide / entry.predicted / std::pow(share, kNarrowness);
    entry.rank = (static_cast<double>(now - entry.job.submit) + kPatience) * entry.weight;
    double work = queued_work_;
    for (const Running& running : running_) {
        const Entry& other = entries_[running.ref];
        const double left = other.predicted - static_cast<double>(now - other.start);
        work += std::max(0.0, left) * static_cast<double>(other.job.size);
    }
    longest_drain_ = std::max(longest_drain_, work / static_cast<double>(machine_));
    queued_work_ += entry.predicted * static_cast<double>(entry.job.size);
}

void RigidCore::own_started(std::int64_t now, Ref ref) {
    Entry& entry = entries_[ref];
    queued_work_ -= entry.predicted * static_cast<double>(entry.job.size);
    entry.likely_end = now + static_cast<std::int64_t>(entry.predicted);
    note_likely(ref);
}

void RigidCore::note_likely(Ref ref) {
    const auto sooner = [this](std::int64_t time, Ref other) {
        return time < entries_[other].likely_end;
    };
    likely_.insert(
        std::upper_bound(likely_.begin(), likely_.end(), entries_[ref].likely_end, sooner), ref);
}

void RigidCore::own_ended(std::int64_t now, Ref ref) {
    const Entry& entry = entries_[ref];
    const auto found = std::find(likely_.begin(), likely_.end(), ref);
    REEVE_ASSERT(found != likely_.end());
    likely_.erase(found);
    ended_work_ += static_cast<double>((now - entry.start) * entry.job.size);
    ended_predicted_ += entry.predicted * static_cast<double>(entry.job.size);
    predictor_.learn(key_of(entry.job), now - entry.start);
}

// Ranks grow at different speeds, so the queue is put in order again now and then. It is nearly in
// order already: an insertion sort.
void RigidCore::rank_queue(std::int64_t now) {
    if (ranked_at_ >= 0 && now - ranked_at_ < kRankInterval) return;
    ranked_at_ = now;
    for (const Ref ref : queue_) {
        Entry& entry = entries_[ref];
        entry.rank = (static_cast<double>(now - entry.job.submit) + kPatience) * entry.weight;
    }
    for (std::size_t i = 1; i < queue_.size(); ++i) {
        const Ref ref = queue_[i];
        std::size_t at = i;
        for (; at > 0 && before(ref, queue_[at - 1]); --at) queue_[at] = queue_[at - 1];
        queue_[at] = ref;
    }
}

// How much will be free by when, by predicted ends. A job that outlives its prediction is expected
// to run half as long again, up to its limit.
void RigidCore::count_likely(std::int64_t now) {
    while (!likely_.empty() && entries_[likely_.front()].likely_end <= now) {
        const Ref ref = likely_.front();
        likely_.erase(likely_.begin());
        Entry& entry = entries_[ref];
        const std::int64_t elapsed = now - entry.start;
        const auto predicted = static_cast<std::int64_t>(entry.predicted);
        entry.likely_end =
            std::max(now + 1, entry.start + likely_run_s(predicted, elapsed, entry.job.estimate));
        note_likely(ref);
    }
    likely_free_.clear();
    std::int64_t free = free_;
    for (const Ref ref : likely_) {
        free += entries_[ref].job.size;
        likely_free_.push_back(free);
    }
}

// Seconds from submission until the machine has likely drained for this job, were it next.
double RigidCore::expected_wait(std::int64_t now, const Entry& entry) const {
    std::int64_t at = now;
    if (entry.job.size > free_) {
        const auto room =
            std::lower_bound(likely_free_.begin(), likely_free_.end(), entry.job.size);
        if (room != likely_free_.end()) {
            const auto index = static_cast<std::size_t>(room - likely_free_.begin());
            at = entries_[likely_[index]].likely_end;
        }
    }
    return static_cast<double>(at - entry.job.submit);
}

// The longest backlog seen, less what predictions have been too long by so far.
double RigidCore::longest_allowed() const {
    const double truth = ended_predicted_ > 0 ? std::min(1.0, ended_work_ / ended_predicted_) : 1;
    return std::max(kLimitLeast, kLimitShare * longest_drain_ * truth);
}

// Whether somebody would wait beyond the limit were the queue served by arrival from now on: all
// that runs and is older has to be worked off first, and the machine has to drain for the job.
bool RigidCore::late(std::int64_t now) const {
    const double limit = longest_allowed();
    double ahead = 0;
    for (const Ref ref : likely_) {
        const Entry& entry = entries_[ref];
        ahead += static_cast<double>((entry.likely_end - now) * entry.job.size);
    }
    for (const Ref ref : other_order_) {
        const Entry& entry = entries_[ref];
        const auto waited = static_cast<double>(now - entry.job.submit);
        if (waited + ahead / static_cast<double>(machine_) > limit) return true;
        if (expected_wait(now, entry) > limit) return true;
        ahead += entry.predicted * static_cast<double>(entry.job.size);
    }
    return false;
}

void RigidCore::reserve_for(Ref ref) {
    const RigidJob& job = entries_[ref].job;
    profile_.reserve(profile_.earliest(job.estimate, job.size), job.estimate, job.size);
    entries_[ref].reserved = true;
}

void RigidCore::pass_own(std::int64_t now, std::vector<Ref>& started) {
    rank_queue(now);
    count_likely(now);
    const std::size_t before_count = started.size();
    for (const Ref ref : queue_) entries_[ref].reserved = false;
    int reservations = 0;
    if (late(now)) {
        const Ref oldest = other_order_.front();
        if (entries_[oldest].job.size <= free_) {
            start(now, oldest, started);
        } else {
            fill_profile(now);
            reserve_for(oldest);
            ++reservations;
        }
    }
    const double due_after = kDueShare * longest_allowed();
    int due = 0;
    for (const Ref ref : queue_) {
        if (free_ == 0) break;
        const Entry& entry = entries_[ref];
        const RigidJob& job = entry.job;
        if (entry.leaving || entry.reserved) continue;
        const bool fits =
            job.size <= free_ && (reservations == 0 || profile_.fits_now(job.estimate, job.size));
        if (fits) {
            if (reservations > 0) {
                profile_.reserve(now, job.estimate, job.size);
                ++backfilled_;
            }
            start(now, ref, started);
        } else if (due < kDueReservations && expected_wait(now, entry) >= due_after) {
            if (reservations++ == 0) fill_profile(now);
            reserve_for(ref);
            ++due;
        }
    }
    if (started.size() != before_count) remove_started();
}

}  // namespace reeve::sched
