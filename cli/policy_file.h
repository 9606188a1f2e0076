// policy.json: what a cell's owner decides about shares, quotas and limits, read with line and
// field of what is wrong.
#pragma once

#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/process/cell.h"
#include "plm/policy.h"

namespace reeve::cli {

// Errors: kInvalidArgument, "quotas.ann.cpu (line 4): ..." with the cure.
Result<plm::CellPolicy> parse_policy(std::string_view text);

// The cell's own file; without one, nothing is limited.
Result<plm::CellPolicy> read_cell_policy(const Cell& cell);

// Checks FILE and makes it the cell's policy at once (a running PLM takes it over within a second);
// "none" removes the policy. The cell's directory must exist.
Status install_policy(const Cell& cell, const std::string& file);

}  // namespace reeve::cli
