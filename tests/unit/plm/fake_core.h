// FakeCore is a Backend with a thread of its own, as the real core has; tests tell it what to
// answer.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "plm/server/backend.h"

namespace reeve::test {

class FakeCore final : public plm::Backend {
public:
    FakeCore() : thread_([this] { run(); }) {}
    ~FakeCore() override {
        later([this] { stopping_ = true; });
        thread_.join();
    }

    void submit(plm::Submission submission, plm::Done<v1::SubmitReply> done) override {
        auto held = std::make_shared<plm::Submission>(std::move(submission));
        later([this, held, done = std::move(done)] {
            ++submissions;
            last_uid = held->who.uid;
            if (!held->jobs[0].spec.key().empty() && held->jobs[0].spec.key() == refuse_key) {
                done(fail(ErrorCode::kResourceExhausted, "the cell is full"));
                return;
            }
            v1::SubmitReply reply;
            for (std::size_t i = 0; i < held->jobs.size(); ++i) {
                reply.add_job_ids(++last_id_);
                reply.add_existed(false);
            }
            done(std::move(reply));
        });
    }
    void act(plm::Identity, v1::ActRequest request, plm::Done<v1::ActReply> done) override {
        later([request = std::move(request), done = std::move(done)] {
            v1::ActReply reply;
            reply.add_results()->set_job(request.selections(0).job());
            done(std::move(reply));
        });
    }
    void get(plm::Identity, v1::GetRequest, plm::Done<v1::GetReply> done) override {
        later([this, done = std::move(done)] {
            v1::GetReply reply;
            reply.set_last_job_id(last_id_);
            done(std::move(reply));
        });
    }
    void watch(plm::Identity, v1::WatchRequest, std::shared_ptr<plm::WatchSink> sink) override {
        later([this, sink = std::move(sink)] {
            ++watches;
            sinks_.push_back(sink);
        });
    }
    void unwatch(std::shared_ptr<plm::WatchSink> sink) override {
        later([this, sink = std::move(sink)] { std::erase(sinks_, sink); });
    }
    void audit_head(v1::AuditHeadRequest, plm::Done<v1::AuditHeadReply> done) override {
        later([done = std::move(done)] { done(fail(ErrorCode::kNotFound, "no checkpoint yet")); });
    }
    void drain(plm::Identity, v1::DrainRequest, plm::Done<v1::DrainReply> done) override {
        later([done = std::move(done)] { done(v1::DrainReply()); });
    }
    void info(plm::Done<v1::ServerInfoReply> done) override {
        later([done = std::move(done)] {
            v1::ServerInfoReply reply;
            reply.set_version("fake");
            done(std::move(reply));
        });
    }

    void ledger(v1::LedgerRequest, plm::Done<v1::LedgerReply> done) override {
        later([done = std::move(done)] { done(v1::LedgerReply()); });
    }
    void events(std::shared_ptr<plm::EventSink> sink) override {
        later([sink = std::move(sink)] { (void)sink->published(0); });
    }

    // Runs on the core's thread, after what was asked before.
    void later(std::function<void()> what) {
        const std::lock_guard hold(mutex_);
        queue_.push_back(std::move(what));
        wake_.notify_one();
    }
    void with_sinks(std::function<void(std::vector<std::shared_ptr<plm::WatchSink>>&)> what) {
        later([this, what = std::move(what)] { what(sinks_); });
    }
    // While held, nothing is answered.
    void hold_answers(bool held) {
        const std::lock_guard hold(mutex_);
        held_ = held;
        wake_.notify_one();
    }

    std::atomic<int> submissions{0};
    std::atomic<int> watches{0};
    std::atomic<std::uint32_t> last_uid{0};
    std::string refuse_key;

private:
    void run() {
        std::unique_lock hold(mutex_);
        while (!stopping_) {
            wake_.wait(hold, [this] { return !queue_.empty() && !held_; });
            auto what = std::move(queue_.front());
            queue_.pop_front();
            hold.unlock();
            what();
            hold.lock();
        }
    }

    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<std::function<void()>> queue_;
    bool held_ = false;
    bool stopping_ = false;
    std::uint64_t last_id_ = 0;
    std::vector<std::shared_ptr<plm::WatchSink>> sinks_;
    std::thread thread_;
};

}  // namespace reeve::test
