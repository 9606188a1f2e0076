// Waiting for jobs: a Watch stream that survives a restart of the PLM, a progress bar, a verdict.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "cli/context.h"
#include "cli/selectors.h"
#include "reeve/v1/reeve.pb.h"

namespace reeve::rpc {
class Client;
}

namespace reeve::cli {

struct WaitOptions {
    std::uint64_t timeout_ms = 0;  // 0: for ever
    bool progress = false;
};

using JobStates = std::map<std::uint64_t, v1::JobStatus>;

// Follows the jobs until all have ended. `changed` is called after every message with what is known
// so far and may end the wait by returning false. A lost PLM is waited for while somebody runs the
// cell. Errors: kDeadlineExceeded, kNotFound (an unknown job), kUnavailable, kCancelled
// (`changed`).
Result<JobStates> watch_jobs(const Context& context, rpc::Client& client,
                             const std::vector<Selected>& selected, const WaitOptions& options,
                             const std::function<bool(const JobStates&)>& changed);

// watch_jobs with its progress bar and its last words; the exit code: 0 when all succeeded, else 1.
int wait_and_tell(const Context& context, rpc::Client& client,
                  const std::vector<Selected>& selected, const WaitOptions& options);

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
