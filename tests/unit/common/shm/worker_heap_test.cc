#include "common/shm/worker_heap.h"

#include <cstring>
#include <map>
#include <random>

#include "tests/support/catch.h"
#include "tests/unit/common/shm/fixture.h"

namespace reeve::shm {
namespace {

std::vector<HeapEntry> walk_all(const WorkerHeap& heap) {
    std::vector<HeapEntry> entries;
    heap.walk([&](const HeapEntry& entry) {
        entries.push_back(entry);
        return true;
    });
    return entries;
}

SegmentConfig with_workers(std::uint32_t workers) {
    auto config = small_config(64, 1);
    config.workers = workers;
    return config;
}

}  // namespace

TEST_CASE("WorkerHeap: empty has no best; ties go to the lower slot", "[shm]") {
    TestSegment made(with_workers(13));
    WorkerHeap heap(*made);
    CHECK_FALSE(heap.best());
    CHECK(walk_all(heap).empty());
    heap.update(12, 5);
    heap.update(9, 5);
    CHECK(heap.best() == HeapEntry{5, 9});
    heap.update(9, kEmptyKey);
    CHECK(heap.best() == HeapEntry{5, 12});
    CHECK(heap.key(12) == 5);
}

TEST_CASE("WorkerHeap: behaves as a sorted map, whatever the size", "[shm]") {
    std::mt19937_64 random(test_seed("worker_heap"));
    for (const std::uint32_t workers : {1U, 2U, 8U, 9U, 64U, 65U, 513U, 4'096U}) {
        TestSegment made(with_workers(workers));
        WorkerHeap heap(*made);
        std::vector<std::uint64_t> model(workers, kEmptyKey);
        for (int step = 0; step < 3'000; ++step) {
            const auto worker = static_cast<std::uint32_t>(random() % workers);
            model[worker] = random() % 5 == 0 ? kEmptyKey : random() % 1'000;
            heap.update(worker, model[worker]);
            const auto best = std::min_element(model.begin(), model.end());
            const auto slot = static_cast<std::uint32_t>(best - model.begin());
            if (*best == kEmptyKey) {
                REQUIRE_FALSE(heap.best());
            } else {
                REQUIRE(heap.best() == HeapEntry{*best, slot});
            }
        }
        const auto entries = walk_all(heap);
        std::multimap<std::uint64_t, std::uint32_t> sorted;
        for (std::uint32_t i = 0; i < workers; ++i) {
            if (model[i] != kEmptyKey) sorted.emplace(model[i], i);
        }
        REQUIRE(entries.size() == sorted.size());
        auto expected = sorted.begin();
        for (const auto& entry : entries) CHECK(entry.key == (expected++)->first);
        CHECK(heap.heal() == 0);
    }
}

TEST_CASE("WorkerHeap: the walk stops when told", "[shm]") {
    TestSegment made(with_workers(64));
    WorkerHeap heap(*made);
    for (std::uint32_t i = 0; i < 64; ++i) heap.update(i, 100 - i);
    std::vector<std::uint32_t> seen;
    heap.walk([&](const HeapEntry& entry) {
        seen.push_back(entry.slot);
        return seen.size() < 3;
    });
    CHECK(seen == std::vector<std::uint32_t>{63, 62, 61});
}

TEST_CASE("WorkerHeap: garbage in the nodes never leads outside and heals", "[shm]") {
    const auto seed = test_seed("worker_heap_garbage");
    std::mt19937_64 random(seed);
    for (int round = 0; round < 50; ++round) {
        TestSegment made(with_workers(100));
        WorkerHeap heap(*made);
        for (std::uint32_t i = 0; i < 100; ++i) heap.update(i, 1'000 + i);
        auto* nodes = &made->at<HeapNode>(made->layout().worker_heap, 0);
        for (std::uint32_t i = 0; i < made->layout().worker_heap_nodes; ++i) {
            if (random() % 2 == 0) continue;
            nodes[i] = HeapNode{random() % 2'000, static_cast<std::uint32_t>(random()),
                                static_cast<std::uint32_t>(random() % 200)};
        }
        if (const auto best = heap.best()) CHECK(best->slot < 100);
        heap.walk([](const HeapEntry& entry) { return entry.slot < 100; });
        CHECK(heap.heal() > 0);
        CHECK(heap.best() == HeapEntry{1'000, 0});
        CHECK(walk_all(heap).size() == 100);
        CHECK(heap.heal() == 0);
    }
}

}  // namespace reeve::shm
