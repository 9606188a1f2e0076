// What becomes of a task whose worker died: queued again, or ended. Pure, one decision per task.
//
//   asked to cancel                      -> ended, cancelled (the person gets what they asked for)
//   started and at most once             -> ended, lost (nobody knows how far it got)
//   the last of deaths_max workers       -> ended, poison
//   attempt number used up               -> ended, poison
//   asked to requeue and hold            -> ended, requeued (the PLM holds it)
//   else                                 -> queued
//
// A death counts against a task only if it had started: what merely waited for its turn on a worker
// did not bring it down.
//
// Tested in tests/unit/register/requeue_test.cc.
#pragma once

#include <cstdint>

#include "common/model/outcome.h"

namespace reeve::registry {

struct HeldTask {
    bool started = false;  // running, suspended or ending; not merely assigned
    bool at_most_once = false;
    bool cancel_wanted = false;
    bool hold_wanted = false;  // asked to requeue and hold
    std::uint32_t attempt = 0;
    std::uint32_t deaths = 0;  // before this one
};

struct Fate {
    Outcome outcome = Outcome::kNone;  // kNone: queued again; else ended with it
    std::uint32_t deaths = 0;          // with this one
    bool queued() const { return outcome == Outcome::kNone; }
    bool operator==(const Fate&) const = default;
};

inline constexpr std::uint32_t kRequeueAttemptMax = 65'535;  // the slot word holds 16 bits

Fate decide_fate(const HeldTask& task, std::uint32_t deaths_max);

}  // namespace reeve::registry
