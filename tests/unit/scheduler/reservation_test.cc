#include "scheduler/core/reservation.h"

#include <algorithm>
#include <random>
#include <vector>

#include "tests/support/catch.h"

namespace reeve::sched {
namespace {

Resources some(std::mt19937_64& random, std::uint32_t most) {
    Resources out;
    out.cpu_milli = static_cast<std::uint32_t>(random() % most) * 1000;
    out.gpus = static_cast<std::uint32_t>(random() % 2);
    out.memory_bytes = random() % most << 30;
    out.named.set(2, static_cast<std::uint32_t>(random() % 3));
    return out;
}

}  // namespace

TEST_CASE("first_room: what ends at one time ends together, named resources count", "[sched]") {
    Resources one{1000, 0, 0};
    std::vector<Ending> endings{{20, one}, {10, one}, {20, one}};
    const auto room = first_room(Resources{3000, 0, 0}, Resources{}, endings);
    REQUIRE(room);
    CHECK(room->at == 20);
    CHECK(room->free == Resources{3000, 0, 0});
    CHECK(first_room(Resources{2000, 0, 0}, Resources{1000, 0, 0}, endings)->at == 10);
    CHECK_FALSE(first_room(Resources{4000, 0, 0}, Resources{}, endings));
    Resources board = one;
    board.named.set(5, 1);
    CHECK_FALSE(first_room(board, Resources{8000, 0, 0}, endings));
    endings.push_back({30, board});
    CHECK(first_room(board, Resources{8000, 0, 0}, endings)->at == 30);
}

TEST_CASE("first_room: agrees with asking at each time", "[sched]") {
    std::mt19937_64 random(11);
    for (int round = 0; round < 20'000; ++round) {
        std::vector<Ending> endings;
        for (std::uint64_t i = random() % 8; i > 0; --i) {
            endings.push_back({static_cast<std::int64_t>(random() % 6), some(random, 4)});
        }
        const Resources free = some(random, 3);
        const Resources request = some(random, 10);
        std::int64_t first = -1;
        for (std::int64_t at = 0; at < 6 && first < 0; ++at) {
            Resources then = free;
            bool any = false;
            for (const Ending& ending : endings) {
                if (ending.at <= at) then += ending.gives;
                any |= ending.at == at;
            }
            if (any && request.fits(then)) first = at;
        }
        const auto room = first_room(request, free, endings);
        REQUIRE((room ? room->at : -1) == first);
    }
}

TEST_CASE("plan_reservation: the earliest worker, the first of equals, and what is spare",
          "[sched]") {
    std::vector<WorkerOutlook> outlooks(3);
    for (std::uint32_t i = 0; i < 3; ++i) outlooks[i].worker = i;
    outlooks[0].ends = {{50, Resources{4000, 0, 0}}};
    outlooks[1].ends = {{40, Resources{4000, 0, 0}}};
    outlooks[2].ends = {{40, Resources{8000, 0, 0}}};
    const auto plan = plan_reservation(Resources{3000, 0, 0}, outlooks);
    REQUIRE(plan);
    CHECK(plan->worker == 1);
    CHECK(plan->at_ns == 40);
    CHECK(plan->spare == Resources{1000, 0, 0});
    CHECK_FALSE(plan_reservation(Resources{9000, 0, 0}, outlooks));
}

}  // namespace reeve::sched
