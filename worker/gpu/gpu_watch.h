// GpuWatch asks the driver every two seconds how busy our GPUs are, on a thread of its own, for the
// driver may be slow; the agent writes what it says into its worker slot.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "worker/gpu/nvml.h"

namespace reeve::worker {

class GpuWatch {
public:
    // (position in `uuids`, its load); called from the watch's thread.
    using Tell = std::function<void(std::size_t, const GpuLoad&)>;

    // `uuids`: the GPUs we offer, those the driver does not know are left out.
    GpuWatch(std::unique_ptr<Nvml> nvml, const std::vector<std::string>& uuids, Tell tell);
    ~GpuWatch();
    GpuWatch(const GpuWatch&) = delete;
    GpuWatch& operator=(const GpuWatch&) = delete;

private:
    void run();

    std::unique_ptr<Nvml> nvml_;
    std::vector<std::pair<std::size_t, std::uint32_t>> watched_;  // position, driver's index
    Tell tell_;
    std::mutex mutex_;
    std::condition_variable wake_;
    bool stopping_ = false;
    std::thread thread_;
};

}  // namespace reeve::worker
