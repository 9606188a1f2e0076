// The agent's part about GPUs: which it offers, and how busy they are.
#include <cstdlib>
#include <cstring>

#include "common/log/log.h"
#include "worker/agent.h"

namespace reeve::worker {

// Before the worker joins. Without a driver a worker offers what its options say.
void Agent::find_gpus() {
    if (!options_.detect_gpus && options_.gpus == 0) return;
    auto nvml = Nvml::open();
    if (!nvml) {
        log::info("no GPUs are watched", {{"why", nvml.error().message}});
        return;
    }
    const auto mine = visible_gpus((*nvml)->gpus(), std::getenv("CUDA_VISIBLE_DEVICES"));
    if (options_.detect_gpus && options_.gpu_ids.empty()) {
        options_.gpus = static_cast<std::uint32_t>(mine.size());
    }
    if (options_.gpu_ids.empty()) {
        for (std::size_t i = 0; i < mine.size() && i < options_.gpus; ++i) {
            options_.gpu_ids.push_back(mine[i].uuid);
        }
    }
    log::info("GPUs found", {{"driver", (*nvml)->gpus().size()}, {"offered", options_.gpus}});
    if (options_.gpus == 0) return;
    gpu_watch_ = std::make_unique<GpuWatch>(
        std::move(*nvml), options_.gpu_ids,
        [this](std::size_t position, const GpuLoad& load) { note_gpu(position, load); });
}

// From the watch's thread.
void Agent::note_gpu(std::size_t position, const GpuLoad& load) {
    constexpr std::uint64_t kMib = 1 << 20;
    const std::lock_guard lock(mutex_);
    if (!segment_ || self_ == nullptr || position >= shm::kGpusShown) return;
    auto& entry = self_->gpus[position];
    entry.busy_percent.store(load.busy_percent);
    entry.memory_used_mib.store(static_cast<std::uint32_t>(load.memory_used_bytes / kMib));
    entry.memory_total_mib.store(static_cast<std::uint32_t>(load.memory_total_bytes / kMib));
    entry.known.store(load.known ? 1 : 0);
}

}  // namespace reeve::worker
