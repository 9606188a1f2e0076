#include "register/leftovers.h"

#include <algorithm>
#include <csignal>

#include "common/base/clock.h"
#include "common/process/proc_info.h"

namespace reeve::registry {
namespace {

constexpr const char* kCharacters =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/";

}  // namespace

Leftovers::Leftovers(const Cell& cell) : cell_hash_(cell.hash), support_(probe_cgroups()) {}

bool Leftovers::clear(WorkerId id, const std::string& cgroup_root) const {
    // Only a subtree of this cell is ours to end, whatever the segment says.
    const bool named = cgroup_root.starts_with("reeve." + cell_hash_ + "/") &&
                       cgroup_root.find("..") == std::string::npos &&
                       cgroup_root.find_first_not_of(kCharacters) == std::string::npos;
    if (support_.usable() && named) return clear_cgroup(cgroup_root);
    bool cleared = true;
    if (support_.usable()) {
        cleared = clear_cgroup("reeve." + cell_hash_ + "/w" + std::to_string(id.incarnation));
    }
    return clear_by_environment(id) && cleared;
}

bool Leftovers::clear_cgroup(const std::string& relative) const {
    if (cgroup_populated(support_, relative)) kill_cgroup(support_, relative);
    if (cgroup_populated(support_, relative)) return false;
    return end_cgroup(support_, relative, boot_ns()).has_value();
}

bool Leftovers::clear_by_environment(WorkerId id) const {
    const auto pids = pids_with_environment("REEVE_INSTANCE=" + cell_hash_ + "." +
                                            std::to_string(id.number) + "." +
                                            std::to_string(id.incarnation));
    bool cleared = true;
    for (const auto pid : pids) {
        if (!process_alive(pid, 0)) continue;  // a zombie holds nothing
        kill(pid, SIGKILL);
        cleared = false;
    }
    return cleared;
}

}  // namespace reeve::registry
