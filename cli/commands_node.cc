// The words of the commands about machines and shared memory.
#include <memory>

#include "cli/act.h"
#include "cli/commands.h"
#include "cli/events.h"
#include "cli/nodes.h"
#include "cli/shm_command.h"

namespace reeve::cli {

namespace {

void add_drain(CLI::App& node, Line& line, bool drain) {
    auto worker = std::make_shared<std::string>();
    auto* command = node.add_subcommand(
        drain ? "drain" : "undrain",
        drain ? "give a worker nothing new" : "give a drained worker tasks again");
    add_form(*command, line.context, Forms::kJson);
    command->add_option("worker", *worker, "its name or number")->required();
    command->callback([&line, worker, drain] {
        run_with_cell(
            line, [&](const Context& context) { return drain_command(context, *worker, drain); });
    });
}

void add_notice(CLI::App& node, Line& line) {
    auto worker = std::make_shared<std::string>();
    auto in = std::make_shared<std::string>();
    auto* command =
        node.add_subcommand("notice", "a worker will vanish: drain it, run its tasks elsewhere");
    add_form(*command, line.context, Forms::kJson);
    command->add_option("worker", *worker, "its name or number")->required();
    command->add_option("--in", *in, "when; what ends before by its time limit stays (now)")
        ->type_name("TIME");
    command->callback([&line, worker, in] {
        run_with_cell(
            line, [&](const Context& context) { return notice_command(context, *worker, *in); });
    });
}

void add_node(CLI::App& root, Line& line) {
    auto* node = root.add_subcommand("node", "machines: ls, show, drain, undrain, notice");
    node->require_subcommand(1);
    auto* list = node->add_subcommand("ls", "list workers");
    add_form(*list, line.context, Forms::kJsonAndIds);
    list->callback([&line] { run_with_cell(line, node_ls_command); });
    auto worker = std::make_shared<std::string>();
    auto* show = node->add_subcommand("show", "a worker and its tasks");
    add_form(*show, line.context, Forms::kJson);
    show->add_option("worker", *worker, "its name or number")->required();
    show->callback([&line, worker] {
        run_with_cell(line,
                      [&](const Context& context) { return node_show_command(context, *worker); });
    });
    add_drain(*node, line, true);
    add_drain(*node, line, false);
    add_notice(*node, line);
}

using ShmBody = int (*)(const Context&, const ShmOptions&);

CLI::App* add_shm_command(CLI::App& shm, Line& line, const char* name, const char* help,
                          const std::shared_ptr<ShmOptions>& options, ShmBody body) {
    auto* command = shm.add_subcommand(name, help);
    add_form(*command, line.context, Forms::kJson);
    command->add_option("--segment", options->segment, "another segment than the cell's live one")
        ->type_name("NAME");
    command->callback([&line, options, body] {
        run_with_cell(line, [&](const Context& context) { return body(context, *options); });
    });
    return command;
}

void add_shm(CLI::App& root, Line& line) {
    auto* shm = root.add_subcommand("shm", "shared memory: dump, stat, watch, check");
    shm->require_subcommand(1);
    auto dumped = std::make_shared<ShmOptions>();
    add_shm_command(*shm, line, "dump", "everything in it", dumped, shm_dump_command)
        ->add_option("--section", dumped->sections,
                     "only these: header participants workers classes jobs tasks heaps rings")
        ->delimiter(',')
        ->type_name("NAMES");
    auto counted = std::make_shared<ShmOptions>();
    auto* stat = add_shm_command(*shm, line, "stat", "its counters", counted, shm_stat_command);
    stat->add_option("--interval", counted->interval_seconds, "seconds between looks (1)");
    stat->add_option("--count", counted->count, "how many looks (1); 0: for ever");
    auto watched = std::make_shared<ShmOptions>();
    watched->interval_seconds = 0.05;
    auto* watch = add_shm_command(*shm, line, "watch", "a line for each slot that moves", watched,
                                  shm_watch_command);
    watch->add_option("--interval", watched->interval_seconds, "seconds between looks (0.05)");
    watch->add_option("--for", watched->for_seconds, "seconds to watch; 0: for ever");
    add_shm_command(*shm, line, "check", "whether it keeps its invariants; exit 1 if not",
                    std::make_shared<ShmOptions>(), shm_check_command);
}

void add_ledger(CLI::App& root, Line& line) {
    auto* ledger = root.add_subcommand("ledger", "the PLM's record: flush, prune");
    ledger->require_subcommand(1);
    const auto add = [&](const char* name, const char* help, bool prune) {
        auto* command = ledger->add_subcommand(name, help);
        add_form(*command, line.context, Forms::kJson);
        command->callback([&line, prune] {
            run_with_cell(line,
                          [&](const Context& context) { return ledger_command(context, prune); });
        });
    };
    add("flush", "bring everything acknowledged into the files themselves", false);
    add("prune", "keep what is live only, and give the space back", true);
}

}  // namespace

void add_node_commands(CLI::App& root, Line& line) {
    add_node(root, line);
    add_shm(root, line);
    add_ledger(root, line);
}

}  // namespace reeve::cli
