#include "scheduler/sim/spot_sim.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <map>
#include <memory>
#include <random>

#include <nlohmann/json.hpp>

#include "common/base/clock.h"
#include "scheduler/sim/lines.h"

namespace reeve::sim {
namespace {

constexpr std::size_t kBytesMax = 256U << 20;
constexpr std::uint64_t kTicksMax = 50'000'000;
constexpr double kTiny = 1e-9;

Error bad(const std::string& file, const std::string& trace, const std::string& what) {
    return Error{ErrorCode::kInvalidArgument, file + ": " + trace + ": " + what};
}

Result<SpotTrace> parse_trace(const std::string& file, const std::string& path,
                              const nlohmann::json& value, std::int64_t needed) {
    SpotTrace trace;
    trace.path = path;
    if (!value.is_object() || !value.contains("gap_seconds") || !value.contains("rle")) {
        return fail(bad(file, path, "needs gap_seconds, ticks and rle"));
    }
    const auto& gap = value["gap_seconds"];
    if (!gap.is_number() || gap.get<double>() <= 0 || !std::isfinite(gap.get<double>())) {
        return fail(bad(file, path, "gap_seconds is not a positive number"));
    }
    trace.tick_hours = gap.get<double>() / 3600;
    for (const auto& pair : value["rle"]) {
        if (!pair.is_array() || pair.size() != 2 || !pair[0].is_number_integer() ||
            !pair[1].is_number_unsigned()) {
            return fail(bad(file, path, "rle is a list of [instances, ticks]"));
        }
        const auto ticks = pair[1].get<std::uint64_t>();
        if (ticks > kTicksMax || trace.available.size() + ticks > kTicksMax) {
            return fail(bad(file, path, "too many ticks"));
        }
        trace.available.insert(trace.available.end(), ticks, pair[0].get<std::int64_t>() >= needed);
    }
    if (trace.available.empty()) return fail(bad(file, path, "has no ticks"));
    if (value.contains("ticks") && value["ticks"] != trace.available.size()) {
        return fail(bad(file, path, "ticks is not the sum of rle"));
    }
    return trace;
}

struct Run {
    double cost = 0;
    std::uint64_t launches = 0;
    std::uint64_t decisions = 0;
    bool missed = false;
};

// Zones side by side: availability by tick and zone.
struct Zones {
    std::string name;
    double tick_hours = 0;
    std::vector<const SpotTrace*> traces;
    std::size_t ticks() const {
        std::size_t least = traces.front()->available.size();
        for (const SpotTrace* trace : traces) least = std::min(least, trace->available.size());
        return least;
    }
    void at(std::size_t tick, bool* out) const {
        for (std::size_t i = 0; i < traces.size(); ++i) out[i] = traces[i]->available[tick];
    }
};

// One job from tick `first` on. The planner has seen everything before it.
Run run_once(sched::SpotPlanner& planner, const Zones& zones, std::size_t first) {
    const sched::SpotTask& task = planner.task();
    const auto now_of = std::make_unique<bool[]>(zones.traces.size());
    const std::span<const bool> available(now_of.get(), zones.traces.size());
    Run run;
    sched::SpotPlace place;
    double work = task.work;  // still to do
    double launching = 0;     // of the launch under way
    double left = task.deadline;
    for (std::size_t tick = first; work > kTiny; ++tick) {
        zones.at(tick % zones.ticks(), now_of.get());
        planner.observe(available, zones.tick_hours);
        const sched::SpotPlace next =
            planner.decide(left, work + launching, zones.tick_hours, place, available);
        ++run.decisions;
        if (next.mode != sched::SpotMode::kIdle && next != place) {
            launching = task.launch;
            ++run.launches;
        }
        if (next.mode == sched::SpotMode::kIdle) launching = 0;
        place = next;
        double step = zones.tick_hours;
        if (place.mode != sched::SpotMode::kIdle) {
            step = std::min(step, launching + work);
            const double price =
                place.mode == sched::SpotMode::kSpot ? task.spot_price : task.on_demand_price;
            run.cost += price * step;
            const double spent = std::min(launching, step);
            launching -= spent;
            work -= step - spent;
        }
        left -= step;
        if (left < -100 * task.deadline) break;
    }
    run.missed = left < -kTiny;
    return run;
}

SpotFigures figures_of(const Zones& zones, sched::SpotPolicy policy, const SpotSetup& setup) {
    sched::SpotTask task;
    task.work = setup.work_hours;
    task.deadline = setup.work_hours * setup.stretch;
    const double alone = (task.work + task.launch) * task.on_demand_price;
    std::vector<std::size_t> starts;
    std::mt19937_64 random(setup.seed);
    for (std::uint64_t i = 0; i < setup.runs; ++i) starts.push_back(random() % zones.ticks());
    std::sort(starts.begin(), starts.end());
    SpotFigures out;
    out.where = zones.name;
    sched::SpotPlanner history(task, policy, zones.traces.size());
    const auto now_of = std::make_unique<bool[]>(zones.traces.size());
    std::size_t seen = 0;
    for (const std::size_t start : starts) {
        for (; seen < start; ++seen) {
            zones.at(seen, now_of.get());
            history.observe({now_of.get(), zones.traces.size()}, zones.tick_hours);
        }
        sched::SpotPlanner planner = history.fork();
        const Run run = run_once(planner, zones, start);
        out.cost += run.cost / alone;
        out.launches += static_cast<double>(run.launches);
        out.deadline_misses += run.missed ? 1 : 0;
        out.decisions += run.decisions;
        ++out.runs;
    }
    out.cost /= static_cast<double>(out.runs);
    out.launches /= static_cast<double>(out.runs);
    return out;
}

// One by one, or by folder and tick; a folder of one zone is left out.
std::vector<Zones> groups_of(const std::vector<SpotTrace>& traces, bool together) {
    std::map<std::pair<std::string, double>, Zones> groups;
    for (const SpotTrace& trace : traces) {
        const std::string name =
            together ? trace.path.substr(0, trace.path.rfind('/')) : trace.path;
        Zones& group = groups[{name, trace.tick_hours}];
        group.name = name;
        group.tick_hours = trace.tick_hours;
        group.traces.push_back(&trace);
    }
    std::vector<Zones> out;
    for (const auto& [key, zones] : groups) {
        if (!together || zones.traces.size() > 1) out.push_back(zones);
    }
    return out;
}

}  // namespace

Result<std::vector<SpotTrace>> read_spot_traces(const std::string& path, std::int64_t instances) {
    REEVE_TRY_ASSIGN(const std::string text, read_text(path, kBytesMax));
    const nlohmann::json root = nlohmann::json::parse(text, nullptr, false);
    if (!root.is_object()) {
        return fail(ErrorCode::kInvalidArgument, path + ": not a JSON object of traces");
    }
    std::vector<SpotTrace> traces;
    for (const auto& [name, value] : root.items()) {
        REEVE_TRY_ASSIGN(SpotTrace trace, parse_trace(path, name, value, instances));
        traces.push_back(std::move(trace));
    }
    if (traces.empty()) return fail(ErrorCode::kInvalidArgument, path + ": no traces in it");
    return traces;
}

SpotResult simulate_spot(const std::vector<SpotTrace>& traces, sched::SpotPolicy policy,
                         const SpotSetup& setup, const Progress& progress) {
    SpotResult out;
    out.stretch = setup.stretch;
    Metrics& metrics = out.metrics;
    metrics.policy = std::string(to_string(policy));
    const std::vector<Zones> groups = groups_of(traces, setup.zones);
    const std::uint64_t began = boot_ns();
    for (const Zones& zones : groups) {
        if (progress) progress(out.rows.size(), groups.size());
        const SpotFigures row = figures_of(zones, policy, setup);
        metrics.jobs += row.runs;
        metrics.deadline_misses += row.deadline_misses;
        metrics.decisions += row.decisions;
        metrics.cost += row.cost / static_cast<double>(groups.size());
        const double again = std::max(row.launches - 1, 0.0) * static_cast<double>(row.runs);
        metrics.preemptions += static_cast<std::uint64_t>(std::llround(again));
        out.rows.push_back(row);
    }
    if (progress) progress(groups.size(), groups.size());
    metrics.deadlines = metrics.jobs;
    const double seconds = static_cast<double>(boot_ns() - began) * 1e-9;
    metrics.decisions_per_s = static_cast<double>(metrics.decisions) / std::max(seconds, 1e-9);
    return out;
}

std::string to_json(const SpotResult& result) {
    auto out = nlohmann::ordered_json::parse(to_json(result.metrics));
    out["stretch"] = result.stretch;
    auto rows = nlohmann::ordered_json::array();
    for (const SpotFigures& row : result.rows) {
        rows.push_back({{"where", row.where},
                        {"cost", row.cost},
                        {"jobs", row.runs},
                        {"deadline_misses", row.deadline_misses},
                        {"launches", row.launches}});
    }
    out["traces"] = rows;
    return out.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::string to_table(const SpotResult& result) {
    std::string out = "cost    misses  launches  where\n";
    const auto add = [&out](double cost, std::uint64_t misses, double launches,
                            const std::string& where) {
        std::array<char, 64> line{};
        std::snprintf(line.data(), line.size(), "%.4f  %6llu  %8.1f  ", cost,
                      static_cast<unsigned long long>(misses), launches);
        out += line.data() + printable(where) + "\n";
    };
    double launches = 0;
    for (const SpotFigures& row : result.rows) {
        add(row.cost, row.deadline_misses, row.launches, row.where);
        launches += row.launches / static_cast<double>(result.rows.size());
    }
    add(result.metrics.cost, result.metrics.deadline_misses, launches,
        "mean, policy " + result.metrics.policy);
    return out;
}

}  // namespace reeve::sim
