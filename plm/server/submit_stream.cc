// SubmitStream: batches in, replies in the same order, at most N batches between the two, and no
// further one once they are 16 MiB.
//
// Each batch is accepted whole or refused. The first refusal ends the stream with its status, after
// the replies of the batches before it; batches read after it may have been accepted all the same
// (keys make repeating them safe). Flow control is gRPC's: with N outstanding nothing more is read.
//
//   read -> prepare -> backend.submit -> (core thread) done -> written when all before it are
//
// Batches that ask for results (SubmitRequest::results) keep the stream open until their jobs have
// ended; what became of them goes out between the replies. While a client does not take its
// results, no further batch is read.
//
// A stream whose client went away, or that the PLM ends, finishes at once; answers of the core that
// come later find the stream object alive (they hold it) and are dropped.
#include <deque>
#include <memory>
#include <mutex>

#include "common/rpc/status.h"
#include "plm/server/prepare.h"
#include "plm/server/service.h"
#include "plm/server/step_loop.h"

namespace reeve::plm {

namespace {

using Reactor = grpc::ServerBidiReactor<v1::SubmitRequest, v1::SubmitReply>;

constexpr std::size_t kResultsWaitingMax = 64;           // messages; beyond, nothing more is read
constexpr std::size_t kOutstandingBytesMax = 16U << 20;  // of specs; likewise

class Stream final : public Reactor,
                     public LongCall,
                     public ResultSink,
                     public std::enable_shared_from_this<Stream> {
public:
    Stream(ServiceContext& context, const Identity& who) : context_(context), who_(who) {}

    void begin() {
        self_ = shared_from_this();
        step();
    }

    void OnReadDone(bool ok) override {
        // Still `reading_` while this batch is handed over: the next one must not overtake it.
        if (ok) take_batch();
        {
            const std::lock_guard hold(mutex_);
            reading_ = false;
            reads_over_ |= !ok;
        }
        step();
    }

    void OnWriteDone(bool ok) override {
        {
            const std::lock_guard hold(mutex_);
            writing_ = false;
            gone_ |= !ok;
        }
        step();
    }

    void OnCancel() override {
        {
            const std::lock_guard hold(mutex_);
            gone_ = true;
        }
        step();
    }

    void OnDone() override {
        context_.submit_streams.remove(this);
        self_.reset();  // may delete this
    }

    // ResultSink, on the core's thread.
    bool results(v1::SubmitReply&& batch, std::size_t jobs_ended) override {
        bool open = false;
        {
            const std::lock_guard hold(mutex_);
            open = !gone_ && !finished_ && failure_.ok();
            if (open) {
                jobs_open_ -= static_cast<std::int64_t>(jobs_ended);
                results_.push_back(std::move(batch));
            }
        }
        step();
        return open;
    }

    void end(const Error& why) override {
        {
            const std::lock_guard hold(mutex_);
            if (failure_.ok()) failure_ = rpc::to_grpc(why);
        }
        step();
    }

private:
    struct Batch {
        bool answered = false;
        std::size_t bytes = 0;
        Result<v1::SubmitReply> reply;
    };
    struct Next {
        bool read = false;
        bool write = false;
        bool finish = false;
        grpc::Status status;
    };

    void take_batch() {
        const bool wants_results = request_.results();
        auto submission = prepare(std::move(request_), who_);
        request_.Clear();
        Batch* batch = nullptr;
        {
            const std::lock_guard hold(mutex_);
            if (gone_ || finished_ || !failure_.ok()) return;
            batch = &batches_.emplace_back();  // a deque: the address stays
            if (!submission) {
                batch->answered = true;
                batch->reply = fail(submission.error());
                reads_over_ = true;  // nothing after a refused batch is handed over
                return;
            }
            for (const auto& job : submission->jobs) batch->bytes += job.bytes.size();
            outstanding_bytes_ += batch->bytes;
        }
        if (wants_results) submission->sink = shared_from_this();
        context_.backend.submit(
            std::move(*submission),
            [self = shared_from_this(), batch, wants_results](Result<v1::SubmitReply> reply) {
                {
                    const std::lock_guard hold(self->mutex_);
                    if (wants_results && reply) self->count_open(*reply);
                    batch->reply = std::move(reply);
                    batch->answered = true;
                }
                self->step();
            });
    }

    void count_open(const v1::SubmitReply& reply) {
        for (int i = 0; i < reply.job_ids_size(); ++i) jobs_open_ += reply.existed(i) ? 0 : 1;
    }

    void step() {
        const auto keep = weak_from_this().lock();
        std::unique_lock hold(mutex_);
        steps_.run(
            hold, [this] { return decide(); },
            [this](const Next& next) {
                if (next.read) StartRead(&request_);
                if (next.write) StartWrite(&reply_);
                if (next.finish) Finish(next.status);
            });
    }

    Next decide() {
        Next next;
        if (finished_) return next;
        const bool front_known = !writing_ && !batches_.empty() && batches_.front().answered;
        if (front_known && !batches_.front().reply && failure_.ok()) {
            failure_ = rpc::to_grpc(batches_.front().reply.error());
        }
        if (gone_ || !failure_.ok()) {
            finished_ = next.finish = !writing_;
            next.status = gone_ ? grpc::Status::CANCELLED : failure_;
            return next;
        }
        if (front_known) {
            reply_ = std::move(*batches_.front().reply);
            outstanding_bytes_ -= batches_.front().bytes;
            batches_.pop_front();
            writing_ = next.write = true;
        } else if (!writing_ && !results_.empty()) {
            reply_ = std::move(results_.front());
            results_.pop_front();
            writing_ = next.write = true;
        }
        if (!reading_ && !reads_over_ && results_.size() < kResultsWaitingMax &&
            batches_.size() < context_.options.batches_outstanding_max &&
            outstanding_bytes_ < kOutstandingBytesMax) {
            reading_ = next.read = true;
        }
        finished_ = next.finish =
            reads_over_ && batches_.empty() && !writing_ && results_.empty() && jobs_open_ == 0;
        return next;
    }

    ServiceContext& context_;
    const Identity who_;
    std::shared_ptr<Stream> self_;  // until gRPC is done with us
    v1::SubmitRequest request_;
    v1::SubmitReply reply_;

    std::mutex mutex_;
    std::deque<Batch> batches_;          // in order of arrival
    std::size_t outstanding_bytes_ = 0;  // of these
    std::deque<v1::SubmitReply> results_;
    std::int64_t jobs_open_ = 0;  // of those that want results
    bool reading_ = false;
    bool writing_ = false;
    bool reads_over_ = false;
    bool gone_ = false;  // the client went away
    bool finished_ = false;
    StepLoop steps_;
    grpc::Status failure_;  // not OK: ends the stream
};

// A call that is refused before it begins.
class Refused final : public Reactor {
public:
    explicit Refused(const Error& why) { Finish(rpc::to_grpc(why)); }
    void OnDone() override { delete this; }
};

}  // namespace

Reactor* start_submit_stream(ServiceContext& context, const Result<Identity>& who) {
    if (!who) return new Refused(who.error());
    auto stream = std::make_shared<Stream>(context, *who);
    const std::size_t limit =
        context.options.connections_max * context.options.streams_per_connection_max;
    if (!context.submit_streams.add(stream, limit)) {
        return new Refused({ErrorCode::kUnavailable, "the PLM is stopping; try again"});
    }
    stream->begin();
    return stream.get();
}

}  // namespace reeve::plm
