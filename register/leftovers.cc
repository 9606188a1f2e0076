#include "register/leftovers.h"

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <thread>

#include "common/base/clock.h"
#include "common/process/pidfd.h"
#include "common/process/proc_info.h"
#include "common/process/task_space.h"

namespace reeve::registry {
namespace {

constexpr const char* kCharacters =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/";

}  // namespace

Leftovers::Leftovers(const Cell& cell)
    : cell_(cell), cell_hash_(cell.hash), support_(probe_cgroups()) {}

bool Leftovers::clear(WorkerId id, const std::string& cgroup_root) const {
    // Only a subtree of this cell is ours to end, whatever the segment says.
    const bool named = cgroup_root.starts_with("reeve." + cell_hash_ + "/") &&
                       cgroup_root.find("..") == std::string::npos &&
                       cgroup_root.find_first_not_of(kCharacters) == std::string::npos;
    if (support_.usable() && named) return clear_cgroup(cgroup_root);
    const bool cleared = clear_unnamed(id);
    return clear_by_environment(id) && cleared;
}

// Every subtree of that incarnation: "w<incarnation>.<launcher's pid>.<its start time>". Its
// launcher goes first: left alive it could come back under the same id.
bool Leftovers::clear_unnamed(WorkerId id) const {
    if (!support_.usable()) return true;
    const auto parent = "reeve." + cell_hash_;
    bool cleared = true;
    for (const auto& name : list_cgroups(support_, parent)) {
        unsigned long long incarnation = 0;
        unsigned long long ticks = 0;
        int pid = 0;
        const int fields = std::sscanf(name.c_str(), "w%llu.%d.%llu", &incarnation, &pid, &ticks);
        if (fields < 1 || incarnation != id.incarnation) continue;
        if (fields == 3 && ticks != 0) {
            const auto launcher = PidFd::open(pid, ticks);
            if (launcher && !launcher->ended()) {
                [[maybe_unused]] const auto sent = launcher->signal(SIGKILL);
                cleared = false;
                continue;
            }
        }
        cleared = clear_cgroup(parent + "/" + name) && cleared;
    }
    return cleared;
}

void Leftovers::remove_spaces(WorkerId id) const {
    std::thread([cell = cell_, id] { remove_worker_spaces(cell, id); }).detach();
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
