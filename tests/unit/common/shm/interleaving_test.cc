// The task heap under chosen schedules: four processes, a switch possible at every shared access.
//
// Seeded bugs, each of which must be caught: single refresh, mark before climb, no owner check, sum
// bit not looked at (with a death between the two bits). The counts are printed.

#include <algorithm>
#include <cstdio>
#include <random>
#include <vector>

#include "common/shm/class_index.h"
#include "tests/support/catch.h"
#include "tests/unit/common/shm/coroutines.h"
#include "tests/unit/common/shm/fixture.h"

namespace reeve::shm {
namespace {

struct Explored : LivePolicy {
    static void step() { Coroutines::yield(); }
};
struct SingleRefresh : Explored {
    static constexpr bool kRefreshTwice = false;
};
struct MarkBeforeClimb : Explored {
    static constexpr bool kMarkLast = false;
};
struct NoOwnerCheck : Explored {
    static constexpr bool kCheckOwner = false;
};
struct NoSumCheck : Explored {
    static constexpr bool kAlwaysCheckSum = false;
};

struct Findings {
    std::uint64_t schedules = 0;
    std::uint64_t steps = 0;
    std::uint64_t hidden = 0;        // queued, its push complete, not found by draining
    std::uint64_t inconsistent = 0;  // a node that is not the best of its children
    std::uint64_t misordered = 0;
    std::uint64_t wrong_class = 0;
    std::uint64_t doubled = 0;
    bool clean() const { return hidden + inconsistent + misordered + wrong_class + doubled == 0; }
    void print(const char* what) const {
        std::printf(
            "%s: %llu schedules, %llu steps: hidden %llu, inconsistent %llu, misordered %llu, "
            "wrong class %llu, doubled %llu\n",
            what, static_cast<unsigned long long>(schedules),
            static_cast<unsigned long long>(steps), static_cast<unsigned long long>(hidden),
            static_cast<unsigned long long>(inconsistent),
            static_cast<unsigned long long>(misordered),
            static_cast<unsigned long long>(wrong_class), static_cast<unsigned long long>(doubled));
    }
};

// One cell of two chunks, each first of class 0 and 1: two pushers, a register that requeues and
// cancels, a scheduler that claims. Slots are close together, so that they share nodes.
template <typename Policy>
class World {
public:
    World(const Segment& segment, std::mt19937_64& random, bool deaths, Findings& findings)
        : segment_(segment), random_(random), deaths_(deaths), findings_(findings) {}

    void run() {
        reset();
        BasicTaskHeap<Policy> heap(segment_);
        BasicClassIndex<Policy> index(segment_);
        heap_ = &heap;
        index_ = &index;
        Coroutines coroutines;
        // A push takes some 20 steps: half of the deaths fall into the first one.
        const auto death = [&]() -> std::uint64_t {
            return deaths_ ? 1 + random_() % (random_() % 2 == 0 ? 24 : 75) : 0;
        };
        coroutines.add([this] { push_some(0); }, death());
        coroutines.add([this] { push_some(1); });
        coroutines.add([this] { deaths_ ? push_some(2) : requeue_and_reuse(); });
        coroutines.add([this] { claim_some(); });
        static constexpr std::uint32_t kStickiness[] = {0, 128, 230};
        coroutines.run(random_, kStickiness[random_() % 3]);
        findings_.steps += coroutines.steps();
        ++findings_.schedules;
        check();
    }

private:
    static constexpr std::uint32_t kSlots = 2 * kChunkSlots;

    void reset() {
        for (std::uint32_t i = 0; i < kSlots; ++i) {
            auto& slot = segment_.task(i);
            slot.word.store(SlotWord::make(1, 0, 0, SlotState::kFree).raw);
            slot.class_id = kNone32;
            done_[i] = false;
        }
        segment_.chunk_owner(0).store(0);
        segment_.chunk_owner(1).store(1);
        auto& layout = segment_.layout();
        for (std::uint32_t i = 0; i < kSlots; ++i) {
            segment_.at<HeapNode>(layout.heap_slot_nodes, i) = HeapNode{};
        }
        for (std::uint32_t i = 0; i < kSlots / 8; ++i) {
            segment_.at<HeapNode>(layout.heap_group_nodes, i) = HeapNode{};
        }
        segment_.at<std::atomic<std::uint64_t>>(layout.dirty, 0).store(0);
        segment_.at<std::atomic<std::uint64_t>>(layout.dirty_sum, 0).store(0);
        chunk1_tasks_ = 0;
        // A task is there from the start, so that heads change under everybody's hands.
        store_queued(segment_.task(1), 500);
        segment_.task(1).class_id = 0;
        done_[1] = true;
        TaskHeap(segment_).touch(1);
    }

    void queue(std::uint32_t index, std::uint64_t key, std::uint32_t class_id) {
        auto& slot = segment_.task(index);
        slot.class_id = class_id;
        Policy::step();
        slot.key.store(key);
        Policy::step();
        slot.word.store(
            SlotWord::make(load_word(slot).generation() + 1, 0, 0, SlotState::kQueued).raw);
        heap_->touch(index);
        done_[index] = true;
    }
    bool take_away(std::uint32_t index, SlotWord seen, SlotState to) {
        Policy::step();
        auto expected = seen.raw;
        if (!segment_.task(index).word.compare_exchange_strong(expected, seen.to(to, 0).raw)) {
            return false;
        }
        done_[index] = false;
        heap_->touch(index);
        return true;
    }

    // Slots 0, 3, 6 / 2, 5, 8 / 4, 7, 10 of chunk 0: two groups, shared by the pushers.
    void push_some(std::uint32_t who) {
        for (std::uint32_t i = 0; i < 3; ++i) queue(2 * who + 3 * i, key(), 0);
    }
    std::uint64_t key() { return 1 + random_() % 1'000; }

    // The register gives back what the scheduler claimed; the PLM cancels, and hands chunk 1, once
    // all its slots are free, to the other class, with keys that repeat on purpose.
    void requeue_and_reuse() {
        for (std::uint32_t i = 0; i < 2; ++i) {
            const auto index = 64 + i;
            queue(index, 7, 1);
            ++chunk1_tasks_;
        }
        for (std::uint32_t i = 0; i < 11; ++i) {
            Policy::step();
            const auto word = load_word(segment_.task(i));
            if (word.state() != SlotState::kClaimed) continue;
            Policy::step();
            auto expected = word.raw;
            const auto queued = word.to(SlotState::kQueued, 0);
            if (segment_.task(i).word.compare_exchange_strong(expected, queued.raw)) {
                heap_->touch(i);
                done_[i] = true;
                break;
            }
        }
        bool all_free = true;
        for (std::uint32_t i = 64; i < 66; ++i) {
            Policy::step();
            const auto word = load_word(segment_.task(i));
            if (word.state() == SlotState::kQueued) {
                all_free = take_away(i, word, SlotState::kFree) && all_free;
            } else {
                all_free = false;
            }
        }
        if (!all_free) return;
        Policy::step();
        segment_.chunk_owner(1).store(0);
        heap_->mark_chunk(1);
        queue(64, 7, 0);
    }

    void claim_some() {
        for (std::uint32_t i = 0; i < 4; ++i) {
            const auto class_id = static_cast<std::uint32_t>(random_() % 2);
            const auto claimed = index_->claim(class_id);
            if (claimed) took(claimed->slot, class_id);
        }
    }
    void took(std::uint32_t index, std::uint32_t class_id) {
        done_[index] = false;
        if (segment_.task(index).class_id != class_id) ++findings_.wrong_class;
    }

    // All is quiet: what was pushed to the end must be found by draining alone, in order.
    void check() {
        std::vector<std::uint32_t> claims(kSlots, 0);
        for (std::uint32_t class_id = 0; class_id < 2; ++class_id) {
            std::uint64_t last = 0;
            while (const auto claimed = index_->claim(class_id)) {
                if (!deaths_ && claimed->key < last) ++findings_.misordered;
                last = claimed->key;
                if (++claims[claimed->slot] > 1) ++findings_.doubled;
                took(claimed->slot, class_id);
            }
        }
        for (std::uint32_t i = 0; i < kSlots; ++i) {
            const auto state = load_word(segment_.task(i)).state();
            if (done_[i] && state == SlotState::kQueued) ++findings_.hidden;
        }
        if (!deaths_ && heap_->heal() != 0) ++findings_.inconsistent;
        heap_->heal();
        index_->rescan();
        while (index_->claim_best()) {
        }
        for (std::uint32_t i = 0; i < kSlots; ++i) {
            if (load_word(segment_.task(i)).state() == SlotState::kQueued) ++findings_.hidden;
        }
    }

    const Segment& segment_;
    std::mt19937_64& random_;
    bool deaths_;
    Findings& findings_;
    BasicTaskHeap<Policy>* heap_ = nullptr;
    BasicClassIndex<Policy>* index_ = nullptr;
    bool done_[kSlots]{};  // pushed to the end, and not taken since
    std::uint32_t chunk1_tasks_ = 0;
};

template <typename Policy>
Findings explore(const char* what, std::uint64_t schedules, bool deaths,
                 std::uint64_t Findings::*wanted = nullptr) {
    TestSegment made(small_config(2 * kChunkSlots, 2));
    std::mt19937_64 random(test_seed(what));
    Findings findings;
    World<Policy> world(*made, random, deaths, findings);
    for (std::uint64_t i = 0; i < schedules; ++i) {
        world.run();
        if (wanted != nullptr && findings.*wanted >= 3) break;
    }
    findings.print(what);
    return findings;
}

// One thread: sanitizers have little to find here, and swapcontext is slow under them.
constexpr std::uint64_t kSchedules = kSanitized ? 300 : 60'000;
constexpr std::uint64_t kSchedulesMax =
    1'200'000;  // for a seeded bug; it stops when it has found it

}  // namespace

TEST_CASE("TaskHeap: random schedules of four processes hide, double and misplace nothing",
          "[shm]") {
    CHECK(explore<Explored>("explore", kSchedules, false).clean());
}

TEST_CASE("TaskHeap: what is pushed to the end is found although another pusher died", "[shm]") {
    CHECK(explore<Explored>("explore deaths", kSchedules, true).clean());
}

// Each of these finds its bug within some hundred schedules, the last within some ten thousand.
TEST_CASE("TaskHeap: the exploration catches a single refresh", "[shm]") {
    CHECK(explore<SingleRefresh>("single refresh", kSchedulesMax, false, &Findings::hidden).hidden >
          0);
}

TEST_CASE("TaskHeap: the exploration catches a mark before the climb", "[shm]") {
    CHECK(explore<MarkBeforeClimb>("mark before climb", kSchedulesMax, false, &Findings::hidden)
              .hidden > 0);
}

TEST_CASE("TaskHeap: the exploration catches a claim without the owner check", "[shm]") {
    CHECK(explore<NoOwnerCheck>("no owner check", kSchedulesMax, false, &Findings::wrong_class)
              .wrong_class > 0);
}

TEST_CASE("TaskHeap: the exploration catches a sum bit not looked at", "[shm]") {
    if (kSanitized) return;  // some ten thousand schedules
    CHECK(explore<NoSumCheck>("no sum check", kSchedulesMax, true, &Findings::hidden).hidden > 0);
}

}  // namespace reeve::shm
