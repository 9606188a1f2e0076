#include "common/shm/ring.h"

#include <atomic>
#include <thread>

#include "tests/support/catch.h"
#include "tests/unit/common/shm/fixture.h"

namespace reeve::shm {

TEST_CASE("Ring: first in, first out, over the wrap, and full says so", "[shm]") {
    TestSegment made;
    auto ring = dispatch_ring(*made, 2);
    CHECK(ring.capacity() == 8);
    CHECK_FALSE(ring.pop());
    for (std::uint32_t round = 0; round < 5; ++round) {
        for (std::uint32_t i = 0; i < 8; ++i) REQUIRE(ring.try_push(SlotHint{round, i}));
        CHECK_FALSE(ring.try_push(SlotHint{9, 9}));
        CHECK(ring.size() == 8);
        for (std::uint32_t i = 0; i < 8; ++i) {
            const auto hint = ring.pop();
            REQUIRE(hint);
            CHECK(hint->word == round);
            CHECK(hint->slot == i);
        }
        CHECK_FALSE(ring.pop());
    }
}

TEST_CASE("Ring: peek leaves entries in place until advance", "[shm]") {
    TestSegment made;
    auto ring = event_ring(*made, kEventRingFirstWorker + 1);
    Event event;
    event.kind = EventKind::kMoved;
    event.slot = 3;
    REQUIRE(ring.try_push(event));
    event.slot = 4;
    REQUIRE(ring.try_push(event));
    CHECK(ring.peek(ring.head()).slot == 3);
    CHECK(ring.peek(ring.head() + 1).slot == 4);
    CHECK(ring.size() == 2);
    ring.advance(ring.head() + 2);
    CHECK(ring.size() == 0);
}

TEST_CASE("Ring: every ring of a segment has memory of its own", "[shm]") {
    TestSegment made;
    const auto rings = event_ring_count(*made);
    for (std::uint32_t i = 0; i < rings; ++i) {
        auto ring = event_ring(*made, i);
        Event event;
        event.slot = i;
        while (ring.try_push(event)) {
        }
    }
    for (std::uint32_t worker = 0; worker < made->config().workers; ++worker) {
        auto dispatch = dispatch_ring(*made, worker);
        auto completion = completion_ring(*made, worker);
        while (dispatch.try_push(SlotHint{worker, 1})) {
        }
        while (completion.try_push(SlotHint{worker, 2})) {
        }
    }
    for (std::uint32_t i = 0; i < rings; ++i) {
        auto ring = event_ring(*made, i);
        CHECK(ring.size() == 8);
        while (auto event = ring.pop()) CHECK(event->slot == i);
    }
    for (std::uint32_t worker = 0; worker < made->config().workers; ++worker) {
        auto dispatch = dispatch_ring(*made, worker);
        auto completion = completion_ring(*made, worker);
        while (auto hint = dispatch.pop()) CHECK((hint->word == worker && hint->slot == 1));
        while (auto hint = completion.pop()) CHECK((hint->word == worker && hint->slot == 2));
    }
    CHECK(made->header().magic == kMagic);
    CHECK(made->header().layout_hash == made->layout().hash);
}

TEST_CASE("Ring: damaged indices never lead outside the ring", "[shm]") {
    TestSegment made;
    auto& header = made->at<RingHeader>(made->layout().dispatch_rings, 0);
    auto ring = dispatch_ring(*made, 0);
    header.head = ~0ULL - 3;
    header.tail = 12'345;
    CHECK(ring.size() <= ring.capacity());
    CHECK_FALSE(ring.try_push(SlotHint{}));
    for (int i = 0; i < 100; ++i) ring.pop();
}

TEST_CASE("Ring: nothing lost or torn between two threads", "[shm][threads]") {
    TestSegment made;
    auto producer = event_ring(*made, kEventRingScheduler);
    constexpr std::uint64_t kEvents = 20'000;
    std::uint64_t wrong = 0;
    std::thread consumer([&] {
        auto ring = event_ring(*made, kEventRingScheduler);
        for (std::uint64_t next = 0; next < kEvents;) {
            const auto event = ring.pop();
            if (!event) {
                std::this_thread::yield();
                continue;
            }
            if (event->job != next || event->element != ~next) ++wrong;
            ++next;
        }
    });
    for (std::uint64_t i = 0; i < kEvents;) {
        Event event;
        event.job = i;
        event.element = ~i;
        if (producer.try_push(event)) {
            ++i;
        } else {
            std::this_thread::yield();
        }
    }
    consumer.join();
    CHECK(wrong == 0);
}

}  // namespace reeve::shm
