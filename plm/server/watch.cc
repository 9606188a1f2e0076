// Watch: one stream of job states and task results per client, fed by the core, one write under
// way.
//
// Job states coalesce: only the newest of each job waits, and a message with states alone goes out
// at most every interval. Task results keep their order, are never dropped, and go out at once; a
// client that lets more than the limit of them pile up is cut off with kResourceExhausted (it reads
// the rest from the history and watches anew).
#include <chrono>
#include <deque>
#include <memory>
#include <mutex>
#include <unordered_map>

#include <grpcpp/alarm.h>

#include "common/rpc/status.h"
#include "plm/server/service.h"
#include "plm/server/step_loop.h"
#include "plm/server/validate.h"

namespace reeve::plm {

namespace {

using Reactor = grpc::ServerWriteReactor<v1::WatchReply>;
using Refused = RefusedStream<v1::WatchReply>;
using Clock = std::chrono::steady_clock;

constexpr std::uint32_t kIntervalMs = 100;
constexpr std::uint32_t kIntervalMsMax = 3'600'000;
constexpr std::size_t kItemsPerMessage = 2000;

class WatchCall final : public Reactor,
                        public WatchSink,
                        public LongCall,
                        public std::enable_shared_from_this<WatchCall> {
public:
    WatchCall(ServiceContext& context, std::uint32_t interval_ms)
        : context_(context), interval_(interval_ms) {}

    void begin(const Identity& who, const v1::WatchRequest& request) {
        self_ = shared_from_this();
        context_.backend.watch(who, request, self_);
    }

    // WatchSink, on the core's thread.
    bool push(std::vector<v1::JobStatus> jobs, std::vector<v1::TaskResult> results) override {
        bool open = false;
        {
            const std::lock_guard hold(mutex_);
            if (closed_) return false;
            for (v1::JobStatus& job : jobs) {
                const auto id = job.job();
                const auto [place, is_new] = states_.insert_or_assign(id, std::move(job));
                if (is_new) order_.push_back(id);
            }
            for (v1::TaskResult& result : results) results_.push_back(std::move(result));
            if (results_.size() > context_.options.watch_results_max) {
                close(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                                   "this watcher does not read fast enough; read the history and "
                                   "watch again"));
            }
            open = !closed_;
        }
        step();
        return open;
    }

    void finish(Status status) override {
        {
            const std::lock_guard hold(mutex_);
            if (closed_) return;
            if (status) {
                ending_ = true;  // what waits goes out first, then done = true
            } else {
                close(rpc::to_grpc(status.error()));
            }
        }
        step();
    }

    // LongCall
    void end(const Error& why) override { close_and_unwatch(rpc::to_grpc(why)); }

    // Reactor
    void OnWriteDone(bool ok) override {
        {
            const std::lock_guard hold(mutex_);
            writing_ = false;
            if (!ok) close(grpc::Status::CANCELLED);
        }
        step();
    }
    void OnCancel() override { close_and_unwatch(grpc::Status::CANCELLED); }
    void OnDone() override {
        context_.watches.remove(this);
        context_.backend.unwatch(shared_from_this());
        self_.reset();
    }

private:
    struct Next {
        bool write = false;
        bool finish = false;
        bool alarm = false;
        Clock::time_point due;
        grpc::Status status;
    };

    void close(const grpc::Status& status) {  // holds mutex_
        if (closed_) return;
        closed_ = true;
        status_ = status;
        states_.clear();
        order_.clear();
        results_.clear();
    }

    void close_and_unwatch(const grpc::Status& status) {
        {
            const std::lock_guard hold(mutex_);
            close(status);
        }
        context_.backend.unwatch(shared_from_this());
        step();
    }

    void step() {
        const auto keep = weak_from_this().lock();
        std::unique_lock hold(mutex_);
        steps_.run(
            hold, [this] { return decide(); },
            [this](const Next& next) {
                if (next.write) StartWrite(&reply_);
                if (next.alarm) set_alarm(next.due);
                if (next.finish) Finish(next.status);
            });
    }

    Next decide() {
        Next next;
        if (writing_ || finished_) return next;
        if (closed_) {
            finished_ = next.finish = true;
            next.status = status_;
            return next;
        }
        const bool waiting = !results_.empty() || !order_.empty();
        const auto now = Clock::now();
        if (!results_.empty() || ending_ || (waiting && now >= due_)) {
            fill_reply();
            due_ = now + std::chrono::milliseconds(interval_);
            writing_ = next.write = true;
            if (reply_.done()) close(grpc::Status::OK);
        } else if (waiting && !alarm_set_) {
            alarm_set_ = next.alarm = true;
            next.due = due_;
        }
        return next;
    }

    void fill_reply() {
        reply_.Clear();
        std::size_t items = 0;
        for (; items < kItemsPerMessage && !results_.empty(); ++items) {
            *reply_.add_results() = std::move(results_.front());
            results_.pop_front();
        }
        for (; items < kItemsPerMessage && !order_.empty(); ++items) {
            const auto found = states_.find(order_.front());
            *reply_.add_jobs() = std::move(found->second);
            states_.erase(found);
            order_.pop_front();
        }
        reply_.set_done(ending_ && results_.empty() && order_.empty());
    }

    void set_alarm(Clock::time_point due) {
        const auto left = std::max(due - Clock::now(), Clock::duration::zero());
        const auto when = std::chrono::system_clock::now() +
                          std::chrono::duration_cast<std::chrono::system_clock::duration>(left);
        alarm_ = std::make_unique<grpc::Alarm>();  // the old one may be running its callback: us
        // An alarm keeps its callback as long as it lives, and it lives in us: no share in us.
        alarm_->Set(when, [weak = weak_from_this()](bool) {
            const auto self = weak.lock();
            if (self == nullptr) return;
            {
                const std::lock_guard hold(self->mutex_);
                self->alarm_set_ = false;
            }
            self->step();
        });
    }

    ServiceContext& context_;
    const std::uint32_t interval_;
    std::shared_ptr<WatchCall> self_;  // until gRPC is done with us
    v1::WatchReply reply_;
    std::unique_ptr<grpc::Alarm> alarm_;  // touched by the stepping thread only

    std::mutex mutex_;
    std::unordered_map<std::uint64_t, v1::JobStatus> states_;
    std::deque<std::uint64_t> order_;  // of states_, by first change
    std::deque<v1::TaskResult> results_;
    Clock::time_point due_{};  // states alone go out from then on
    bool writing_ = false;
    bool ending_ = false;  // all jobs have ended
    bool closed_ = false;  // nothing more is taken; Finish with status_
    bool finished_ = false;
    bool alarm_set_ = false;
    StepLoop steps_;
    grpc::Status status_;
};

}  // namespace

Reactor* start_watch(ServiceContext& context, const Result<Identity>& who,
                     const v1::WatchRequest& request) {
    if (!who) return new Refused(who.error());
    if (request.jobs().empty() || request.jobs_size() > kJobsPerRequestMax) {
        return new Refused({ErrorCode::kInvalidArgument,
                            "jobs: name between 1 and " + std::to_string(kJobsPerRequestMax)});
    }
    if (request.interval_ms() > kIntervalMsMax) {
        return new Refused({ErrorCode::kInvalidArgument, "interval_ms: is over an hour"});
    }
    const std::uint32_t interval = request.interval_ms() == 0 ? kIntervalMs : request.interval_ms();
    auto call = std::make_shared<WatchCall>(context, interval);
    if (!context.watches.add(call, context.options.watches_max)) {
        return new Refused(
            {ErrorCode::kResourceExhausted, "too many watches are open; end some and try again"});
    }
    call->begin(*who, request);
    return call.get();
}

}  // namespace reeve::plm
