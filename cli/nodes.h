// node ls, node show and top: the workers and what they do, from shared memory.
#pragma once

#include <string>

#include "cli/context.h"

namespace reeve::cli {

int node_ls_command(const Context& context);
int node_show_command(const Context& context, const std::string& worker);

struct TopOptions {
    double interval_seconds = 1;
    std::uint64_t count = 0;  // 0: until interrupted
};
int top_command(const Context& context, const TopOptions& options);

}  // namespace reeve::cli
