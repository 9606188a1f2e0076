// `reeve audit ...` on the command line: looking into a log directory and checking what others say.
//
// All of it works on a plain copy of the directory with every daemon stopped. Exit codes: 0 ok,
// 1 refused (the kind and the first offending entry or tile are printed), 2 unreadable or bad
// usage, 3 no such entry or task.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace reeve::cli {

void add_audit_commands(CLI::App& root, std::string& state_dir, int& exit_code);

}  // namespace reeve::cli
