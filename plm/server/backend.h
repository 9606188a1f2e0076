// Backend is what the gRPC front asks of the PLM's core: translated requests in, answers by
// callback.
//
// The front calls it from gRPC threads, so every method is thread-safe, returns at once and never
// blocks (the core queues the request). Each `done` is called exactly once, from the core thread
// or, for a refusal known at once, from the caller; it does not block. A refusal is an Error whose
// code becomes the gRPC status. When the core stops it answers what is left with kUnavailable
// before it lets go of the callbacks.
//
// Requests were checked before they get here: a Submission passed validate.h, and the caller's uid
// may use this cell. Who may act on which job is the core's decision (Identity).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "reeve/v1/reeve.pb.h"

#include "common/base/result.h"

namespace reeve::plm {

// Who asks, from the unix socket's peer credentials.
struct Identity {
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::int32_t pid = 0;
};

// One job of a submission, serialised on a gRPC thread so that the core need not do it.
// `bytes` is the whole JobSpec (for the ledger); the TaskSpec inside it, uid and gid filled in, is
// what workers read from the arena.
struct SubmittedJob {
    v1::JobSpec spec;
    std::string bytes;
    std::uint32_t task_offset = 0;
    std::uint32_t task_size = 0;

    std::string_view task_bytes() const {
        return std::string_view(bytes).substr(task_offset, task_size);
    }
};

// Takes what becomes of the jobs of one submit stream. Called from the core thread; never blocks.
class ResultSink {
public:
    virtual ~ResultSink() = default;
    // `jobs_ended` of its jobs have. False: the client is gone; nothing more need be told.
    virtual bool results(v1::SubmitReply&& batch, std::size_t jobs_ended) = 0;
};

struct Submission {
    Identity who;
    std::vector<SubmittedJob> jobs;  // never empty
    bool validate_only = false;
    std::shared_ptr<ResultSink> sink;  // who wants to hear of its ends, or nobody
};

template <typename T>
using Done = std::function<void(Result<T>)>;

// The receiving end of one Watch call. The core calls it from its thread; nothing here blocks.
// It keeps the newest JobStatus per job and hands on every TaskResult in order; a client too slow
// to take its results is ended with kResourceExhausted. After finish() nothing more may be pushed.
class WatchSink {
public:
    virtual ~WatchSink() = default;
    // False: the client is gone or was cut off; push nothing more and drop the sink.
    virtual bool push(std::vector<v1::JobStatus> jobs, std::vector<v1::TaskResult> results) = 0;
    // All watched jobs have ended (success: the stream's last message says done), or why it stops.
    virtual void finish(Status status) = 0;
};

// The receiving end of one Events call. Called from the core's publishing threads; does not block.
class EventSink {
public:
    virtual ~EventSink() = default;
    // The log is published up to `size` entries. False: the client is gone; drop the sink.
    virtual bool published(std::uint64_t size) = 0;
};

class Backend {
public:
    virtual ~Backend() = default;

    // Answered after the ledger's flush.
    virtual void submit(Submission submission, Done<v1::SubmitReply> done) = 0;
    virtual void act(Identity who, v1::ActRequest request, Done<v1::ActReply> done) = 0;
    virtual void get(Identity who, v1::GetRequest request, Done<v1::GetReply> done) = 0;

    // The sink first gets the state of every job asked for. The core lets go of it after finish(),
    // after a push() that returned false, or after unwatch() (called, maybe twice, when the stream
    // is over, also for a sink let go before; the sink may still be called until then).
    virtual void watch(Identity who, v1::WatchRequest request, std::shared_ptr<WatchSink> sink) = 0;
    virtual void unwatch(std::shared_ptr<WatchSink> sink) = 0;

    virtual void audit_head(v1::AuditHeadRequest request, Done<v1::AuditHeadReply> done) = 0;
    virtual void drain(Identity who, v1::DrainRequest request, Done<v1::DrainReply> done) = 0;
    virtual void info(Done<v1::ServerInfoReply> done) = 0;
    virtual void ledger(v1::LedgerRequest request, Done<v1::LedgerReply> done) = 0;
    // Tells the sink at once how far the log is published, and whenever it is published further.
    virtual void events(std::shared_ptr<EventSink> sink) = 0;
};

}  // namespace reeve::plm
