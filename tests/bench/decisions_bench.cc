// How many placement decisions a second, through the whole core: a task is queued, the best head
// placed on the best worker, an earlier placement given back and what it frees unparked.
//
// The linear scan in the same run does only the search: best fit over an array of free vectors.
//
//   decisions_bench [--quick]
#include <algorithm>
#include <random>
#include <vector>

#include "scheduler/core/cluster.h"
#include "scheduler/core/memory_ports.h"
#include "scheduler/core/placement.h"
#include "tests/bench/bench_support.h"

namespace {

using namespace reeve;
using namespace reeve::sched;

constexpr std::uint64_t kGiB = 1ULL << 30;
constexpr std::uint32_t kShapes = 64;

Resources worker_capacity(std::mt19937_64& random) {
    constexpr std::uint32_t kCpus[]{8, 16, 32, 64, 96};
    const std::uint32_t cpus = kCpus[random() % 5];
    return Resources{cpus * 1000, random() % 4 == 0 ? 8U : 0U, cpus * 4 * kGiB};
}

Resources task_request(std::mt19937_64& random) {
    const auto cpus = static_cast<std::uint32_t>(1 + random() % 8);
    return Resources{cpus * 1000, random() % 8 == 0 ? 1U : 0U, (1 + random() % 16) * kGiB};
}

struct Figures {
    double per_second = 0;
    double p99_us = 0;
};

// Nodes nine tenths full; every step one task comes and one goes.
Figures core_decisions(std::uint32_t nodes, std::size_t steps) {
    std::mt19937_64 random(42);
    MemoryQueue queue;
    MemoryWorkers workers;
    for (std::uint32_t i = 0; i < nodes; ++i) workers.add(worker_capacity(random));
    PlacementCore core(queue, workers);
    for (std::uint32_t i = 0; i < kShapes; ++i) queue.add_class({task_request(random)});
    std::vector<Placement> held;
    const auto keep = [&](const Placement& placement) { held.push_back(placement); };
    std::uint64_t key = 0;
    const auto submit = [&] {
        const auto cls = static_cast<ClassRef>(random() % kShapes);
        queue.push(cls, static_cast<TaskRef>(key & 0xFFFFFFFFU), key);
        ++key;
    };
    while (core.parked_classes() == 0) {
        submit();
        core.place(16, keep);
    }
    const std::size_t drop = held.size() / 10;
    const auto release_one = [&] {
        std::swap(held[random() % held.size()], held.back());
        const Placement gone = held.back();
        held.pop_back();
        workers.release(gone.worker, gone.request, gone.grant);
        core.worker_freed(gone.worker);
    };
    for (std::size_t i = 0; i < drop; ++i) release_one();
    core.place(held.size(), keep);
    bench::Histogram latency;
    std::size_t placed = 0;
    const std::uint64_t began = bench::now_ns();
    for (std::size_t i = 0; i < steps; ++i) {
        const std::uint64_t before = bench::now_ns();
        submit();
        release_one();
        placed += core.place(16, keep);
        latency.add(bench::now_ns() - before);
    }
    const double seconds = static_cast<double>(bench::now_ns() - began) * 1e-9;
    return Figures{static_cast<double>(placed) / seconds, latency.quantile(0.99) / 1000};
}

// The same search as a scan: what is left over decides.
double scans_per_second(std::uint32_t nodes, std::size_t steps) {
    std::mt19937_64 random(42);
    std::vector<Resources> free;
    for (std::uint32_t i = 0; i < nodes; ++i) {
        Resources room = worker_capacity(random);
        room.cpu_milli = room.cpu_milli / 10;
        free.push_back(room);
    }
    std::uint64_t found = 0;
    const std::uint64_t began = bench::now_ns();
    for (std::size_t i = 0; i < steps; ++i) {
        const Resources want = task_request(random);
        std::uint32_t best = kNoRef;
        std::uint64_t least = ~std::uint64_t{0};
        for (std::uint32_t node = 0; node < nodes; ++node) {
            if (!want.fits(free[node])) continue;
            const std::uint64_t left = (free[node].cpu_milli - want.cpu_milli) +
                                       ((free[node].memory_bytes - want.memory_bytes) >> 20);
            if (left < least) {
                least = left;
                best = node;
            }
        }
        found += best != kNoRef ? 1 : 0;
    }
    const double seconds = static_cast<double>(bench::now_ns() - began) * 1e-9;
    return found > 0 ? static_cast<double>(steps) / seconds : 0;
}

// ClusterCore, as the simulator and explain use it: prices, reservations, preemption.
double cluster_decisions(std::uint32_t nodes, std::size_t steps) {
    std::mt19937_64 random(42);
    ClusterCore core({});
    for (std::uint32_t i = 0; i < nodes; ++i) {
        NodeOffer offer;
        offer.capacity = worker_capacity(random);
        offer.price_per_hour = static_cast<double>(1 + random() % 8);
        core.add_node(offer);
    }
    std::vector<Decision> decisions;
    std::vector<std::uint32_t> running;
    const auto step = [&](std::uint32_t ref) {
        const std::int64_t now = ref / 64;
        ClusterJob job;
        job.submit = now;
        job.want.request = task_request(random);
        job.limit = 3600;
        job.user = ref % 2 == 0 ? "ann" : "bob";
        decisions.clear();
        core.submit(now, ref, job, decisions);
        if (running.size() > std::size_t{nodes} * 4) {
            std::swap(running[random() % running.size()], running.back());
            core.end(now, running.back());
            running.pop_back();
        }
        core.pass(now, decisions);
        for (const Decision& each : decisions) {
            if (each.kind == DecisionKind::kPlace) running.push_back(each.job);
        }
    };
    std::uint32_t ref = 0;
    while (running.size() <= std::size_t{nodes} * 4) step(ref++);
    const std::uint64_t began = bench::now_ns();
    for (std::size_t i = 0; i < steps; ++i) step(ref++);
    return static_cast<double>(steps) / (static_cast<double>(bench::now_ns() - began) * 1e-9);
}

}  // namespace

int main(int argc, char** argv) {
    const bool quick = bench::quick_mode(argc, argv);
    bench::pin(0);
    struct Case {
        std::uint32_t nodes;
        const char* name;
        double target;
    };
    for (const Case& each : {Case{10'000, "10k", 500'000}, Case{100'000, "100k", 200'000}}) {
        const std::string name = each.name;
        const Figures core = core_decisions(each.nodes, quick ? 100'000 : 1'000'000);
        bench::print_goal("decisions_" + name, core.per_second, "1/s", bench::Want::kAtLeast,
                          each.target);
        bench::print_goal("decision_p99_" + name, core.p99_us, "us", bench::Want::kAtMost, 50);
        const double scan = scans_per_second(each.nodes, quick ? 500 : 5'000);
        bench::print("linear_scan_" + name, scan, "1/s");
        bench::print_goal("over_linear_scan_" + name, core.per_second / scan, "x",
                          bench::Want::kAtLeast, 10);
        bench::print("cluster_core_" + name, cluster_decisions(each.nodes, quick ? 2'000 : 50'000),
                     "1/s");
    }
    return 0;
}
