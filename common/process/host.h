// What this process may use of the machine: cpus, cores, memory.
//
// cpus honours the affinity mask, the cpuset and the cgroup's cpu quota; hwloc says which cpus
// share a core, so that pinning fills whole cores first. Called at start only (hwloc reads /sys).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <sched.h>

namespace reeve {

struct HostCpus {
    std::vector<int> cpus;        // usable, in order: core by core, siblings next to each other
    std::uint32_t cores = 0;      // physical cores among them
    std::uint32_t cpu_milli = 0;  // what may be used at once, quota included; at least 1
};

HostCpus probe_cpus();

// The machine's memory, or less where a cgroup above us limits it.
std::uint64_t probe_memory_bytes();

std::string host_name();

}  // namespace reeve
