// A small segment with a name of its own, removed at the end; and the seed of a random test.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>

#include <unistd.h>

#include "common/shm/segment.h"

namespace reeve::shm {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;  // ten times slower: tests do less
#else
inline constexpr bool kSanitized = false;
#endif

inline SegmentConfig small_config(std::uint32_t task_slots = 1'024, std::uint32_t classes = 16) {
    SegmentConfig config;
    config.task_slots = task_slots;
    config.classes = classes;
    config.workers = 4;
    config.jobs = 8;
    config.dispatch_ring = 8;
    config.completion_ring = 8;
    config.worker_event_ring = 8;
    config.role_event_ring = 8;
    config.arena_bytes = 1 << 16;
    return config;
}

class TestSegment {
public:
    explicit TestSegment(const SegmentConfig& config = small_config()) {
        static int serial = 0;
        name_ = "/reeve-test-" + std::to_string(getpid()) + "-" + std::to_string(serial++);
        Segment::remove(name_);
        auto made = Segment::create(name_, config, 42, 1);
        if (!made) {
            std::fprintf(stderr, "%s\n", made.error().message.c_str());
            std::abort();
        }
        segment_ = std::move(*made);
        segment_->header().phase = Phase::kReady;
    }
    ~TestSegment() { Segment::remove(name_); }
    TestSegment(const TestSegment&) = delete;
    TestSegment& operator=(const TestSegment&) = delete;

    const Segment& operator*() const { return *segment_; }
    const Segment* operator->() const { return segment_.get(); }
    const std::string& name() const { return name_; }

private:
    std::string name_;
    std::unique_ptr<Segment> segment_;
};

// REEVE_SEED replays; otherwise a new one each time. Printed, so that a failure can be replayed.
inline std::uint64_t test_seed(const char* test) {
    const char* given = std::getenv("REEVE_SEED");
    const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10)
                                                : std::random_device{}();
    std::printf("%s: REEVE_SEED=%llu\n", test, static_cast<unsigned long long>(seed));
    return seed;
}

// free -> queued, the way a test needs it: no payload, owner `owner`, generation + 1.
inline void store_queued(TaskSlot& slot, std::uint64_t key) {
    const auto before = load_word(slot);
    slot.key.store(key);
    slot.word.store(SlotWord::make(before.generation() + 1, 0, kOwnerNone, SlotState::kQueued).raw);
}
inline void store_state(TaskSlot& slot, SlotState state) {
    slot.word.store(load_word(slot).to(state, kOwnerNone).raw);
}

}  // namespace reeve::shm
