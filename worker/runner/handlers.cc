#include "worker/runner/handlers.h"

#include <algorithm>
#include <cstring>

#include <dlfcn.h>
#include <time.h>

#include "common/base/clock.h"

namespace reeve::worker {
namespace {

constexpr int kNoHandlerCode = 127;  // as a shell says it
constexpr std::uint64_t kSleepStepNs = 20 * kMillisecond;

Call& own(reeve_call* call) {
    return *static_cast<Call*>(call);
}

int is_cancelled(const reeve_call* call) {
    const auto* flag = static_cast<const std::atomic<std::uint32_t>*>(call->cancel_flag);
    return flag->load(std::memory_order_relaxed) != 0 ? 1 : 0;
}

void* result_buffer(reeve_call* call, size_t size) {
    return own(call).room(size);
}

void set_error(reeve_call* call, const char* text) {
    own(call).error.assign(text == nullptr ? "" : text);
}

int noop(reeve_call*, void*) {
    return 0;
}

int echo(reeve_call* call, void*) {
    return reeve_set_result(call, call->data, call->data_size) != 0 ? 0 : 1;
}

// "250ms", "2s"; 0 when it is neither.
std::uint64_t parse_sleep_ns(std::string_view text) {
    std::uint64_t value = 0;
    std::size_t at = 0;
    for (; at < text.size() && at < 9 && text[at] >= '0' && text[at] <= '9'; ++at) {
        value = value * 10 + static_cast<std::uint64_t>(text[at] - '0');
    }
    const auto unit = text.substr(at);
    if (at == 0) return 0;
    if (unit == "us") return value * 1000;
    if (unit == "ms") return value * kMillisecond;
    return unit == "s" ? value * kSecond : 0;
}

int sleep_for(reeve_call* call, void*) {
    const std::string_view text(static_cast<const char*>(call->data), call->data_size);
    const auto total = parse_sleep_ns(text);
    if (total == 0) {
        reeve_set_error(call, "data: not a time; write for example 100ms or 2s");
        return 2;
    }
    const auto until = boot_ns() + total;
    while (true) {
        const auto now = boot_ns();
        if (now >= until) return 0;
        if (reeve_cancelled(call) != 0) {
            reeve_set_error(call, "cancelled");
            return 1;
        }
        const auto step = std::min(until - now, kSleepStepNs);
        const timespec pause{static_cast<time_t>(step / kSecond),
                             static_cast<long>(step % kSecond)};
        ::nanosleep(&pause, nullptr);
    }
}

}  // namespace

char* Call::room(std::size_t bytes) {
    if (bytes > REEVE_RESULT_MAX) return nullptr;
    result = ring->response_room(bytes + kErrorTextMax);
    result_bytes = bytes;
    return result;
}

Handlers::Handlers() {
    host_.abi = REEVE_TASK_ABI;
    host_.reserved = 0;
    host_.owner = this;
    host_.add_handler = [](reeve_host* host, const char* name, reeve_handler handler, void* user) {
        const bool fine = name != nullptr && handler != nullptr;
        return fine && static_cast<Host*>(host)->owner->add(name, handler, user) ? 0 : -1;
    };
    host_.cancelled = is_cancelled;
    host_.result_buffer = result_buffer;
    host_.set_error = set_error;
    add("noop", noop, nullptr);
    add("echo", echo, nullptr);
    add("sleep", sleep_for, nullptr);
}

bool Handlers::add(const std::string& name, reeve_handler handler, void* user) {
    if (name.empty() || name.size() > REEVE_NAME_MAX) return false;
    return entries_.emplace(name, Entry{handler, user}).second;
}

Status Handlers::load(const std::string& path) {
    void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
        return fail(ErrorCode::kInvalidArgument, std::string("plug-in: ") + ::dlerror());
    }
    auto* entry = reinterpret_cast<int (*)(reeve_host*)>(::dlsym(library, "reeve_task_register"));
    if (entry == nullptr) {
        return fail(ErrorCode::kInvalidArgument,
                    "plug-in: " + path + " exports no reeve_task_register");
    }
    const int code = entry(&host_);
    if (code == 0) return {};
    return fail(ErrorCode::kInvalidArgument,
                "plug-in: reeve_task_register of " + path + " returned " + std::to_string(code));
}

int Handlers::run(Call& call) {
    call.host = &host_;
    const auto found = entries_.find(call.request->handler());
    if (found != entries_.end()) return found->second.handler(&call, found->second.user);
    if (fallback_) return fallback_(call);
    call.error = "no handler \"" + std::string(call.request->handler()) + "\" in this worker";
    return kNoHandlerCode;
}

}  // namespace reeve::worker
