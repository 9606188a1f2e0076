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

// ClusterCore, as the simulator and explain use it: prices, accounts, reservations, preemption.
// As above nodes are nine tenths full; every step one job comes, one ends, and a pass decides.
class ClusterCase {
public:
    explicit ClusterCase(std::uint32_t nodes) {
        for (std::uint32_t i = 0; i < nodes; ++i) {
            NodeOffer offer;
            offer.capacity = worker_capacity(random_);
            offer.price_per_hour = static_cast<double>(1 + random_() % 8);
            core_.add_node(offer);
        }
        for (std::uint32_t i = 0; i < kShapes; ++i) shapes_.push_back(task_request(random_));
        while (core_.waiting() == 0) submit_and_pass();
    }

    void end_a_tenth() {
        for (std::size_t drop = running_.size() / 10; drop > 0; --drop) end_one();
        pass();
    }
    // So many more wait than there is room for.
    void wait(std::size_t jobs) {
        while (core_.waiting() < jobs) submit_and_pass();
    }

    Figures run(std::size_t steps) {
        bench::Histogram latency;
        const std::size_t before = placed_;
        const std::uint64_t began = bench::now_ns();
        for (std::size_t i = 0; i < steps; ++i) {
            const std::uint64_t at = bench::now_ns();
            end_one();
            submit_and_pass();
            latency.add(bench::now_ns() - at);
        }
        const double seconds = static_cast<double>(bench::now_ns() - began) * 1e-9;
        return Figures{static_cast<double>(placed_ - before) / seconds,
                       latency.quantile(0.99) / 1000};
    }

private:
    void end_one() {
        std::swap(running_[random_() % running_.size()], running_.back());
        core_.end(now(), running_.back());
        unused_.push_back(running_.back());
        running_.pop_back();
    }
    void submit_and_pass() {
        ClusterJob job;
        job.submit = now();
        job.want.request = shapes_[random_() % kShapes];
        job.limit = static_cast<std::int64_t>(4 + random_() % 20) * 3600;
        job.user = next_++ % 2 == 0 ? "ann" : "bob";
        std::uint32_t ref = numbers_;
        if (unused_.empty()) {
            ++numbers_;
        } else {
            ref = unused_.back();
            unused_.pop_back();
        }
        core_.submit(job.submit, ref, job, decisions_);
        pass();
    }
    void pass() {
        decisions_.clear();
        core_.pass(now(), decisions_);
        for (const Decision& each : decisions_) {
            if (each.kind != DecisionKind::kPlace) continue;
            running_.push_back(each.job);
            ++placed_;
        }
    }
    std::int64_t now() const { return next_ / 256; }

    std::mt19937_64 random_{42};
    ClusterCore core_{{}};
    std::vector<Resources> shapes_;
    std::vector<Decision> decisions_;
    std::vector<std::uint32_t> running_;
    std::vector<std::uint32_t> unused_;  // numbers of jobs that ended
    std::uint32_t numbers_ = 0;
    std::size_t placed_ = 0;
    std::uint32_t next_ = 0;
};

void cluster_figures(const std::string& name, std::uint32_t nodes, double target, double scan,
                     std::size_t steps) {
    ClusterCase free(nodes);
    free.end_a_tenth();
    const Figures figures = free.run(steps);
    bench::print_goal("cluster_core_" + name, figures.per_second, "1/s", bench::Want::kAtLeast,
                      target);
    bench::print_goal("cluster_core_p99_" + name, figures.p99_us, "us", bench::Want::kAtMost, 50);
    bench::print_goal("cluster_over_linear_scan_" + name, figures.per_second / scan, "x",
                      bench::Want::kAtLeast, 10);
    ClusterCase full(nodes);
    full.wait(1000);
    const Figures behind = full.run(steps / 10);
    bench::print("cluster_backlog_" + name, behind.per_second, "1/s");
    bench::print("cluster_backlog_p99_" + name, behind.p99_us, "us");
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
        cluster_figures(name, each.nodes, each.target, scan, quick ? 50'000 : 500'000);
    }
    return 0;
}
