// Flusher runs one job at a time on a thread of its own, so that its owner can do something else
// until it has landed.
//
// start() hands a job over, landed() tells whether it is done; what the job wrote is there for the
// owner once landed() was true. `wake` is called from the thread after each job. One owner thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace reeve::plm {

class Flusher {
public:
    explicit Flusher(std::function<void()> wake);
    ~Flusher();  // waits for the job under way
    Flusher(const Flusher&) = delete;
    Flusher& operator=(const Flusher&) = delete;

    void start(std::function<void()> job);  // the one before has landed
    bool landed() const { return landed_.load(std::memory_order_acquire); }

private:
    void run();

    std::function<void()> wake_;
    std::atomic<bool> landed_{true};
    std::mutex mutex_;
    std::condition_variable wanted_;
    std::function<void()> job_;  // guarded by mutex_
    bool stopping_ = false;      // guarded by mutex_
    std::thread thread_;
};

}  // namespace reeve::plm
