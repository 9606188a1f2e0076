#include "worker/runner/runner.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/shm/wake.h"
#include "worker/runner/handlers.h"
#include "worker/runner/runner_ring.h"
#include "worker/runner/warm_program.h"

namespace reeve::worker {
namespace {

constexpr std::uint64_t kMeasureFromNs = 100'000;  // shorter calls are not worth a getrusage

class Runner {
public:
    Runner(std::unique_ptr<RunnerRing> ring, Handlers& handlers)
        : ring_(std::move(ring)), header_(ring_->header()), handlers_(handlers) {}

    [[noreturn]] void run() {
        std::uint64_t at = 0;  // each runner has a fresh ring
        header_.ready.store(static_cast<std::uint32_t>(::getpid()));
        shm::wake(header_.wake_agent);
        while (true) {
            if (auto* request = ring_->next_request(at)) {
                answer(*request);
                continue;
            }
            shm::wake(header_.wake_agent);
            const auto ticket = shm::prepare_sleep(header_.wake_runner);
            if (header_.request_tail.load() != at) {
                shm::cancel_sleep(header_.wake_runner);
            } else {
                shm::sleep(header_.wake_runner, ticket, shm::kSleepMaxNs);
            }
        }
    }

private:
    void answer(RequestRecord& request) {
        if (request.cancel.load() != 0) {
            (void)ring_->response_room(0);
            ResponseRecord response;
            response.sequence = request.sequence;
            response.status = CallStatus::kNotRun;
            ring_->publish_response(response);
            return;
        }
        const auto began_ns = boot_ns();
        header_.begun_ns.store(began_ns);
        header_.begun.store(request.sequence);  // (5)
        wait_while_halted();
        Call call;
        call.abi = REEVE_TASK_ABI;
        call.attempt = request.attempt;
        call.job = request.job;
        call.element = request.element;
        call.data = request.data().data();
        call.data_size = request.data_bytes;
        call.cancel_flag = &request.cancel;
        call.ring = ring_.get();
        call.request = &request;
        call.started_wall_ns = wall_ns();
        const int code = handlers_.run(call);
        publish(call, code, began_ns);
    }

    // The agent is about to kill us for the request before this one, or found that it need not.
    void wait_while_halted() {
        constexpr timespec kPause{0, kMillisecond};
        while (header_.halt.load() != 0) ::nanosleep(&kPause, nullptr);
    }

    void publish(Call& call, int code, std::uint64_t began_ns) {
        ResponseRecord response;
        response.sequence = call.request->sequence;
        response.started_wall_ns = call.started_wall_ns;
        response.code = code;
        response.status = call.status;
        if (code != 0 && call.status == CallStatus::kOk) response.status = CallStatus::kFailed;
        const auto took_ns = boot_ns() - began_ns;
        response.ended_wall_ns = call.started_wall_ns + took_ns;
        if (took_ns >= kMeasureFromNs) measure(response);
        if (call.result == nullptr || code != 0) {
            call.result = ring_->response_room(kErrorTextMax);
            call.result_bytes = 0;
        }
        response.result_bytes = static_cast<std::uint32_t>(call.result_bytes);
        const auto text = std::min<std::size_t>(call.error.size(), kErrorTextMax);
        std::memcpy(call.result + call.result_bytes, call.error.data(), text);
        response.text_bytes = static_cast<std::uint32_t>(text);
        ring_->publish_response(response);
        shm::wake(header_.wake_agent);
    }

    // What this thread used since it was last asked: of this call, and of shorter ones before.
    void measure(ResponseRecord& response) {
        rusage now{};
        ::getrusage(RUSAGE_SELF, &now);
        const auto microseconds = [](const timeval& time) {
            return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000 +
                   static_cast<std::uint64_t>(time.tv_usec);
        };
        response.user_us = microseconds(now.ru_utime) - microseconds(used_.ru_utime);
        response.system_us = microseconds(now.ru_stime) - microseconds(used_.ru_stime);
        used_ = now;
    }

    std::unique_ptr<RunnerRing> ring_;
    RunnerHeader& header_;
    Handlers& handlers_;
    rusage used_{};
};

int give_up(RunnerRing& ring, const std::string& why) {
    std::snprintf(ring.header().problem, sizeof ring.header().problem, "%s", why.c_str());
    std::fprintf(stderr, "reeve runner: %s\n", why.c_str());
    return 3;
}

}  // namespace

int runner_main(const RunnerOptions& options) {
    ::prctl(PR_SET_NAME, "reeve-runner", 0, 0, 0);
    auto ring = RunnerRing::map(::dup(STDIN_FILENO));
    if (!ring) {
        std::fprintf(stderr, "reeve runner: is started by a worker, not by hand\n");
        return 2;
    }
    // What it prints must come out before it dies, and in order.
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    Handlers handlers;
    for (const auto& path : options.plugins) {
        if (auto loaded = handlers.load(path); !loaded) {
            return give_up(**ring, loaded.error().message);
        }
    }
    std::unique_ptr<WarmProgram> program;
    if (!options.program.empty()) {
        program = std::make_unique<WarmProgram>(
            WarmOptions{options.program, options.recycle_after, options.output_root});
        if (auto started = program->start(); !started) {
            return give_up(**ring, started.error().message);
        }
        handlers.set_fallback([&program](Call& call) { return program->run(call); });
    }
    Runner(std::move(*ring), handlers).run();
}

}  // namespace reeve::worker
