// A libnvidia-ml.so.1 for machines without one: its GPUs are the lines of the file named by
// FAKE_NVML, "UUID BUSY_PERCENT USED_MIB TOTAL_MIB", read anew at each call. A BUSY_PERCENT of -1
// makes the calls about that GPU fail, as those about a lost one do.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "worker/gpu/nvml_abi.h"

namespace {

constexpr int kMost = 8;
struct Gpu {
    char uuid[80];
    int busy;
    unsigned long long used_mib;
    unsigned long long total_mib;
};
constexpr NvmlCode kSuccess = 0;
constexpr NvmlCode kNoDriver = 9;
constexpr NvmlCode kLost = 15;

unsigned read_gpus(Gpu* out) {
    const char* path = std::getenv("FAKE_NVML");
    std::FILE* file = path != nullptr ? std::fopen(path, "r") : nullptr;
    if (file == nullptr) return 0;
    unsigned count = 0;
    while (count < kMost &&
           std::fscanf(file, "%79s %d %llu %llu", out[count].uuid, &out[count].busy,
                       &out[count].used_mib, &out[count].total_mib) == 4) {
        ++count;
    }
    std::fclose(file);
    return count;
}

bool find(void* device, Gpu& out) {
    Gpu all[kMost];
    const auto index = reinterpret_cast<unsigned long>(device) - 1;
    if (index >= read_gpus(all)) return false;
    out = all[index];
    return true;
}

}  // namespace

extern "C" {

NvmlCode nvmlInit_v2() {
    return std::getenv("FAKE_NVML") != nullptr ? kSuccess : kNoDriver;
}
NvmlCode nvmlShutdown() {
    return kSuccess;
}
const char* nvmlErrorString(NvmlCode) {
    return "Driver Not Loaded";
}

NvmlCode nvmlDeviceGetCount_v2(unsigned* count) {
    Gpu all[kMost];
    *count = read_gpus(all);
    return kSuccess;
}

NvmlCode nvmlDeviceGetHandleByIndex_v2(unsigned index, NvmlDevice* device) {
    *device = reinterpret_cast<void*>(static_cast<unsigned long>(index) + 1);
    return kSuccess;
}

NvmlCode nvmlDeviceGetUUID(NvmlDevice device, char* text, unsigned size) {
    Gpu gpu;
    if (!find(device, gpu)) return kLost;
    std::snprintf(text, size, "%s", gpu.uuid);
    return kSuccess;
}

NvmlCode nvmlDeviceGetName(NvmlDevice, char* text, unsigned size) {
    std::snprintf(text, size, "Imagined H200");
    return kSuccess;
}

NvmlCode nvmlDeviceGetMemoryInfo(NvmlDevice device, NvmlMemory* out) {
    Gpu gpu;
    if (!find(device, gpu) || gpu.busy < 0) return kLost;
    out->total = gpu.total_mib << 20;
    out->used = gpu.used_mib << 20;
    out->free = out->total - out->used;
    return kSuccess;
}

NvmlCode nvmlDeviceGetUtilizationRates(NvmlDevice device, NvmlUtilization* out) {
    Gpu gpu;
    if (!find(device, gpu) || gpu.busy < 0) return kLost;
    out->gpu = static_cast<unsigned>(gpu.busy);
    out->memory = 0;
    return kSuccess;
}

}  // extern "C"
