// `reeve sim`: the scheduler's own decision core on recorded or invented work, in virtual time.
//
// Needs no cell, but for --replay. Exit codes: 0 ok, 2 the input was refused (line and field are
// named).
#pragma once

#include "cli/commands.h"

namespace reeve::cli {

void add_sim_commands(CLI::App& root, Line& line);

}  // namespace reeve::cli
