#include "common/shm/heap_key.h"

#include "common/shm/task_policy.h"
#include "tests/support/catch.h"

using reeve::shm::heap_key;

namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;
constexpr std::uint64_t kNow = 1'800'000'000 * kSecondNs;

}  // namespace

TEST_CASE("heap_key: higher priority first, equal ones in the order of submission", "[shm]") {
    CHECK(heap_key(1, kNow, 9) < heap_key(0, kNow, 1));
    CHECK(heap_key(0, kNow, 1) < heap_key(0, kNow, 2));
    CHECK(heap_key(0, kNow, 2) < heap_key(0, kNow + kSecondNs, 1));
    CHECK(heap_key(-3, kNow, 1) < heap_key(-4, kNow, 1));
}

TEST_CASE("heap_key: an hour of waiting is worth one point", "[shm]") {
    const std::uint64_t hour = 3600 * kSecondNs;
    CHECK(heap_key(0, kNow, 1) < heap_key(5, kNow + 5 * hour + kSecondNs, 2));
    CHECK(heap_key(5, kNow + 5 * hour - kSecondNs, 2) < heap_key(0, kNow, 1));
}

TEST_CASE("heap_key: a head start is hours waited, and can be told from the key", "[shm]") {
    const std::int64_t points = 20 * 3600;
    CHECK(heap_key(0, kNow, 7, points) == heap_key(20, kNow, 7));
    CHECK(heap_key(0, kNow, 7, -points) == heap_key(-20, kNow, 7));
    for (const std::int64_t head_start : {0, 5, 72'000, -54'000}) {
        CHECK(reeve::shm::head_start_of(heap_key(3, kNow, 9, head_start), 3, kNow) == head_start);
    }
    CHECK(heap_key(500'000, 0, 1, points) < heap_key(500'000, 0, 2));
}

TEST_CASE("TaskPolicy: what is packed comes back, and too much stays at the most", "[shm]") {
    reeve::shm::TaskPolicy policy{3, 2, 9, 86'400};
    const auto same = reeve::shm::TaskPolicy::unpack(policy.pack());
    CHECK((same.sla == 3 && same.preempt == 2 && same.pushed == 9));
    CHECK(same.minimum_run_s == 86'400);
    policy.pushed = 200;
    policy.minimum_run_s = ~0U;
    const auto most = reeve::shm::TaskPolicy::unpack(policy.pack());
    CHECK((most.pushed == 15 && most.sla == 3));
    CHECK(most.minimum_run_s == reeve::shm::kMinimumRunMax);
}

TEST_CASE("heap_key: the whole range keeps its order and stays below the empty key", "[shm]") {
    const std::uint64_t first = heap_key(500'000, kNow, 0);
    const std::uint64_t last = heap_key(-500'000, kNow * 2, ~std::uint64_t{0});
    CHECK(first < last);
    CHECK(last < ~std::uint64_t{0} >> 1);
}
