#include "tests/unit/scheduler/placement_suite.h"

#include "scheduler/core/memory_ports.h"

namespace reeve::sched {
namespace {

class MemoryFixture {
public:
    MemoryQueue& queue() { return queue_; }
    MemoryWorkers& workers() { return workers_; }
    WorkerRef add_worker(const Resources& capacity) { return workers_.add(capacity); }
    void set_open(WorkerRef worker, bool open) { workers_.set_open(worker, open); }
    ClassRef add_class(const ClassShape& shape) { return queue_.add_class(shape); }
    TaskRef push(ClassRef cls, std::uint64_t key, std::uint64_t limit_ns = 0) {
        tasks_.push_back({cls, key});
        const auto task = static_cast<TaskRef>(tasks_.size() - 1);
        queue_.push(cls, task, key);
        queue_.set_limit_ns(task, limit_ns);
        return task;
    }
    void cancel(TaskRef task) { queue_.erase(tasks_[task].first, task, tasks_[task].second); }

private:
    MemoryQueue queue_;
    MemoryWorkers workers_;
    std::vector<std::pair<ClassRef, std::uint64_t>> tasks_;
};

TEST_CASE("PlacementCore: over plain memory", "[sched]") {
    suite::run_all_placement_scenarios<MemoryFixture>();
}

TEST_CASE("ParkedShapes: shapes that nobody waits with are forgotten", "[sched]") {
    ParkedShapes parked;
    const auto shape = [](std::uint32_t i) { return ClassShape{Resources{1000 + i, 0, 0}, i}; };
    REQUIRE(parked.park(0, shape(0)));
    for (std::uint32_t i = 1; i < 50'000; ++i) {
        REQUIRE(parked.park(1, shape(i)));
        std::vector<ClassRef> taken;
        parked.take_fitting(
            Resources{1000 + i, 0, 0}, [&](const ClassShape& one) { return one == shape(i); },
            [&](ClassRef cls) { taken.push_back(cls); });
        REQUIRE(taken == std::vector<ClassRef>{1});
    }
    CHECK(parked.shapes() <= ParkedShapes::kShapesKept);
    CHECK(parked.remove(0));
    CHECK(parked.parked_classes() == 0);
}

// Reference: the first leaf that fits, by scan.
TEST_CASE("CapacityTree: agrees with a scan", "[sched]") {
    const std::uint64_t seed = suite::test_seed();
    INFO("REEVE_SEED=" << seed);
    std::mt19937_64 random(seed);
    for (const std::uint32_t leaves : {1U, 7U, 8U, 9U, 64U, 65U, 700U}) {
        CapacityTree tree(leaves);
        std::vector<std::optional<Resources>> model(leaves);
        CHECK(tree.first_fit({}) == CapacityTree::kNone);
        for (int step = 0; step < 2'000; ++step) {
            const auto leaf = static_cast<std::uint32_t>(random() % leaves);
            if (random() % 5 == 0) {
                tree.close(leaf);
                model[leaf].reset();
            } else {
                model[leaf] =
                    Resources{static_cast<std::uint32_t>(random() % 9),
                              static_cast<std::uint32_t>(random() % 3), (random() % 9) * 700'000};
                tree.open(leaf, *model[leaf]);
            }
            const Resources want{static_cast<std::uint32_t>(random() % 10),
                                 static_cast<std::uint32_t>(random() % 4),
                                 (random() % 10) * 700'000};
            std::uint32_t expected = CapacityTree::kNone;
            for (std::uint32_t i = 0; i < leaves && expected == CapacityTree::kNone; ++i) {
                if (model[i] && want.fits(*model[i])) expected = i;
            }
            REQUIRE(tree.first_fit(want) == expected);
        }
    }
}

}  // namespace
}  // namespace reeve::sched
