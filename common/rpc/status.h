// Error to grpc::Status and back; the codes are numerically equal, so there is no table.
#pragma once

#include <grpcpp/support/status.h>

#include "common/base/result.h"

namespace reeve::rpc {

// A message longer than this would not fit the trailers of a call.
inline constexpr std::size_t kStatusMessageMax = 4096;

inline grpc::Status to_grpc(const Error& error) {
    return grpc::Status(static_cast<grpc::StatusCode>(error.code),
                        error.message.substr(0, kStatusMessageMax));
}

inline grpc::Status to_grpc(const Status& status) {
    return status ? grpc::Status::OK : to_grpc(status.error());
}

inline Status from_grpc(const grpc::Status& status) {
    if (status.ok()) return {};
    auto code = ErrorCode::kUnknown;
    if (status.error_code() >= grpc::StatusCode::CANCELLED &&
        status.error_code() <= grpc::StatusCode::UNAUTHENTICATED) {
        code = static_cast<ErrorCode>(status.error_code());
    }
    // gRPC's own words for a peer that died while it answered.
    if (code == ErrorCode::kUnavailable && status.error_message() == "Socket closed") {
        return fail(code,
                    "the PLM went away while it answered, so part of it may be done; look with "
                    "reeve show or reeve ls, and ask again");
    }
    return fail(code, status.error_message());
}

}  // namespace reeve::rpc
