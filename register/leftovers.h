// Leftovers ends what a dead worker's tasks left running: its cgroup subtree, or, where there are
// no cgroups, every process that carries its instance id in the environment.
//
// Never blocks: clear() does one round of SIGKILL and says whether anything is left; the register's
// loop asks again a moment later. Without cgroups a process that emptied its environment escapes;
// docs/ARCHITECTURE.md says so.
#pragma once

#include <string>

#include "common/base/ids.h"
#include "common/process/cell.h"
#include "common/process/cgroup.h"

namespace reeve::registry {

class Leftovers {
public:
    explicit Leftovers(const Cell& cell);

    // cgroup_root is WorkerSlot::cgroup_root, untrusted; "" when the worker had none, or when only
    // its id is known (then every subtree of that incarnation is ended).
    bool clear(WorkerId id, const std::string& cgroup_root) const;

    // The temporary directories of its tasks; on a thread of its own, for trees can be large.
    void remove_spaces(WorkerId id) const;

private:
    bool clear_unnamed(WorkerId id) const;
    bool clear_cgroup(const std::string& relative) const;
    bool clear_by_environment(WorkerId id) const;

    Cell cell_;
    std::string cell_hash_;
    CgroupSupport support_;
};

}  // namespace reeve::registry
