#include "cli/sim.h"

#include <fstream>
#include <memory>
#include <vector>

#include "cli/context.h"
#include "scheduler/sim/rigid_sim.h"

namespace reeve::cli {
namespace {

struct SimCommand {
    std::string swf;
    std::string policy = "easy";
    std::string starts;
    bool json = false;
};

// `id start` lines, sorted by id.
Status write_starts(const std::string& path, const sim::SwfTrace& trace,
                    const sim::RigidResult& result) {
    std::vector<sim::JobRecord> records;
    for (std::size_t i = 0; i < trace.jobs.size(); ++i) {
        sim::JobRecord record;
        record.id = trace.jobs[i].job.id;
        record.start = result.starts[i];
        records.push_back(record);
    }
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file << sim::schedule_text(records);
    file.close();
    if (file) return {};
    return fail(ErrorCode::kInternal, "--starts: cannot write " + path);
}

int simulate(const SimCommand& command) {
    const auto policy = sched::parse_rigid_policy(command.policy);
    if (!policy) {
        return report(Error{ErrorCode::kInvalidArgument,
                            "--policy: there is no \"" + command.policy +
                                "\"; one of fcfs, sjf, easy, easy-sjbf, sjf-easy, conservative, "
                                "reeve"});
    }
    const auto trace = sim::read_swf(command.swf);
    if (!trace) return report(trace.error());
    const auto result = sim::simulate_rigid(*trace, *policy);
    if (!command.starts.empty()) {
        if (auto written = write_starts(command.starts, *trace, result); !written) {
            return report(written.error());
        }
    }
    write_out(command.json ? sim::to_json(result.metrics) : sim::to_table(result.metrics));
    return 0;
}

}  // namespace

void add_sim_commands(CLI::App& root, int& exit_code) {
    auto command = std::make_shared<SimCommand>();
    auto* app = root.add_subcommand("sim", "replay a workload under a policy, in virtual time");
    app->add_option("--swf", command->swf, "a log in Standard Workload Format, plain or gzipped")
        ->type_name("FILE")
        ->required();
    app->add_option("--policy", command->policy,
                    "fcfs, sjf, easy, easy-sjbf, sjf-easy, conservative, reeve (default: easy)")
        ->type_name("NAME");
    app->add_option("--starts", command->starts, "write the schedule as `id start` lines")
        ->type_name("FILE");
    app->add_flag("--json", command->json, "figures as one JSON object");
    app->callback([command, &exit_code] { exit_code = simulate(*command); });
}

}  // namespace reeve::cli
