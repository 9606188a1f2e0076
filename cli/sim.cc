#include "cli/sim.h"

#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <memory>
#include <string>

#include "cli/context.h"
#include "cli/replay.h"
#include "scheduler/sim/gang_sim.h"
#include "scheduler/sim/gpu_fit_sim.h"
#include "scheduler/sim/job_sim.h"
#include "scheduler/sim/rigid_sim.h"
#include "scheduler/sim/spot_sim.h"

namespace reeve::cli {
namespace {

struct SimOptions {
    std::string swf;
    std::string gpu;
    std::string policy;
    std::string starts;
    std::string jobs_file;
    std::string nodes_file;
    std::string nodes_csv;
    std::string spot;
    std::string timeline;
    std::int64_t gpus = 0;
    sim::GpuFitSetup fit;
    sim::SpotSetup spot_setup;
    bool no_preemption = false;
    bool json = false;
    bool quiet = false;
    bool policies = false;
    bool replay = false;
};

constexpr const char* kJobPolicies =
    "reeve fcfs sjf edf easy easy-sjbf sjf-easy conservative best-fit";
constexpr const char* kSwfPolicies = "reeve fcfs sjf easy easy-sjbf sjf-easy conservative";
constexpr const char* kGpuPolicies = "reeve fcfs fifo-skip sjf las srtf srsf edf";
constexpr const char* kFitPolicies = "reeve best-fit fgd-like";
constexpr const char* kSpotPolicies = "reeve greedy uniform on-demand";

// A bar on a terminal's stderr, drawn only once work has taken a while.
sim::Progress progress_bar(const SimOptions& options) {
    if (options.quiet || isatty(STDERR_FILENO) == 0) return {};
    return [](std::size_t done, std::size_t total) {
        constexpr int kWidth = 40;
        const auto filled = static_cast<int>(done * kWidth / (total == 0 ? 1 : total));
        std::fprintf(stderr, "\r[%-*.*s] %3d %%", kWidth, filled,
                     "########################################", filled * 100 / kWidth);
        if (done >= total) std::fputs("\r\033[K", stderr);
    };
}

Status write_text(const std::string& path, const std::string& text) {
    std::ofstream out(path, std::ios::binary | std::ios::trunc);
    out << text;
    out.close();
    if (!out) return fail_errno("write " + path, errno);
    return {};
}

Error unknown_policy(const std::string& name, const char* known) {
    return Error{ErrorCode::kInvalidArgument,
                 "unknown policy \"" + name + "\"; the policies here are " + known};
}

template <typename R>
int print(const R& result, const SimOptions& options) {
    write_out(options.json ? to_json(result) + "\n" : to_table(result));
    return finish(kExitOk);
}

Status save_starts(std::span<const sim::JobRecord> records, const SimOptions& options) {
    if (options.starts.empty()) return {};
    return write_text(options.starts, sim::schedule_text(records));
}

Result<int> run_swf(const SimOptions& options) {
    const auto policy =
        sched::parse_rigid_policy(options.policy.empty() ? "reeve" : options.policy);
    if (!policy) {
        return fail(unknown_policy(options.policy, kSwfPolicies));
    }
    REEVE_TRY_ASSIGN(const sim::SwfTrace trace, sim::read_swf(options.swf));
    const sim::RigidResult result = sim::simulate_rigid(trace, *policy, progress_bar(options));
    REEVE_TRY(save_starts(result.records, options));
    return print(result.metrics, options);
}

Result<int> run_gpu(const SimOptions& options) {
    const auto policy = sched::parse_gang_policy(options.policy.empty() ? "reeve" : options.policy);
    if (!policy) {
        return fail(unknown_policy(options.policy, kGpuPolicies));
    }
    if (options.gpus <= 0) {
        return fail(ErrorCode::kInvalidArgument,
                    "how many GPUs? add --gpus N, or --nodes FILE to fill nodes");
    }
    REEVE_TRY_ASSIGN(const std::vector<sim::GpuJob> jobs, sim::read_gpu_jobs(options.gpu));
    const sim::GangResult result =
        sim::simulate_gangs(jobs, options.gpus, *policy, progress_bar(options));
    REEVE_TRY(save_starts(result.records, options));
    return print(result.metrics, options);
}

Result<int> run_fit(const SimOptions& options) {
    const auto policy =
        sched::parse_gpu_fit_policy(options.policy.empty() ? "reeve" : options.policy);
    if (!policy) return fail(unknown_policy(options.policy, kFitPolicies));
    REEVE_TRY_ASSIGN(const std::vector<sim::GpuJob> jobs, sim::read_gpu_jobs(options.gpu));
    REEVE_TRY_ASSIGN(const std::vector<sim::GpuNode> nodes, sim::read_gpu_nodes(options.nodes_csv));
    REEVE_TRY_ASSIGN(
        const sim::GpuFitResult result,
        sim::simulate_gpu_fit(jobs, nodes, *policy, options.fit, progress_bar(options)));
    return print(result, options);
}

Result<int> run_spot(const SimOptions& options) {
    const auto policy = sched::parse_spot_policy(options.policy.empty() ? "reeve" : options.policy);
    if (!policy) return fail(unknown_policy(options.policy, kSpotPolicies));
    if (!(options.spot_setup.stretch >= 1.05 && options.spot_setup.stretch <= 10)) {
        return fail(ErrorCode::kInvalidArgument, "--stretch is between 1.05 and 10");
    }
    const sim::SpotSetup& setup = options.spot_setup;
    REEVE_TRY_ASSIGN(const auto traces, sim::read_spot_traces(options.spot, setup.instances));
    const sim::SpotResult result =
        sim::simulate_spot(traces, *policy, setup, progress_bar(options));
    if (result.rows.empty()) {
        return fail(ErrorCode::kInvalidArgument,
                    options.spot + ": no two zones were recorded together; leave out --zones");
    }
    return print(result, options);
}

Status choose_policy(const SimOptions& options, sim::Workload& workload) {
    const auto policy =
        sched::parse_cluster_policy(options.policy.empty() ? "reeve" : options.policy);
    if (!policy) return fail(unknown_policy(options.policy, kJobPolicies));
    workload.options.policy = *policy;
    workload.options.preemption = !options.no_preemption;
    return {};
}

Status save_pages(const sim::JobSimResult& result, const sim::Workload& workload,
                  const SimOptions& options) {
    if (!options.starts.empty()) {
        REEVE_TRY(write_text(options.starts, sim::starts_text(result, workload)));
    }
    if (!options.timeline.empty()) {
        REEVE_TRY(write_text(options.timeline, sim::to_timeline(result, workload)));
    }
    return {};
}

Result<int> run_jobs(const SimOptions& options) {
    if (options.nodes_file.empty()) {
        return fail(ErrorCode::kInvalidArgument, "which nodes? give sim JOBS.json NODES.json");
    }
    REEVE_TRY_ASSIGN(sim::Workload workload,
                     sim::read_workload(options.jobs_file, options.nodes_file));
    REEVE_TRY(choose_policy(options, workload));
    const sim::JobSimResult result = sim::simulate_jobs(workload, progress_bar(options));
    REEVE_TRY(save_pages(result, workload, options));
    write_out(options.json ? sim::to_json(result, workload) + "\n"
                           : sim::to_table(result, workload));
    return finish(kExitOk);
}

// The one file name that may stand beside --replay names the nodes.
Result<int> run_replay(const SimOptions& options, const Cell& cell) {
    REEVE_TRY_ASSIGN(Replay replay, read_replay(cell, options.jobs_file));
    REEVE_TRY(choose_policy(options, replay.workload));
    const sim::JobSimResult result = sim::simulate_jobs(replay.workload, progress_bar(options));
    REEVE_TRY(save_pages(result, replay.workload, options));
    if (options.json) {
        std::string text = sim::to_json(result, replay.workload);
        text.resize(text.rfind('}'));
        write_out(text + ", \"recorded\": " + sim::to_json(replay.recorded) + "}\n");
    } else {
        write_out(sim::to_table(result.metrics) + "\n" + sim::to_table(replay.recorded));
    }
    return finish(kExitOk);
}

int list_policies() {
    write_out(std::string("JOBS NODES           ") + kJobPolicies + "\n--swf FILE           " +
              kSwfPolicies + "\n--gpu FILE --gpus N  " + kGpuPolicies + "\n--gpu FILE --nodes F " +
              kFitPolicies + "\n--spot FILE          " + kSpotPolicies + "\n");
    return finish(kExitOk);
}

Result<int> run_one(const SimOptions& options) {
    const int kinds = (options.jobs_file.empty() ? 0 : 1) + (options.swf.empty() ? 0 : 1) +
                      (options.gpu.empty() ? 0 : 1) + (options.spot.empty() ? 0 : 1);
    if (options.replay) {
        return fail(ErrorCode::kInvalidArgument, "--replay takes no other work beside it");
    }
    if (kinds != 1) {
        return fail(ErrorCode::kInvalidArgument,
                    "give one of JOBS.json NODES.json, --swf FILE, --gpu FILE, --spot FILE");
    }
    const bool fits = !options.gpu.empty() && !options.nodes_csv.empty();
    if (!options.starts.empty() && (fits || !options.spot.empty())) {
        return fail(ErrorCode::kInvalidArgument, "--starts: there is no one schedule here");
    }
    if (!options.timeline.empty() && options.jobs_file.empty()) {
        return fail(ErrorCode::kInvalidArgument,
                    "--timeline is for JOBS.json NODES.json and --replay");
    }
    if (!options.jobs_file.empty()) return run_jobs(options);
    if (!options.swf.empty()) return run_swf(options);
    if (!options.spot.empty()) return run_spot(options);
    return fits ? run_fit(options) : run_gpu(options);
}

bool is_replay(const SimOptions& options) {
    return options.replay && options.nodes_file.empty() && options.swf.empty() &&
           options.gpu.empty() && options.spot.empty();
}

int run_sim(const SimOptions& options, const Cell* cell) {
    if (options.policies) return list_policies();
    const Result<int> code = cell != nullptr ? run_replay(options, *cell) : run_one(options);
    return code ? *code : report(code.error());
}

}  // namespace

void add_sim_commands(CLI::App& root, Line& line) {
    auto options = std::make_shared<SimOptions>();
    CLI::App* sim =
        root.add_subcommand("sim", "the scheduling policy on recorded work, in virtual time");
    sim->add_option("jobs", options->jobs_file, "jobs as JSON");
    sim->add_option("nodes", options->nodes_file, "nodes as JSON");
    auto* swf = sim->add_option("--swf", options->swf, "a log in the Standard Workload Format");
    auto* gpu = sim->add_option("--gpu", options->gpu, "GPU jobs as CSV")->excludes(swf);
    sim->add_option("--gpus", options->gpus, "how many interchangeable GPUs there are");
    sim->add_option("--nodes", options->nodes_csv, "GPU nodes as CSV, to be filled")->needs(gpu);
    sim->add_option("--load", options->fit.load, "arrivals over capacity (default 1.3)")
        ->check(CLI::Range(0.01, 100.0));
    sim->add_option("--runs", options->fit.runs, "repetitions when filling nodes (default 10)")
        ->check(CLI::Range(1, 10000));
    sim->add_option("--seed", options->fit.seed, "of random draws (default 1)");
    auto* spot = sim->add_option("--spot", options->spot, "spot availability traces as JSON")
                     ->excludes(swf)
                     ->excludes(gpu);
    sim->add_option("--stretch", options->spot_setup.stretch, "deadline over work (default 1.25)")
        ->needs(spot);
    sim->add_option("--work", options->spot_setup.work_hours, "hours of work (default 48)")
        ->needs(spot)
        ->check(CLI::Range(1.0, 10000.0));
    sim->add_option("--instances", options->spot_setup.instances,
                    "spot machines the job needs at once (default 1)")
        ->needs(spot)
        ->check(CLI::Range(1, 100'000));
    sim->add_flag("--zones", options->spot_setup.zones, "use all zones recorded together")
        ->needs(spot);
    sim->add_flag("--replay", options->replay,
                  "what this cell has run, on its workers or on NODES.json");
    sim->add_option("--timeline", options->timeline, "write a page with one row per node");
    sim->add_flag("--no-preemption", options->no_preemption, "nobody is pushed aside");
    sim->add_option("--policy", options->policy, "name of the policy (default: reeve)");
    sim->add_option("--starts", options->starts, "write the schedule as \"id start\" lines");
    sim->add_flag("--json", options->json, "figures as JSON");
    sim->add_flag("-q,--quiet", options->quiet, "no progress bar");
    sim->add_flag("--policies", options->policies, "list the policies");
    sim->callback([options, &line] {
        options->spot_setup.seed = options->fit.seed;
        if (!is_replay(*options)) {
            line.code = run_sim(*options, nullptr);
            return;
        }
        run_with_cell(line,
                      [&](const Context& context) { return run_sim(*options, &context.cell); });
    });
}

}  // namespace reeve::cli
