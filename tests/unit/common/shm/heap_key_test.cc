#include "common/shm/heap_key.h"

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

TEST_CASE("heap_key: the whole range keeps its order and stays below the empty key", "[shm]") {
    const std::uint64_t first = heap_key(500'000, kNow, 0);
    const std::uint64_t last = heap_key(-500'000, kNow * 2, ~std::uint64_t{0});
    CHECK(first < last);
    CHECK(last < ~std::uint64_t{0} >> 1);
}
