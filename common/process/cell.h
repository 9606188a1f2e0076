// A cell is its state directory; every path and name a role needs is derived from it here.
//
//   DIR/ledger.db history.db    PLM's record              DIR/audit/      tiles, checkpoint,
//   log.vkey DIR/segment                 name of the live segment  DIR/out/        default task
//   output DIR/lock                    held by the PLM (flock)   DIR/logs/       one file per role
//   DIR/policy.json             shares, quotas, limits
//   DIR/supervisor.lock         held by the supervisor    DIR/run/        <role>.pid files
//
// The socket lies in the user's runtime directory, for a unix socket's path holds 107 bytes only:
// $XDG_RUNTIME_DIR/reeve-<hash>/plm.sock, else /tmp/reeve-<uid>/<hash>/plm.sock (0700, checked).
#pragma once

#include <cstdint>
#include <string>

#include "common/base/result.h"

namespace reeve {

struct Cell {
    std::string dir;          // absolute
    std::string hash;         // 12 hex digits of XXH3(dir, uid): names sockets, segments, cgroups
    std::string runtime_dir;  // holds plm.sock and the launchers' sockets
    std::string socket;       // plm.sock
    std::string ledger;
    std::string history;
    std::string audit;
    std::string segment_file;  // contains the segment's name and a newline
    std::string policy;  // policy.json, where there is one
    std::string output;
    std::string results;  // function results too large for shared memory, on their way to the PLM
    std::string logs;
    std::string run;
};

// --state-dir, else REEVE_STATE_DIR, else $XDG_STATE_HOME/reeve, else ~/.local/state/reeve.
// Pure naming: nothing is created. Errors: kInvalidArgument (no HOME and nothing given).
Result<Cell> find_cell(const std::string& state_dir_option);

// Makes the directories (0700) with owner and mode checked. Errors name the path.
Status create_cell_directories(const Cell& cell);

// Where a worker leaves a result that does not fit its slot's room, until the PLM has it.
std::string result_file(const Cell& cell, std::uint64_t job, std::uint64_t element,
                        std::uint32_t attempt);

// The live segment's name, or kNotFound when no PLM ever made one.
Result<std::string> read_segment_name(const Cell& cell);
Status write_segment_name(const Cell& cell, const std::string& name);  // atomic replace

}  // namespace reeve
