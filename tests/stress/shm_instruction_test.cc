// Every instruction of every heap operation: a process is single-stepped into the operation and
// there either killed, or stopped while another completes pushes and claims, and then let go on.
//
// Demanded at each point: the others are never blocked; what they pushed is found without any
// repair; after heal() and a rescan every task is found, once. The seeded bug is the mutex heap,
// stopped within its lock at most points; the interleaving test proves the subtler ones.

#include <cstdio>
#include <map>
#include <memory>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#include "common/shm/class_index.h"
#include "tests/bench/mutex_heap.h"
#include "tests/stress/victim.h"
#include "tests/support/catch.h"
#include "tests/unit/common/shm/fixture.h"

namespace reeve::shm {
namespace {

constexpr std::uint32_t kSlots = 4 * kChunkSlots;
constexpr std::uint32_t kVictimSlot = 10;
constexpr std::uint32_t kVictimRange = 200;  // and the 7 after it
constexpr std::uint32_t kFirstSlot = 11;     // of the task that is best at the start
struct Totals {
    std::uint64_t points = 0;
    std::uint64_t skipped = 0;  // not reached a second time
    std::uint64_t hidden = 0;   // somebody else's finished push, before any repair
    std::uint64_t own_hidden =
        0;  // the victim's own unfinished one: allowed, it was not acknowledged
    std::uint64_t lost = 0;
    std::uint64_t doubled = 0;
};

// One cell, refilled for each point.
class Cell {
public:
    Cell() : heap_(*made_), report_(share_report()) {}
    ~Cell() { munmap(&report_, 4'096); }

    const Segment& segment() { return *made_; }
    TaskHeap& heap() { return heap_; }
    Report& report() { return report_; }
    ClassIndex& index() { return *index_; }

    void refill() {
        for (std::uint32_t i = 0; i < kSlots; ++i) store_state(made_->task(i), SlotState::kFree);
        for (std::uint32_t chunk = 0; chunk < kSlots / kChunkSlots; ++chunk) {
            made_->chunk_owner(chunk).store(chunk % 2);
        }
        heap_.heal();
        heap_.drain([](std::uint32_t) {});
        index_ = std::make_unique<ClassIndex>(*made_);
        claims_.clear();
        next_ = kFirstSlot;
        for (int i = 0; i < 12; ++i) push(1'000 + static_cast<std::uint64_t>(i) * 10);
        made_->task(kVictimSlot).key = 0;
    }
    // Into slots next to the victim's and one chunk further.
    void push(std::uint64_t key) {
        const auto slot = next_;
        next_ = next_ % 2 == 0 ? next_ + 1 : next_ + 63;
        if (next_ >= 4 * kChunkSlots) next_ -= 4 * kChunkSlots - 2;
        const bool victims = slot == kVictimSlot || slot / 8 == kVictimRange / 8;
        if (victims || load_word(made_->task(slot)).state() != SlotState::kFree) return;
        store_queued(made_->task(slot), key);
        heap_.touch(slot);
    }
    void claim_one(ClassIndex& index) {
        if (const auto claimed = index.claim_best()) count(claimed->slot);
    }
    void count(std::uint32_t slot) { ++claims_[{slot, load_word(made_->task(slot)).generation()}]; }

    // While the victim lies dead or stopped: others push 8, claim 8, push 4.
    void work_of_others(ClassIndex& index) {
        for (int i = 0; i < 8; ++i) push(500 + static_cast<std::uint64_t>(i) * 7);
        for (int i = 0; i < 8; ++i) claim_one(index);
        for (int i = 0; i < 4; ++i) push(300 + static_cast<std::uint64_t>(i));
    }
    // `own`: the victim was moving this slot; dead, it may have left it hidden, to be healed.
    void judge(ClassIndex& index, bool (*own)(std::uint32_t slot), Totals& totals) {
        while (const auto claimed = index.claim_best()) count(claimed->slot);
        for (std::uint32_t i = 0; i < kSlots; ++i) {
            if (load_word(made_->task(i)).state() != SlotState::kQueued) continue;
            (own(i) ? totals.own_hidden : totals.hidden) += 1;
        }
        heap_.heal();
        index.rescan();
        while (const auto claimed = index.claim_best()) count(claimed->slot);
        for (std::uint32_t i = 0; i < kSlots; ++i) {
            const auto word = load_word(made_->task(i));
            if (word.state() == SlotState::kQueued) ++totals.lost;
            if (word.state() == SlotState::kClaimed && claims_.count({i, word.generation()}) == 0) {
                ++totals.lost;
            }
        }
        for (const auto& [task, times] : claims_) totals.doubled += times > 1 ? 1 : 0;
        ++totals.points;
    }
    // The successor of a dead scheduler gives back what it held.
    void give_back_claims() {
        for (std::uint32_t i = 0; i < kSlots; ++i) {
            const auto word = load_word(made_->task(i));
            if (word.state() != SlotState::kClaimed) continue;
            if (claims_.count({i, word.generation()}) != 0) continue;
            store_state(made_->task(i), SlotState::kQueued);
            heap_.touch(i);
        }
    }

private:
    TestSegment made_{small_config(kSlots, 2)};
    TaskHeap heap_;
    Report& report_;
    std::unique_ptr<ClassIndex> index_;
    std::map<std::pair<std::uint32_t, std::uint32_t>, int> claims_;  // (slot, generation)
    std::uint32_t next_ = 0;
};

struct Operation {
    const char* name;
    bool scheduler;                   // the victim is the scheduler: its index is not ours to use
    bool (*own)(std::uint32_t slot);  // the slots it moves into the heap
    std::function<void(Cell&)> prepare;
    std::function<void(Cell&)> run;
};

void queue_victim(Cell& cell, std::uint64_t key) {
    auto& slot = cell.segment().task(kVictimSlot);
    slot.key.store(key);
    const auto word = load_word(slot);
    auto expected = word.raw;
    slot.word.compare_exchange_strong(
        expected, SlotWord::make(word.generation() + 1, 0, 0, SlotState::kQueued).raw);
    cell.heap().touch(kVictimSlot);
}

bool is_victim_slot(std::uint32_t slot) {
    return slot == kVictimSlot;
}
bool is_victim_range(std::uint32_t slot) {
    return slot / 8 == kVictimRange / 8;
}
bool is_first_slot(std::uint32_t slot) {
    return slot == kFirstSlot;
}
bool is_none(std::uint32_t) {
    return false;
}

const Operation kOperations[] = {
    {"push of a middle key", false, is_victim_slot, [](Cell&) {},
     [](Cell& cell) { queue_victim(cell, 1'055); }},
    {"push of the best key", false, is_victim_slot, [](Cell&) {},
     [](Cell& cell) { queue_victim(cell, 1); }},
    {"push of 8 neighbours", false, is_victim_range, [](Cell&) {},
     [](Cell& cell) {
         for (std::uint32_t i = 0; i < 8; ++i) {
             store_queued(cell.segment().task(kVictimRange + i), 200 + i);
         }
         cell.heap().touch_range(kVictimRange, 8);
     }},
    {"claim", true, is_none, [](Cell&) {},
     [](Cell& cell) {
         const auto claimed = cell.index().claim_best();
         if (claimed) cell.report().claimed.store(claimed->slot);
     }},
    {"claim after marks", true, is_none, [](Cell& cell) { cell.push(5); },
     [](Cell& cell) {
         const auto claimed = cell.index().claim_best();
         if (claimed) cell.report().claimed.store(claimed->slot);
     }},
    {"give back", true, is_first_slot, [](Cell&) {},
     [](Cell& cell) {
         const auto claimed = cell.index().claim_best();
         if (claimed) cell.index().give_back(*claimed);
     }},
};

void visit_point(Cell& cell, Victim& victim, const Operation& operation, Fate fate,
                 Totals& totals) {
    if (fate == Fate::kKilled) {
        victim.kill_now();
        if (operation.scheduler) {
            ClassIndex successor(cell.segment());
            cell.give_back_claims();
            cell.work_of_others(successor);
            cell.judge(successor, operation.own, totals);
        } else {
            cell.work_of_others(cell.index());
            cell.judge(cell.index(), operation.own, totals);
        }
        return;
    }
    // A second claimer beside a stopped one is against the rules; even so nothing may be lost for
    // good.
    std::unique_ptr<ClassIndex> second;
    if (operation.scheduler) second = std::make_unique<ClassIndex>(cell.segment());
    ClassIndex& index = second ? *second : cell.index();
    cell.work_of_others(index);
    victim.let_finish();
    if (cell.report().claimed.load() != kNone32) cell.count(cell.report().claimed.load());
    if (operation.scheduler) index.rescan();
    cell.judge(index, operation.own, totals);
}

Totals sweep(const Operation& operation, Fate fate) {
    Cell cell;
    Totals totals;
    const auto prepare = [&] {
        cell.refill();
        operation.prepare(cell);
    };
    totals.skipped = each_instruction(
        cell.report(), prepare, [&] { operation.run(cell); },
        [&](Victim& victim) { visit_point(cell, victim, operation, fate, totals); });
    std::printf(
        "%-22s %-7s %5llu points (%llu skipped): lost %llu, doubled %llu, hidden %llu "
        "(own %llu)\n",
        operation.name, fate == Fate::kKilled ? "killed" : "stopped",
        static_cast<unsigned long long>(totals.points),
        static_cast<unsigned long long>(totals.skipped),
        static_cast<unsigned long long>(totals.lost),
        static_cast<unsigned long long>(totals.doubled),
        static_cast<unsigned long long>(totals.hidden),
        static_cast<unsigned long long>(totals.own_hidden));
    std::fflush(stdout);
    return totals;
}

}  // namespace

TEST_CASE("Heap operations: killed at any instruction, nothing is lost", "[shm][kill]") {
    for (const auto& operation : kOperations) {
        const auto totals = sweep(operation, Fate::kKilled);
        INFO(operation.name);
        CHECK(totals.points > 50);
        CHECK(totals.skipped * 10 < totals.points);
        CHECK(totals.lost == 0);
        CHECK(totals.doubled == 0);
        CHECK(totals.hidden == 0);
    }
}

TEST_CASE("Heap operations: stopped at any instruction, nobody waits and nothing is lost",
          "[shm][kill]") {
    for (const auto& operation : kOperations) {
        const auto totals = sweep(operation, Fate::kStopped);
        INFO(operation.name);
        CHECK(totals.points > 50);
        CHECK(totals.skipped * 10 < totals.points);
        CHECK(totals.lost == 0);
        CHECK(totals.doubled == 0);
        CHECK(totals.hidden == 0);
        CHECK(totals.own_hidden == 0);
    }
}

TEST_CASE("Heap operations: a stopped holder of the mutex heap blocks, so the sweep can see it",
          "[shm][kill]") {
    auto config = small_config();
    TestSegment made(config);
    bench::MutexHeap heap(made->arena());
    heap.create();
    Report& report = share_report();
    std::uint64_t blocked = 0;
    std::uint64_t points = 0;
    const auto refill = [&] {
        heap.clear();
        for (std::uint32_t i = 0; i < 20; ++i) heap.push(100 + i, i, [] {});
    };
    each_instruction(
        report, refill, [&] { heap.push(50, 30, [] {}); },
        [&](Victim& victim) {
            blocked += heap.locked_by_somebody() ? 1 : 0;
            ++points;
            victim.let_finish();
        });
    std::printf("mutex heap stopped: blocked at %llu of %llu points\n",
                static_cast<unsigned long long>(blocked), static_cast<unsigned long long>(points));
    CHECK(blocked > points / 4);
    munmap(&report, 4'096);
}

}  // namespace reeve::shm
