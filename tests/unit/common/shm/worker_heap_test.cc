#include "common/shm/worker_heap.h"

#include <atomic>
#include <map>
#include <random>
#include <thread>

#include "tests/support/catch.h"
#include "tests/unit/common/shm/fixture.h"

namespace reeve::shm {
namespace {

std::vector<HeapEntry> walk_all(WorkerHeap& heap) {
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

TEST_CASE("WorkerHeap: empty has no best; of equal ones it names one", "[shm]") {
    TestSegment made(with_workers(13));
    WorkerHeap heap(*made);
    WorkerRanks ranks(*made);
    CHECK_FALSE(heap.best());
    CHECK_FALSE(ranks.scan());
    CHECK(walk_all(heap).empty());
    heap.update(12, 5);
    heap.update(9, 5);
    CHECK(heap.best()->key == 5);
    CHECK(ranks.scan() == HeapEntry{5, 9});
    heap.update(9, kEmptyKey);
    CHECK(heap.best() == HeapEntry{5, 12});
    CHECK(heap.key(12) == 5);
    heap.update(12, kEmptyKey);
    CHECK_FALSE(heap.best());
}

TEST_CASE("WorkerHeap: behaves as a sorted map, whatever the size and whoever changes it",
          "[shm]") {
    std::mt19937_64 random(test_seed("worker_heap"));
    for (const std::uint32_t workers : {1U, 2U, 8U, 9U, 31U, 32U, 33U, 64U, 65U, 513U, 4'096U}) {
        TestSegment made(with_workers(workers));
        WorkerHeap heap(*made);
        WorkerRanks others(*made);
        std::vector<std::uint64_t> model(workers, kEmptyKey);
        for (int step = 0; step < 3'000; ++step) {
            const auto worker = static_cast<std::uint32_t>(random() % workers);
            const auto key = random() % 5 == 0 ? kEmptyKey : random() % 1'000;
            const auto best = std::min_element(model.begin(), model.end());
            const auto top = heap.best();
            REQUIRE((top ? top->key : kEmptyKey) == *best);
            REQUIRE((!top || model[top->slot] == top->key));
            switch (random() % 3) {
                case 0:
                    heap.update(worker, key);
                    model[worker] = key;
                    break;
                case 1:
                    others.update(worker, key);
                    model[worker] = key;
                    break;
                default:
                    if (!top) break;
                    REQUIRE_FALSE(heap.replace(HeapEntry{top->key + 1, top->slot}, 0));
                    REQUIRE(heap.replace(*top, top->key + 10));
                    model[top->slot] = top->key + 10;
            }
        }
        const auto entries = walk_all(heap);
        std::multimap<std::uint64_t, std::uint32_t> sorted;
        for (std::uint32_t i = 0; i < workers; ++i) {
            if (model[i] != kEmptyKey) sorted.emplace(model[i], i);
        }
        REQUIRE(entries.size() == sorted.size());
        auto expected = sorted.begin();
        for (const auto& entry : entries) {
            CHECK(entry.key == (expected++)->first);
            CHECK(model[entry.slot] == entry.key);
        }
        heap.best();
        CHECK(others.scan().has_value() == heap.best().has_value());
    }
}

TEST_CASE("WorkerHeap: an update above the floor leaves no mark, one below it does", "[shm]") {
    TestSegment made(with_workers(40));
    WorkerHeap heap(*made);
    WorkerRanks others(*made);
    const auto& marks = made->at<std::atomic<std::uint64_t>>(made->layout().rank_marks, 1);
    for (std::uint32_t i = 0; i < 40; ++i) heap.update(i, 100 + i);
    CHECK(marks.load() == 0);
    others.update(7, 100);  // as good as the best
    others.update(0, 200);  // the best gets worse: found when asked for
    CHECK(marks.load() == 0);
    CHECK(heap.best() == HeapEntry{100, 7});
    others.update(35, 99);
    CHECK(marks.load() == 2);
    CHECK(heap.best() == HeapEntry{99, 35});
    CHECK(marks.load() == 0);
}

TEST_CASE("WorkerHeap: a successor knows what its predecessor had not looked at", "[shm]") {
    TestSegment made(with_workers(40));
    WorkerRanks others(*made);
    {
        WorkerHeap heap(*made);
        heap.update(3, 10);
        others.update(4, 20);
        others.update(33, 5);
    }
    made->at<std::atomic<std::uint64_t>>(made->layout().rank_marks, 0) = 0;  // it died with them
    WorkerHeap successor(*made);
    CHECK(successor.best() == HeapEntry{5, 33});
    CHECK(successor.replace({5, 33}, 30));
    CHECK(successor.best() == HeapEntry{10, 3});
}

TEST_CASE("WorkerHeap: two that change ranks and a reader, all at once", "[shm][threads]") {
    TestSegment made(with_workers(200));
    WorkerRanks ranks(*made);
    WorkerHeap heap(*made);
    std::atomic<int> working{2};
    const auto change = [&](std::uint64_t seed) {
        std::mt19937_64 random(seed);
        WorkerRanks own(*made);
        for (int i = 0; i < (kSanitized ? 20'000 : 400'000); ++i) {
            const auto worker = static_cast<std::uint32_t>(random() % 200);
            own.update(worker, random() % 8 == 0 ? kEmptyKey : random() % 100'000);
        }
        --working;
    };
    const auto seed = test_seed("worker_heap_threads");
    std::thread a(change, seed);
    std::thread b(change, seed + 1);
    std::uint64_t replaced = 0;
    std::uint64_t wrong = 0;
    while (working.load() != 0) {
        const auto best = heap.best();
        if (!best) continue;
        wrong += best->slot >= 200 ? 1 : 0;
        replaced += heap.replace(*best, best->key + 1'000) ? 1 : 0;
    }
    a.join();
    b.join();
    CHECK(wrong == 0);
    CHECK(replaced > 0);
    const auto best = heap.best();
    const auto scanned = ranks.scan();
    REQUIRE(best.has_value() == scanned.has_value());
    if (best) CHECK(best->key == scanned->key);
    heap.rescan();
    CHECK(heap.best() == best);
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

TEST_CASE("WorkerHeap: garbage in shared memory never leads outside and heals", "[shm]") {
    std::mt19937_64 random(test_seed("worker_heap_garbage"));
    for (int round = 0; round < 50; ++round) {
        TestSegment made(with_workers(100));
        WorkerHeap heap(*made);
        for (std::uint32_t i = 0; i < 100; ++i) heap.update(i, 1'000 + i);
        const auto& layout = made->layout();
        for (auto at = layout.worker_heap; at < layout.jobs; ++at) {
            if (random() % 2 != 0) *made->bytes(at) = static_cast<char>(random());
        }
        if (const auto best = heap.best()) CHECK(best->slot < 100);
        heap.walk([](const HeapEntry& entry) { return entry.slot < 100; });
        for (const auto& entry : walk_all(heap)) CHECK(entry.slot < 100);
        for (std::uint32_t i = 0; i < 100; ++i) heap.update(i, 1'000 + i);
        heap.rescan();
        CHECK(heap.best() == HeapEntry{1'000, 0});
        CHECK(walk_all(heap).size() == 100);
        CHECK(heap.rescan() == 0);
        WorkerRanks(*made).update(50, 1);  // the floors are right again, too
        CHECK(heap.best() == HeapEntry{1, 50});
    }
}

}  // namespace reeve::shm
