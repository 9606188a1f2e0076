// The live ports on a real segment: what PlacementCore decides over the shared heaps is what
// select_best_node says of the same workers.
#include "scheduler/live_ports.h"

#include <array>
#include <map>
#include <random>

#include "common/shm/class_wants.h"
#include "scheduler/core/placement.h"
#include "tests/support/catch.h"
#include "tests/support/seed.h"
#include "tests/unit/common/shm/fixture.h"

namespace reeve::sched {
namespace {

constexpr std::uint32_t kClasses = 16;
constexpr std::uint32_t kSlotsPerClass = 64;
constexpr std::uint64_t kGiB = 1ULL << 30;
constexpr std::array kLabels{"zone=a", "zone=b", "ssd", "gpu=a100"};

shm::SegmentConfig config_of(std::uint32_t workers) {
    auto config = shm::small_config(kClasses * kSlotsPerClass, kClasses);
    config.workers = workers;
    config.dispatch_ring = 1'024;
    return config;
}

// Classes own a chunk each; the test writes what PLM, workers and register would.
struct Cell {
    shm::TestSegment segment;
    shm::TaskHeap heap{*segment};
    std::vector<Wants> wants{kClasses};

    explicit Cell(std::uint32_t workers) : segment(config_of(workers)) {
        for (std::uint32_t i = 0; i < kClasses; ++i) segment->chunk_owner(i).store(i);
    }
    void set_class(ClassRef cls, const Resources& request, const Wants& what) {
        auto& entry = segment->task_class(cls);
        entry.request = request;
        shm::write_wants(entry, what);
        entry.live.store(1);
        wants[cls] = what;
    }
    TaskRef push(ClassRef cls, std::uint64_t key) {
        TaskRef task = cls * kSlotsPerClass;
        while (shm::load_word(segment->task(task)).state() == shm::SlotState::kQueued) ++task;
        REQUIRE(task < (cls + 1) * kSlotsPerClass);
        shm::store_queued(segment->task(task), key);
        heap.touch(task);
        return task;
    }
    void join(WorkerRef worker, const NodeOffer& offer, std::uint64_t incarnation) {
        auto& slot = segment->worker(worker);
        slot.capacity = offer.capacity;
        slot.used = Resources{};
        slot.gpu_used_mask.store(0);
        slot.on_demand_micro = static_cast<std::uint32_t>(offer.price_per_hour * 1e6);
        slot.spot = offer.spot ? 1 : 0;
        slot.price_micro.store(static_cast<std::uint32_t>(offer.price() * 1e6));
        auto labels = offer.labels;
        labels.pop_back();  // node=...
        REQUIRE(shm::write_labels(slot.labels, labels));
        std::snprintf(slot.name, sizeof slot.name, "%s", offer.name.c_str());
        slot.incarnation.store(incarnation);
        slot.state.store(shm::WorkerState::kAlive);
    }
};

NodeOffer offer_named(const std::string& name, const Resources& capacity, double price,
                      std::vector<std::string> labels = {}) {
    NodeOffer offer;
    offer.name = name;
    offer.capacity = capacity;
    offer.price_per_hour = price;
    offer.labels = std::move(labels);
    offer.labels.push_back("node=" + name);
    return offer;
}

struct Walk {
    std::mt19937_64 random;
    std::uint32_t workers;
    bool mixed;  // prices, spot, labels
    Walk(std::uint64_t seed, std::uint32_t workers_, bool mixed_)
        : random(seed), workers(workers_), mixed(mixed_) {}
    Cell cell{workers};
    LiveQueue queue{*cell.segment};
    LiveWorkers ports{*cell.segment, queue};
    PlacementCore<LiveQueue, LiveWorkers> core{queue, ports};
    std::vector<NodeOffer> model = std::vector<NodeOffer>(workers);
    std::vector<Placement> running;
    std::map<ClassRef, std::uint32_t> queued;
    std::uint64_t sequence = 0;
    std::uint64_t incarnation = 0;

    std::uint64_t below(std::uint64_t n) { return random() % n; }

    void new_worker(WorkerRef worker) {
        const Resources capacity{10'000, mixed ? static_cast<std::uint32_t>(below(3)) : 0,
                                 10 * kGiB};
        auto offer = offer_named("w" + std::to_string(worker), capacity, 1);
        if (mixed) {
            offer.price_per_hour = 0.25 * static_cast<double>(1 + below(4));
            offer.spot = below(4) == 0;
            offer.spot_price_per_hour = 0.25;
            offer.capacity.cpu_milli = static_cast<std::uint32_t>(2 + below(15)) * 1000;
            offer.labels.pop_back();
            for (const char* label : kLabels) {
                if (below(2) == 0) offer.labels.push_back(label);
            }
            offer.labels.push_back("node=" + offer.name);
        }
        model[worker] = offer;
        cell.join(worker, offer, ++incarnation);
        ports.refresh(worker);
        core.worker_freed(worker);
    }
    void new_class(ClassRef cls) {
        Wants wants;
        if (mixed && below(3) != 0) {
            wants.sla = kSlaClasses[below(4)];
            wants.spread = below(3) == 0;
            if (below(3) == 0) wants.max_price_micro = 500'000;
            for (const char* label : kLabels) {
                if (below(4) == 0) wants.labels.push_back(label);
            }
            if (below(6) == 0) wants.node_name = "w" + std::to_string(below(workers));
        }
        const Resources request{static_cast<std::uint32_t>(1 + below(5)) * 1000,
                                mixed && below(4) == 0 ? 1U : 0U, below(5) * kGiB};
        cell.set_class(cls, request, wants);
    }
    JobRequest request_of(ClassRef cls) const {
        return request_for(cell.wants[cls], cell.segment->task_class(cls).request);
    }
    void place() {
        for (const auto cls : queue.take_changed()) core.class_changed(cls);
        core.place(1'000, [&](const Placement& placed) {
            const auto want = request_of(placed.cls);
            const auto expected = select_best_node(want, model);
            REQUIRE(expected);
            REQUIRE(refusal_of(want, model[placed.worker]) == Refusal::kNone);
            // Equal ranks may go to either.
            REQUIRE(rank_of(want, model[placed.worker]) == rank_of(want, model[*expected]));
            model[placed.worker].used += placed.request;
            shm::store_state(cell.segment->task(placed.task), shm::SlotState::kFree);
            running.push_back(placed);
            --queued[placed.cls];
        });
        for (const auto& [cls, count] : queued) {
            if (count > 0) REQUIRE_FALSE(select_best_node(request_of(cls), model));
        }
    }
    void step() {
        const auto dice = below(10);
        if (dice < 5) {
            const auto cls = static_cast<ClassRef>(below(kClasses));
            if (queued[cls] >= kSlotsPerClass / 2) return;
            cell.push(cls, (below(4) << 32) + ++sequence);
            ++queued[cls];
        } else if (dice < 9 && !running.empty()) {
            const auto at = below(running.size());
            const auto ended = running[at];
            running.erase(running.begin() + static_cast<std::ptrdiff_t>(at));
            model[ended.worker].used -= ended.request;
            ports.release(ended.worker, ended.request, ended.grant);
            core.worker_freed(ended.worker);
        } else {
            const auto worker = static_cast<WorkerRef>(below(workers));
            const bool idle = model[worker].used == Resources{};
            if (mixed && idle && below(3) == 0) {
                new_worker(worker);  // another one in the same slot
            } else {
                model[worker].open = !model[worker].open;
                cell.segment->worker(worker).state.store(
                    model[worker].open ? shm::WorkerState::kAlive : shm::WorkerState::kDraining);
                if (ports.refresh(worker)) core.worker_freed(worker);
            }
        }
        place();
    }
};

void walk(std::uint32_t workers, bool mixed, int steps) {
    const auto seed = test::seed();
    INFO("REEVE_SEED=" << seed);
    Walk scene(seed, workers, mixed);
    for (ClassRef cls = 0; cls < kClasses; ++cls) scene.new_class(cls);
    for (WorkerRef worker = 0; worker < workers; ++worker) scene.new_worker(worker);
    for (int i = 0; i < steps; ++i) scene.step();
    CHECK(scene.running.size() + scene.sequence > 100);
}

}  // namespace

TEST_CASE("live ports: labels, prices and spot as select_best_node has them", "[sched]") {
    walk(12, true, shm::kSanitized ? 1'000 : 6'000);
}

TEST_CASE("live ports: the worker heap answers the same where all cost the same", "[sched]") {
    walk(6, false, shm::kSanitized ? 1'000 : 6'000);
}

TEST_CASE("live ports: a class waits for a label until a worker has it", "[sched]") {
    Cell cell(2);
    Wants wants;
    wants.labels = {"gpu=a100"};
    cell.set_class(0, Resources{1000, 0, 0}, wants);
    LiveQueue queue(*cell.segment);
    LiveWorkers ports(*cell.segment, queue);
    PlacementCore core(queue, ports);
    const Resources capacity{4000, 0, kGiB};
    cell.join(0, offer_named("plain", capacity, 0), 1);
    ports.refresh(0);
    const auto task = cell.push(0, 1);
    std::vector<Placement> placed;
    const auto place = [&] {
        core.place(10, [&](const Placement& placement) { placed.push_back(placement); });
    };
    place();
    CHECK(placed.empty());
    CHECK(core.parked_classes() == 1);
    cell.join(1, offer_named("rich", capacity, 2, {"gpu=a100"}), 2);
    ports.refresh(1);
    core.worker_freed(1);
    place();
    REQUIRE(placed.size() == 1);
    CHECK(placed[0].task == task);
    CHECK(placed[0].worker == 1);
}

TEST_CASE("live ports: a worker whose holdings are not counted takes nothing", "[sched]") {
    Cell cell(1);
    cell.set_class(0, Resources{1000, 0, 0}, {});
    LiveQueue queue(*cell.segment);
    LiveWorkers ports(*cell.segment, queue);
    ports.keep_closed(0, true);  // it joins
    cell.join(0, offer_named("one", Resources{1000, 0, kGiB}, 0), 1);
    // By now it is alive, and what was counted is not what it adopted.
    ports.set_used(0, {}, 0);
    ports.refresh(0);
    ports.release(0, {}, {});
    CHECK(ports.find(queue.shape(0), {}) == kNoRef);
    CHECK_FALSE(ports.claim(0, Resources{1000, 0, 0}));
    ports.keep_closed(0, false);
    ports.set_used(0, Resources{1000, 0, 0}, 0);
    CHECK_FALSE(ports.claim(0, Resources{1000, 0, 0}));
    ports.set_used(0, {}, 0);
    CHECK(ports.claim(0, Resources{1000, 0, 0}));
}

TEST_CASE("live ports: a gang is claimed as a whole or given back", "[sched]") {
    Cell cell(3);
    cell.set_class(0, Resources{1000, 0, 0}, {});
    cell.segment->task_class(0).nodes = 3;
    cell.segment->task_class(0).gang = 77;
    LiveQueue queue(*cell.segment);
    LiveWorkers ports(*cell.segment, queue);
    PlacementCore core(queue, ports);
    for (WorkerRef worker = 0; worker < 3; ++worker) {
        cell.join(worker, offer_named("w" + std::to_string(worker), Resources{4000, 0, kGiB}, 0),
                  worker + 1);
        ports.refresh(worker);
    }
    std::vector<TaskRef> tasks;
    for (std::uint64_t key = 1; key <= 3; ++key) {
        tasks.push_back(cell.push(0, key));
        cell.segment->task(tasks.back()).job = 77;
    }
    std::vector<Placement> placed;
    const auto place = [&] {
        queue.wake_incomplete();
        (void)queue.wake_rested();
        core.place(10, [&](const Placement& placement) {
            CHECK(queue.last_claim().slot == placement.task);
            placed.push_back(placement);
        });
    };
    const auto all_queued = [&] {
        return std::all_of(tasks.begin(), tasks.end(), [&](TaskRef task) {
            return shm::load_word(cell.segment->task(task)).state() == shm::SlotState::kQueued;
        });
    };
    // Somebody wants the last one held: the others are given back.
    cell.segment->task(tasks[2]).intent.store(shm::kIntentHold);
    queue.take_changed();
    place();
    CHECK(placed.empty());
    CHECK(all_queued());
    // Another job's task in its place is none of it.
    cell.segment->task(tasks[2]).intent.store(0);
    cell.segment->task(tasks[2]).job = 78;
    place();
    CHECK(placed.empty());
    CHECK(queue.incomplete());
    CHECK(all_queued());
    cell.segment->task(tasks[2]).job = 77;
    place();
    REQUIRE(placed.size() == 3);
    CHECK(placed[0].more == 2);
    CHECK(placed[2].more == 0);
    CHECK(placed[0].worker + placed[1].worker + placed[2].worker == 3);
}

TEST_CASE("live ports: a closed class waits until it is open again", "[sched]") {
    Cell cell(1);
    cell.set_class(0, Resources{1000, 0, 0}, {});
    cell.set_class(1, Resources{1000, 0, 0}, {});
    LiveQueue queue(*cell.segment);
    LiveWorkers ports(*cell.segment, queue);
    PlacementCore core(queue, ports);
    cell.join(0, offer_named("w0", Resources{4000, 0, kGiB}, 0), 1);
    ports.refresh(0);
    cell.segment->task_class(0).closed.store(shm::kClosedBudget);
    const auto closed = cell.push(0, 1);
    const auto open = cell.push(1, 2);
    std::vector<TaskRef> tasks;
    const auto place = [&] {
        core.place(10, [&](const Placement& placement) { tasks.push_back(placement.task); });
    };
    place();
    CHECK(tasks == std::vector<TaskRef>{open});
    CHECK_FALSE(queue.wake_closed());
    cell.segment->task_class(0).closed.store(0);
    CHECK(queue.wake_closed());
    place();
    CHECK(tasks == std::vector<TaskRef>{open, closed});
}

}  // namespace reeve::sched
