#include "register/core/requeue.h"

#include "common/base/assert.h"

namespace reeve::registry {

Fate decide_fate(const HeldTask& task, std::uint32_t deaths_max) {
    REEVE_ASSERT(deaths_max > 0);
    REEVE_ASSERT(task.attempt <= kRequeueAttemptMax);
    const bool saturated = task.deaths == ~std::uint32_t{0};
    Fate fate;
    fate.deaths = task.started && !saturated ? task.deaths + 1 : task.deaths;
    if (task.cancel_wanted) {
        fate.outcome = Outcome::kCancelled;
    } else if (task.started && task.at_most_once) {
        fate.outcome = Outcome::kLost;
    } else if (task.started && fate.deaths >= deaths_max) {
        fate.outcome = Outcome::kPoison;
    } else if (task.attempt == kRequeueAttemptMax) {
        fate.outcome = Outcome::kPoison;
    } else if (task.hold_wanted) {
        fate.outcome = Outcome::kRequeued;
    }
    return fate;
}

}  // namespace reeve::registry
