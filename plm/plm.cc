#include "plm/plm.h"

#include <memory>
#include <thread>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/log/log.h"
#include "common/role/role.h"
#include "plm/core/core.h"
#include "plm/server/server.h"

namespace reeve {
namespace {

constexpr int kExitCannotStart = 7;
constexpr std::uint64_t kShutdownMs = 1'000;

// The signal handler only sets a flag; this looks at it and stops the core's loop.
void watch_for_stop(plm::Core& core, const std::atomic<bool>& finished) {
    while (!stop_wanted() && !finished.load()) ::usleep(20'000);
    core.stop();
}

int serve(const Cell& cell, const plm::PlmOptions& options) {
    plm::Core core(cell, options);
    if (auto opened = core.open(); !opened) {
        log::error("the PLM cannot start", {{"why", opened.error().message}});
        return kExitCannotStart;
    }
    plm::ServerOptions server_options;
    server_options.socket = cell.socket;
    auto server = plm::Server::start(server_options, core);
    if (!server) {
        log::error("the PLM cannot serve", {{"why", server.error().message}});
        return kExitCannotStart;
    }
    std::atomic<bool> finished{false};
    std::thread watcher([&] { watch_for_stop(core, finished); });
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
    return serve(cell, options);
}

}  // namespace reeve
