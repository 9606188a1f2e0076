// result: what function tasks gave back, from the history.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/context.h"

namespace reeve::cli {

struct ResultOptions {
    std::vector<std::string> selectors;
    std::uint64_t limit = 100'000;  // tasks of each job
};

// Prints each result; a newline follows each when there are several. Exit 0 when all succeeded, 1
// when one did not, 3 when one is not known or has not ended.
int result_command(const Context& context, const ResultOptions& options);

}  // namespace reeve::cli
