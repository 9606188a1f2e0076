// What is used of the GPU driver's C interface, as its published header (nvml.h) has it; the
// layouts and names have been stable since they exist. The library is found at run time (nvml.cc),
// and tests/support/fake_nvml.cc implements the same functions.
#pragma once

extern "C" {

struct NvmlMemory {
    unsigned long long total;
    unsigned long long free;
    unsigned long long used;
};
struct NvmlUtilization {
    unsigned int gpu;
    unsigned int memory;
};
using NvmlDevice = void*;
using NvmlCode = int;

NvmlCode nvmlInit_v2();
NvmlCode nvmlShutdown();
NvmlCode nvmlDeviceGetCount_v2(unsigned* count);
NvmlCode nvmlDeviceGetHandleByIndex_v2(unsigned index, NvmlDevice* device);
NvmlCode nvmlDeviceGetUUID(NvmlDevice device, char* text, unsigned size);
NvmlCode nvmlDeviceGetName(NvmlDevice device, char* text, unsigned size);
NvmlCode nvmlDeviceGetMemoryInfo(NvmlDevice device, NvmlMemory* out);
NvmlCode nvmlDeviceGetUtilizationRates(NvmlDevice device, NvmlUtilization* out);
const char* nvmlErrorString(NvmlCode code);

}  // extern "C"
