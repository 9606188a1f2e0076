#include "cli/context.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "cli/text.h"

namespace reeve::cli {
namespace {

int output_error = 0;  // errno of the first write to stdout that failed
bool output_error_told = false;

}  // namespace

ExitCode exit_code_of(ErrorCode code) {
    switch (code) {
        case ErrorCode::kOk:
            return kExitOk;
        case ErrorCode::kInvalidArgument:
            return kExitUsage;
        case ErrorCode::kNotFound:
            return kExitNotFound;
        case ErrorCode::kUnavailable:
            return kExitUnreachable;
        case ErrorCode::kDeadlineExceeded:
            return kExitTimeout;
        case ErrorCode::kAlreadyExists:
        case ErrorCode::kPermissionDenied:
        case ErrorCode::kResourceExhausted:
        case ErrorCode::kFailedPrecondition:
        case ErrorCode::kOutOfRange:
        case ErrorCode::kAborted:
        case ErrorCode::kCancelled:
        case ErrorCode::kUnauthenticated:
            return kExitRefused;
        case ErrorCode::kUnknown:
        case ErrorCode::kUnimplemented:
        case ErrorCode::kInternal:
        case ErrorCode::kDataLoss:
            return kExitInternal;
    }
    return kExitInternal;
}

int report(const Error& error) {
    const std::string line = "reeve: " + escape(error.message) + "\n";
    flush_out();
    std::fputs(line.c_str(), stderr);
    return exit_code_of(error.code);
}

void warn(std::string_view message) {
    const std::string line = "reeve: " + escape(message) + "\n";
    std::fputs(line.c_str(), stderr);
}

void note_output_error(int error) {
    if (output_error == 0) output_error = error;
}

void write_out(std::string_view text) {
    if (std::fwrite(text.data(), 1, text.size(), stdout) < text.size()) note_output_error(errno);
}

void flush_out() {
    if (std::fflush(stdout) != 0) note_output_error(errno);
}

int finish(int exit_code) {
    flush_out();
    if (output_error == 0 && std::ferror(stdout) != 0) output_error = EIO;
    // A reader that has seen enough (head, less) is no failure.
    if (output_error == 0 || output_error == EPIPE) return exit_code;
    if (!output_error_told) {
        const bool closed = output_error == EBADF;
        std::fprintf(stderr, "reeve: the output could not be written: %s; %s and repeat\n",
                     closed ? "stdout is closed" : std::strerror(output_error),
                     closed ? "open it" : "free space");
        output_error_told = true;
    }
    return exit_code == kExitOk ? kExitInternal : exit_code;
}

}  // namespace reeve::cli
