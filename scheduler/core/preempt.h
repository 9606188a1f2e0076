// Who is pushed aside for a more important job: a pure choice among what runs on one node.
//
// Victims have fewer points than the job (priority and SLA, never age; 15 fewer where work would be
// lost), allow preemption, and have run for their minimum time. Among nodes the one is taken whose
// most important victim is least important, then where the least work is lost, then the first.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "common/model/resources.h"
#include "scheduler/core/select_node.h"

namespace reeve::sched {

inline constexpr double kPushedPoints = 10;  // more for each time it was pushed aside
// Work that would be lost has to be worth it: a higher SLA class, not just a higher priority.
inline constexpr double kGapToLoseWork = 15;

// What happens to a victim; in this order of preference for the one who is pushed.
enum class PreemptMode : std::uint8_t { kNever, kSuspend, kCheckpoint, kRequeue, kCancel };

struct Victim {
    std::uint32_t job = 0;
    double importance = 0;   // priority + SLA points
    Resources holds;         // on this node
    double lost_work_s = 0;  // run time since its last checkpoint
    double ran_s = 0;        // in this attempt
    double minimum_run_s = 0;
    PreemptMode mode = PreemptMode::kRequeue;
};

struct NodeVictims {
    std::uint32_t node = 0;
    Resources free;
    std::vector<Victim> running;
};

struct PreemptChoice {
    std::uint32_t node = 0;
    std::vector<std::uint32_t> jobs;  // to be pushed, none superfluous
};

// What a job counts when it is asked who may push whom: never its age. `sla` is kCritical while its
// deadline is near.
double importance(std::int32_t priority, SlaClass sla, std::uint32_t times_pushed);

// nullopt when no node can make room of `request` for a job of this importance.
std::optional<PreemptChoice> choose_victims(const Resources& request, double importance,
                                            std::span<const NodeVictims> nodes);

}  // namespace reeve::sched
