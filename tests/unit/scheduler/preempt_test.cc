#include "scheduler/core/preempt.h"

#include "tests/support/catch.h"

using namespace reeve;
using namespace reeve::sched;

namespace {

Victim victim(std::uint32_t job, double importance, std::uint32_t cpus, double lost) {
    Victim out;
    out.job = job;
    out.importance = importance;
    out.holds = Resources{cpus * 1000, 0, 0};
    out.lost_work_s = lost;
    out.ran_s = 1000;
    return out;
}

const Resources kFourCpus{4000, 0, 0};

}  // namespace

TEST_CASE("choose_victims: the least important, then the least work lost", "[preempt]") {
    const std::vector<NodeVictims> nodes{
        {0, {}, {victim(1, 5, 4, 10)}},
        {1, {}, {victim(2, 0, 4, 500)}},
        {2, {}, {victim(3, 0, 4, 100)}},
        {3, {}, {victim(4, 0, 4, 100)}},
    };
    const auto choice = choose_victims(kFourCpus, 20, nodes);
    REQUIRE(choice);
    CHECK(choice->node == 2);
    CHECK(choice->jobs == std::vector<std::uint32_t>{3});
}

TEST_CASE("choose_victims: nobody is pushed in vain", "[preempt]") {
    // The two small ones come first in order; once the large one has to go they may stay.
    const std::vector<NodeVictims> nodes{
        {7, {}, {victim(1, 0, 1, 1), victim(2, 0, 1, 2), victim(3, 1, 4, 50)}}};
    const auto choice = choose_victims(kFourCpus, 20, nodes);
    REQUIRE(choice);
    CHECK(choice->jobs == std::vector<std::uint32_t>{3});
}

TEST_CASE("choose_victims: equals, the protected and the young are left alone", "[preempt]") {
    Victim equal = victim(1, 20, 4, 0);
    Victim never = victim(2, 0, 4, 0);
    never.mode = PreemptMode::kNever;
    Victim young = victim(3, 0, 4, 0);
    young.ran_s = 59;
    young.minimum_run_s = 60;
    for (const Victim& one : {equal, never, young}) {
        const std::vector<NodeVictims> nodes{{0, {}, {one}}};
        CHECK_FALSE(choose_victims(kFourCpus, 20, nodes));
    }
    young.ran_s = 60;
    const std::vector<NodeVictims> nodes{{0, {}, {young}}};
    CHECK(choose_victims(kFourCpus, 20, nodes));
}

TEST_CASE("importance: priority, class, and ten points for each push", "[preempt]") {
    CHECK(importance(3, SlaClass::kCritical, 0) == 23);
    CHECK(importance(0, SlaClass::kSpot, 2) == 10);
}

TEST_CASE("choose_victims: room that is there already counts", "[preempt]") {
    const std::vector<NodeVictims> nodes{{0, Resources{2000, 0, 0}, {victim(1, 0, 2, 1)}}};
    CHECK(choose_victims(kFourCpus, 20, nodes));
    CHECK_FALSE(choose_victims(Resources{5000, 0, 0}, 20, nodes));
}

TEST_CASE("choose_victims: a few points are enough only where no work is lost", "[preempt]") {
    Victim each = victim(1, 0, 4, 10);
    const auto pushed = [&](PreemptMode mode, double importance) {
        each.mode = mode;
        const std::vector<NodeVictims> nodes{{0, {}, {each}}};
        return choose_victims(kFourCpus, importance, nodes).has_value();
    };
    CHECK(pushed(PreemptMode::kCheckpoint, 1));
    CHECK(pushed(PreemptMode::kSuspend, 1));
    CHECK_FALSE(pushed(PreemptMode::kSuspend, 0));
    CHECK_FALSE(pushed(PreemptMode::kRequeue, 14));
    CHECK(pushed(PreemptMode::kRequeue, 15));
    CHECK_FALSE(pushed(PreemptMode::kCancel, 14));
}
