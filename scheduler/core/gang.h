// GangCore schedules preemptible gangs (all GPUs of a job at once) on interchangeable GPUs.
//
// Events in, decisions out: at each pass every live job is ranked and the machine is filled
// greedily in that order, skipping what does not fit; who runs and was not chosen is preempted, who
// was chosen and does not run starts. Progress is kept across a preemption, a resume costs restart
// time. Pure and deterministic. The ranks are described in docs/policy.md.
//
//   kFifo      submit order, the head blocks, no preemption
//   kFifoSkip  submit order, what does not fit is skipped, no preemption
//   kSjf       known run time, no preemption
//   kLas       two thresholds of attained GPU-seconds, first come first served between them
//   kSrtf      known remaining time          kSrsf  known remaining time times GPUs
//   kEdf       earliest deadline, jobs that can no longer make theirs last; known run time
//   kReeve     ours, without run times: deadlines first while the job's own deadline says they can
//              still be met, then levels of attained service that grow by a factor of four
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace reeve::sched {

enum class GangPolicy : std::uint8_t { kFifo, kFifoSkip, kSjf, kLas, kSrtf, kSrsf, kEdf, kReeve };
std::string_view to_string(GangPolicy policy);
std::optional<GangPolicy> parse_gang_policy(std::string_view name);
// True for the policies that are told run times (yardsticks, not for use).
bool knows_run_time(GangPolicy policy);

struct GangJob {
    std::int64_t submit = 0;
    std::int64_t gpus = 1;
    std::int64_t deadline = -1;  // absolute, -1: none
    std::int64_t known_run = 0;  // only for policies with knows_run_time
};

struct GangDecisions {
    std::vector<std::uint32_t> preempted;
    std::vector<std::uint32_t> started;
};

class GangCore {
public:
    using Ref = std::uint32_t;  // in the order of submission, ties as the caller likes

    GangCore(std::int64_t gpus, GangPolicy policy, std::int64_t restart_seconds = 60);

    void submit(std::int64_t now, Ref ref, const GangJob& job);
    void end(std::int64_t now, Ref ref);
    void pass(std::int64_t now, GangDecisions& decisions);
    // When a running job changes its rank by itself; nullopt: only events change anything.
    std::optional<std::int64_t> next_change() const;

    std::size_t live() const { return live_.size(); }

private:
    struct Entry {
        GangJob job;
        std::int64_t elapsed = 0;    // seconds it has run, over all attempts
        std::int64_t remaining = 0;  // oracle policies
        std::int64_t since = 0;      // while running: elapsed is counted up to here
        bool running = false;
        bool started_before = false;
        bool gone = false;
    };
    struct Ranked {
        double rank;
        Ref ref;
        bool operator<(const Ranked& other) const {
            return rank != other.rank ? rank < other.rank : ref < other.ref;
        }
    };

    double rank_of(std::int64_t now, const Entry& entry) const;
    double rank_edf(std::int64_t now, const Entry& entry) const;
    double rank_own(std::int64_t now, const Entry& entry) const;
    // Attained GPU-seconds at which the job's rank changes next; < 0: never.
    double next_threshold(double attained) const;
    void advance(std::int64_t now);
    void fill(GangDecisions& decisions);
    void fill_preempting(GangDecisions& decisions);
    void start(std::int64_t now, Ref ref);

    std::int64_t gpus_;
    GangPolicy policy_;
    std::int64_t restart_seconds_;
    std::int64_t free_;
    std::vector<Entry> entries_;
    std::vector<Ref> live_;
    std::vector<Ranked> order_;
};

}  // namespace reeve::sched
