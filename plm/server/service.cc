#include "plm/server/service.h"

#include <memory>
#include <utility>
#include <vector>

#include "common/base/assert.h"
#include "common/rpc/client.h"
#include "common/rpc/status.h"
#include "plm/server/prepare.h"
#include "plm/server/validate.h"

namespace reeve::plm {

namespace {

using UnaryReactor = grpc::ServerUnaryReactor;

// A unary call that waits for the core's answer. Where that is dropped (the ledger cannot be
// written and the PLM ends) the call ends too.
struct Waiting {
    UnaryReactor* reactor;

    explicit Waiting(UnaryReactor* call) : reactor(call) {}
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;
    ~Waiting() {
        if (reactor == nullptr) return;
        reactor->Finish(
            {grpc::StatusCode::UNAVAILABLE,
             "the PLM ended before it could answer; look what was done, and ask again"});
    }
};

// Ends a unary call with the core's answer; runs on the core's thread.
template <typename Reply>
Done<Reply> answer(UnaryReactor* call, Reply* reply) {
    return [waiting = std::make_shared<Waiting>(call), reply](Result<Reply> result) {
        auto* reactor = std::exchange(waiting->reactor, nullptr);
        REEVE_ASSERT(reactor != nullptr);  // answered once
        if (!result) {
            reactor->Finish(rpc::to_grpc(result.error()));
            return;
        }
        *reply = std::move(*result);
        reactor->Finish(grpc::Status::OK);
    };
}

UnaryReactor* refuse(UnaryReactor* reactor, const Error& error) {
    reactor->Finish(rpc::to_grpc(error));
    return reactor;
}

}  // namespace

Result<Identity> Service::caller(const grpc::CallbackServerContext& call) const {
    const auto& told = call.client_metadata();
    const auto version = told.find(rpc::kVersionKey);
    if (version != told.end()) {
        const std::string theirs(version->second.data(), version->second.size());
        if (theirs != rpc::kClientVersion) {
            return fail(
                ErrorCode::kFailedPrecondition,
                "this command is " + theirs + ", the running cell is " + rpc::kClientVersion +
                    "; use the same version, or restart the cell with: reeve down; reeve up");
        }
    }
    const auto who = context_.identities.find(call.peer());
    if (who) return *who;
    return fail(ErrorCode::kUnauthenticated,
                "the caller of this connection is not known; connect anew");
}

bool LongCalls::add(const std::shared_ptr<LongCall>& call, std::size_t limit) {
    const std::lock_guard hold(mutex_);
    if (closed_ || calls_.size() >= limit) return false;
    calls_.emplace(call.get(), call);
    return true;
}

void LongCalls::remove(const LongCall* call) {
    const std::lock_guard hold(mutex_);
    calls_.erase(call);
}

void LongCalls::end_all(const Error& why) {
    std::vector<std::shared_ptr<LongCall>> alive;
    {
        const std::lock_guard hold(mutex_);
        closed_ = true;
        for (const auto& [key, weak] : calls_) {
            if (auto call = weak.lock()) alive.push_back(std::move(call));
        }
    }
    for (const auto& call : alive) call->end(why);
}

UnaryReactor* Service::Submit(grpc::CallbackServerContext* call, const v1::SubmitRequest* request,
                              v1::SubmitReply* reply) {
    UnaryReactor* reactor = call->DefaultReactor();
    const auto who = caller(*call);
    if (!who) return refuse(reactor, who.error());
    // gRPC made this message for this call alone and hands it out as const; taking it apart saves a
    // copy of every job.
    auto& owned = const_cast<v1::SubmitRequest&>(*request);
    auto submission = prepare(std::move(owned), *who);
    if (!submission) return refuse(reactor, submission.error());
    context_.backend.submit(std::move(*submission), answer(reactor, reply));
    return reactor;
}

UnaryReactor* Service::Act(grpc::CallbackServerContext* call, const v1::ActRequest* request,
                           v1::ActReply* reply) {
    UnaryReactor* reactor = call->DefaultReactor();
    const auto who = caller(*call);
    if (!who) return refuse(reactor, who.error());
    if (auto checked = validate(*request); !checked) return refuse(reactor, checked.error());
    context_.backend.act(*who, *request, answer(reactor, reply));
    return reactor;
}

UnaryReactor* Service::Get(grpc::CallbackServerContext* call, const v1::GetRequest* request,
                           v1::GetReply* reply) {
    UnaryReactor* reactor = call->DefaultReactor();
    const auto who = caller(*call);
    if (!who) return refuse(reactor, who.error());
    if (request->jobs_size() > kJobsPerRequestMax) {
        return refuse(reactor, {ErrorCode::kInvalidArgument,
                                "jobs: too many in one request; ask for fewer at a time"});
    }
    context_.backend.get(*who, *request, answer(reactor, reply));
    return reactor;
}

UnaryReactor* Service::AuditHead(grpc::CallbackServerContext* call,
                                 const v1::AuditHeadRequest* request, v1::AuditHeadReply* reply) {
    UnaryReactor* reactor = call->DefaultReactor();
    if (const auto who = caller(*call); !who) return refuse(reactor, who.error());
    context_.backend.audit_head(*request, answer(reactor, reply));
    return reactor;
}

UnaryReactor* Service::Drain(grpc::CallbackServerContext* call, const v1::DrainRequest* request,
                             v1::DrainReply* reply) {
    UnaryReactor* reactor = call->DefaultReactor();
    const auto who = caller(*call);
    if (!who) return refuse(reactor, who.error());
    if (!printable_name(request->worker()) || request->worker().size() > kNameBytesMax) {
        return refuse(reactor, {ErrorCode::kInvalidArgument,
                                "worker: is empty or not a name; give a worker's name or number"});
    }
    context_.backend.drain(*who, *request, answer(reactor, reply));
    return reactor;
}

UnaryReactor* Service::ServerInfo(grpc::CallbackServerContext* call,
                                  const v1::ServerInfoRequest* /*request*/,
                                  v1::ServerInfoReply* reply) {
    UnaryReactor* reactor = call->DefaultReactor();
    if (const auto who = caller(*call); !who) return refuse(reactor, who.error());
    context_.backend.info(answer(reactor, reply));
    return reactor;
}

UnaryReactor* Service::Ledger(grpc::CallbackServerContext* call, const v1::LedgerRequest* request,
                              v1::LedgerReply* reply) {
    UnaryReactor* reactor = call->DefaultReactor();
    if (const auto who = caller(*call); !who) return refuse(reactor, who.error());
    if (!v1::LedgerAction_IsValid(request->action())) {
        return refuse(reactor, {ErrorCode::kInvalidArgument, "action: is neither flush nor prune"});
    }
    context_.backend.ledger(*request, answer(reactor, reply));
    return reactor;
}

grpc::ServerWriteReactor<v1::EventsReply>* Service::Events(grpc::CallbackServerContext* call,
                                                           const v1::EventsRequest* request) {
    return start_events(context_, caller(*call), *request);
}

grpc::ServerBidiReactor<v1::SubmitRequest, v1::SubmitReply>* Service::SubmitStream(
    grpc::CallbackServerContext* call) {
    return start_submit_stream(context_, caller(*call));
}

grpc::ServerWriteReactor<v1::WatchReply>* Service::Watch(grpc::CallbackServerContext* call,
                                                         const v1::WatchRequest* request) {
    return start_watch(context_, caller(*call), *request);
}

}  // namespace reeve::plm
