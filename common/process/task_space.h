// Where a task's private things lie while it runs: its temporary directory and its error text.
//
//   ROOT/w<number>.<incarnation>/<job>.<element>.<attempt>       $TMPDIR, with --private-tmp
//   ROOT/w<number>.<incarnation>/<job>.<element>.<attempt>.err   $REEVE_ERROR_FILE; for other users
//                                                                it is .reeve-error in $TMPDIR
//   DIR/tmp/said/<job>.<element>.<attempt>                       the text, on its way to the PLM
//
// ROOT is DIR/tmp for tasks of the cell's own user. Other users may not enter DIR: theirs is
// /tmp/reeve-<hash>-tmp, which must be ours and closed to writers.
//
// One directory a worker, so that whoever outlives it can remove all its tasks left with one call:
// the agent after each task, the register when the worker is dead, `reeve down` at the end.
#pragma once

#include <cstdint>
#include <string>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/process/cell.h"

namespace reeve {

inline constexpr std::size_t kErrorTextMax = 2048;  // of a task's own words about its failure

std::string task_space_root(const Cell& cell, bool other_user);
std::string worker_space(const std::string& root, WorkerId worker);
// `<space>/<job>.<element>.<attempt>`
std::string attempt_space(const std::string& space, TaskId task, std::uint32_t attempt);
std::string error_file(const std::string& attempt_space, bool other_user);

// Makes root and directory; kPermissionDenied when somebody else made the root before us.
Status make_worker_space(const std::string& root, const std::string& space, bool other_user);

// Everything below and itself; no symlink is followed, closed directories are opened first.
// True when nothing is left.
bool remove_tree(const std::string& path);
void remove_worker_spaces(const Cell& cell, WorkerId worker);
void remove_all_spaces(const Cell& cell);
// Those of workers of which no process lives: the register that would have removed them died too.
void remove_stale_spaces(const Cell& cell);

// Text read from `path`, at most kErrorTextMax bytes, one valid UTF-8 text without trailing blanks.
// kNotFound: no such file; kPermissionDenied: not a plain file of `uid`.
Result<std::string> read_error_text(const std::string& path, std::uint32_t uid);

// The agent leaves the text for the PLM, which takes it (and removes it) with the ending.
Status leave_text(const Cell& cell, TaskId task, std::uint32_t attempt, const std::string& text);
Result<std::string> take_text(const Cell& cell, TaskId task, std::uint32_t attempt);

}  // namespace reeve
