#include "common/process/host.h"

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include <hwloc.h>
#include <unistd.h>

#include "common/process/small_file.h"

namespace reeve {
namespace {

// "path" of a controller in /proc/self/cgroup; v2 is the line with an empty controller list.
std::string own_path(const std::string& controller) {
    const auto text = read_whole("/proc/self/cgroup");
    if (!text) return {};
    std::istringstream lines(*text);
    std::string line;
    while (std::getline(lines, line)) {
        const auto first = line.find(':');
        const auto second = line.find(':', first + 1);
        if (second == std::string::npos) continue;
        const auto list = "," + line.substr(first + 1, second - first - 1) + ",";
        const bool found = controller.empty()
                               ? list == ",,"
                               : list.find("," + controller + ",") != std::string::npos;
        if (found) return line.substr(second + 1);
    }
    return {};
}

std::string first_of(const std::vector<std::string>& paths) {
    for (const auto& path : paths) {
        if (auto text = read_whole(path)) return *text;
    }
    return {};
}

std::uint64_t quota_milli() {
    const auto v2 = own_path("");
    auto text = first_of({"/sys/fs/cgroup" + v2 + "/cpu.max", "/sys/fs/cgroup/cpu.max"});
    if (!text.empty() && !text.starts_with("max")) {
        unsigned long long quota = 0;
        unsigned long long period = 0;
        if (std::sscanf(text.c_str(), "%llu %llu", &quota, &period) == 2 && period != 0) {
            return quota * 1000 / period;
        }
    }
    const auto v1 = "/sys/fs/cgroup/cpu" + own_path("cpu");
    const auto quota = std::strtoll(first_of({v1 + "/cpu.cfs_quota_us"}).c_str(), nullptr, 10);
    const auto period = std::strtoll(first_of({v1 + "/cpu.cfs_period_us"}).c_str(), nullptr, 10);
    if (quota > 0 && period > 0) return static_cast<std::uint64_t>(quota * 1000 / period);
    return 0;
}

std::vector<int> affinity_cpus() {
    cpu_set_t set;
    CPU_ZERO(&set);
    std::vector<int> cpus;
    if (::sched_getaffinity(0, sizeof set, &set) == 0) {
        for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
            if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
        }
    }
    if (cpus.empty()) cpus.push_back(0);
    return cpus;
}

// Reorders `cpus` core by core; returns the number of cores, 0 when hwloc knows nothing.
std::uint32_t order_by_core(std::vector<int>& cpus) {
    hwloc_topology_t topology = nullptr;
    if (hwloc_topology_init(&topology) != 0) return 0;
    if (hwloc_topology_load(topology) != 0) {
        hwloc_topology_destroy(topology);
        return 0;
    }
    std::vector<int> ordered;
    std::uint32_t cores = 0;
    const int count = hwloc_get_nbobjs_by_type(topology, HWLOC_OBJ_CORE);
    for (int i = 0; i < count; ++i) {
        const auto* core =
            hwloc_get_obj_by_type(topology, HWLOC_OBJ_CORE, static_cast<unsigned>(i));
        bool any = false;
        for (const int cpu : cpus) {
            if (hwloc_bitmap_isset(core->cpuset, static_cast<unsigned>(cpu)) == 0) continue;
            ordered.push_back(cpu);
            any = true;
        }
        cores += any ? 1U : 0U;
    }
    hwloc_topology_destroy(topology);
    if (ordered.size() != cpus.size()) return 0;
    cpus = ordered;
    return cores;
}

}  // namespace

HostCpus probe_cpus() {
    HostCpus host;
    host.cpus = affinity_cpus();
    host.cores = order_by_core(host.cpus);
    if (host.cores == 0) host.cores = static_cast<std::uint32_t>(host.cpus.size());
    host.cpu_milli = static_cast<std::uint32_t>(host.cpus.size() * 1000);
    const auto quota = quota_milli();
    if (quota != 0) {
        host.cpu_milli = static_cast<std::uint32_t>(std::min<std::uint64_t>(host.cpu_milli, quota));
    }
    host.cpu_milli = std::max(host.cpu_milli, 1U);
    return host;
}

std::uint64_t probe_memory_bytes() {
    const auto pages = ::sysconf(_SC_PHYS_PAGES);
    const auto page = ::sysconf(_SC_PAGE_SIZE);
    auto bytes = static_cast<std::uint64_t>(pages > 0 ? pages : 0) *
                 static_cast<std::uint64_t>(page > 0 ? page : 4096);
    const auto text =
        first_of({"/sys/fs/cgroup" + own_path("") + "/memory.max",
                  "/sys/fs/cgroup/memory" + own_path("memory") + "/memory.limit_in_bytes"});
    if (!text.empty() && !text.starts_with("max")) {
        const auto limit = std::strtoull(text.c_str(), nullptr, 10);
        if (limit != 0) bytes = std::min<std::uint64_t>(bytes, limit);
    }
    return bytes;
}

std::string host_name() {
    char name[256]{};
    if (::gethostname(name, sizeof name - 1) != 0) return "localhost";
    return name;
}

}  // namespace reeve
