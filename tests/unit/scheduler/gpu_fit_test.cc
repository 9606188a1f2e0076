#include "scheduler/core/gpu_fit.h"

#include <random>

#include "tests/support/catch.h"
#include "tests/support/seed.h"

using namespace reeve::sched;

namespace {

GpuNodeRoom node(std::uint32_t gpus, std::int64_t cpus, std::uint32_t model = 0) {
    GpuNodeRoom room;
    room.cpu_milli = cpus * 1000;
    room.mem_mib = 1 << 20;
    room.gpus = gpus;
    room.model = model;
    for (std::uint32_t i = 0; i < gpus; ++i) room.free_milli[i] = 1000;
    return room;
}

GpuShape whole(std::uint32_t gpus) {
    return GpuShape{1000, 1024, gpus, 1000, 0};
}

GpuShape share(std::uint32_t milli) {
    return GpuShape{1000, 1024, 1, milli, 0};
}

}  // namespace

TEST_CASE("GpuFitCore: shares fill one GPU before they break another", "[gpu_fit]") {
    for (const GpuFitPolicy policy :
         {GpuFitPolicy::kBestFit, GpuFitPolicy::kFgdLike, GpuFitPolicy::kReeve}) {
        INFO(to_string(policy));
        GpuFitCore core({node(4, 64)}, policy);
        for (int i = 0; i < 10; ++i) core.learn(whole(1));
        const auto first = core.place(share(400));
        const auto second = core.place(share(600));
        REQUIRE(first);
        REQUIRE(second);
        CHECK(first->gpu_mask == second->gpu_mask);
        CHECK(core.place(whole(3)));
        CHECK_FALSE(core.place(share(1)));
    }
}

TEST_CASE("GpuFitCore: whole-GPU work of the past keeps whole nodes free", "[gpu_fit]") {
    GpuFitCore core({node(8, 64), node(2, 64)}, GpuFitPolicy::kReeve);
    for (int i = 0; i < 100; ++i) core.learn(whole(8));
    REQUIRE(core.place(whole(1)));
    CHECK(core.place(whole(8)));
}

TEST_CASE("GpuFitCore: work without GPUs goes to nodes without", "[gpu_fit]") {
    GpuFitCore core({node(8, 8), node(0, 64)}, GpuFitPolicy::kReeve);
    const auto choice = core.place(GpuShape{1000, 1024, 0, 0, 0});
    REQUIRE(choice);
    CHECK(choice->node == 1);
}

TEST_CASE("GpuFitCore: only the models asked for", "[gpu_fit]") {
    GpuFitCore core({node(1, 8, 0), node(1, 8, 1)}, GpuFitPolicy::kReeve);
    GpuShape shape = whole(1);
    shape.models = 1U << 1;
    const auto choice = core.place(shape);
    REQUIRE(choice);
    CHECK(choice->node == 1);
    CHECK_FALSE(core.place(shape));
}

TEST_CASE("GpuFitCore: no GPU, cpu or memory is given twice, and all of it comes back",
          "[gpu_fit]") {
    const std::uint64_t seed = reeve::test::seed();
    INFO("REEVE_SEED=" << seed);
    std::mt19937_64 random(seed);
    const std::vector<GpuNodeRoom> empty{node(4, 8), node(8, 32), node(2, 4), node(0, 16)};
    struct Held {
        GpuChoice choice;
        GpuShape shape;
    };
    for (const GpuFitPolicy policy :
         {GpuFitPolicy::kBestFit, GpuFitPolicy::kFgdLike, GpuFitPolicy::kReeve}) {
        GpuFitCore core(empty, policy);
        std::vector<Held> held;
        for (int step = 0; step < 3000; ++step) {
            if (random() % 3 != 0) {
                const GpuShape shape =
                    random() % 2 == 0 ? share(100 * (1 + static_cast<std::uint32_t>(random() % 9)))
                                      : whole(static_cast<std::uint32_t>(random() % 5));
                if (const auto choice = core.place(shape)) held.push_back(Held{*choice, shape});
            } else if (!held.empty()) {
                const std::size_t which = random() % held.size();
                core.release(held[which].choice, held[which].shape);
                held.erase(held.begin() + static_cast<std::ptrdiff_t>(which));
            }
            std::vector<GpuNodeRoom> expected = empty;
            for (const Held& each : held) {
                GpuNodeRoom& room = expected[each.choice.node];
                room.cpu_milli -= each.shape.cpu_milli;
                for (std::uint32_t i = 0; i < room.gpus; ++i) {
                    if ((each.choice.gpu_mask >> i & 1) == 0) continue;
                    REQUIRE(room.free_milli[i] >= each.shape.gpu_milli);
                    room.free_milli[i] =
                        static_cast<std::uint16_t>(room.free_milli[i] - each.shape.gpu_milli);
                }
                REQUIRE(static_cast<std::uint32_t>(__builtin_popcount(each.choice.gpu_mask)) ==
                        each.shape.gpus);
            }
            for (std::size_t i = 0; i < empty.size(); ++i) {
                REQUIRE(expected[i].cpu_milli >= 0);
                REQUIRE(expected[i].cpu_milli == core.nodes()[i].cpu_milli);
                REQUIRE(expected[i].free_milli == core.nodes()[i].free_milli);
            }
        }
    }
}
