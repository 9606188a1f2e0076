#include "scheduler/core/gang.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "common/base/assert.h"

namespace reeve::sched {
namespace {

constexpr std::array<std::pair<GangPolicy, std::string_view>, 8> kNames{{
    {GangPolicy::kFifo, "fifo"},
    {GangPolicy::kFifoSkip, "fifo-skip"},
    {GangPolicy::kSjf, "sjf"},
    {GangPolicy::kLas, "las"},
    {GangPolicy::kSrtf, "srtf"},
    {GangPolicy::kSrsf, "srsf"},
    {GangPolicy::kEdf, "edf"},
    {GangPolicy::kReeve, "reeve"},
}};

// las: GPU-seconds at which a job sinks to the next queue.
constexpr std::array<double, 2> kLasThresholds{3'600, 36'000};
// reeve: the first level, how much each next one is larger, and how many there are.
constexpr double kLevelFirst = 3'600;
constexpr double kLevelFactor = 4;
constexpr int kLevels = 7;
// People ask for deadlines well above their run times: a job whose remaining share of
// deadline / kDeadlineSlack no longer fits is taken to be at risk, and yields to the safe ones.
constexpr double kDeadlineSlack = 1.3;
// With too much to do the wide jobs give way: each doubling of the GPUs moves the deadline back by
// this share of the time the job was given. One wide job costs many narrow ones theirs.
constexpr double kWidthDelay = 0.5;

// Groups of ranks, far apart.
constexpr double kSafe = 0;
constexpr double kAtRisk = 1e13;
constexpr double kMissed = 5e13;
constexpr double kNoDeadline = 1e15;

}  // namespace

std::string_view to_string(GangPolicy policy) {
    for (const auto& [value, name] : kNames) {
        if (value == policy) return name;
    }
    return "unknown";
}

std::optional<GangPolicy> parse_gang_policy(std::string_view name) {
    if (name == "fcfs") return GangPolicy::kFifo;
    for (const auto& [value, known] : kNames) {
        if (known == name) return value;
    }
    return std::nullopt;
}

bool knows_run_time(GangPolicy policy) {
    return policy == GangPolicy::kSjf || policy == GangPolicy::kSrtf ||
           policy == GangPolicy::kSrsf || policy == GangPolicy::kEdf;
}

GangCore::GangCore(std::int64_t gpus, GangPolicy policy, std::int64_t restart_seconds)
    : gpus_(gpus), policy_(policy), restart_seconds_(restart_seconds), free_(gpus) {
    REEVE_ASSERT(gpus > 0 && restart_seconds >= 0);
}

void GangCore::submit(std::int64_t, Ref ref, const GangJob& job) {
    REEVE_ASSERT(job.gpus > 0 && job.gpus <= gpus_);
    if (ref >= entries_.size()) entries_.resize(std::size_t{ref} + 1);
    entries_[ref] = Entry{};
    entries_[ref].job = job;
    if (!knows_run_time(policy_)) entries_[ref].job.known_run = 0;
    entries_[ref].remaining = entries_[ref].job.known_run;
    live_.push_back(ref);
}

void GangCore::end(std::int64_t, Ref ref) {
    Entry& entry = entries_[ref];
    REEVE_ASSERT(entry.running);
    entry.running = false;
    entry.gone = true;
    free_ += entry.job.gpus;
}

void GangCore::advance(std::int64_t now) {
    std::erase_if(live_, [this](Ref ref) { return entries_[ref].gone; });
    for (const Ref ref : live_) {
        Entry& entry = entries_[ref];
        if (!entry.running) continue;
        entry.elapsed += now - entry.since;
        entry.remaining -= now - entry.since;
        entry.since = now;
    }
}

double GangCore::rank_edf(std::int64_t now, const Entry& entry) const {
    if (entry.job.deadline < 0) return kNoDeadline;
    const bool resumes = entry.started_before && !entry.running;
    const std::int64_t done = now + entry.remaining + (resumes ? restart_seconds_ : 0);
    return (done > entry.job.deadline ? kAtRisk : kSafe) + static_cast<double>(entry.job.deadline);
}

double GangCore::rank_own(std::int64_t now, const Entry& entry) const {
    const GangJob& job = entry.job;
    const auto elapsed = static_cast<double>(entry.elapsed);
    if (job.deadline >= 0) {
        const auto deadline = static_cast<double>(job.deadline);
        if (now >= job.deadline) return kMissed + deadline;
        const auto allowed = static_cast<double>(job.deadline - job.submit);
        const double left = allowed / kDeadlineSlack - elapsed;
        const double delay = kWidthDelay * allowed * std::log2(static_cast<double>(job.gpus));
        if (static_cast<double>(now) + left <= deadline) return kSafe + deadline + delay;
        return kAtRisk + allowed;
    }
    const double attained = elapsed * static_cast<double>(job.gpus);
    int level = 0;
    for (double top = kLevelFirst; level < kLevels && attained >= top; top *= kLevelFactor) ++level;
    return kNoDeadline + level;
}

double GangCore::rank_of(std::int64_t now, const Entry& entry) const {
    const double attained =
        static_cast<double>(entry.elapsed) * static_cast<double>(entry.job.gpus);
    switch (policy_) {
        case GangPolicy::kFifo:
        case GangPolicy::kFifoSkip:
            return 0;
        case GangPolicy::kSjf:
            return static_cast<double>(entry.job.known_run);
        case GangPolicy::kSrtf:
            return static_cast<double>(entry.remaining);
        case GangPolicy::kSrsf:
            return static_cast<double>(entry.remaining) * static_cast<double>(entry.job.gpus);
        case GangPolicy::kLas:
            return attained < kLasThresholds[0] ? 0 : attained < kLasThresholds[1] ? 1 : 2;
        case GangPolicy::kEdf:
            return rank_edf(now, entry);
        case GangPolicy::kReeve:
            return rank_own(now, entry);
    }
    return 0;
}

double GangCore::next_threshold(double attained) const {
    if (policy_ == GangPolicy::kLas) {
        for (const double top : kLasThresholds) {
            if (attained < top) return top;
        }
    }
    if (policy_ == GangPolicy::kReeve) {
        double top = kLevelFirst;
        for (int level = 0; level < kLevels; ++level, top *= kLevelFactor) {
            if (attained < top) return top;
        }
    }
    return -1;
}

std::optional<std::int64_t> GangCore::next_change() const {
    std::optional<std::int64_t> next;
    for (const Ref ref : live_) {
        const Entry& entry = entries_[ref];
        if (!entry.running || entry.gone) continue;
        const auto gpus = static_cast<double>(entry.job.gpus);
        const double attained = static_cast<double>(entry.elapsed) * gpus;
        const double top = next_threshold(attained);
        if (top < 0) continue;
        const std::int64_t at =
            entry.since + static_cast<std::int64_t>(std::ceil((top - attained) / gpus));
        if (!next || at < *next) next = at;
    }
    return next;
}

void GangCore::fill(GangDecisions& decisions) {
    std::int64_t room = free_;
    for (const Ranked& item : order_) {
        const Entry& entry = entries_[item.ref];
        if (entry.running) continue;
        if (entry.job.gpus <= room) {
            room -= entry.job.gpus;
            decisions.started.push_back(item.ref);
        } else if (policy_ == GangPolicy::kFifo) {
            return;
        }
        if (room == 0) return;
    }
}

void GangCore::fill_preempting(GangDecisions& decisions) {
    std::int64_t room = gpus_;
    for (const Ranked& item : order_) {
        const Entry& entry = entries_[item.ref];
        const bool chosen = entry.job.gpus <= room;
        if (chosen) room -= entry.job.gpus;
        if (chosen && !entry.running) decisions.started.push_back(item.ref);
        if (!chosen && entry.running) decisions.preempted.push_back(item.ref);
    }
}

void GangCore::start(std::int64_t now, Ref ref) {
    Entry& entry = entries_[ref];
    if (entry.started_before) entry.remaining += restart_seconds_;
    entry.started_before = true;
    entry.running = true;
    entry.since = now;
    free_ -= entry.job.gpus;
    REEVE_ASSERT(free_ >= 0);
}

void GangCore::pass(std::int64_t now, GangDecisions& decisions) {
    decisions.preempted.clear();
    decisions.started.clear();
    advance(now);
    const bool preempts = policy_ != GangPolicy::kFifo && policy_ != GangPolicy::kFifoSkip &&
                          policy_ != GangPolicy::kSjf;
    if (!preempts && free_ == 0) return;
    order_.clear();
    for (const Ref ref : live_) order_.push_back(Ranked{rank_of(now, entries_[ref]), ref});
    std::sort(order_.begin(), order_.end());
    if (preempts) {
        fill_preempting(decisions);
    } else {
        fill(decisions);
    }
    for (const Ref ref : decisions.preempted) {
        entries_[ref].running = false;
        free_ += entries_[ref].job.gpus;
    }
    for (const Ref ref : decisions.started) start(now, ref);
}

}  // namespace reeve::sched
