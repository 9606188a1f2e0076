#include "common/shm/resource_names.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <thread>
#include <vector>

#include "common/shm/class_wants.h"
#include "tests/support/catch.h"
#include "tests/unit/common/shm/fixture.h"

namespace reeve::shm {

TEST_CASE("number_resource: a name keeps its number, the ninth gets none", "[shm]") {
    TestSegment made;
    CHECK_FALSE(find_resource(*made, "fpga"));
    for (std::size_t i = 0; i < NamedCounts::kNamedMax; ++i) {
        CHECK(number_resource(*made, "r" + std::to_string(i)) == i);
    }
    CHECK(number_resource(*made, "r3") == 3U);
    CHECK(find_resource(*made, "r7") == 7U);
    CHECK_FALSE(number_resource(*made, "fpga"));
    CHECK(resource_names(*made)[5] == "r5");
    CHECK_FALSE(number_counts(*made, {{"r1", 2}, {"fpga", 1}}));
    const auto counts = number_counts(*made, {{"r1", 2}, {"r6", 127}});
    REQUIRE(counts);
    CHECK((*counts)[1] == 2);
    CHECK((*counts)[6] == 127);
    CHECK((*counts)[0] == 0);
}

TEST_CASE("number_resource: who was killed before the text leaves a number that is good", "[shm]") {
    TestSegment made;
    const std::string longest(kResourceNameMax, 'x');
    REQUIRE(number_resource(*made, longest) == 0U);
    CHECK(resource_names(*made)[0] == longest);
    auto& place = made->header().resource_names[0];
    for (auto& word : place.text) word.store(0);
    CHECK(resource_names(*made)[0] == "resource-0");
    CHECK(find_resource(*made, longest) == 0U);
    CHECK(number_resource(*made, longest) == 0U);
    CHECK(resource_names(*made)[0] == longest);
}

TEST_CASE("number_resource: many at once agree", "[shm][threads]") {
    for (int round = 0; round < (kSanitized ? 20 : 300); ++round) {
        TestSegment made;
        constexpr std::size_t kThreads = 4;
        std::size_t got[kThreads][5]{};
        std::vector<std::thread> threads;
        for (std::size_t t = 0; t < kThreads; ++t) {
            threads.emplace_back([&, t] {
                for (std::size_t i = 0; i < 5; ++i) {
                    const auto which = (i + t) % 5;
                    const auto name = "name-" + std::to_string(which);
                    got[t][which] = number_resource(*made, name).value_or(99);
                }
            });
        }
        for (auto& thread : threads) thread.join();
        for (std::size_t t = 1; t < kThreads; ++t) CHECK(std::equal(got[0], got[0] + 5, got[t]));
        CHECK(std::set<std::size_t>(got[0], got[0] + 5) == std::set<std::size_t>{0, 1, 2, 3, 4});
    }
}

TEST_CASE("write_wants: named resources come back, and count for the hash", "[shm]") {
    ClassEntry entry;
    Wants wants;
    wants.resources = {{"fpga", 2}, {"port.a", 127}};
    write_wants(entry, wants);
    const auto hash = entry.wants_hash;
    CHECK(hash != 0);
    CHECK(read_wants(entry) == wants);
    entry.spent_nano.store(5);  // is no want
    write_wants(entry, wants);
    CHECK(entry.wants_hash == hash);
    wants.resources[0].count = 1;
    write_wants(entry, wants);
    CHECK(entry.wants_hash != hash);
    std::strcpy(entry.resources, "fpga=999");
    CHECK(read_wants(entry).resources.empty());
}

TEST_CASE("NamedCounts: fits and sums are those of eight counts", "[shm]") {
    std::mt19937_64 random(3);
    for (int round = 0; round < 100'000; ++round) {
        Resources a;
        Resources b;
        bool fits = true;
        bool sum_fits = true;
        for (std::size_t i = 0; i < NamedCounts::kNamedMax; ++i) {
            const auto few = random() % 4 == 0 ? 128U : 3U;
            const auto x = static_cast<std::uint32_t>(random() % few);
            const auto y = static_cast<std::uint32_t>(random() % (random() % 4 == 0 ? 128U : 5U));
            a.named.set(i, x);
            b.named.set(i, y);
            fits &= x <= y;
            sum_fits &= 2 * x <= y;
        }
        REQUIRE(a.fits(b) == fits);
        Resources twice = a;
        twice += a;
        REQUIRE(twice.fits(b) == sum_fits);
        twice -= a;
        REQUIRE(twice == a);
    }
}

}  // namespace reeve::shm
