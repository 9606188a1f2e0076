#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <sstream>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/process/cgroup.h"
#include "common/process/proc_info.h"
#include "common/process/small_file.h"

namespace reeve {
namespace {

constexpr std::string_view kProbePrefix = "reeve.probe.";  // PID.boot_ns behind it
constexpr std::uint64_t kProbeLeftNs = 10 * kSecond;       // a living probe takes milliseconds

struct Mounts {
    std::string v2;
    std::string memory;
    std::string cpu;
    std::string pids;
    std::string freezer;
};

bool has_word(const std::string& list, std::string_view word, char separator) {
    std::istringstream in(list);
    std::string one;
    while (std::getline(in, one, separator)) {
        if (one == word) return true;
    }
    return false;
}

// mountinfo: "36 35 98:0 /root /mount/point options... - fstype source superoptions".
Mounts read_mounts() {
    Mounts mounts;
    const auto text = read_whole("/proc/self/mountinfo");
    if (!text) return mounts;
    std::istringstream lines(*text);
    std::string line;
    while (std::getline(lines, line)) {
        const auto dash = line.find(" - ");
        if (dash == std::string::npos) continue;
        std::istringstream left(line.substr(0, dash));
        std::istringstream right(line.substr(dash + 3));
        std::string skip;
        std::string point;
        std::string type;
        std::string source;
        std::string options;
        left >> skip >> skip >> skip >> skip >> point;
        right >> type >> source >> options;
        if (type == "cgroup2" && mounts.v2.empty()) mounts.v2 = point;
        if (type != "cgroup") continue;
        if (has_word(options, "memory", ',')) mounts.memory = point;
        if (has_word(options, "cpu", ',')) mounts.cpu = point;
        if (has_word(options, "pids", ',')) mounts.pids = point;
        if (has_word(options, "freezer", ',')) mounts.freezer = point;
    }
    return mounts;
}

// Our own place in the v2 hierarchy, "" or "a/b/c".
std::string own_v2_path() {
    const auto text = read_whole("/proc/self/cgroup");
    if (!text) return {};
    std::istringstream lines(*text);
    std::string line;
    while (std::getline(lines, line)) {
        if (line.starts_with("0::/")) return line.substr(4);
    }
    return {};
}

// "reeve.probe.4711.12345" or "...k12345" of a process that was killed while it probed. One of
// another pid namespace looks dead from here, so the time counts as well.
bool is_left_probe(std::string_view name) {
    if (!name.starts_with(kProbePrefix)) return false;
    name.remove_prefix(kProbePrefix.size());
    const auto* const end = name.data() + name.size();
    pid_t pid = 0;
    const auto [dot, bad] = std::from_chars(name.data(), end, pid);
    if (bad != std::errc() || pid <= 0 || dot == end || *dot != '.') return false;
    const auto* const time = dot + 1 + (dot + 1 != end && dot[1] == 'k' ? 1 : 0);
    std::uint64_t made_ns = 0;
    const auto [rest, wrong] = std::from_chars(time, end, made_ns);
    if (wrong != std::errc() || rest != end) return false;
    const auto now = boot_ns();
    return made_ns < now && now - made_ns > kProbeLeftNs && !process_alive(pid, 0);
}

// Removes what killed probes left; rmdir alone, so only what is empty goes.
void sweep_probes(const std::string& base) {
    DIR* directory = ::opendir(base.c_str());
    if (directory == nullptr) return;
    std::vector<std::string> left;
    // NOLINTNEXTLINE(concurrency-mt-unsafe): the stream is ours alone
    while (const auto* entry = ::readdir(directory)) {
        if (is_left_probe(entry->d_name)) left.emplace_back(entry->d_name);
    }
    ::closedir(directory);
    for (const auto& name : left) ::rmdir((base + "/" + name).c_str());
}

// Errno of making and removing a directory there; 0 when it works.
int try_directory(const std::string& base) {
    sweep_probes(base);
    const auto path =
        base + "/reeve.probe." + std::to_string(::getpid()) + "." + std::to_string(boot_ns());
    if (::mkdir(path.c_str(), 0755) != 0) return errno;
    // A cgroup directory has cgroup.procs; anything else is not one.
    const bool real = ::access((path + "/cgroup.procs").c_str(), F_OK) == 0;
    ::rmdir(path.c_str());
    return real ? 0 : ENOTDIR;
}

// Controllers that a child of `dir` gets, enabled as far as we may.
std::string enable_controllers(const std::string& dir) {
    for (const auto* name : {"+memory", "+pids", "+cpu"}) {
        write_text_at(AT_FDCWD, (dir + "/cgroup.subtree_control").c_str(), name);
    }
    auto text = read_whole(dir + "/cgroup.subtree_control");
    if (!text) return {};
    while (!text->empty() && text->back() == '\n') text->pop_back();
    return *text;
}

// Where we may create in the v2 hierarchy. Root: at its top. A user: beside our own group when
// systemd delegated the parent (there the controllers can be had), else inside our own.
bool find_v2_place(const Mounts& mounts, CgroupSupport& support) {
    if (mounts.v2.empty()) return false;
    std::string candidates[3];
    int count = 0;
    if (::geteuid() == 0) candidates[count++] = "";
    const auto own = own_v2_path();
    if (!own.empty()) {
        const auto slash = own.rfind('/');
        if (slash != std::string::npos) candidates[count++] = own.substr(0, slash) + "/";
        candidates[count++] = own + "/";
    }
    for (int i = 0; i < count; ++i) {
        if (candidates[i].size() > 64) continue;  // the relative name must fit the worker slot
        if (try_directory(mounts.v2 + "/" + candidates[i]) != 0) continue;
        support.tracker = mounts.v2;
        support.prefix = candidates[i];
        return true;
    }
    return false;
}

bool kill_file_exists(const CgroupSupport& support) {
    const auto path = support.tracker + "/" + support.prefix + "reeve.probe." +
                      std::to_string(::getpid()) + ".k" + std::to_string(boot_ns());
    if (::mkdir(path.c_str(), 0755) != 0) return false;
    const bool found = ::access((path + "/cgroup.kill").c_str(), W_OK) == 0;
    ::rmdir(path.c_str());
    return found;
}

std::string writable_v1(const std::string& mount) {
    return !mount.empty() && try_directory(mount) == 0 ? mount : std::string();
}

void fill_v2(const Mounts& mounts, CgroupSupport& support) {
    const auto enabled = enable_controllers(support.tracker + "/" + support.prefix);
    const auto path = support.tracker;
    if (has_word(enabled, "memory", ' ')) support.memory = path;
    if (has_word(enabled, "cpu", ' ')) support.cpu = path;
    if (has_word(enabled, "pids", ' ')) support.pids = path;
    support.backend = CgroupBackend::kV2;
    support.kill_file = kill_file_exists(support);
    const bool none_in_v2 = support.memory.empty() && support.cpu.empty() && support.pids.empty();
    if (none_in_v2 && support.prefix.empty()) {
        support.memory = writable_v1(mounts.memory);
        support.cpu = writable_v1(mounts.cpu);
        support.pids = writable_v1(mounts.pids);
        const bool any = !support.memory.empty() || !support.cpu.empty() || !support.pids.empty();
        if (any) support.backend = CgroupBackend::kHybrid;
    }
}

}  // namespace

const char* to_string(CgroupBackend backend) {
    switch (backend) {
        case CgroupBackend::kV2:
            return "v2";
        case CgroupBackend::kHybrid:
            return "hybrid";
        case CgroupBackend::kV1:
            return "v1";
        case CgroupBackend::kNone:
            return "none";
    }
    return "unknown";
}

CgroupSupport probe_cgroups() {
    const auto mounts = read_mounts();
    CgroupSupport support;
    if (find_v2_place(mounts, support)) {
        fill_v2(mounts, support);
        support.reason = std::string("tracking in ") + support.tracker + "/" + support.prefix +
                         "; memory limits: " + (support.memory.empty() ? "no" : "yes") +
                         ", cpu limits: " + (support.cpu.empty() ? "no" : "yes") +
                         ", pids limits: " + (support.pids.empty() ? "no" : "yes");
        return support;
    }
    support.tracker = writable_v1(mounts.freezer);
    if (!support.tracker.empty()) {
        support.backend = CgroupBackend::kV1;
        support.memory = writable_v1(mounts.memory);
        support.cpu = writable_v1(mounts.cpu);
        support.pids = writable_v1(mounts.pids);
        support.reason = "tracking in " + support.tracker;
        return support;
    }
    support.reason = mounts.v2.empty() && mounts.freezer.empty()
                         ? "no cgroup hierarchy is mounted"
                         : "no cgroup directory can be made here: run as root, or from a systemd "
                           "user session (systemd-run --user --scope reeve ...)";
    return support;
}

}  // namespace reeve
