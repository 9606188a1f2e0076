// What a cell's group was started with, for an `up` that finds it running and asks for something
// else.
//
// The supervisor leaves its words in DIR/run/supervisor.options; the next one overwrites them. As
// long as something of a group runs, all of it goes on with what it was started with: what is
// missing is started with the same words.
#pragma once

#include <string>
#include <vector>

#include "cli/supervise.h"

namespace reeve::cli {

void write_running_options(const Cell& cell, const SuperviseOptions& options);

// The flags of `asked`, but those of `by_default`, that the running group was not started with so.
std::vector<std::string> other_options(const Cell& cell, const SuperviseOptions& asked,
                                       const std::vector<std::string>& by_default);

// Takes what the group was started with; the number of workers only where it is there by default.
void take_running_options(const Cell& cell, const std::vector<std::string>& by_default,
                          SuperviseOptions& options);

}  // namespace reeve::cli
