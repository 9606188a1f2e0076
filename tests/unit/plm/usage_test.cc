#include "plm/core/usage.h"

#include "tests/support/catch.h"

using namespace reeve;
using namespace reeve::plm;

namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;
constexpr std::uint64_t kNow = 1'800'000'000 * kSecondNs;
const Resources kTwo{2000, 0, 0};

void run(Usage& usage, std::uint32_t uid, std::uint32_t gid, std::uint64_t seconds) {
    usage.charge(uid, gid, kTwo, kNow - seconds * kSecondNs, kNow);
}

}  // namespace

TEST_CASE("Usage: who used more than the fair share pays points, as in the simulator", "[plm]") {
    Usage usage;
    run(usage, 1, 10, 45);
    CHECK(usage.points_milli(1, 10, kNow) == 0);  // alone
    run(usage, 2, 10, 5);
    sched::FairShare same;
    const double now = static_cast<double>(kNow) / 1e9;
    same.charge("u1", "g10", 90, now);
    same.charge("u2", "g10", 10, now);
    CHECK(usage.points_milli(1, 10, kNow) == std::lround(same.points("u1", "g10", now) * 1000));
    CHECK(usage.points_milli(1, 10, kNow) == 4000);
    CHECK(usage.points_milli(2, 10, kNow) == 0);
}

TEST_CASE("Usage: many small charges are one large one", "[plm]") {
    Usage one;
    Usage many;
    for (Usage* usage : {&one, &many}) run(*usage, 2, 20, 10);
    run(one, 1, 10, 1'000);
    for (int i = 0; i < 1'000; ++i) run(many, 1, 10, 1);
    CHECK(one.points_milli(1, 10, kNow) == many.points_milli(1, 10, kNow));
    CHECK(one.points_milli(1, 10, kNow) > 9'000);
}

TEST_CASE("Usage: a snapshot brings it back, weights and half-life apart", "[plm]") {
    Usage usage;
    run(usage, 1, 10, 300);
    run(usage, 2, 20, 30);
    std::string bytes;
    ByteWriter out(bytes);
    usage.save(out);
    Usage again;
    ByteReader in(bytes);
    again.load(in);
    CHECK(in.ok());
    CHECK(in.at_end());
    const auto later = kNow + 3'600 * kSecondNs;
    const auto points = usage.points_milli(1, 10, later);
    CHECK(points > 8'000);
    CHECK(std::abs(static_cast<int>(again.points_milli(1, 10, later)) - static_cast<int>(points)) <=
          1);
    again.configure(3'600, {{1, 10.0}}, {{10, 10.0}}, later);
    CHECK(again.points_milli(1, 10, later) < points);
    again.configure(3'600, {}, {}, later);
    CHECK(std::abs(static_cast<int>(again.points_milli(1, 10, later)) - static_cast<int>(points)) <=
          1);
}

TEST_CASE("Usage: what never ran, or ended before it began, is not charged", "[plm]") {
    Usage usage;
    run(usage, 2, 20, 5);
    usage.charge(1, 10, kTwo, 0, kNow);
    usage.charge(1, 10, kTwo, kNow, kNow - 1);
    CHECK(usage.points_milli(1, 10, kNow) == 0);
}
