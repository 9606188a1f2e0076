#include "common/shm/class_index.h"

#include <map>
#include <random>
#include <set>
#include <thread>

#include "tests/support/catch.h"
#include "tests/unit/common/shm/fixture.h"

namespace reeve::shm {
namespace {

constexpr std::uint32_t kClasses = 16;

struct Cell {
    TestSegment made{small_config(1'024, kClasses)};
    TaskHeap heap{*made};

    explicit Cell(std::uint32_t classes = kClasses) {
        for (std::uint32_t chunk = 0; chunk < 16; ++chunk) {
            made->chunk_owner(chunk).store(chunk % classes);
        }
    }
    void push(std::uint32_t slot, std::uint64_t key) {
        store_queued(made->task(slot), key);
        heap.touch(slot);
    }
    void move(std::uint32_t slot, SlotState state) {
        store_state(made->task(slot), state);
        heap.touch(slot);
    }
    std::uint32_t class_of(std::uint32_t slot) const { return made->chunk_owner(slot / 64).load(); }
};

}  // namespace

TEST_CASE("ClassIndex: claims in key order within a class, and best over all", "[shm]") {
    Cell cell;
    ClassIndex index(*cell.made);
    cell.push(64 * 3 + 1, 30);
    cell.push(64 * 3 + 2, 10);
    cell.push(64 * 5, 20);
    const auto best = index.best();
    REQUIRE(best);
    CHECK(best->class_id == 3);
    CHECK(best->entry.key == 10);
    CHECK(index.peek(5)->key == 20);
    CHECK(index.claim(3)->key == 10);
    CHECK(index.claim_best()->key == 20);
    CHECK(index.claim_best()->key == 30);
    CHECK_FALSE(index.claim_best());
    CHECK_FALSE(index.claim(3));
    CHECK_FALSE(index.peek(3));
    CHECK(load_word(cell.made->task(64 * 5)).owner() == kOwnerScheduler);
}

TEST_CASE("ClassIndex: the event of a claim has the queued word and the claimed one", "[shm]") {
    Cell cell;
    cell.push(0, 1);
    const auto queued = load_word(cell.made->task(0));
    ClassIndex index(*cell.made);
    const auto claimed = index.claim(0);
    REQUIRE(claimed);
    CHECK(claimed->queued == queued);
    CHECK(claimed->claimed == queued.to(SlotState::kClaimed, kOwnerScheduler));
    CHECK(load_word(cell.made->task(0)) == claimed->claimed);
    CHECK(index.give_back(*claimed));
    CHECK_FALSE(index.give_back(*claimed));
    CHECK(index.best()->entry == HeapEntry{1, 0});
}

TEST_CASE("ClassIndex: a parked class is passed over and comes back", "[shm]") {
    Cell cell;
    ClassIndex index(*cell.made);
    cell.push(0, 1);
    cell.push(64, 2);
    index.park(0);
    CHECK(index.parked(0));
    CHECK(index.best()->class_id == 1);
    cell.push(1, 0);  // even better, still parked
    CHECK(index.claim_best()->key == 2);
    CHECK_FALSE(index.best());
    CHECK(index.peek(0)->key == 0);  // explain looks at parked ones too
    index.unpark(0);
    CHECK(index.claim_best()->key == 0);
    CHECK(index.claim_best()->key == 1);
}

TEST_CASE("ClassIndex: a chunk given to another class is filed anew", "[shm]") {
    Cell cell;
    ClassIndex index(*cell.made);
    cell.push(0, 1);
    CHECK(index.claim(0));
    cell.move(0, SlotState::kFree);
    cell.made->chunk_owner(0).store(9);
    cell.heap.mark_chunk(0);
    cell.push(0, 5);
    CHECK_FALSE(index.claim(0));
    CHECK(index.claim(9)->slot == 0);
    cell.push(1, 6);
    cell.made->chunk_owner(0).store(0xFFFFFF);  // damage: nobody's
    cell.heap.mark_chunk(0);
    CHECK_FALSE(index.best());
}

TEST_CASE("ClassIndex: a new one finds everything, a rescan what was never marked", "[shm]") {
    Cell cell;
    ClassIndex index(*cell.made);
    store_queued(cell.made->task(100), 4);
    cell.heap.climb(100);  // killed before the dirty bit
    CHECK_FALSE(index.best());
    CHECK(index.rescan() == 1);
    CHECK(index.best()->entry == HeapEntry{4, 100});
    ClassIndex successor(*cell.made);
    CHECK(successor.best()->entry == HeapEntry{4, 100});
    CHECK(successor.rescan() == 0);
}

TEST_CASE("ClassIndex: with nodes full of garbage it claims only what is queued", "[shm]") {
    std::mt19937_64 random(test_seed("class_index_garbage"));
    for (int round = 0; round < 100; ++round) {
        Cell cell;
        ClassIndex index(*cell.made);
        std::set<std::uint32_t> queued;
        for (int i = 0; i < 200; ++i) {
            const auto slot = static_cast<std::uint32_t>(random() % 1'024);
            cell.push(slot, random() >> 1);
            queued.insert(slot);
        }
        auto* nodes = &cell.made->at<HeapNode>(cell.made->layout().heap_slot_nodes, 0);
        auto* groups = &cell.made->at<HeapNode>(cell.made->layout().heap_group_nodes, 0);
        for (int i = 0; i < 300; ++i) {
            const HeapNode garbage{random() % 1'000, static_cast<std::uint32_t>(random()),
                                   static_cast<std::uint32_t>(random() % 2'000)};
            nodes[random() % 1'024] = garbage;
            groups[random() % 128] = garbage;
        }
        index.rescan();
        for (int i = 0; i < 100; ++i) {
            const auto claimed = index.claim_best();
            if (claimed) REQUIRE(queued.erase(claimed->slot) == 1);
        }
        cell.heap.heal();
        std::uint64_t last = 0;
        while (auto claimed = index.claim_best()) {
            REQUIRE(claimed->key >= last);
            last = claimed->key;
            REQUIRE(queued.erase(claimed->slot) == 1);
        }
        REQUIRE(queued.empty());
    }
}

TEST_CASE("ClassIndex: walks a class in order without taking anything", "[shm]") {
    std::mt19937_64 random(test_seed("class_index_walk"));
    Cell cell(2);
    ClassIndex index(*cell.made);
    std::multiset<std::uint64_t> expected;
    for (int i = 0; i < 500; ++i) {
        const auto slot = static_cast<std::uint32_t>(random() % 1'024);
        if (load_word(cell.made->task(slot)).state() == SlotState::kQueued) continue;
        const auto key = random() >> 1;
        cell.push(slot, key);
        if (cell.class_of(slot) == 1) expected.insert(key);
    }
    index.drain();
    std::vector<std::uint64_t> seen;
    index.for_each_in_class(1, 1'000, [&](const HeapEntry& entry) {
        seen.push_back(entry.key);
        return true;
    });
    CHECK(seen == std::vector<std::uint64_t>(expected.begin(), expected.end()));
    std::uint32_t visits = 0;
    index.for_each_in_class(1, 7, [&](const HeapEntry&) { return ++visits < 100; });
    CHECK(visits == 7);
    std::uint32_t heads = 0;
    index.for_each_head([&](const ClassHead& head) {
        ++heads;
        if (head.class_id == 1) CHECK(head.entry.key == *expected.begin());
    });
    CHECK(heads == 2);
    // Backfill takes one from the middle.
    HeapEntry third;
    index.for_each_in_class(1, 3, [&](const HeapEntry& entry) {
        third = entry;
        return true;
    });
    REQUIRE(index.claim_slot(1, third.slot));
    CHECK_FALSE(index.claim_slot(1, third.slot));
    CHECK_FALSE(index.claim_slot(0, index.peek(1)->slot));  // queued, but of class 1
}

TEST_CASE("TaskHeap, ClassIndex: what a pusher wrote is there for the claimer", "[shm][threads]") {
    constexpr std::uint64_t kPushes = kSanitized ? 3'000 : 30'000;
    Cell cell;
    std::atomic<int> pushing{2};
    const auto push_own_half = [&](std::uint32_t first) {
        TaskHeap heap(*cell.made);
        for (std::uint64_t i = 0; i < kPushes; ++i) {
            const auto index = first + static_cast<std::uint32_t>(i * 7 % 512);
            auto& slot = cell.made->task(index);
            if (load_word(slot).state() == SlotState::kQueued) continue;
            if (load_word(slot).state() == SlotState::kClaimed) continue;
            slot.job = i + 1;  // plain: the word's CAS publishes it
            slot.element = ~slot.job;
            store_queued(slot, i);
            heap.touch(index);
        }
        --pushing;
    };
    std::thread a(push_own_half, 0U);
    std::thread b(push_own_half, 512U);
    ClassIndex index(*cell.made);
    std::uint64_t torn = 0;
    std::uint64_t claims = 0;
    for (;;) {
        const bool last = pushing == 0;
        while (const auto claimed = index.claim_best()) {
            auto& slot = cell.made->task(claimed->slot);
            torn += slot.element != ~slot.job ? 1 : 0;
            ++claims;
            store_state(slot, SlotState::kFree);
        }
        if (last) break;
    }
    a.join();
    b.join();
    CHECK(torn == 0);
    CHECK(claims > 512);
    CHECK(cell.heap.heal() == 0);
}

// The obvious model: per class a sorted set of (key, slot).
namespace {

class Model {
public:
    explicit Model(std::uint64_t seed) : random_(seed) {}

    void step() {
        const auto slot = static_cast<std::uint32_t>(random_() % 1'024);
        const auto state = load_word(cell_.made->task(slot)).state();
        switch (random_() % 10) {
            case 0:
            case 1:
            case 2:
            case 3:
                push(slot, state);
                break;
            case 4:
                claim_best();
                break;
            case 5:
                claim_class(pick());
                break;
            case 6:
                if (state == SlotState::kQueued) leave(slot);
                break;
            case 7:
                change_key(slot, state);
                break;
            case 8:
                toggle_park(pick());
                break;
            case 9:
                rare(slot / 64);
                break;
        }
        check_best();
    }

private:
    using Set = std::set<std::pair<std::uint64_t, std::uint32_t>>;

    std::uint32_t pick() { return static_cast<std::uint32_t>(random_() % kClasses); }
    std::uint64_t new_key() { return ((random_() % 50) << 44) | ++sequence_; }
    Set& set_of(std::uint32_t slot) { return sets_[cell_.class_of(slot)]; }

    void push(std::uint32_t slot, SlotState state) {
        if (state == SlotState::kQueued) return;
        const auto key = new_key();
        cell_.push(slot, key);
        set_of(slot).insert({key, slot});
    }
    void leave(std::uint32_t slot) {
        set_of(slot).erase({cell_.made->task(slot).key.load(), slot});
        cell_.move(slot, SlotState::kEnded);
    }
    void change_key(std::uint32_t slot, SlotState state) {
        if (state != SlotState::kQueued) return;
        auto& task = cell_.made->task(slot);
        set_of(slot).erase({task.key.load(), slot});
        task.key = new_key();
        cell_.heap.touch(slot);
        set_of(slot).insert({task.key.load(), slot});
    }
    void toggle_park(std::uint32_t id) {
        if (parked_.erase(id) != 0) {
            index_.unpark(id);
        } else if (parked_.size() < kClasses / 2) {
            parked_.insert(id);
            index_.park(id);
        }
    }
    void rare(std::uint32_t chunk) {
        if (random_() % 20 == 0) REQUIRE(index_.rescan() == 0);
        if (random_() % 4 != 0) return;
        for (std::uint32_t slot = chunk * 64; slot < (chunk + 1) * 64; ++slot) {
            if (load_word(cell_.made->task(slot)).state() == SlotState::kQueued) leave(slot);
            cell_.move(slot, SlotState::kFree);
        }
        cell_.made->chunk_owner(chunk).store(pick());
        cell_.heap.mark_chunk(chunk);
    }
    std::pair<std::uint32_t, Set::value_type> model_best() const {
        std::pair<std::uint32_t, Set::value_type> best{kNone32, {kEmptyKey, kNone32}};
        for (const auto& [id, set] : sets_) {
            if (set.empty() || parked_.count(id) != 0 || *set.begin() >= best.second) continue;
            best = {id, *set.begin()};
        }
        return best;
    }
    void claim_best() {
        const auto expected = model_best();
        const auto claimed = index_.claim_best();
        REQUIRE(claimed.has_value() == (expected.first != kNone32));
        if (claimed) took(*claimed, expected.first, expected.second);
    }
    void claim_class(std::uint32_t id) {
        const auto claimed = index_.claim(id);
        REQUIRE(claimed.has_value() == !sets_[id].empty());
        if (claimed) took(*claimed, id, *sets_[id].begin());
    }
    void took(const Claimed& claimed, std::uint32_t id, const Set::value_type& expected) {
        REQUIRE(claimed.key == expected.first);
        REQUIRE(claimed.slot == expected.second);
        if (random_() % 4 == 0) {
            REQUIRE(index_.give_back(claimed));
        } else {
            sets_[id].erase(expected);
        }
    }
    void check_best() {
        const auto expected = model_best();
        const auto best = index_.best();
        REQUIRE(best.has_value() == (expected.first != kNone32));
        if (!best) return;
        REQUIRE(best->class_id == expected.first);
        REQUIRE(best->entry == HeapEntry{expected.second.first, expected.second.second});
    }

    std::mt19937_64 random_;
    Cell cell_;
    ClassIndex index_{*cell_.made};
    std::map<std::uint32_t, Set> sets_;
    std::set<std::uint32_t> parked_;
    std::uint64_t sequence_ = 0;
};

}  // namespace

TEST_CASE("ClassIndex: behaves as sorted sets under random operations", "[shm]") {
    Model model(test_seed("class_index"));
    for (int step = 0; step < (kSanitized ? 20'000 : 200'000); ++step) model.step();
}

TEST_CASE("MinTree: behaves as a plain minimum", "[shm]") {
    std::mt19937_64 random(test_seed("min_tree"));
    for (const std::uint32_t count : {1U, 7U, 8U, 9U, 64U, 65U, 513U, 4'096U}) {
        MinTree tree(count);
        std::vector<std::uint64_t> model(count, MinTree::kInfinite);
        CHECK(tree.best() == 0);
        for (int step = 0; step < 2'000; ++step) {
            const auto index =
                static_cast<std::uint32_t>(random() % (step < 500 ? (count + 7) / 8 : count));
            model[index] = random() % 4 == 0 ? MinTree::kInfinite : random() % 500;
            tree.set(index, model[index]);
            const auto best = std::min_element(model.begin(), model.end());
            REQUIRE(tree.best() == static_cast<std::uint32_t>(best - model.begin()));
            REQUIRE(tree.get(tree.best()) == *best);
        }
    }
}

}  // namespace reeve::shm
