// RigidCore schedules rigid jobs on one pool of interchangeable processors: events in, starts out.
//
// submit() and end() report what happened, pass() answers which queued jobs start now. Pure: time
// is an argument, the same events give the same starts. What a policy may know of a job is
// RigidJob; its true run time is learned only from end(). The policies and their formula:
// docs/policy.md.
//
//   kFcfs        submit order, the head blocks                 kSjf  the same, shortest limit first
//   kEasy        submit order, a reservation for the head, the others fill in around it
//   kEasySjbf    the same, fillers shortest limit first
//   kSjfEasy     EASY with the queue in order of the limit
//   kConservative  every one of the first jobs in the queue holds a reservation
//   kReeve       ours: learned run times, slowdown order, reservations against starvation
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "scheduler/core/predictor.h"
#include "scheduler/core/profile.h"

namespace reeve::sched {

enum class RigidPolicy : std::uint8_t {
    kFcfs,
    kSjf,
    kEasy,
    kEasySjbf,
    kSjfEasy,
    kConservative,
    kReeve
};
std::string_view to_string(RigidPolicy policy);
std::optional<RigidPolicy> parse_rigid_policy(std::string_view name);

struct RigidJob {
    std::int64_t id = 0;
    std::int64_t submit = 0;
    std::int64_t size = 1;
    std::int64_t estimate = 1;  // the user's limit, seconds, at least 1
    std::int64_t user = -1;
    std::int64_t program = -1;
};

class RigidCore {
public:
    using Ref = std::uint32_t;  // handed out by the caller in the order (submit, id), from 0

    RigidCore(std::int64_t machine, RigidPolicy policy);

    void submit(std::int64_t now, Ref ref, const RigidJob& job);
    void end(std::int64_t now, Ref ref);
    // Appends the jobs that start now. Call after all ends and submissions of one instant.
    void pass(std::int64_t now, std::vector<Ref>& started);

    std::size_t queued() const { return queue_.size(); }
    std::int64_t free() const { return free_; }
    std::uint64_t backfilled() const { return backfilled_; }

private:
    struct Entry {
        RigidJob job;
        std::int64_t start = -1;
        double predicted = 0;         // kReeve: seconds, within the limit
        double weight = 0;            // kReeve: rank per second waited
        double rank = 0;              // kReeve: larger first
        std::int64_t likely_end = 0;  // kReeve: while running
        bool leaving = false;
        bool reserved = false;  // kReeve: holds a reservation in this pass
    };
    struct Running {
        std::int64_t expected_end;
        Ref ref;
    };

    bool before(Ref a, Ref b) const;
    void start(std::int64_t now, Ref ref, std::vector<Ref>& started);
    void remove_started();
    void start_heads(std::int64_t now, std::vector<Ref>& started);
    void pass_easy(std::int64_t now, std::vector<Ref>& started);
    void pass_conservative(std::int64_t now, std::vector<Ref>& started);
    void fill_profile(std::int64_t now);

    // kReeve, in rigid_own.cc.
    void own_submitted(std::int64_t now, Ref ref);
    void pass_own(std::int64_t now, std::vector<Ref>& started);
    void own_started(std::int64_t now, Ref ref);
    void own_ended(std::int64_t now, Ref ref);
    void rank_queue(std::int64_t now);
    void note_likely(Ref ref);
    void count_likely(std::int64_t now);
    double expected_wait(std::int64_t now, const Entry& entry) const;
    double longest_allowed() const;
    bool late(std::int64_t now) const;
    void reserve_for(Ref ref);

    std::int64_t machine_;
    RigidPolicy policy_;
    std::int64_t free_;
    std::vector<Entry> entries_;    // by Ref
    std::vector<Ref> queue_;        // in queue order
    std::vector<Ref> other_order_;  // the queue: kEasySjbf by limit, kReeve by arrival
    std::vector<Running> running_;  // by expected end
    FreeProfile profile_;
    std::uint64_t backfilled_ = 0;

    RunTimePredictor predictor_;
    std::vector<Ref> likely_;                // what runs, by likely end
    std::vector<std::int64_t> likely_free_;  // free once likely_[i] has ended
    std::int64_t ranked_at_ = -1;
    double queued_work_ = 0;      // predicted processor-seconds
    double longest_drain_ = 0;    // the longest backlog seen, predicted seconds
    double ended_work_ = 0;       // processor-seconds of what has ended
    double ended_predicted_ = 0;  // the same as predicted
};

}  // namespace reeve::sched
