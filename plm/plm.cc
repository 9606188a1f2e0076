#include "plm/plm.h"

#include <atomic>
#include <csignal>
#include <ctime>
#include <memory>
#include <thread>

#include <malloc.h>

#include "common/log/log.h"
#include "common/process/stop_signals.h"
#include "common/role/role.h"
#include "plm/core/core.h"
#include "plm/server/server.h"

namespace reeve {
namespace {

constexpr int kExitCannotStart = 7;
constexpr std::uint64_t kShutdownMs = 1'000;
constexpr int kMappedBytesMin = 8 << 20;
constexpr int kKeptBytesMax = 64 << 20;

// SIGTERM and SIGINT, blocked in every thread but taken here, stop the core's loop. Those that came
// before they were blocked are known to stop_wanted().
void watch_for_stop(plm::Core& core, const sigset_t& signals, const std::atomic<bool>& finished) {
    const timespec patience{0, 500'000'000};
    while (!finished.load() && !stop_wanted() && sigtimedwait(&signals, nullptr, &patience) < 0) {
    }
    core.stop();
}

// Each batch's buffers come from the heap and stay there: given back and taken again, their pages
// would be cleared by the kernel for every batch. After a burst the core trims it (publish_loop).
void keep_memory_between_batches() {
    mallopt(M_MMAP_THRESHOLD, kMappedBytesMin);
    mallopt(M_TRIM_THRESHOLD, kKeptBytesMax);
}

int serve(const Cell& cell, const plm::PlmOptions& options) {
    const auto signals = stop_signals();
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // before the first thread
    plm::Core core(cell, options);
    if (auto opened = core.open(); !opened) {
        log::error("the PLM cannot start", {{"why", opened.error().message}});
        return kExitCannotStart;
    }
    plm::ServerOptions server_options;
    server_options.socket = cell.socket;
    server_options.audit_directory = cell.audit;
    auto server = plm::Server::start(server_options, core);
    if (!server) {
        log::error("the PLM cannot serve", {{"why", server.error().message}});
        return kExitCannotStart;
    }
    std::atomic<bool> finished{false};
    std::thread watcher([&] { watch_for_stop(core, signals, finished); });
    const auto ran = core.run();
    finished.store(true);
    watcher.join();
    core.refuse_rest();
    (*server)->shutdown(kShutdownMs);
    if (ran) return 0;
    log::error("the PLM stopped", {{"why", ran.error().message}});
    return kExitCannotStart;
}

}  // namespace

int plm_main(const Cell& cell, const plm::PlmOptions& options) {
    if (const int code = start_role(cell, "plm"); code != 0) return code;
    // A file size limit is met like a full disk: the write fails, and is tried again.
    std::signal(SIGXFSZ, SIG_IGN);
    keep_memory_between_batches();
    return serve(cell, options);
}

}  // namespace reeve
