// The placement tests, written once for any pair of ports: memory_ports.h here, the shared heaps in
// the live scheduler's tests. `Fixture` owns both ports and offers:
//
//   Queue& queue(); Workers& workers();
//   WorkerRef add_worker(const Resources& capacity);      // ranked in the order added
//   void set_open(WorkerRef, bool);                       // false: gets nothing new
//   ClassRef add_class(const ClassShape&);
//   TaskRef push(ClassRef, std::uint64_t key, std::uint64_t limit_ns = 0);  // returns the task
//   void cancel(TaskRef);                                 // takes a queued task away
//
// Each scenario is a function template; a test file calls run_all_placement_scenarios<Fixture>().
#pragma once

#include <algorithm>
#include <cstdlib>
#include <map>
#include <random>
#include <vector>

#include "scheduler/core/placement.h"
#include "tests/support/catch.h"

namespace reeve::sched::suite {

inline Resources cpus(std::uint32_t count, std::uint64_t mib = 0, std::uint32_t gpus = 0) {
    return Resources{count * 1000, gpus, mib << 20};
}

inline std::uint64_t test_seed() {
    const char* given = std::getenv("REEVE_SEED");
    return given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
}

template <typename Fixture>
auto make_core(Fixture& f) {
    return PlacementCore(f.queue(), f.workers());
}

template <typename Core>
std::vector<Placement> place_all(Core& core, std::size_t limit = 1'000'000) {
    std::vector<Placement> out;
    core.place(limit, [&](const Placement& placement) { out.push_back(placement); });
    return out;
}

template <typename Fixture>
void best_key_first() {
    Fixture f;
    f.add_worker(cpus(8));
    auto core = make_core(f);
    const ClassRef a = f.add_class({cpus(1)});
    const ClassRef b = f.add_class({cpus(2)});
    const TaskRef third = f.push(a, 30);
    const TaskRef first = f.push(b, 10);
    const TaskRef second = f.push(a, 20);
    const auto placed = place_all(core);
    REQUIRE(placed.size() == 3);
    CHECK(placed[0].task == first);
    CHECK(placed[1].task == second);
    CHECK(placed[2].task == third);
    CHECK(placed[0].request == cpus(2));
}

template <typename Fixture>
void parked_class_blocks_nobody() {
    Fixture f;
    const WorkerRef worker = f.add_worker(cpus(4));
    auto core = make_core(f);
    const ClassRef big = f.add_class({cpus(8)});
    const ClassRef small = f.add_class({cpus(1)});
    for (std::uint64_t i = 0; i < 50; ++i) f.push(big, i);
    const TaskRef fits = f.push(small, 1'000);
    const auto placed = place_all(core);
    REQUIRE(placed.size() == 1);
    CHECK(placed[0].task == fits);
    CHECK(placed[0].worker == worker);
    CHECK(core.parked_classes() == 1);
}

template <typename Fixture>
void freed_room_unparks_what_it_satisfies() {
    Fixture f;
    const WorkerRef worker = f.add_worker(cpus(4));
    auto core = make_core(f);
    const ClassRef four = f.add_class({cpus(4)});
    const ClassRef two = f.add_class({cpus(2)});
    f.push(four, 1);
    f.push(four, 2);
    f.push(two, 3);
    const auto first = place_all(core);
    REQUIRE(first.size() == 1);
    CHECK(core.parked_classes() == 2);
    f.workers().release(worker, first[0].request, first[0].grant);
    core.worker_freed(worker);
    const auto second = place_all(core);
    REQUIRE(second.size() == 1);
    CHECK(second[0].request == cpus(4));
    CHECK(core.parked_classes() == 1);  // `four` is empty now
}

template <typename Fixture>
void limit_is_kept() {
    Fixture f;
    f.add_worker(cpus(100));
    auto core = make_core(f);
    const ClassRef one = f.add_class({cpus(1)});
    for (std::uint64_t i = 0; i < 10; ++i) f.push(one, i);
    CHECK(place_all(core, 4).size() == 4);
    CHECK(place_all(core, 100).size() == 6);
    CHECK(place_all(core, 100).empty());
}

template <typename Fixture>
void every_component_counts() {
    Fixture f;
    f.add_worker(cpus(8, 100, 0));
    const WorkerRef memory = f.add_worker(cpus(1, 4'000, 0));
    const WorkerRef gpu = f.add_worker(cpus(4, 500, 2));
    auto core = make_core(f);
    const TaskRef wants_memory = f.push(f.add_class({cpus(1, 2'000)}), 1);
    const TaskRef wants_gpus = f.push(f.add_class({cpus(1, 10, 2)}), 2);
    f.push(f.add_class({cpus(1, 10, 3)}), 3);
    const auto placed = place_all(core);
    REQUIRE(placed.size() == 2);
    CHECK(placed[0].task == wants_memory);
    CHECK(placed[0].worker == memory);
    CHECK(placed[1].task == wants_gpus);
    CHECK(placed[1].worker == gpu);
    CHECK(placed[1].grant.gpu_mask == 0b11);
}

template <typename Fixture>
void only_worker_is_obeyed() {
    Fixture f;
    f.add_worker(cpus(8));
    const WorkerRef wanted = f.add_worker(cpus(2));
    auto core = make_core(f);
    const ClassRef pinned = f.add_class({cpus(1), 0, wanted});
    for (std::uint64_t i = 0; i < 3; ++i) f.push(pinned, i);
    const auto placed = place_all(core);
    REQUIRE(placed.size() == 2);
    CHECK(placed[0].worker == wanted);
    CHECK(placed[1].worker == wanted);
    core.worker_freed(0);  // another worker's room is no reason to try again
    CHECK(core.parked_classes() == 1);
}

template <typename Fixture>
void closed_workers_get_nothing_new() {
    Fixture f;
    const WorkerRef first = f.add_worker(cpus(4));
    const WorkerRef second = f.add_worker(cpus(4));
    auto core = make_core(f);
    f.set_open(first, false);
    const ClassRef one = f.add_class({cpus(4)});
    f.push(one, 1);
    f.push(one, 2);
    auto placed = place_all(core);
    REQUIRE(placed.size() == 1);
    CHECK(placed[0].worker == second);
    f.set_open(first, true);
    core.worker_freed(first);
    placed = place_all(core);
    REQUIRE(placed.size() == 1);
    CHECK(placed[0].worker == first);
}

template <typename Fixture>
void cancelled_head_is_passed() {
    Fixture f;
    f.add_worker(cpus(4));
    auto core = make_core(f);
    const ClassRef one = f.add_class({cpus(1)});
    const TaskRef gone = f.push(one, 1);
    const TaskRef stays = f.push(one, 2);
    f.cancel(gone);
    const auto placed = place_all(core);
    REQUIRE(placed.size() == 1);
    CHECK(placed[0].task == stays);
}

// Half of worker 0 is busy until `end`; the whole of it is kept for `wide`.
inline Reservation reservation_for(ClassRef cls, std::uint64_t key, std::uint64_t end) {
    std::vector<WorkerOutlook> outlooks{
        {0, cpus(2, 100), {{static_cast<std::int64_t>(end), cpus(2, 100)}}}};
    auto planned = plan_reservation(cpus(4), outlooks);
    REQUIRE(planned);
    CHECK(planned->at_ns == end);
    planned->cls = cls;
    planned->key = key;
    return *planned;
}

template <typename Fixture>
void reservation_holds() {
    Fixture f;
    f.add_worker(cpus(4, 200));
    auto core = make_core(f);
    const ClassRef half = f.add_class({cpus(2, 100)});
    const ClassRef whole = f.add_class({cpus(4)});
    const ClassRef one = f.add_class({cpus(1)});
    f.push(half, 1);
    const auto running = place_all(core);
    const TaskRef wide = f.push(whole, 10);
    CHECK(place_all(core).empty());
    core.reserve({reservation_for(whole, 10, 1'000)});
    const auto place_at = [&](std::uint64_t now) {
        std::vector<TaskRef> tasks;
        core.place(
            9, [&](const Placement& placement) { tasks.push_back(placement.task); }, now);
        return tasks;
    };
    const TaskRef too_long = f.push(one, 20, 700);
    CHECK(place_at(400).empty());  // until 1,100
    f.cancel(too_long);
    const TaskRef in_time = f.push(one, 21, 600);
    core.reserve({reservation_for(whole, 10, 1'000)});
    CHECK(place_at(400).empty());  // parked with its class until something changes
    core.reserve({reservation_for(whole, 10, 1'001)});  // what runs there will take longer
    CHECK(place_at(400) == std::vector<TaskRef>{in_time});
    // Who comes before the reserved task is not held up, and without a limit only once it is
    // strict.
    const TaskRef first = f.push(one, 5, 0);
    CHECK(place_at(400) == std::vector<TaskRef>{first});
    f.workers().release(0, cpus(1), Grant{});
    core.worker_freed(0);
    const TaskRef no_limit = f.push(one, 30, 0);
    auto strict = reservation_for(whole, 10, 1'000);
    strict.strict = true;
    core.reserve({strict});
    CHECK(place_at(400).empty());
    // The reserved task starts as soon as there is room, and ends the reservation.
    f.workers().release(0, cpus(1), Grant{});
    f.workers().release(0, running[0].request, running[0].grant);
    core.worker_freed(0);
    CHECK(place_at(400) == std::vector<TaskRef>{wide});
    CHECK(core.reserved().empty());
    f.workers().release(0, cpus(4), Grant{});
    core.worker_freed(0);
    CHECK(place_at(400) == std::vector<TaskRef>{no_limit});
}

// Room that others were pushed aside for is nobody else's, not even a better one's.
template <typename Fixture>
void reservation_after_a_push() {
    Fixture f;
    f.add_worker(cpus(4, 200));
    auto core = make_core(f);
    const ClassRef whole = f.add_class({cpus(4)});
    const ClassRef one = f.add_class({cpus(1)});
    const ClassRef memory = f.add_class({cpus(0, 50)});
    f.push(one, 1);
    const auto running = place_all(core);
    const TaskRef wide = f.push(whole, 10);
    CHECK(place_all(core).empty());
    auto push = reservation_for(whole, 10, 1'000);
    push.only = push.strict = true;
    push.at_ns = 0;
    push.spare = cpus(0, 50);
    core.reserve({push});
    f.push(one, 5, 1);
    CHECK(place_all(core).empty());
    f.push(memory, 20, 0);
    f.push(memory, 21, 0);
    CHECK(place_all(core).size() == 1);
    f.workers().release(0, running[0].request, running[0].grant);
    core.worker_freed(0);
    const auto placed = place_all(core);
    REQUIRE_FALSE(placed.empty());
    CHECK(placed[0].task == wide);
}

template <typename Fixture>
void reservation_leaves_the_rest() {
    Fixture f;
    f.add_worker(cpus(4, 200));
    const WorkerRef other = f.add_worker(cpus(1, 200));
    auto core = make_core(f);
    const ClassRef half = f.add_class({cpus(2, 100)});
    const ClassRef whole = f.add_class({cpus(4)});
    const ClassRef one = f.add_class({cpus(1)});
    const ClassRef memory = f.add_class({cpus(0, 50)});
    f.push(half, 1);
    place_all(core);
    f.push(whole, 10);
    place_all(core);
    core.reserve({reservation_for(whole, 10, 1'000)});
    f.push(one, 20, 5'000);
    const auto elsewhere = place_all(core);
    REQUIRE(elsewhere.size() == 1);
    CHECK(elsewhere[0].worker == other);
    // Beside the reserved task there is memory to spare, for as long as one likes; but only once.
    f.push(memory, 30, 5'000);
    CHECK(place_all(core).size() == 1);
    REQUIRE(core.reserved().size() == 1);
    CHECK(core.reserved().front().spare.memory_bytes == std::uint64_t{150} << 20);
}

// Conservative: each of the best has a worker of its own that is kept for it.
template <typename Fixture>
void several_reservations() {
    Fixture f;
    for (int i = 0; i < 3; ++i) f.add_worker(cpus(4, 200));
    auto core = make_core(f);
    const ClassRef half = f.add_class({cpus(2, 100)});
    const ClassRef whole = f.add_class({cpus(4)});
    const ClassRef one = f.add_class({cpus(1)});
    for (std::uint64_t key = 1; key <= 3; ++key) {
        f.push(half, key);
        f.push(half, 100 * key);
    }
    const auto running = place_all(core);
    REQUIRE(running.size() == 6);
    // One of two ends on each worker: a small task fits everywhere, a whole one nowhere.
    std::vector<bool> freed(3, false);
    for (const Placement& each : running) {
        if (freed[each.worker]) continue;
        freed[each.worker] = true;
        f.workers().release(each.worker, each.request, each.grant);
        core.worker_freed(each.worker);
    }
    f.push(whole, 10);
    f.push(whole, 11);
    CHECK(place_all(core).empty());
    auto first = reservation_for(whole, 10, 1'000);
    auto second = reservation_for(whole, 11, 1'000);
    first.worker = 0;
    second.worker = 1;
    core.reserve({first, second});
    for (std::uint64_t key = 20; key < 24; ++key) f.push(one, key, 5'000);
    const auto placed = place_all(core);
    REQUIRE(placed.size() == 2);
    CHECK(placed[0].worker == 2);
    CHECK(placed[1].worker == 2);
    core.reserve({second});
    REQUIRE(place_all(core).size() == 2);
}

// Random pushes, cancels, ends and drains; after each step: capacity and GPU sets hold, and nothing
// that is queued would fit anywhere (work conservation), so no class is parked wrongly.
inline ClassShape gang_of(std::uint32_t nodes, const Resources& request) {
    ClassShape shape{request};
    shape.nodes = nodes;
    return shape;
}

// Whole or not at all, each on a worker of its own; what waits blocks nobody.
template <typename Fixture>
void gang_starts_whole() {
    Fixture f;
    for (int i = 0; i < 3; ++i) f.add_worker(cpus(4));
    auto core = make_core(f);
    const ClassRef gang = f.add_class(gang_of(3, cpus(2)));
    const ClassRef single = f.add_class({cpus(3)});
    f.push(gang, 1);
    f.push(gang, 2);
    const TaskRef other = f.push(single, 50);
    auto placed = place_all(core);
    REQUIRE(placed.size() == 1);  // two of three are not a gang
    CHECK(placed[0].task == other);
    const Placement blocks = placed[0];
    f.push(gang, 3);
    CHECK(place_all(core).empty());  // two workers are not enough
    CHECK(core.parked_classes() == 1);
    REQUIRE(core.parked_heads(8).size() == 1);
    f.workers().release(blocks.worker, blocks.request, blocks.grant);
    core.worker_freed(blocks.worker);
    CHECK(place_all(core, 2).empty());  // a pass that has no room for all
    placed = place_all(core);
    REQUIRE(placed.size() == 3);
    std::vector<WorkerRef> used;
    for (const auto& one : placed) {
        CHECK(one.cls == gang);
        CHECK(one.request == cpus(2));
        used.push_back(one.worker);
    }
    std::sort(used.begin(), used.end());
    CHECK(used == std::vector<WorkerRef>{0, 1, 2});
    CHECK(place_all(core).empty());
}

// What is kept for a gang is kept on all its workers, and gone once it has started.
template <typename Fixture>
void gang_keeps_its_places() {
    Fixture f;
    for (int i = 0; i < 2; ++i) f.add_worker(cpus(4));
    auto core = make_core(f);
    const ClassRef wide = f.add_class({cpus(4)});
    const ClassRef gang = f.add_class(gang_of(2, cpus(4)));
    const ClassRef one = f.add_class({cpus(1)});
    f.push(wide, 1, 100);
    const auto first = place_all(core);
    REQUIRE(first.size() == 1);
    f.push(gang, 2, 100);
    f.push(gang, 3, 100);
    CHECK(place_all(core).empty());
    std::vector<WorkerOutlook> outlooks(2);
    for (WorkerRef worker = 0; worker < 2; ++worker) {
        outlooks[worker].worker = worker;
        outlooks[worker].free = f.workers().free_of(worker);
    }
    outlooks[first[0].worker].ends.push_back({100, cpus(4)});
    auto kept = plan_gang(cpus(4), 2, outlooks);
    REQUIRE(kept.size() == 2);
    const auto head = core.parked_heads(1);
    REQUIRE(head.size() == 1);
    for (auto& each : kept) {
        CHECK(each.at_ns == 100);
        each.cls = gang;
        each.key = head[0].key;
        each.strict = true;
    }
    core.reserve(kept);
    f.push(one, 10, 1'000);  // ends too late
    CHECK(place_all(core).empty());
    f.push(f.add_class({cpus(2)}), 11, 50);  // ends in time
    auto placed = place_all(core);
    REQUIRE(placed.size() == 1);
    f.workers().release(placed[0].worker, placed[0].request, placed[0].grant);
    core.worker_freed(placed[0].worker);
    CHECK(place_all(core).empty());
    f.workers().release(first[0].worker, first[0].request, first[0].grant);
    core.worker_freed(first[0].worker);
    placed = place_all(core);
    REQUIRE(placed.size() == 2);
    CHECK(placed[0].cls == gang);
    CHECK(core.reserved().empty());
}

template <typename Fixture>
void random_walk(std::uint64_t seed, int steps) {
    INFO("REEVE_SEED=" << seed);
    std::mt19937_64 random(seed);
    const auto below = [&](std::uint64_t n) { return random() % n; };
    Fixture f;
    struct Worker {
        Resources capacity, used;
        std::uint64_t gpus = 0;
        bool open = true;
    };
    std::vector<Worker> workers;
    for (int i = 0; i < 12; ++i) {
        Worker w;
        w.capacity = cpus(static_cast<std::uint32_t>(1 + below(16)), 64 * (1 + below(64)),
                          static_cast<std::uint32_t>(below(5)));
        f.add_worker(w.capacity);
        workers.push_back(w);
    }
    std::vector<ClassShape> shapes;
    for (int i = 0; i < 10; ++i) {
        ClassShape shape{cpus(static_cast<std::uint32_t>(below(6)), 32 * below(40),
                              static_cast<std::uint32_t>(below(10) < 7 ? 0 : 1 + below(4)))};
        if (below(8) == 0) shape.only_worker = static_cast<WorkerRef>(below(12));
        shapes.push_back(shape);
        f.add_class(shape);
        if (below(2) == 0) {  // a second share group with the same shape
            shapes.push_back(shape);
            f.add_class(shape);
        }
    }
    auto core = make_core(f);
    std::map<TaskRef, ClassRef> queued;
    std::vector<Placement> running;
    std::uint64_t sequence = 0;
    for (int step = 0; step < steps; ++step) {
        const auto dice = below(10);
        if (dice < 5) {
            const auto cls = static_cast<ClassRef>(below(shapes.size()));
            queued[f.push(cls, (below(4) << 32) + sequence++)] = cls;
        } else if (dice < 8 && !running.empty()) {
            const auto i = below(running.size());
            const Placement ended = running[i];
            running.erase(running.begin() + static_cast<std::ptrdiff_t>(i));
            workers[ended.worker].used -= ended.request;
            workers[ended.worker].gpus &= ~ended.grant.gpu_mask;
            f.workers().release(ended.worker, ended.request, ended.grant);
            core.worker_freed(ended.worker);
        } else if (dice == 8 && !queued.empty()) {
            const TaskRef gone =
                std::next(queued.begin(), static_cast<std::ptrdiff_t>(below(queued.size())))->first;
            f.cancel(gone);
            queued.erase(gone);
        } else {
            const auto w = static_cast<WorkerRef>(below(workers.size()));
            workers[w].open = !workers[w].open;
            f.set_open(w, workers[w].open);
            if (workers[w].open) core.worker_freed(w);
        }
        for (const Placement& p : place_all(core)) {
            Worker& worker = workers[p.worker];
            REQUIRE(queued.erase(p.task) == 1);
            REQUIRE(worker.open);
            worker.used += p.request;
            REQUIRE(worker.used.fits(worker.capacity));
            REQUIRE((worker.gpus & p.grant.gpu_mask) == 0);
            worker.gpus |= p.grant.gpu_mask;
            REQUIRE(static_cast<std::uint32_t>(__builtin_popcountll(p.grant.gpu_mask)) ==
                    p.request.gpus);
            running.push_back(p);
        }
        for (const auto& [task, cls] : queued) {
            for (WorkerRef w = 0; w < workers.size(); ++w) {
                Resources free = workers[w].capacity;
                free -= workers[w].used;
                const bool allowed = workers[w].open && (shapes[cls].only_worker == kNoRef ||
                                                         shapes[cls].only_worker == w);
                REQUIRE_FALSE((allowed && shapes[cls].request.fits(free)));
            }
        }
    }
}

template <typename Fixture>
void run_all_placement_scenarios() {
    SECTION("the smallest key starts first, over all classes") {
        best_key_first<Fixture>();
    }
    SECTION("a class that fits nowhere is parked whole") {
        parked_class_blocks_nobody<Fixture>();
    }
    SECTION("freed room unparks") {
        freed_room_unparks_what_it_satisfies<Fixture>();
    }
    SECTION("the limit of a pass is kept") {
        limit_is_kept<Fixture>();
    }
    SECTION("cpu, memory and gpus all have to fit") {
        every_component_counts<Fixture>();
    }
    SECTION("a class bound to one worker goes there") {
        only_worker_is_obeyed<Fixture>();
    }
    SECTION("a closed worker gets nothing new") {
        closed_workers_get_nothing_new<Fixture>();
    }
    SECTION("a cancelled head is passed over") {
        cancelled_head_is_passed<Fixture>();
    }
    SECTION("a reservation is not put off") {
        reservation_holds<Fixture>();
    }
    SECTION("a reservation leaves other workers and what is to spare") {
        reservation_leaves_the_rest<Fixture>();
        reservation_after_a_push<Fixture>();
    }
    SECTION("several reservations hold at once") {
        several_reservations<Fixture>();
    }
    SECTION("a gang starts whole, on workers of its own, or not at all") {
        gang_starts_whole<Fixture>();
    }
    SECTION("a gang's reservation holds on all its workers") {
        gang_keeps_its_places<Fixture>();
    }
    SECTION("random events keep every invariant") {
        const std::uint64_t seed = test_seed();
        for (std::uint64_t i = 0; i < 20; ++i) random_walk<Fixture>(seed + i, 400);
    }
}

}  // namespace reeve::sched::suite
