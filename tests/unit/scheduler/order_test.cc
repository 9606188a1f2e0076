#include "scheduler/core/order.h"

#include "tests/support/catch.h"

using namespace reeve::sched;

TEST_CASE("Order: the score is the sum of its terms", "[order]") {
    const OrderTerms terms = order_terms(10, SlaClass::kCritical, 7200, 3);
    CHECK(terms.score() == 10 + 20 + 2 - 3);
    CHECK(terms.to_string() ==
          "29.00 = priority 10 + sla 20 + age 2.00 - fair share 3.00 - length 0.00");
}

TEST_CASE("Order: the order of head starts is the order of scores", "[order]") {
    struct One {
        std::int32_t priority;
        SlaClass sla;
        double fair;
        double submit_s;
    };
    const One all[] = {{0, SlaClass::kStandard, 0, 0},       {0, SlaClass::kCritical, 0, 70'000},
                       {3, SlaClass::kFlexible, 0, 5'000},   {0, SlaClass::kSpot, 4.5, 100},
                       {19, SlaClass::kStandard, 0, 60'000}, {0, SlaClass::kCritical, 9.9, 3'000}};
    const double now = 200'000;
    for (const One& a : all) {
        for (const One& b : all) {
            const auto score = [&](const One& one) {
                return order_terms(one.priority, one.sla, now - one.submit_s, one.fair).score();
            };
            const auto counts_from = [](const One& one) {
                return one.submit_s -
                       static_cast<double>(head_start_s(one.priority, one.sla, one.fair));
            };
            CHECK((score(a) > score(b)) == (counts_from(a) < counts_from(b)));
        }
    }
    CHECK(head_start_s(0, SlaClass::kCritical, 0) == 72'000);
    CHECK(urgent_from(10'000, 1'000) == 8'900);
}

TEST_CASE("Order: who waits long enough overtakes any priority", "[order]") {
    const double low = order_terms(0, SlaClass::kSpot, 31 * kAgeingSeconds, 0).score();
    const double high = order_terms(0, SlaClass::kCritical, 0, 0).score();
    CHECK(low > high);
}

TEST_CASE("FairShare: usage halves with every half-life", "[order]") {
    FairShare fair(100);
    fair.charge("ann", "lab", 80, 0);
    CHECK(fair.usage("ann", 100) == Approx(40));
    CHECK(fair.usage("ann", 300) == Approx(10));
    CHECK(fair.usage("bob", 300) == 0);
}

TEST_CASE("FairShare: only who is above the fair share pays", "[order]") {
    FairShare fair(1000);
    CHECK(fair.points("ann", "lab", 0) == 0);
    fair.charge("ann", "lab", 90, 0);
    CHECK(fair.points("ann", "lab", 0) == 0);  // alone there is nobody to be fair to
    fair.charge("bob", "lab", 10, 0);
    CHECK(fair.points("ann", "lab", 0) == Approx(kFairPointsMax * 0.8 / 2));
    CHECK(fair.points("bob", "lab", 0) == 0);
    fair.set_weight("ann", 9);  // ann's fair share is nine tenths
    CHECK(fair.points("ann", "lab", 0) == Approx(0).margin(1e-9));
}

TEST_CASE("FairShare: a group that used everything costs its users half", "[order]") {
    FairShare fair(1000);
    fair.charge("ann", "one", 50, 0);
    fair.charge("bob", "two", 0, 0);
    CHECK(fair.points("ann", "one", 0) == Approx(kFairPointsMax));
    CHECK(fair.points("new", "one", 0) == Approx(kFairPointsMax / 2));
}
