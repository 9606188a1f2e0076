#include <string>

#include "common/log/log.h"
#include "common/role/role.h"
#include "worker/agent.h"
#include "worker/launcher.h"
#include "worker/worker.h"

namespace reeve::worker {
namespace {

constexpr std::size_t kNameMax = 48;
constexpr std::uint32_t kLeaseMinMs = 100;
constexpr int kExitUsage = 2;

bool good_name(const std::string& name) {
    return !name.empty() && name.size() <= kNameMax && name.front() != '.' &&
           name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789._-") == std::string::npos;
}

}  // namespace

int worker_main(const Cell& cell, const WorkerOptions& options) {
    if (!good_name(options.name)) {
        log::error("bad worker name: use a-z 0-9 . _ - (at most 48)", {{"name", options.name}});
        return kExitUsage;
    }
    if (options.lease_ms < kLeaseMinMs) {
        log::error("lease too short: at least 100 ms", {{"lease_ms", options.lease_ms}});
        return kExitUsage;
    }
    if (options.gpus > 64) {
        log::error("too many gpus: at most 64", {{"gpus", options.gpus}});
        return kExitUsage;
    }
    if (const int code = start_role(cell, options.name); code != 0) return code;
    Agent agent(cell, options);
    const int code = agent.find_launcher(launcher_socket_path(cell.runtime_dir, options.name));
    return code != 0 ? code : agent.serve();
}

}  // namespace reeve::worker
