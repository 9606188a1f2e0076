#include "worker/gpu/gpu_watch.h"

#include <chrono>

namespace reeve::worker {

namespace {
constexpr std::chrono::milliseconds kEvery{2000};
}  // namespace

GpuWatch::GpuWatch(std::unique_ptr<Nvml> nvml, const std::vector<std::string>& uuids, Tell tell)
    : nvml_(std::move(nvml)), tell_(std::move(tell)) {
    for (std::size_t i = 0; i < uuids.size(); ++i) {
        for (const auto& gpu : nvml_->gpus()) {
            if (gpu.uuid == uuids[i]) watched_.emplace_back(i, gpu.index);
        }
    }
    thread_ = std::thread([this] { run(); });
}

GpuWatch::~GpuWatch() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    thread_.join();
}

void GpuWatch::run() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
        lock.unlock();
        for (const auto& [position, index] : watched_) tell_(position, nvml_->load(index));
        lock.lock();
        wake_.wait_for(lock, kEvery, [this] { return stopping_; });
    }
}

}  // namespace reeve::worker
