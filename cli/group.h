// The commands about the process group itself: up, down, status, doctor, and supervise.
//
// They work with every daemon dead or wedged: what they know comes from pid files, /proc and the
// segment, and only `up` waits for anything to answer.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

#include "cli/supervise.h"
#include "common/process/cell.h"

namespace reeve::cli {

struct DownOptions {
    double grace_seconds = 10;  // for running roles to stop by themselves; then SIGKILL
};

// What `up` was asked for beyond what the supervisor is started with.
struct UpRequest {
    bool foreground = false;
    std::string policy;                   // taken over already, "" when none was given
    std::vector<std::string> by_default;  // flags nobody typed
};

int up_main(const Cell& cell, SuperviseOptions options, const UpRequest& request);
int down_main(const Cell& cell, const DownOptions& options);
int status_main(const Cell& cell, bool json);
int doctor_main(const Cell& cell, bool json);

// Adds the five subcommands to `root`. `state_dir` is the global --state-dir (read when the command
// runs); the command's exit code is left in `exit_code`.
void add_group_commands(CLI::App& root, const std::string& state_dir, int& exit_code);

}  // namespace reeve::cli
