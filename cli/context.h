// Context is what every command is given: the cell, the form of the answer, and how errors are
// told.
//
// Errors are one line on stderr, `reeve: <what was wrong>; <the cure>`, and a documented exit code
// (docs/cli.md). What a command prints on stdout is in one of three forms: a table for people, JSON
// with a versioned schema, or bare ids.
#pragma once

#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/process/cell.h"

namespace reeve::cli {

// The exit codes of docs/cli.md; `run` uses its task's own code and kExitOwnFailure instead.
enum ExitCode : int {
    kExitOk = 0,
    kExitFailed = 1,  // what was asked about did not succeed
    kExitUsage = 2,   // bad usage or input
    kExitNotFound = 3,
    kExitUnreachable = 4,  // no cell, or the PLM does not answer
    kExitRefused = 5,      // state, permission, limit
    kExitTimeout = 6,
    kExitInternal = 7,
    kExitOwnFailure = 125,  // of `run`: whatever else failed, bad usage too
};

enum class Form { kTable, kJson, kParsable };

struct Context {
    std::string state_dir;
    bool json = false;
    bool parsable = false;
    bool quiet = false;
    Cell cell;

    Form form() const {
        if (json) return Form::kJson;
        return parsable ? Form::kParsable : Form::kTable;
    }
};

ExitCode exit_code_of(ErrorCode code);

// Prints the error line and returns its exit code.
int report(const Error& error);
// A line on stderr that changes no exit code; control characters are escaped.
void warn(std::string_view message);

// A failed write to stdout is remembered, for finish().
void write_out(std::string_view text);
void flush_out();
// For those who write to the descriptor themselves.
void note_output_error(int error);
// Flushes stdout and turns a failed write into kExitInternal (a closed pipe is no failure of ours).
int finish(int exit_code);

}  // namespace reeve::cli
