// Events: the audit log's entries as a stream, one write under way.
//
// A call reads the published tiles itself, from its place on; the core only tells how far they
// reach. So replay and live are one thing, what is told is under a signed checkpoint, and a slow
// reader costs nobody anything. After a break a client goes on at `next`.
#include <memory>
#include <mutex>
#include <unordered_set>

#include "common/audit/entry.h"
#include "common/audit/tiles.h"
#include "common/rpc/status.h"
#include "plm/server/service.h"
#include "plm/server/step_loop.h"
#include "plm/server/validate.h"

namespace reeve::plm {

namespace {

using Reactor = grpc::ServerWriteReactor<v1::EventsReply>;
using Refused = RefusedStream<v1::EventsReply>;

constexpr std::uint64_t kBundlesPerMessage = 16;  // of 256 entries each

class EventsCall final : public Reactor,
                         public EventSink,
                         public LongCall,
                         public std::enable_shared_from_this<EventsCall> {
public:
    EventsCall(ServiceContext& context, const v1::EventsRequest& request)
        : context_(context),
          jobs_(request.jobs().begin(), request.jobs().end()),
          live_only_(request.live_only()),
          follow_(request.follow()),
          at_(request.from()) {}

    void begin() {
        self_ = shared_from_this();
        context_.backend.events(self_);
    }

    // EventSink
    bool published(std::uint64_t size) override {
        {
            const std::lock_guard hold(mutex_);
            if (closed_) return false;
            if (first_) {
                first_ = false;
                if (live_only_) at_ = size;
                if (at_ > size) {
                    close(rpc::to_grpc(
                        {ErrorCode::kOutOfRange, "from: there are only " + std::to_string(size) +
                                                     " events so far; begin with a smaller one"}));
                }
            }
            size_ = std::max(size_, size);
        }
        step();
        return true;
    }

    // LongCall
    void end(const Error& why) override {
        {
            const std::lock_guard hold(mutex_);
            close(rpc::to_grpc(why));
        }
        step();
    }

    // Reactor
    void OnWriteDone(bool ok) override {
        {
            const std::lock_guard hold(mutex_);
            writing_ = false;
            if (!ok) close(grpc::Status::CANCELLED);
        }
        step();
    }
    void OnCancel() override { end({ErrorCode::kCancelled, "the client went away"}); }
    void OnDone() override {
        context_.watches.remove(this);
        self_.reset();
    }

private:
    struct Next {
        bool read = false;
        bool finish = false;
        std::uint64_t size = 0;
        grpc::Status status;
    };

    void close(const grpc::Status& status) {  // holds mutex_
        if (closed_) return;
        closed_ = true;
        status_ = status;
    }

    Next decide() {  // holds mutex_
        Next next;
        if (writing_ || finished_) return next;
        if (!closed_ && !first_ && at_ >= size_ && !follow_) close(grpc::Status::OK);
        if (closed_) {
            finished_ = next.finish = true;
            next.status = status_;
            return next;
        }
        if (first_ || at_ >= size_) return next;
        writing_ = next.read = true;
        next.size = size_;
        return next;
    }

    void step() {
        const auto keep = weak_from_this().lock();
        std::unique_lock hold(mutex_);
        steps_.run(
            hold, [this] { return decide(); },
            [this](const Next& next) {
                if (next.read) write_or_close(next.size);
                if (next.finish) Finish(next.status);
            });
    }

    void write_or_close(std::uint64_t size) {
        const auto filled = fill(size);
        if (filled) {
            StartWrite(&reply_);
            return;
        }
        {
            const std::lock_guard hold(mutex_);
            writing_ = false;
            close(rpc::to_grpc(filled.error()));
        }
        step();
    }

    Status fill(std::uint64_t size) {
        reply_.Clear();
        const audit::TileReader reader(context_.options.audit_directory, size);
        for (std::uint64_t bundles = 0; at_ < size && bundles < kBundlesPerMessage; ++bundles) {
            const auto bundle = at_ / audit::kTileWidth;
            const auto begin = bundle * audit::kTileWidth;
            const auto width = std::min<std::uint64_t>(audit::kTileWidth, size - begin);
            REEVE_TRY_ASSIGN(const auto bytes, reader.bundle(bundle));
            REEVE_TRY_ASSIGN(const auto entries,
                             audit::split_bundle(bytes, static_cast<unsigned>(width)));
            for (; at_ < begin + width; ++at_) add(entries[at_ - begin]);
        }
        reply_.set_next(at_);
        return {};
    }

    void add(std::string_view bytes) {
        if (!jobs_.empty()) {
            const auto entry = audit::decode(bytes);
            const bool of_task = entry && audit::subject_of(entry->kind) == audit::Subject::kTask;
            if (!of_task || !jobs_.contains(audit::to_task(entry->task).job)) return;
        }
        auto* event = reply_.add_events();
        event->set_index(at_);
        event->set_entry(std::string(bytes));
    }

    ServiceContext& context_;
    const std::unordered_set<std::uint64_t> jobs_;
    const bool live_only_;
    const bool follow_;
    std::shared_ptr<EventsCall> self_;  // until gRPC is done with us
    v1::EventsReply reply_;

    std::mutex mutex_;
    std::uint64_t at_;  // the next entry; while writing_ the stepping thread's alone
    std::uint64_t size_ = 0;
    bool first_ = true;  // the core has not told the size yet
    bool writing_ = false;
    bool closed_ = false;
    bool finished_ = false;
    StepLoop steps_;
    grpc::Status status_;
};

}  // namespace

Reactor* start_events(ServiceContext& context, const Result<Identity>& who,
                      const v1::EventsRequest& request) {
    if (!who) return new Refused(who.error());
    if (request.jobs_size() > kJobsPerRequestMax) {
        return new Refused({ErrorCode::kInvalidArgument,
                            "jobs: too many in one request; ask for fewer at a time"});
    }
    auto call = std::make_shared<EventsCall>(context, request);
    if (!context.watches.add(call, context.options.watches_max)) {
        return new Refused(
            {ErrorCode::kResourceExhausted, "too many watches are open; end some and try again"});
    }
    call->begin();
    return call.get();
}

}  // namespace reeve::plm
