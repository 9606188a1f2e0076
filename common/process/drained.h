// Which workers are drained: DIR/drained/NAME is there, empty, for each of them.
//
// A drain belongs to the worker's name until somebody undrains it, so it outlives the worker, its
// cell's processes and the segment. The PLM writes these files, before it answers; a worker that
// joins under such a name says in its slot, before it is seen, that it is drained.
#pragma once

#include <string>

#include "common/base/result.h"
#include "common/process/cell.h"

namespace reeve {

bool is_drained(const Cell& cell, const std::string& worker);

// Durable when it returns. False: it was so already. Errors name the path.
Result<bool> set_drained(const Cell& cell, const std::string& worker, bool drained);

}  // namespace reeve
