// `reeve events`: the cell's events as JSON lines, from the beginning or from now on, and
// `reeve ledger`: flush and prune the PLM's record.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/context.h"

namespace reeve::cli {

struct EventsOptions {
    std::vector<std::string> selectors;  // jobs; none: everything
    std::optional<std::uint64_t> from;   // index of the first; nothing: what comes now
    bool follow = true;                  // false: end with the newest there is
    std::uint64_t count = 0;             // end after so many; 0: never
};

// After a restart of the PLM the stream goes on where it was: nothing is missed, nothing told
// twice.
int events_command(const Context& context, const EventsOptions& options);

int ledger_command(const Context& context, bool prune);

}  // namespace reeve::cli
