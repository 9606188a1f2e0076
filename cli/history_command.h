// history: jobs that ended, newest first, and the attempts of one job or task.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/context.h"

namespace reeve::cli {

struct HistoryOptions {
    std::vector<std::string> selectors;  // none: the newest jobs
    std::string states;
    std::string name;   // a glob
    std::string since;  // 2h, or 2026-11-22
    std::uint64_t limit = 50;
    std::string by;  // "user" or "sla": what they cost instead of the jobs
};
int history_command(const Context& context, const HistoryOptions& options);

}  // namespace reeve::cli
