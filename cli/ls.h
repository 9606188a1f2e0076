// ls and show: jobs in a table, one job in full. Both work with every daemon stopped.
#pragma once

#include <string>
#include <vector>

#include "cli/context.h"

namespace reeve::cli {

struct LsOptions {
    std::vector<std::string> selectors;
    std::string states;  // comma separated; "" for all that have not ended
    bool all = false;    // ended ones too
    std::uint64_t limit = 1000;
};
int ls_command(const Context& context, const LsOptions& options);

struct ShowOptions {
    std::vector<std::string> selectors;
    bool attempts = false;    // every attempt, not only the last
    bool environment = false;
    std::uint64_t limit = 1000;
};
int show_command(const Context& context, const ShowOptions& options);

// `ls --states`: the words and what is wrong with them.
Result<std::vector<std::string>> parse_states(const std::string& text);

}  // namespace reeve::cli
