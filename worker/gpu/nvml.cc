#include "worker/gpu/nvml.h"

#include <charconv>

#include <dlfcn.h>

#include "worker/gpu/nvml_abi.h"

namespace reeve::worker {

namespace {

constexpr NvmlCode kSuccess = 0;
constexpr unsigned kTextMax = 96;
constexpr unsigned kGpusMax = 64;

template <typename Function>
bool find(void* library, const char* name, Function*& out) {
    out = reinterpret_cast<Function*>(dlsym(library, name));
    return out != nullptr;
}

}  // namespace

struct Nvml::Calls {
    decltype(&nvmlInit_v2) init = nullptr;
    decltype(&nvmlShutdown) shutdown = nullptr;
    decltype(&nvmlDeviceGetCount_v2) count = nullptr;
    decltype(&nvmlDeviceGetHandleByIndex_v2) handle = nullptr;
    decltype(&nvmlDeviceGetUUID) uuid = nullptr;
    decltype(&nvmlDeviceGetName) name = nullptr;
    decltype(&nvmlDeviceGetMemoryInfo) memory = nullptr;
    decltype(&nvmlDeviceGetUtilizationRates) utilization = nullptr;
    decltype(&nvmlErrorString) error = nullptr;

    bool load(void* library) {
        return find(library, "nvmlInit_v2", init) && find(library, "nvmlShutdown", shutdown) &&
               find(library, "nvmlDeviceGetCount_v2", count) &&
               find(library, "nvmlDeviceGetHandleByIndex_v2", handle) &&
               find(library, "nvmlDeviceGetUUID", uuid) &&
               find(library, "nvmlDeviceGetName", name) &&
               find(library, "nvmlDeviceGetMemoryInfo", memory) &&
               find(library, "nvmlDeviceGetUtilizationRates", utilization) &&
               find(library, "nvmlErrorString", error);
    }
};

Nvml::Nvml(void* library, std::unique_ptr<Calls> calls)
    : library_(library), calls_(std::move(calls)) {}

Nvml::~Nvml() {
    calls_->shutdown();
    dlclose(library_);
}

Result<std::unique_ptr<Nvml>> Nvml::open() {
    void* library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return fail(ErrorCode::kNotFound, "there is no libnvidia-ml.so.1");
    auto calls = std::make_unique<Calls>();
    if (!calls->load(library)) {
        dlclose(library);
        return fail(ErrorCode::kNotFound, "libnvidia-ml.so.1 lacks calls; update the driver");
    }
    if (const NvmlCode code = calls->init(); code != kSuccess) {
        const std::string why = calls->error(code);
        dlclose(library);
        return fail(ErrorCode::kNotFound, "the GPU driver does not answer: " + why);
    }
    std::unique_ptr<Nvml> nvml(new Nvml(library, std::move(calls)));
    REEVE_TRY(nvml->find_gpus());
    return nvml;
}

Status Nvml::find_gpus() {
    unsigned count = 0;
    if (const NvmlCode code = calls_->count(&count); code != kSuccess) {
        return fail(ErrorCode::kNotFound,
                    std::string("the GPU driver does not count: ") + calls_->error(code));
    }
    for (unsigned i = 0; i < count && i < kGpusMax; ++i) {
        NvmlDevice device = nullptr;
        char uuid[kTextMax]{};
        char name[kTextMax]{};
        // A lost GPU has no handle; it is not offered.
        if (calls_->handle(i, &device) != kSuccess) continue;
        if (calls_->uuid(device, uuid, kTextMax - 1) != kSuccess) continue;
        (void)calls_->name(device, name, kTextMax - 1);
        gpus_.push_back({i, uuid, name});
        handles_.push_back(device);
    }
    return {};
}

GpuLoad Nvml::load(std::uint32_t index) const {
    GpuLoad out;
    for (std::size_t i = 0; i < gpus_.size(); ++i) {
        if (gpus_[i].index != index) continue;
        NvmlMemory memory{};
        NvmlUtilization utilization{};
        out.known = calls_->memory(handles_[i], &memory) == kSuccess &&
                    calls_->utilization(handles_[i], &utilization) == kSuccess;
        if (!out.known) return {};
        out.busy_percent = utilization.gpu;
        out.memory_used_bytes = memory.used;
        out.memory_total_bytes = memory.total;
    }
    return out;
}

std::vector<GpuInfo> visible_gpus(const std::vector<GpuInfo>& all, const char* visible) {
    if (visible == nullptr) return all;
    std::vector<GpuInfo> out;
    std::string_view rest = visible;
    while (!rest.empty()) {
        const auto comma = rest.find(',');
        const auto word = rest.substr(0, comma);
        rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
        std::uint32_t number = 0;
        const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
        const bool is_number = error == std::errc{} && end == word.data() + word.size();
        const GpuInfo* found = nullptr;
        for (const auto& gpu : all) {
            const bool match =
                is_number ? gpu.index == number : !word.empty() && gpu.uuid.starts_with(word);
            if (match && found == nullptr) found = &gpu;
        }
        if (found == nullptr) break;
        out.push_back(*found);
    }
    return out;
}

}  // namespace reeve::worker
