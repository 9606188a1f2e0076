// The machine's NVIDIA GPUs, through libnvidia-ml.so.1 if there is one: no build dependency on it.
//
// Opened with dlopen, so that the same binary runs on machines without a driver. Only what every
// driver since 2013 has is asked for; a call that fails leaves its figures unknown.
// Not thread-safe; calls may take tens of milliseconds.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace reeve::worker {

struct GpuInfo {
    std::uint32_t index = 0;  // as the driver numbers them
    std::string uuid;         // "GPU-..."
    std::string name;
};

struct GpuLoad {
    bool known = false;
    std::uint32_t busy_percent = 0;
    std::uint64_t memory_used_bytes = 0;
    std::uint64_t memory_total_bytes = 0;
};

class Nvml {
public:
    // kNotFound: no library, or no driver behind it (the message says which).
    static Result<std::unique_ptr<Nvml>> open();
    ~Nvml();
    Nvml(const Nvml&) = delete;
    Nvml& operator=(const Nvml&) = delete;

    const std::vector<GpuInfo>& gpus() const { return gpus_; }
    GpuLoad load(std::uint32_t index) const;

private:
    struct Calls;
    Nvml(void* library, std::unique_ptr<Calls> calls);
    Status find_gpus();

    void* library_;
    std::unique_ptr<Calls> calls_;
    std::vector<GpuInfo> gpus_;
    std::vector<void*> handles_;
};

// Those of `all` that `visible` (the worker's own CUDA_VISIBLE_DEVICES; null: not set) leaves to
// us, in its order: indices or the beginnings of UUIDs. As the driver's own library does, what
// comes behind the first that names none is not visible.
std::vector<GpuInfo> visible_gpus(const std::vector<GpuInfo>& all, const char* visible);

}  // namespace reeve::worker
