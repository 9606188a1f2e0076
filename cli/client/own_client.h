// The commands' own reeve::Client: the same one, for a cell they know, which tells a late answer.
#pragma once

#include <memory>

#include "cli/client/calls.h"
#include "cli/client/client.h"

namespace reeve::cli {

Result<std::unique_ptr<Client>> connect_client(const Context& context);

}  // namespace reeve::cli
