// Result<T> carries a value or an Error{code, message}; nothing in reeve throws.
//
// Used for everything a client, peer, disk or kernel can cause. The codes equal grpc::StatusCode
// numerically, so common/rpc/status.h converts them without a table. An Error never enters shared
// memory; an ErrorCode may.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include <tl/expected.hpp>

namespace reeve {

enum class ErrorCode : std::uint8_t {
    kOk = 0,
    kCancelled = 1,
    kUnknown = 2,
    kInvalidArgument = 3,
    kDeadlineExceeded = 4,
    kNotFound = 5,
    kAlreadyExists = 6,
    kPermissionDenied = 7,
    kResourceExhausted = 8,
    kFailedPrecondition = 9,
    kAborted = 10,
    kOutOfRange = 11,
    kUnimplemented = 12,
    kInternal = 13,
    kUnavailable = 14,
    kDataLoss = 15,
    kUnauthenticated = 16,
};

struct [[nodiscard]] Error {
    ErrorCode code = ErrorCode::kUnknown;
    std::string message;

    // Adds where we were when it happened: "open /x: denied" -> "starting the PLM: open /x:
    // denied".
    Error with(std::string_view context) && {
        return Error{code, std::string(context) + ": " + std::move(message)};
    }
};

template <typename T>
using Result = tl::expected<T, Error>;
using Status = tl::expected<void, Error>;

inline tl::unexpected<Error> fail(ErrorCode code, std::string message) {
    return tl::unexpected<Error>(Error{code, std::move(message)});
}

inline tl::unexpected<Error> fail(Error error) {
    return tl::unexpected<Error>(std::move(error));
}

// fail_errno("open /x", errno): the code follows errno, the message is "open /x: <strerror>".
inline tl::unexpected<Error> fail_errno(std::string_view what, int error_number) {
    ErrorCode code = ErrorCode::kInternal;
    switch (error_number) {
        case 2:
            code = ErrorCode::kNotFound;
            break;  // ENOENT
        case 1:
        case 13:
            code = ErrorCode::kPermissionDenied;
            break;  // EPERM EACCES
        case 17:
            code = ErrorCode::kAlreadyExists;
            break;  // EEXIST
        case 12:
        case 24:
        case 23:
        case 28:
            code = ErrorCode::kResourceExhausted;
            break;
        case 11:
        case 111:
            code = ErrorCode::kUnavailable;
            break;  // EAGAIN ECONNREFUSED
        case 22:
            code = ErrorCode::kInvalidArgument;
            break;  // EINVAL
        case 5:
            code = ErrorCode::kDataLoss;
            break;  // EIO
        default:
            break;
    }
    char text[128];
    const char* message = strerror_r(error_number, text, sizeof text);
    return fail(code, std::string(what) + ": " + message);
}

}  // namespace reeve

#define REEVE_CONCAT_INNER(a, b) a##b
#define REEVE_CONCAT(a, b) REEVE_CONCAT_INNER(a, b)

// REEVE_TRY(expr): returns the error of a Status to our caller.
#define REEVE_TRY(expr)                                          \
    do {                                                         \
        if (auto reeve_try_ = (expr); !reeve_try_) {             \
            return ::reeve::fail(std::move(reeve_try_).error()); \
        }                                                        \
    } while (false)

// REEVE_TRY_ASSIGN(auto x, expr): the value, or returns the error to our caller.
#define REEVE_TRY_ASSIGN(declaration, expr) \
    REEVE_TRY_ASSIGN_INNER(REEVE_CONCAT(reeve_result_, __LINE__), declaration, expr)
#define REEVE_TRY_ASSIGN_INNER(name, declaration, expr)       \
    auto name = (expr);                                       \
    if (!name) return ::reeve::fail(std::move(name).error()); \
    declaration = std::move(*name)
