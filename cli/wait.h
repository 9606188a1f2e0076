// wait: a progress bar and a verdict around Calls::watch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/client/calls.h"
#include "cli/client/client.h"
#include "cli/context.h"
#include "cli/selectors.h"

namespace reeve::cli {

struct WaitOptions {
    std::uint64_t timeout_ms = 0;  // 0: for ever
    bool progress = false;
};

// Calls::watch with a progress bar and its last words; the exit code: 0 when all succeeded, else 1.
int wait_and_tell(const Context& context, Client& client, const std::vector<Selected>& selected,
                  const WaitOptions& options);

struct WaitCommand {
    std::vector<std::string> selectors;
    std::string timeout;
    bool progress = false;
    bool no_progress = false;
};
int wait_command(const Context& context, const WaitCommand& command);

bool stderr_is_terminal_for(const Context& context);

// One line of progress, at most `columns` wide, for what is known of the jobs.
std::string progress_line(const JobStates& jobs, std::size_t expected, std::uint64_t elapsed_ns,
                          std::size_t columns);

}  // namespace reeve::cli
