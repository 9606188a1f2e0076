// Client is a channel to the PLM of a cell, with deadlines and a reconnect backoff of 50 ms.
//
// A cell whose PLM is being restarted answers within moments, so a call waits for it as long as
// somebody holds the cell's locks; a cell that nobody runs is refused at once with the cure.
// Thread-safe after construction.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include <grpcpp/grpcpp.h>

#include "common/base/result.h"
#include "common/process/cell.h"
#include "common/rpc/late.h"
#include "reeve/v1/reeve.grpc.pb.h"

namespace reeve::rpc {

inline constexpr int kBackoffMs = 50;
inline constexpr int kBackoffMaxMs = 500;
// What a call that is answered at once may take, and how long a restart of the PLM may last.
inline constexpr std::chrono::milliseconds kCallTimeout{20'000};

// What a client says it is, under this key; one of another version is refused.
inline constexpr char kVersionKey[] = "reeve-version";
extern const char kClientVersion[];  // "reeve 0.1.0"

// Arguments every client channel of ours has: backoff, no proxy, no limit on what is received.
grpc::ChannelArguments channel_arguments();

// The process that holds the PLM's lock; 0 when nobody does.
pid_t plm_pid(const Cell& cell);
// True while a PLM or a supervisor holds one of the cell's locks.
bool cell_is_run(const Cell& cell);

class Client {
public:
    // Errors: kUnavailable when nobody runs the cell, naming it and the cure; kPermissionDenied
    // when it is somebody else's. A late answer is told to `tell`, once.
    static Result<std::unique_ptr<Client>> connect(const Cell& cell, TellLate tell = {});

    // For tests and for a PLM in this process.
    Client(Cell cell, std::shared_ptr<grpc::Channel> channel, TellLate tell = {});

    v1::Reeve::Stub& stub() { return *stub_; }
    const Cell& cell() const { return cell_; }
    const TellLate& tell_late() const { return tell_late_; }

    // One unary call of the stub: client.call(&v1::Reeve::Stub::Get, request). It waits for the PLM
    // to come (back) until the timeout; then the error is kUnavailable, and the PLM may still do
    // what was asked.
    template <typename Request, typename Reply>
    Result<Reply> call(grpc::Status (v1::Reeve::Stub::*method)(grpc::ClientContext*, const Request&,
                                                               Reply*),
                       const Request& request, std::chrono::milliseconds timeout = kCallTimeout) {
        Reply reply;
        REEVE_TRY(attempt(timeout, [&](grpc::ClientContext& context) {
            return ((*stub_).*method)(&context, request, &reply);
        }));
        return reply;
    }

    // Waits until the PLM can be called, so long at most. Before a broken stream is begun anew: a
    // call that fails at once leaves the reconnection to gRPC's backup poller (every 5 s).
    void await_connection(std::chrono::milliseconds most);

    // Sets deadline and waiting on a context for a stream.
    static void prepare(grpc::ClientContext& context, std::chrono::milliseconds timeout);

private:
    Status attempt(std::chrono::milliseconds timeout,
                   const std::function<grpc::Status(grpc::ClientContext&)>& once);

    Cell cell_;
    std::shared_ptr<grpc::Channel> channel_;
    std::unique_ptr<v1::Reeve::Stub> stub_;
    TellLate tell_late_;
};

// What a person is told when the PLM did not answer.
Error unreachable(const Cell& cell, const std::string& why);

}  // namespace reeve::rpc
