// What a cell's group was started with, for an `up` that finds it running and asks for something
// else.
//
// The supervisor leaves its words in DIR/run/supervisor.options; the next one overwrites them.
#pragma once

#include <string>
#include <vector>

#include "cli/supervise.h"

namespace reeve::cli {

void write_running_options(const Cell& cell, const SuperviseOptions& options);

// The flags of `asked`, but those of `by_default`, that the running group was not started with so.
std::vector<std::string> other_options(const Cell& cell, const SuperviseOptions& asked,
                                       const std::vector<std::string>& by_default);

}  // namespace reeve::cli
