// The words of the commands about machines and shared memory.
#include <memory>

#include "cli/act.h"
#include "cli/commands.h"

namespace reeve::cli {

void add_node_commands(CLI::App& root, Line& line) {
    auto* node = root.add_subcommand("node", "machines: ls, show, drain, undrain");
    node->require_subcommand(1);
    for (const bool drain : {true, false}) {
        auto worker = std::make_shared<std::string>();
        auto* command = node->add_subcommand(
            drain ? "drain" : "undrain",
            drain ? "give a worker nothing new" : "give a drained worker tasks again");
        add_form(*command, line.context);
        command->add_option("worker", *worker, "its name or number")->required();
        command->callback([&line, worker, drain] {
            run_with_cell(line, [&](const Context& context) {
                return drain_command(context, *worker, drain);
            });
        });
    }
}

}  // namespace reeve::cli
