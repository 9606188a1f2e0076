// Handlers are what a runner can be asked to do: the built-in ones, those of plug-ins, and, for
// every other name, a warm runner's program if there is one.
//
// Built in: noop (no result), echo (the data), sleep (the data is a time like 100ms or 2s; gives up
// when cancelled). One thread, in the runner process.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "worker/include/reeve_task.h"
#include "worker/runner/runner_ring.h"

namespace reeve::worker {

// A call under way, as the handler sees it and what it left behind.
struct Call : reeve_call {
    RunnerRing* ring = nullptr;
    RequestRecord* request = nullptr;
    std::uint64_t started_wall_ns = 0;
    char* result = nullptr;  // in the ring; with room for the error text behind it
    std::size_t result_bytes = 0;
    CallStatus status = CallStatus::kOk;
    std::string error;

    // Room for the result, or nullptr: over REEVE_RESULT_MAX.
    char* room(std::size_t bytes);
};

class Handlers {
public:
    Handlers();
    Handlers(const Handlers&) = delete;
    Handlers& operator=(const Handlers&) = delete;

    // Errors: cannot be loaded, exports no reeve_task_register, refuses.
    Status load(const std::string& path);
    // What every name that is not registered goes to.
    void set_fallback(std::function<int(Call&)> fallback) { fallback_ = std::move(fallback); }

    // The handler's code; call.error and call.result are filled.
    int run(Call& call);
    bool add(const std::string& name, reeve_handler handler, void* user);

private:
    struct Entry {
        reeve_handler handler;
        void* user;
    };
    struct Host : reeve_host {
        Handlers* owner = nullptr;
    };

    std::map<std::string, Entry, std::less<>> entries_;
    std::function<int(Call&)> fallback_;
    Host host_;
};

}  // namespace reeve::worker
