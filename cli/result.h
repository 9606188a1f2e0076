// result: what function tasks gave back, from the history.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/context.h"
#include "cli/look.h"

namespace reeve::cli {

struct ResultOptions {
    std::vector<std::string> selectors;
    std::uint64_t limit = 100'000;  // tasks of each job
};

// Prints each result; a newline follows each when there are several. Exit 0 when all succeeded, 1
// when one did not, 3 when one is not known or has not ended.
int result_command(const Context& context, const ResultOptions& options);

// The endings of the selected tasks, waiting for the history where it is behind. kNotFound when
// some have not ended.
Result<std::vector<History::FunctionResult>> results_of(const Context& context,
                                                        const Selected& selected,
                                                        std::uint64_t limit);

}  // namespace reeve::cli
