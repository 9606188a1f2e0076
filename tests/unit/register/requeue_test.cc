#include "register/core/requeue.h"

#include "tests/support/catch.h"

using reeve::Outcome;
using reeve::registry::decide_fate;
using reeve::registry::Fate;
using reeve::registry::HeldTask;
using reeve::registry::kRequeueAttemptMax;

namespace {

struct Row {
    const char* what;
    HeldTask task;
    Fate fate;
};

// started, at_most_once, cancel_wanted, hold_wanted, attempt, deaths -> outcome, deaths
const Row kRows[] = {
    {"assigned only", {false, false, false, false, 1, 0}, {Outcome::kNone, 0}},
    {"started", {true, false, false, false, 1, 0}, {Outcome::kNone, 1}},
    {"assigned, at most once: it never ran", {false, true, false, false, 1, 0},
     {Outcome::kNone, 0}},
    {"started, at most once", {true, true, false, false, 1, 0}, {Outcome::kLost, 1}},
    {"the fourth death", {true, false, false, false, 9, 3}, {Outcome::kNone, 4}},
    {"the fifth death", {true, false, false, false, 9, 4}, {Outcome::kPoison, 5}},
    {"assigned only after four deaths", {false, false, false, false, 9, 4}, {Outcome::kNone, 4}},
    {"cancel wins over lost", {true, true, true, false, 1, 0}, {Outcome::kCancelled, 1}},
    {"cancel wins over poison", {true, false, true, false, 9, 4}, {Outcome::kCancelled, 5}},
    {"cancel of an assigned one", {false, false, true, false, 1, 0}, {Outcome::kCancelled, 0}},
    {"requeue and hold", {true, false, false, true, 1, 0}, {Outcome::kRequeued, 1}},
    {"lost wins over hold", {true, true, false, true, 1, 0}, {Outcome::kLost, 1}},
    {"no attempt number left", {false, false, false, false, kRequeueAttemptMax, 0},
     {Outcome::kPoison, 0}},
    {"one attempt number left", {false, false, false, false, kRequeueAttemptMax - 1, 0},
     {Outcome::kNone, 0}},
    {"a damaged count of deaths does not wrap", {true, false, false, false, 1, ~0U},
     {Outcome::kPoison, ~0U}},
};

}  // namespace

TEST_CASE("decide_fate: the table of what becomes of a dead worker's task", "[register]") {
    for (const auto& row : kRows) {
        INFO(row.what);
        const auto fate = decide_fate(row.task, 5);
        CHECK(fate.outcome == row.fate.outcome);
        CHECK(fate.deaths == row.fate.deaths);
    }
}
