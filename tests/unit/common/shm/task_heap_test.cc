#include "common/shm/task_heap.h"

#include <random>
#include <vector>

#include "tests/support/catch.h"
#include "tests/unit/common/shm/fixture.h"

namespace reeve::shm {
namespace {

HeapEntry best_queued(const Segment& segment, std::uint32_t chunk) {
    HeapEntry best;
    for (std::uint32_t i = chunk * kChunkSlots; i < (chunk + 1) * kChunkSlots; ++i) {
        const auto& slot = segment.task(i);
        if (load_word(slot).state() == SlotState::kQueued && slot.key < best.key) {
            best = HeapEntry{slot.key, i};
        }
    }
    return best;
}

bool heads_are_right(const Segment& segment, const TaskHeap& heap) {
    for (std::uint32_t chunk = 0; chunk < heap.chunk_count(); ++chunk) {
        const auto head = heap.chunk_head(chunk);
        const auto expected = best_queued(segment, chunk);
        if (head ? !(*head == expected) : expected.slot != kNone32) return false;
    }
    return true;
}

}  // namespace

TEST_CASE("TaskHeap: the head of a chunk is its smallest queued key", "[shm]") {
    TestSegment made;
    TaskHeap heap(*made);
    CHECK_FALSE(heap.chunk_head(0));
    store_queued(made->task(63), 7);
    heap.touch(63);
    store_queued(made->task(0), 9);
    heap.touch(0);
    CHECK(heap.chunk_head(0) == HeapEntry{7, 63});
    CHECK(heap.cached_key(63) == 7);
    store_state(made->task(63), SlotState::kHeld);
    heap.touch(63);
    CHECK(heap.chunk_head(0) == HeapEntry{9, 0});
    CHECK(heap.cached_key(63) == kEmptyKey);
    CHECK_FALSE(heap.chunk_head(1));
}

TEST_CASE("TaskHeap: every state but queued keeps a task out", "[shm]") {
    TestSegment made;
    TaskHeap heap(*made);
    for (int state = 0; state < kSlotStates; ++state) {
        made->task(70).key = 5;
        made->task(70).word = SlotWord::make(1, 0, 0, static_cast<SlotState>(state)).raw;
        heap.touch(70);
        CHECK(heap.chunk_head(1).has_value() ==
              (static_cast<SlotState>(state) == SlotState::kQueued));
    }
}

TEST_CASE("TaskHeap: touch_range does what touch does for each", "[shm]") {
    std::mt19937_64 random(test_seed("touch_range"));
    for (int round = 0; round < 300; ++round) {
        TestSegment made;
        TaskHeap heap(*made);
        const auto first = static_cast<std::uint32_t>(random() % 1'024);
        const auto count = static_cast<std::uint32_t>(random() % (1'025 - first));
        for (std::uint32_t i = first; i < first + count; ++i)
            store_queued(made->task(i), random() >> 1);
        heap.touch_range(first, count);
        REQUIRE(heads_are_right(*made, heap));
        std::vector<std::uint32_t> changed;
        heap.drain([&](std::uint32_t chunk) { changed.push_back(chunk); });
        const auto chunks = count == 0 ? 0 : (first + count - 1) / 64 - first / 64 + 1;
        REQUIRE(changed.size() == chunks);
        REQUIRE(heap.heal() == 0);
    }
}

TEST_CASE("TaskHeap: drain names each marked chunk once, whatever the number of chunks", "[shm]") {
    for (const std::uint32_t chunks : {1U, 63U, 64U, 65U, 200U, 4'097U}) {
        TestSegment made(small_config(chunks * kChunkSlots));
        TaskHeap heap(*made);
        for (const auto chunk : {0U, chunks / 2, chunks - 1}) {
            heap.mark_chunk(chunk);
            heap.mark_chunk(chunk);
        }
        std::vector<std::uint32_t> changed;
        heap.drain([&](std::uint32_t chunk) { changed.push_back(chunk); });
        std::sort(changed.begin(), changed.end());
        std::vector<std::uint32_t> expected{0, chunks / 2, chunks - 1};
        std::sort(expected.begin(), expected.end());
        expected.erase(std::unique(expected.begin(), expected.end()), expected.end());
        CHECK(changed == expected);
        heap.drain([&](std::uint32_t) { FAIL("drained twice"); });
    }
}

TEST_CASE("TaskHeap: random moves keep every head right", "[shm]") {
    std::mt19937_64 random(test_seed("task_heap"));
    TestSegment made(small_config(256));
    TaskHeap heap(*made);
    for (int step = 0; step < 50'000; ++step) {
        const auto index = static_cast<std::uint32_t>(random() % 256);
        auto& slot = made->task(index);
        if (random() % 3 == 0) {
            store_state(slot, SlotState::kHeld);
        } else {
            store_queued(slot, random() % 100);  // equal keys too
        }
        heap.touch(index);
        REQUIRE(heap.chunk_head(index / 64).value_or(HeapEntry{}) ==
                best_queued(*made, index / 64));
    }
    CHECK(heads_are_right(*made, heap));
}

TEST_CASE("TaskHeap: heal repairs what a killed process left, and says how much", "[shm]") {
    TestSegment made;
    TaskHeap heap(*made);
    store_queued(made->task(130), 3);  // killed before its climb
    CHECK_FALSE(heap.chunk_head(2));
    CHECK(heap.heal_slot(130) == 2);
    CHECK(heap.chunk_head(2) == HeapEntry{3, 130});
    store_state(made->task(130), SlotState::kClaimed);  // killed again
    CHECK(heap.heal_chunk(2) == 2);
    CHECK_FALSE(heap.chunk_head(2));
    CHECK(heap.heal() == 0);
    std::uint32_t marked = 0;
    heap.drain([&](std::uint32_t chunk) { marked += chunk; });
    CHECK(marked == 2);
}

TEST_CASE("TaskHeap: nodes full of garbage never lead outside, and heal", "[shm]") {
    std::mt19937_64 random(test_seed("task_heap_garbage"));
    TestSegment made;
    TaskHeap heap(*made);
    auto* nodes = &made->at<HeapNode>(made->layout().heap_slot_nodes, 0);
    auto* groups = &made->at<HeapNode>(made->layout().heap_group_nodes, 0);
    for (int round = 0; round < 200; ++round) {
        for (int i = 0; i < 50; ++i) {
            const auto slot = static_cast<std::uint32_t>(random() % 1'024);
            store_queued(made->task(slot), random() >> 1);
            heap.touch(slot);
        }
        for (int i = 0; i < 100; ++i) {
            const auto garbage =
                HeapNode{random() % 3 == 0 ? 0 : random(), static_cast<std::uint32_t>(random()),
                         random() % 2 == 0 ? static_cast<std::uint32_t>(random())
                                           : static_cast<std::uint32_t>(random() % 1'024)};
            if (random() % 2 == 0)
                nodes[random() % 1'024] = garbage;
            else
                groups[random() % 128] = garbage;
        }
        for (std::uint32_t chunk = 0; chunk < heap.chunk_count(); ++chunk) {
            const auto head = heap.chunk_head(chunk);
            if (head) REQUIRE(head->slot / kChunkSlots == chunk);
        }
        heap.heal();
        REQUIRE(heads_are_right(*made, heap));
        REQUIRE(heap.heal() == 0);
    }
}

TEST_CASE("TaskHeap: reading heads works on a read-only mapping", "[shm]") {
    TestSegment made;
    TaskHeap heap(*made);
    store_queued(made->task(300), 8);
    heap.touch(300);
    const auto opened = Segment::open(made.name(), false);
    REQUIRE(opened);
    const TaskHeap reader(**opened);
    CHECK(reader.chunk_head(300 / 64) == HeapEntry{8, 300});
}

}  // namespace reeve::shm
