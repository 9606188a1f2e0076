#include "cli/context.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "cli/text.h"

namespace reeve::cli {
namespace {

int output_error = 0;  // errno of the first write to stdout that failed

}  // namespace

ExitCode exit_code_of(ErrorCode code) {
    switch (code) {
        case ErrorCode::kOk: return kExitOk;
        case ErrorCode::kInvalidArgument: return kExitUsage;
        case ErrorCode::kNotFound: return kExitNotFound;
        case ErrorCode::kUnavailable: return kExitUnreachable;
        case ErrorCode::kDeadlineExceeded: return kExitTimeout;
        case ErrorCode::kAlreadyExists:
        case ErrorCode::kPermissionDenied:
        case ErrorCode::kResourceExhausted:
        case ErrorCode::kFailedPrecondition:
        case ErrorCode::kOutOfRange:
        case ErrorCode::kAborted:
        case ErrorCode::kCancelled:
        case ErrorCode::kUnauthenticated: return kExitRefused;
        case ErrorCode::kUnknown:
        case ErrorCode::kUnimplemented:
        case ErrorCode::kInternal:
        case ErrorCode::kDataLoss: return kExitInternal;
    }
    return kExitInternal;
}

int report(const Error& error) {
    const std::string line = "reeve: " + escape(error.message) + "\n";
    std::fflush(stdout);
    std::fputs(line.c_str(), stderr);
    return exit_code_of(error.code);
}

void warn(std::string_view message) {
    const std::string line = "reeve: " + escape(message) + "\n";
    std::fputs(line.c_str(), stderr);
}

void write_out(std::string_view text) {
    if (std::fwrite(text.data(), 1, text.size(), stdout) < text.size()) output_error = errno;
}

int finish(int exit_code) {
    if (std::fflush(stdout) != 0) output_error = errno;
    // A reader that has seen enough (head, less) is no failure.
    if (output_error == 0 || output_error == EPIPE) return exit_code;
    std::fprintf(stderr, "reeve: the output could not be written: %s; free space and repeat\n",
                 std::strerror(output_error));
    return exit_code == kExitOk ? kExitInternal : exit_code;
}

}  // namespace reeve::cli
