#include "plm/core/flusher.h"

#include <utility>

#include "common/base/assert.h"

namespace reeve::plm {

Flusher::Flusher(std::function<void()> wake) : wake_(std::move(wake)), thread_([this] { run(); }) {}

Flusher::~Flusher() {
    {
        const std::lock_guard hold(mutex_);
        stopping_ = true;
    }
    wanted_.notify_one();
    thread_.join();
}

void Flusher::start(std::function<void()> job) {
    REEVE_ASSERT(landed());
    landed_.store(false, std::memory_order_relaxed);
    {
        const std::lock_guard hold(mutex_);
        job_ = std::move(job);
    }
    wanted_.notify_one();
}

void Flusher::run() {
    std::unique_lock hold(mutex_);
    while (true) {
        wanted_.wait(hold, [this] { return stopping_ || job_; });
        if (!job_) return;
        const auto job = std::exchange(job_, nullptr);
        hold.unlock();
        job();
        landed_.store(true, std::memory_order_release);
        wake_();
        hold.lock();
    }
}

}  // namespace reeve::plm
