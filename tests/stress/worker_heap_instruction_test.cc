// Every instruction of every worker heap operation: a process is single-stepped into it and there
// killed, or stopped while the others go on, and then let go on.
//
// Demanded at each point: nobody waits; every update that was complete is found; after a rescan
// (the reader's own, or its successor's start) the best is the least of the keys. The seeded bug is
// a mark before the key: stopped between the two, it leaves a key that nobody is told of.

#include <cstdio>
#include <memory>

#include "common/shm/worker_heap.h"
#include "tests/stress/victim.h"
#include "tests/support/catch.h"
#include "tests/unit/common/shm/fixture.h"

namespace reeve::shm {
namespace {

constexpr std::uint32_t kWorkers = kRankGroup + 8;
constexpr std::uint32_t kVictimWorker = 35;  // in the group of eight, as is most of what happens
constexpr std::uint32_t kBest = 33;          // at first

struct MarkFirst : LivePolicy {
    static constexpr bool kMarkLast = false;
};

struct Totals {
    std::uint64_t points = 0;
    std::uint64_t skipped = 0;  // not reached a second time
    std::uint64_t hidden = 0;   // completed, and not found without repair
    std::uint64_t wrong = 0;    // after the repair
};

template <typename Policy>
class Cell {
public:
    using Heap = BasicWorkerHeap<Policy>;
    using Ranks = BasicWorkerRanks<Policy>;

    ~Cell() { munmap(&report_, 4'096); }
    Report& report() { return report_; }
    Heap& heap() { return *heap_; }
    Ranks& ranks() { return ranks_; }

    void refill() {
        for (std::uint32_t i = 0; i < kWorkers; ++i) ranks_.store(i, 1'000 + 10 * i);
        ranks_.store(kBest, 500);
        heap_ = std::make_unique<Heap>(*made_);
        (void)heap_->best();
    }
    void successor() { heap_ = std::make_unique<Heap>(*made_); }
    // Others change their ranks, the reader takes the best, while the victim lies there. Adds what
    // it finds missing; the victim's own worker is not looked at.
    void work_of_others(Totals& totals) {
        for (std::uint32_t i = 0; i < 6; ++i) {
            ranks_.update(i % 2 == 0 ? i : kRankGroup + i % 3, 700 - 20 * i);
            const auto best = heap_->best();
            expect(best, true, totals.hidden);
            if (best && i % 2 == 0) heap_->replace(*best, best->key + 2'000);
        }
    }
    // The best should be the least key, of all or all but the victim's.
    void expect(const std::optional<HeapEntry>& best, bool without_victim, std::uint64_t& wrong) {
        auto least = kEmptyKey;
        for (std::uint32_t i = 0; i < kWorkers; ++i) {
            if (!without_victim || i != kVictimWorker) least = std::min(least, ranks_.key(i));
        }
        const auto found = best ? best->key : kEmptyKey;
        const bool right = without_victim ? found <= least : found == least;
        if (!right || !best || ranks_.key(best->slot) != found) ++wrong;
    }

private:
    static SegmentConfig config() {
        auto config = small_config();
        config.workers = kWorkers;
        return config;
    }

    TestSegment made_{config()};
    Ranks ranks_{*made_};
    std::unique_ptr<Heap> heap_;
    Report& report_ = share_report();
};

template <typename Policy>
struct Operation {
    const char* name;
    bool reader;  // the victim is the reader: its heap is not ours to use
    void (*prepare)(Cell<Policy>&);
    void (*run)(Cell<Policy>&);
};

template <typename Policy>
const Operation<Policy> kUpdates[] = {
    {"update to the best", false, [](Cell<Policy>&) {},
     [](Cell<Policy>& cell) { cell.ranks().update(kVictimWorker, 1); }},
    {"update, nothing special", false, [](Cell<Policy>&) {},
     [](Cell<Policy>& cell) { cell.ranks().update(kVictimWorker, 5'000); }},
    {"update of the best", false,
     [](Cell<Policy>& cell) {
         cell.ranks().update(kVictimWorker, 400);
         (void)cell.heap().best();
     },
     [](Cell<Policy>& cell) { cell.ranks().update(kVictimWorker, kEmptyKey); }},
};

const Operation<LivePolicy> kReads[] = {
    {"best after marks", true,
     [](Cell<LivePolicy>& cell) {
         cell.ranks().update(2, 450);
         cell.ranks().update(34, 440);
     },
     [](Cell<LivePolicy>& cell) { (void)cell.heap().best(); }},
    {"best after it got worse", true,
     [](Cell<LivePolicy>& cell) { cell.ranks().update(kBest, 3'000); },
     [](Cell<LivePolicy>& cell) { (void)cell.heap().best(); }},
    {"replace", true, [](Cell<LivePolicy>&) {},
     [](Cell<LivePolicy>& cell) {
         cell.heap().replace({500, kBest}, 1'500);
     }},
    {"the reader's update", true, [](Cell<LivePolicy>&) {},
     [](Cell<LivePolicy>& cell) { cell.heap().update(kVictimWorker, 20); }},
    {"rescan", true, [](Cell<LivePolicy>& cell) { cell.ranks().update(3, 430); },
     [](Cell<LivePolicy>& cell) { cell.heap().rescan(); }},
};

template <typename Policy>
void visit_point(Cell<Policy>& cell, Victim& victim, const Operation<Policy>& operation, Fate fate,
                 Totals& totals) {
    ++totals.points;
    if (fate == Fate::kKilled) {
        victim.kill_now();
        if (operation.reader) cell.successor();
        cell.work_of_others(totals);
        cell.heap().rescan();
        cell.expect(cell.heap().best(), false, totals.wrong);
        return;
    }
    // A second reader beside a stopped one is against the rules, so what it misses then is no
    // finding; it is whole again once it is alone and has looked at everything.
    Totals unruly;
    if (operation.reader) cell.successor();
    cell.work_of_others(operation.reader ? unruly : totals);
    victim.let_finish();
    if (operation.reader) cell.heap().rescan();
    cell.expect(cell.heap().best(), false, totals.hidden);
    cell.work_of_others(totals);
    cell.heap().rescan();
    cell.expect(cell.heap().best(), false, totals.wrong);
}

template <typename Policy>
Totals sweep(const Operation<Policy>& operation, Fate fate) {
    Cell<Policy> cell;
    Totals totals;
    const auto prepare = [&] {
        cell.refill();
        operation.prepare(cell);
    };
    totals.skipped = each_instruction(
        cell.report(), prepare, [&] { operation.run(cell); },
        [&](Victim& victim) { visit_point(cell, victim, operation, fate, totals); });
    std::printf("%-24s %-7s %5llu points (%llu skipped): hidden %llu, wrong %llu\n", operation.name,
                fate == Fate::kKilled ? "killed" : "stopped",
                static_cast<unsigned long long>(totals.points),
                static_cast<unsigned long long>(totals.skipped),
                static_cast<unsigned long long>(totals.hidden),
                static_cast<unsigned long long>(totals.wrong));
    std::fflush(stdout);
    return totals;
}

void check_clean(const Operation<LivePolicy>& operation, Fate fate) {
    const auto totals = sweep(operation, fate);
    INFO(operation.name);
    CHECK(totals.points > 10);
    CHECK(totals.skipped * 10 < totals.points);
    CHECK(totals.hidden == 0);
    CHECK(totals.wrong == 0);
}

}  // namespace

TEST_CASE("Worker heap operations: killed at any instruction, completed updates are found",
          "[shm][kill]") {
    for (const auto& operation : kUpdates<LivePolicy>) check_clean(operation, Fate::kKilled);
    for (const auto& operation : kReads) check_clean(operation, Fate::kKilled);
}

TEST_CASE("Worker heap operations: stopped at any instruction, nobody waits and nothing is hidden",
          "[shm][kill]") {
    for (const auto& operation : kUpdates<LivePolicy>) check_clean(operation, Fate::kStopped);
    for (const auto& operation : kReads) check_clean(operation, Fate::kStopped);
}

TEST_CASE("Worker heap operations: a mark before the key is noticed", "[shm][kill]") {
    CHECK(sweep(kUpdates<MarkFirst>[0], Fate::kStopped).hidden > 0);
}

}  // namespace reeve::shm
