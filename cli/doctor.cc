// doctor: what this machine offers reeve, one line per check, each bad one with its cure.
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <google/protobuf/stubs/common.h>
#include <grpcpp/grpcpp.h>
#include <openssl/crypto.h>
#include <sqlite3.h>
#include <xxhash.h>

#include "cli/context.h"
#include "cli/group.h"
#include "cli/json_writer.h"
#include "cli/text.h"
#include "common/process/cgroup.h"
#include "common/process/pidfd.h"
#include "common/process/proc_info.h"
#include "common/shm/layout.h"
#include "common/shm/segment.h"

namespace reeve::cli {
namespace {

struct Check {
    const char* name;
    const char* verdict;  // ok, warn, bad
    std::string text;
    std::string cure;
};
using Checks = std::vector<Check>;

void check_kernel(Checks& checks) {
    utsname names{};
    uname(&names);
    int major = 0;
    int minor = 0;
    std::sscanf(names.release, "%d.%d", &major, &minor);
    const bool recent = major > 5 || (major == 5 && minor >= 4);
    checks.push_back({"kernel", recent ? "ok" : "bad",
                      std::string(names.sysname) + " " + names.release + " " + names.machine,
                      recent ? "" : "reeve needs Linux 5.4 or newer (pidfd)"});
    const auto self = PidFd::open(getpid(), 0);
    checks.push_back({"pidfd", self ? "ok" : "bad",
                      self ? "deaths are noticed at once" : self.error().message,
                      self ? "" : "a container may forbid pidfd_open; allow it"});
    const long clone3 = syscall(SYS_clone3, nullptr, 0);
    const bool has_clone3 = clone3 >= 0 || errno != ENOSYS;
    checks.push_back({"clone3", has_clone3 ? "ok" : "warn",
                      has_clone3 ? "tasks start inside their cgroup" : "not available",
                      has_clone3 ? "" : "tasks enter their cgroup by themselves: a little slower"});
}

void check_cpu(Checks& checks) {
    std::ifstream info("/proc/cpuinfo");
    bool cx16 = false;
    for (std::string line; std::getline(info, line);) {
        if (!line.starts_with("flags")) continue;
        cx16 = (line + " ").find(" cx16 ") != std::string::npos;
        break;
    }
#if defined(__x86_64__)
    checks.push_back({"cpu", cx16 ? "ok" : "bad", cx16 ? "cmpxchg16b" : "no cmpxchg16b",
                      cx16 ? "" : "the task heap needs it; use another machine"});
#else
    checks.push_back({"cpu", "warn", cx16 ? "cmpxchg16b" : "not x86-64",
                      "only x86-64 was tested"});
#endif
}

void check_shared_memory(Checks& checks) {
    struct statvfs room {};
    const auto needed = shm::Layout(shm::SegmentConfig{}).total_bytes;
    if (statvfs("/dev/shm", &room) != 0) {
        checks.push_back({"/dev/shm", "bad", std::strerror(errno),
                          "mount a tmpfs on /dev/shm (mode 1777)"});
        return;
    }
    const auto free_bytes = static_cast<std::uint64_t>(room.f_bavail) * room.f_frsize;
    const bool enough = free_bytes > 2 * needed;
    checks.push_back({"/dev/shm", enough ? "ok" : free_bytes > needed ? "warn" : "bad",
                      format_bytes(free_bytes) + " free, a default segment takes " +
                          format_bytes(needed),
                      enough ? "" : "free room there, enlarge it, or start with fewer --slots"});
}

void check_cgroups(Checks& checks) {
    const auto support = probe_cgroups();
    checks.push_back({"cgroups", support.usable() ? "ok" : "warn",
                      std::string(to_string(support.backend)) + ": " + support.reason,
                      support.usable() ? ""
                                       : "without them memory is not limited and a task that "
                                         "hides from its process group may escape"});
    if (!support.usable()) return;
    const bool memory = !support.memory.empty();
    checks.push_back({"memory limits", memory ? "ok" : "warn",
                      memory ? "enforced by the kernel" : "no memory controller for us",
                      memory ? "" : "tasks are not stopped at their --mem"});
}

void check_limits(Checks& checks) {
    const auto add = [&](const char* name, int resource, rlim_t wanted, const char* flag) {
        rlimit limit{};
        getrlimit(static_cast<__rlimit_resource_t>(resource), &limit);
        const bool unlimited = limit.rlim_cur == RLIM_INFINITY;
        const bool enough = unlimited || limit.rlim_cur >= wanted;
        checks.push_back({name, enough ? "ok" : "warn",
                          unlimited ? "unlimited" : std::to_string(limit.rlim_cur),
                          enough ? "" : std::string("raise it: ulimit ") + flag + " " +
                                            std::to_string(wanted)});
    };
    add("open files", RLIMIT_NOFILE, 1024, "-n");
    add("processes", RLIMIT_NPROC, 1024, "-u");
}

void check_state_dir(Checks& checks, const Cell& cell) {
    struct statvfs room {};
    auto path = cell.dir;
    while (path.size() > 1 && statvfs(path.c_str(), &room) != 0) {
        path.resize(std::max<std::size_t>(1, path.rfind('/')));
    }
    const auto free_bytes = static_cast<std::uint64_t>(room.f_bavail) * room.f_frsize;
    const bool writable = access(path.c_str(), W_OK) == 0;
    const bool enough = free_bytes > (1ULL << 30);
    checks.push_back({"state directory", !writable ? "bad" : enough ? "ok" : "warn",
                      cell.dir + ", " + format_bytes(free_bytes) + " free",
                      !writable ? path + " is not writable; give another --state-dir"
                      : enough  ? ""
                                : "the record grows by about 0.5 KiB per task"});
}

void check_versions(Checks& checks) {
    checks.push_back({"reeve", "ok", "segment layout " + std::to_string(shm::kLayoutVersion), ""});
    checks.push_back({"grpc", "ok",
                      grpc::Version() + " (below 1.53 stock listeners die when descriptors run "
                                        "out, CVE-2023-4785; reeve accepts by itself)",
                      ""});
    checks.push_back({"protobuf", "ok", google::protobuf::internal::VersionString(
                                            GOOGLE_PROTOBUF_VERSION), ""});
    checks.push_back({"sqlite", "ok", sqlite3_libversion(), ""});
    checks.push_back({"openssl", "ok", OpenSSL_version(OPENSSL_VERSION_STRING), ""});
    checks.push_back({"xxhash", "ok", std::to_string(XXH_versionNumber()), ""});
}

}  // namespace

int doctor_main(const Cell& cell, bool json) {
    Checks checks;
    check_kernel(checks);
    check_cpu(checks);
    check_shared_memory(checks);
    check_cgroups(checks);
    check_limits(checks);
    check_state_dir(checks, cell);
    check_versions(checks);
    bool bad = false;
    for (const auto& check : checks) bad = bad || std::strcmp(check.verdict, "bad") == 0;
    if (json) {
        JsonWriter writer;
        writer.begin_object().field("schema", "reeve.doctor.v1").field("ok", !bad);
        writer.key("checks").begin_array();
        for (const auto& check : checks) {
            writer.begin_object().field("name", check.name).field("verdict", check.verdict);
            writer.field("text", check.text).field("cure", check.cure).end_object();
        }
        writer.end_array().end_object().print();
    } else {
        Table table({{"CHECK"}, {"VERDICT"}, {"FOUND"}});
        for (const auto& check : checks) {
            auto found = check.text;
            if (!check.cure.empty()) found += "; " + check.cure;
            table.add({check.name, check.verdict, std::move(found)});
        }
        table.print();
    }
    return finish(bad ? kExitFailed : kExitOk);
}

}  // namespace reeve::cli
