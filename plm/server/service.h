// Service implements reeve.v1.Reeve: per call it finds the caller's identity, checks the request
// and hands over to the Backend. The two streams have files of their own (submit_stream, watch).
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <unordered_set>

#include <grpcpp/grpcpp.h>

#include "reeve/v1/reeve.grpc.pb.h"

#include "common/rpc/status.h"
#include "plm/server/backend.h"
#include "plm/server/connections.h"
#include "plm/server/server.h"

namespace reeve::plm {

// A stream that may be idle for ever; shutdown() ends it.
class LongCall {
public:
    virtual ~LongCall() = default;
    virtual void end(const Error& why) = 0;  // any thread; ends the call once, soon
};

class LongCalls {
public:
    // False: at the limit, or closed for good.
    bool add(const std::shared_ptr<LongCall>& call, std::size_t limit);
    void remove(const LongCall* call);
    void end_all(const Error& why);  // and refuses later ones

private:
    std::mutex mutex_;
    std::unordered_map<const LongCall*, std::weak_ptr<LongCall>> calls_;
    bool closed_ = false;
};

// A stream of replies that ends at once with the reason.
template <typename Reply>
class RefusedStream final : public grpc::ServerWriteReactor<Reply> {
public:
    explicit RefusedStream(const Error& why) { this->Finish(rpc::to_grpc(why)); }
    void OnDone() override { delete this; }
};

struct ServiceContext {
    Backend& backend;
    const ServerOptions& options;
    IdentityTable& identities;
    LongCalls watches;
    LongCalls submit_streams;
};

class Service final : public v1::Reeve::CallbackService {
public:
    explicit Service(ServiceContext& context) : context_(context) {}

    grpc::ServerUnaryReactor* Submit(grpc::CallbackServerContext* call,
                                     const v1::SubmitRequest* request,
                                     v1::SubmitReply* reply) override;
    grpc::ServerBidiReactor<v1::SubmitRequest, v1::SubmitReply>* SubmitStream(
        grpc::CallbackServerContext* call) override;
    grpc::ServerUnaryReactor* Act(grpc::CallbackServerContext* call, const v1::ActRequest* request,
                                  v1::ActReply* reply) override;
    grpc::ServerUnaryReactor* Get(grpc::CallbackServerContext* call, const v1::GetRequest* request,
                                  v1::GetReply* reply) override;
    grpc::ServerWriteReactor<v1::WatchReply>* Watch(grpc::CallbackServerContext* call,
                                                    const v1::WatchRequest* request) override;
    grpc::ServerUnaryReactor* AuditHead(grpc::CallbackServerContext* call,
                                        const v1::AuditHeadRequest* request,
                                        v1::AuditHeadReply* reply) override;
    grpc::ServerUnaryReactor* Drain(grpc::CallbackServerContext* call,
                                    const v1::DrainRequest* request,
                                    v1::DrainReply* reply) override;
    grpc::ServerUnaryReactor* ServerInfo(grpc::CallbackServerContext* call,
                                         const v1::ServerInfoRequest* request,
                                         v1::ServerInfoReply* reply) override;
    grpc::ServerUnaryReactor* Ledger(grpc::CallbackServerContext* call,
                                     const v1::LedgerRequest* request,
                                     v1::LedgerReply* reply) override;
    grpc::ServerWriteReactor<v1::EventsReply>* Events(grpc::CallbackServerContext* call,
                                                      const v1::EventsRequest* request) override;

private:
    // Who calls; kUnauthenticated when that is not known, kFailedPrecondition when it is a client
    // of another version.
    Result<Identity> caller(const grpc::CallbackServerContext& call) const;

    ServiceContext& context_;
};

// One per stream; they own themselves and go when gRPC is done with them.
grpc::ServerBidiReactor<v1::SubmitRequest, v1::SubmitReply>* start_submit_stream(
    ServiceContext& context, const Result<Identity>& who);
grpc::ServerWriteReactor<v1::WatchReply>* start_watch(ServiceContext& context,
                                                      const Result<Identity>& who,
                                                      const v1::WatchRequest& request);
grpc::ServerWriteReactor<v1::EventsReply>* start_events(ServiceContext& context,
                                                        const Result<Identity>& who,
                                                        const v1::EventsRequest& request);

}  // namespace reeve::plm
