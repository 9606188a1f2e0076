// The command line itself: CLI11 turns words into the option structs of the commands.
//
// Only commands*.cc and the group's, audit's and simulator's own files include CLI11; everything
// behind them is plain structs and functions, which the tests call without a command line.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "cli/context.h"

namespace reeve::cli {

// One run of the program. Commands leave their exit code in `code`.
struct Line {
    Context context;
    std::vector<std::string> command;  // what stood behind --
    bool separated = false;            // there was a --
    int code = kExitOk;
};

using Body = std::function<int(const Context&)>;
// Runs `body` with the cell found, or reports why there is none.
void run_with_cell(Line& line, const Body& body);

// --quiet on a command, and --json and --parsable where it has such a form.
enum class Forms : std::uint8_t { kNone, kJson, kJsonAndIds };
void add_form(CLI::App& command, Context& context, Forms forms);

void add_submit_commands(CLI::App& root, Line& line);  // submit run
void add_act_commands(CLI::App& root, Line& line);  // wait cancel hold release requeue retry update
void add_look_commands(CLI::App& root, Line& line);  // ls show explain logs history top
void add_node_commands(CLI::App& root, Line& line);  // node ..., shm ...
void add_role_commands(CLI::App& root, Line& line);  // plm scheduler register worker

int print_completion(const CLI::App& root, const std::string& shell);

}  // namespace reeve::cli
