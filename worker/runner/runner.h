// The runner: the process that runs function tasks, `reeve runner`, a child of the launcher.
//
// Its ring is its standard input. It loads its handlers, says that it is ready, and answers one
// request after the other until it is killed; an agent that is away does not end it.
#pragma once

#include <string>
#include <vector>

namespace reeve::worker {

struct RunnerOptions {
    std::vector<std::string> plugins;
    std::string program;              // a warm runner's command; empty: none
    std::uint32_t recycle_after = 0;  // calls of the program before it is started anew; 0: never
    std::string output_root;          // where stderr of the program's tasks goes
};

int runner_main(const RunnerOptions& options);

}  // namespace reeve::worker
