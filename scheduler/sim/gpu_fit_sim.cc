#include "scheduler/sim/gpu_fit_sim.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <random>

#include <nlohmann/json.hpp>

#include "common/base/clock.h"

namespace reeve::sim {
namespace {

// GPU model names to bits; "A|B" asks for either.
class Models {
public:
    Result<std::uint32_t> number(const std::string& name) {
        const auto [it, fresh] =
            numbers_.try_emplace(name, static_cast<std::uint32_t>(numbers_.size()));
        if (numbers_.size() > 64) {
            return fail(ErrorCode::kInvalidArgument, "more than 64 GPU models");
        }
        return it->second;
    }
    Result<std::uint64_t> mask(const std::string& names) {
        std::uint64_t bits = 0;
        for (std::size_t at = 0; at < names.size();) {
            const std::size_t end = std::min(names.find('|', at), names.size());
            REEVE_TRY_ASSIGN(const std::uint32_t bit, number(names.substr(at, end - at)));
            bits |= std::uint64_t{1} << bit;
            at = end + 1;
        }
        return bits;
    }

private:
    std::map<std::string, std::uint32_t> numbers_;
};

Result<std::vector<sched::GpuNodeRoom>> rooms_of(const std::vector<GpuNode>& nodes,
                                                 Models& models) {
    std::vector<sched::GpuNodeRoom> rooms;
    for (const GpuNode& node : nodes) {
        if (node.gpus > static_cast<std::int64_t>(sched::kNodeGpusMax)) {
            return fail(ErrorCode::kInvalidArgument,
                        "node " + node.id + ": more than 16 GPUs are not supported");
        }
        sched::GpuNodeRoom room;
        room.cpu_milli = node.cpu_milli;
        room.mem_mib = node.mem_mib;
        room.gpus = static_cast<std::uint32_t>(node.gpus);
        REEVE_TRY_ASSIGN(room.model, models.number(node.gpu_model));
        for (std::uint32_t i = 0; i < room.gpus; ++i) room.free_milli[i] = 1000;
        rooms.push_back(room);
    }
    return rooms;
}

Result<std::vector<sched::GpuShape>> shapes_of(const std::vector<GpuJob>& pods, Models& models) {
    std::vector<sched::GpuShape> shapes;
    for (const GpuJob& pod : pods) {
        sched::GpuShape shape;
        shape.cpu_milli = pod.cpu_milli;
        shape.mem_mib = pod.mem_mib;
        shape.gpus = static_cast<std::uint32_t>(std::min<std::int64_t>(pod.gpus, 1 << 20));
        shape.gpu_milli = pod.gpus == 0 ? 0 : static_cast<std::uint32_t>(pod.gpu_milli);
        REEVE_TRY_ASSIGN(shape.models, models.mask(pod.gpu_model));
        shapes.push_back(shape);
    }
    return shapes;
}

struct Fill {
    double gpus = 0, cpus = 0, cost = 0;
    std::uint64_t jobs = 0, refused = 0;
};

Fill fill_once(const std::vector<sched::GpuShape>& shapes, const std::vector<GpuNode>& nodes,
               sched::GpuFitCore& core, const GpuFitSetup& setup, std::uint64_t seed) {
    double total = 0;
    double cpu_total = 0;
    for (const GpuNode& node : nodes) {
        total += 1000.0 * static_cast<double>(node.gpus);
        cpu_total += static_cast<double>(node.cpu_milli);
    }
    Fill out;
    std::mt19937_64 random(seed);
    std::vector<bool> used(nodes.size());
    double arrived = 0;
    while (arrived < setup.load * total) {
        const sched::GpuShape& shape = shapes[random() % shapes.size()];
        const double gpus = static_cast<double>(shape.gpus) * shape.gpu_milli;
        arrived += gpus;
        ++out.jobs;
        const auto choice = core.place(shape);
        if (!choice) {
            ++out.refused;
            continue;
        }
        out.gpus += gpus / total;
        out.cpus += static_cast<double>(shape.cpu_milli) / cpu_total;
        if (!used[choice->node]) {
            used[choice->node] = true;
            const GpuNode& node = nodes[choice->node];
            out.cost += node.spot ? node.spot_price_per_hour : node.price_per_hour;
        }
    }
    return out;
}

}  // namespace

Result<GpuFitResult> simulate_gpu_fit(const std::vector<GpuJob>& pods,
                                      const std::vector<GpuNode>& nodes, sched::GpuFitPolicy policy,
                                      const GpuFitSetup& setup, const Progress& progress) {
    Models models;
    REEVE_TRY_ASSIGN(const auto rooms, rooms_of(nodes, models));
    REEVE_TRY_ASSIGN(const auto shapes, shapes_of(pods, models));
    const bool asked = std::any_of(shapes.begin(), shapes.end(), [](const sched::GpuShape& shape) {
        return shape.gpus > 0 && shape.gpu_milli > 0;
    });
    if (!asked) return fail(ErrorCode::kInvalidArgument, "no job asks for a GPU");
    GpuFitResult out;
    Metrics& metrics = out.metrics;
    metrics.policy = std::string(to_string(policy));
    for (const GpuNode& node : nodes) metrics.capacity += node.gpus;
    if (metrics.capacity == 0) return fail(ErrorCode::kInvalidArgument, "no node has a GPU");
    out.gpus_allocated_min = 1;
    const std::uint64_t began = boot_ns();
    for (std::uint64_t run = 0; run < setup.runs; ++run) {
        if (progress) progress(run, setup.runs);
        sched::GpuFitCore core(rooms, policy);
        for (const sched::GpuShape& shape : shapes) core.learn(shape);
        const Fill fill = fill_once(shapes, nodes, core, setup, setup.seed + run);
        const auto runs = static_cast<double>(setup.runs);
        out.gpus_allocated += fill.gpus / runs;
        out.cpus_allocated += fill.cpus / runs;
        out.gpus_allocated_min = std::min(out.gpus_allocated_min, fill.gpus);
        metrics.cost += fill.cost / runs;
        metrics.jobs += fill.jobs;
        metrics.skipped += fill.refused;
    }
    if (progress) progress(setup.runs, setup.runs);
    metrics.decisions = metrics.jobs;
    metrics.util = metrics.util_submit_window = out.gpus_allocated;
    const double seconds = static_cast<double>(boot_ns() - began) * 1e-9;
    metrics.decisions_per_s = static_cast<double>(metrics.decisions) / std::max(seconds, 1e-9);
    return out;
}

std::string to_json(const GpuFitResult& result) {
    auto out = nlohmann::ordered_json::parse(to_json(result.metrics));
    out["gpus_allocated"] = result.gpus_allocated;
    out["gpus_allocated_min"] = result.gpus_allocated_min;
    out["cpus_allocated"] = result.cpus_allocated;
    return out.dump(2);
}

std::string to_table(const GpuFitResult& result) {
    const Metrics& m = result.metrics;
    std::array<char, 512> text{};
    std::snprintf(text.data(), text.size(),
                  "policy                 %s\njobs                   %llu (%llu turned away)\n"
                  "GPUs allocated         %.2f %% (worst run %.2f %%)\n"
                  "cpus allocated         %.2f %%\nnodes in use cost      %.2f per hour\n"
                  "decisions per second   %.0f\n",
                  m.policy.c_str(), static_cast<unsigned long long>(m.jobs),
                  static_cast<unsigned long long>(m.skipped), 100 * result.gpus_allocated,
                  100 * result.gpus_allocated_min, 100 * result.cpus_allocated, m.cost,
                  m.decisions_per_s);
    return text.data();
}

}  // namespace reeve::sim
