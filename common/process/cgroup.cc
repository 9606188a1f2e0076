#include "common/process/cgroup.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/process/small_file.h"

namespace reeve {
namespace {

constexpr std::uint64_t kCpuPeriodUs = 100'000;
constexpr int kDepthMax = 16;  // sub-directories of sub-directories we follow
constexpr std::size_t kSparesMax = 128;

Status make_directories(const std::string& base, const std::string& relative, bool v2) {
    std::size_t at = 0;
    while (at != std::string::npos) {
        at = relative.find('/', at + 1);
        const auto path = base + "/" + relative.substr(0, at);
        if (::mkdir(path.c_str(), 0755) != 0 && errno != EEXIST) {
            return fail_errno("create cgroup " + path, errno);
        }
        if (v2) {
            for (const auto* name : {"+memory", "+pids", "+cpu"}) {
                write_text_at(AT_FDCWD, (path + "/cgroup.subtree_control").c_str(), name);
            }
        }
    }
    return {};
}

// The number after `key` in a "key value" file, or 0.
std::uint64_t number_of(const std::string& text, std::string_view key) {
    std::size_t at = 0;
    while (at < text.size()) {
        auto end = text.find('\n', at);
        if (end == std::string::npos) end = text.size();
        const std::string_view line(text.data() + at, end - at);
        if (line.size() > key.size() && line.starts_with(key) && line[key.size()] == ' ') {
            return std::strtoull(text.c_str() + at + key.size() + 1, nullptr, 10);
        }
        at = end + 1;
    }
    return 0;
}

// Calls visit(dir_fd) for a directory and everything below it, deepest first.
template <typename Visit>
void walk(int parent_fd, const char* name, int depth, const Visit& visit) {
    if (depth > kDepthMax) return;
    const int fd = ::openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return;
    DIR* dir = ::fdopendir(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
    if (dir != nullptr) {
        while (const dirent* entry = ::readdir(dir)) {
            if (entry->d_type != DT_DIR || entry->d_name[0] == '.') continue;
            walk(fd, entry->d_name, depth + 1, visit);
        }
        ::closedir(dir);
    }
    visit(parent_fd, name, fd);
    ::close(fd);
}

void signal_members(int dir_fd, int number) {
    const auto text = read_whole_at(dir_fd, "cgroup.procs", 64 << 20);
    if (!text) return;
    const char* at = text->c_str();
    while (*at != '\0') {
        char* end = nullptr;
        const long pid = std::strtol(at, &end, 10);
        if (end == at) break;
        if (pid > 1) ::kill(static_cast<pid_t>(pid), number);
        at = *end == '\n' ? end + 1 : end;
    }
}

void set_frozen(int dir_fd, bool v2, bool frozen) {
    if (v2) {
        write_text_at(dir_fd, "cgroup.freeze", frozen ? "1" : "0");
        return;
    }
    write_text_at(dir_fd, "freezer.state", frozen ? "FROZEN" : "THAWED");
}

// One round: cgroup.kill where there is one, else freeze, SIGKILL each, thaw (a frozen v1 task does
// not die before it is thawed).
void kill_tree(int parent_fd, const char* name, const CgroupSupport& support) {
    const bool v2 = support.v2_core();
    const int fd = ::openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return;
    const bool killed = v2 && write_text_at(fd, "cgroup.kill", "1") == 0;
    if (!killed) {
        set_frozen(fd, v2, true);
        walk(parent_fd, name, 0,
             [](int, const char*, int dir_fd) { signal_members(dir_fd, SIGKILL); });
        set_frozen(fd, v2, false);
    }
    ::close(fd);
}

bool tree_populated(int parent_fd, const char* name, bool v2) {
    if (v2) {
        const auto events =
            read_whole_at(parent_fd, (std::string(name) + "/cgroup.events").c_str());
        return events && number_of(*events, "populated") != 0;
    }
    bool populated = false;
    walk(parent_fd, name, 0, [&](int, const char*, int dir_fd) {
        const auto procs = read_whole_at(dir_fd, "cgroup.procs");
        if (procs && !procs->empty()) populated = true;
    });
    return populated;
}

void remove_tree(int parent_fd, const char* name) {
    walk(parent_fd, name, 0,
         [](int dir, const char* child, int) { ::unlinkat(dir, child, AT_REMOVEDIR); });
}

void close_fd(int& fd) {
    if (fd >= 0) ::close(fd);
    fd = -1;
}

int write_number(int dir_fd, const char* name, const char* file, std::uint64_t value) {
    char path[160];
    char text[32];
    std::snprintf(path, sizeof path, "%s/%s", name, file);
    const int size =
        std::snprintf(text, sizeof text, "%llu", static_cast<unsigned long long>(value));
    return write_text_at(dir_fd, path, std::string_view(text, static_cast<std::size_t>(size)));
}

std::string read_of(int dir_fd, const char* name, const char* file) {
    char path[160];
    std::snprintf(path, sizeof path, "%s/%s", name, file);
    auto text = read_whole_at(dir_fd, path);
    return text ? *text : std::string();
}

}  // namespace

Result<CgroupSubtree> CgroupSubtree::make(const CgroupSupport& support,
                                          const std::string& relative) {
    if (!support.usable()) return fail(ErrorCode::kFailedPrecondition, support.reason);
    const auto path = support.tracker + "/" + support.prefix + relative;
    if (::access(path.c_str(), F_OK) == 0) {
        return fail(ErrorCode::kAlreadyExists, "cgroup " + path + " is there from an earlier life");
    }
    // A neighbour that ends may remove our common parent between two steps: once more then.
    Status made;
    for (int attempt = 0; attempt < 8; ++attempt) {
        made =
            make_directories(support.tracker + "/" + support.prefix, relative, support.v2_core());
        if (made || made.error().code != ErrorCode::kNotFound) break;
    }
    REEVE_TRY(made);
    CgroupSubtree subtree;
    subtree.support_ = support;
    subtree.relative_ = relative;
    subtree.tracker_fd_ = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (subtree.tracker_fd_ < 0) return fail_errno("open cgroup " + path, errno);
    return subtree;
}

CgroupSubtree::~CgroupSubtree() {
    close_fd(tracker_fd_);
    close_fd(memory_fd_);
    close_fd(cpu_fd_);
    close_fd(pids_fd_);
}

CgroupSubtree::CgroupSubtree(CgroupSubtree&& other) noexcept {
    *this = std::move(other);
}

CgroupSubtree& CgroupSubtree::operator=(CgroupSubtree&& other) noexcept {
    std::swap(support_, other.support_);
    std::swap(relative_, other.relative_);
    std::swap(tracker_fd_, other.tracker_fd_);
    std::swap(memory_fd_, other.memory_fd_);
    std::swap(cpu_fd_, other.cpu_fd_);
    std::swap(pids_fd_, other.pids_fd_);
    std::swap(made_, other.made_);
    std::swap(spare_, other.spare_);
    return *this;
}

Status CgroupSubtree::open_v1(const std::string& mount, int& fd) {
    if (fd >= 0) return {};
    REEVE_TRY(make_directories(mount, relative_, false));
    const auto path = mount + "/" + relative_;
    fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return fail_errno("open cgroup " + path, errno);
    return {};
}

int CgroupSubtree::v1_fd(V1Dir dir) const {
    switch (dir) {
        case kMemoryDir:
            return memory_fd_;
        case kCpuDir:
            return cpu_fd_;
        case kPidsDir:
            return pids_fd_;
    }
    return -1;
}

bool CgroupSubtree::apply_limits(AttemptCgroup& out, const CgroupLimits& limits, Error& error) {
    const bool v2 = support_.backend == CgroupBackend::kV2;
    const auto prepare = [&](const std::string& mount, int& fd, V1Dir bit) -> int {
        if (v2) return tracker_fd_;
        auto opened = open_v1(mount, fd);
        if (!opened) {
            error = opened.error();
            return -1;
        }
        if (::mkdirat(fd, out.name, 0755) != 0) {
            error = Error{ErrorCode::kInternal, std::string("create cgroup ") + mount + "/" +
                                                    out.name + ": " + std::strerror(errno)};
            return -1;
        }
        out.v1_dirs = static_cast<std::uint8_t>(out.v1_dirs | bit);
        return fd;
    };
    int failed = 0;
    if (limits.memory_bytes != 0 && !support_.memory.empty()) {
        const int fd = prepare(support_.memory, memory_fd_, kMemoryDir);
        if (fd < 0) return false;
        failed = write_number(fd, out.name, v2 ? "memory.max" : "memory.limit_in_bytes",
                              limits.memory_bytes);
        if (v2) {
            write_number(fd, out.name, "memory.oom.group", 1);
            write_number(fd, out.name, "memory.swap.max", 0);
        } else {
            write_number(fd, out.name, "memory.memsw.limit_in_bytes", limits.memory_bytes);
        }
    }
    if (limits.pids_max != 0 && !support_.pids.empty() && failed == 0) {
        const int fd = prepare(support_.pids, pids_fd_, kPidsDir);
        if (fd < 0) return false;
        failed = write_number(fd, out.name, "pids.max", limits.pids_max);
    }
    if (limits.cpu_milli != 0 && !support_.cpu.empty() && failed == 0) {
        const int fd = prepare(support_.cpu, cpu_fd_, kCpuDir);
        if (fd < 0) return false;
        const auto quota = limits.cpu_milli * kCpuPeriodUs / 1000;
        if (v2) {
            char path[160];
            std::snprintf(path, sizeof path, "%s/cpu.max", out.name);
            failed =
                write_text_at(fd, path, std::to_string(quota) + " " + std::to_string(kCpuPeriodUs));
        } else {
            failed = write_number(fd, out.name, "cpu.cfs_quota_us", quota);
        }
    }
    if (failed == 0) return true;
    error = Error{ErrorCode::kInternal, std::string("set the limits of cgroup ") + out.name + ": " +
                                            std::strerror(failed)};
    return false;
}

Status CgroupSubtree::make_directory(const char* name, AttemptCgroup& out) {
    if (std::strlen(name) >= sizeof out.name) {
        return fail(ErrorCode::kInvalidArgument, std::string("cgroup name too long: ") + name);
    }
    if (::mkdirat(tracker_fd_, name, 0755) != 0) {
        return fail_errno(std::string("create cgroup ") + relative_ + "/" + name, errno);
    }
    std::snprintf(out.name, sizeof out.name, "%s", name);
    return {};
}

int CgroupSubtree::open_directory(const char* name) const {
    return ::openat(tracker_fd_, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

// One that is still there.
bool CgroupSubtree::take_spare(AttemptCgroup& out, int& fd) {
    while (!spare_.empty() && fd < 0) {
        std::snprintf(out.name, sizeof out.name, "%s", spare_.back().c_str());
        spare_.pop_back();
        fd = open_directory(out.name);
    }
    out.reused = fd >= 0;
    return out.reused;
}

Status CgroupSubtree::make_attempt(const char* name, const CgroupLimits& limits, AttemptCgroup& out,
                                   int& fd) {
    fd = -1;
    out = AttemptCgroup{};
    if (!usable()) return {};
    const bool unlimited =
        limits.memory_bytes == 0 && limits.cpu_milli == 0 && limits.pids_max == 0;
    out.pristine = unlimited && support_.v2_core();
    if (out.pristine && take_spare(out, fd)) return {};
    const auto any = "any." + std::to_string(++made_);
    REEVE_TRY(make_directory(out.pristine ? any.c_str() : name, out));
    Error error;
    if (!unlimited && !apply_limits(out, limits, error)) {
        remove(out);
        return fail(std::move(error));
    }
    if (!support_.v2_core()) return {};
    fd = open_directory(out.name);
    if (fd >= 0) return {};
    auto failed = fail_errno(std::string("open cgroup ") + relative_ + "/" + out.name, errno);
    remove(out);
    return failed;
}

int CgroupSubtree::entries(const AttemptCgroup& attempt, bool tracker_too,
                           CgroupEntry (&out)[kCgroupEntriesMax]) const {
    if (!attempt.made()) return 0;
    int count = 0;
    const auto add = [&](int fd) {
        out[count].dir_fd = fd;
        std::snprintf(out[count].path, sizeof out[count].path, "%s/cgroup.procs", attempt.name);
        ++count;
    };
    if (tracker_too) add(tracker_fd_);
    for (const auto dir : {kMemoryDir, kCpuDir, kPidsDir}) {
        if ((attempt.v1_dirs & dir) != 0) add(v1_fd(dir));
    }
    return count;
}

void CgroupSubtree::kill(AttemptCgroup& attempt) const {
    attempt.pristine = false;
    if (attempt.made()) kill_tree(tracker_fd_, attempt.name, support_);
}

bool CgroupSubtree::freeze(const AttemptCgroup& attempt, bool frozen) const {
    if (!attempt.made()) return false;
    const int fd = ::openat(tracker_fd_, attempt.name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return false;
    set_frozen(fd, support_.v2_core(), frozen);
    ::close(fd);
    return true;
}

bool CgroupSubtree::populated(const AttemptCgroup& attempt) const {
    return attempt.made() && tree_populated(tracker_fd_, attempt.name, support_.v2_core());
}

CgroupUse CgroupSubtree::use(const AttemptCgroup& attempt) const {
    CgroupUse use;
    if (!attempt.made()) return use;
    if (support_.backend == CgroupBackend::kV2) {
        if (support_.memory.empty()) return use;
        const auto events = read_of(tracker_fd_, attempt.name, "memory.events");
        use.oom_kills = number_of(events, "oom_kill");
        const auto peak = read_of(tracker_fd_, attempt.name, "memory.peak");
        use.memory_peak_bytes = std::strtoull(peak.c_str(), nullptr, 10);
        use.cpu_us = number_of(read_of(tracker_fd_, attempt.name, "cpu.stat"), "usage_usec");
        return use;
    }
    if ((attempt.v1_dirs & kMemoryDir) != 0) {
        const auto control = read_of(memory_fd_, attempt.name, "memory.oom_control");
        use.oom_kills = number_of(control, "oom_kill");
        const auto peak = read_of(memory_fd_, attempt.name, "memory.max_usage_in_bytes");
        use.memory_peak_bytes = std::strtoull(peak.c_str(), nullptr, 10);
    }
    return use;
}

CgroupSubtree::Removal CgroupSubtree::remove(AttemptCgroup& attempt) const {
    if (!attempt.made()) return Removal::kGone;
    if (::unlinkat(tracker_fd_, attempt.name, AT_REMOVEDIR) != 0 && errno != ENOENT) {
        if (tree_populated(tracker_fd_, attempt.name, support_.v2_core())) return Removal::kBusy;
        remove_tree(tracker_fd_, attempt.name);
        if (::faccessat(tracker_fd_, attempt.name, F_OK, 0) == 0) return Removal::kBusy;
    }
    for (const auto dir : {kMemoryDir, kCpuDir, kPidsDir}) {
        if ((attempt.v1_dirs & dir) != 0) remove_tree(v1_fd(dir), attempt.name);
    }
    attempt = AttemptCgroup{};
    return Removal::kGone;
}

// Nothing in it, still ours, not frozen, nothing below it, and not for threads only: then it could
// not be killed.
bool CgroupSubtree::as_made(const AttemptCgroup& attempt) const {
    struct stat info {};
    if (!attempt.pristine || ::fstatat(tracker_fd_, attempt.name, &info, 0) != 0 ||
        info.st_nlink != 2 || info.st_uid != ::geteuid()) {
        return false;
    }
    const auto events = read_of(tracker_fd_, attempt.name, "cgroup.events");
    return events.starts_with("populated 0") && number_of(events, "frozen") == 0 &&
           read_of(tracker_fd_, attempt.name, "cgroup.type") == "domain\n";
}

CgroupSubtree::Removal CgroupSubtree::end(AttemptCgroup& attempt) {
    if (spare_.size() >= kSparesMax || !as_made(attempt)) return remove(attempt);
    spare_.emplace_back(attempt.name);
    attempt = AttemptCgroup{};
    return Removal::kGone;
}

void CgroupSubtree::distrust(AttemptCgroup& attempt) {
    attempt.pristine = false;
    for (const auto& name : std::exchange(spare_, {})) remove_tree(tracker_fd_, name.c_str());
}

void CgroupSubtree::remove_subtree() {
    if (!usable()) return;
    auto deadline = boot_ns() + 100 * kMillisecond;
    (void)end_cgroup(support_, relative_, deadline);
    close_fd(tracker_fd_);
}

std::vector<std::string> list_cgroups(const CgroupSupport& support, const std::string& relative) {
    std::vector<std::string> names;
    if (!support.usable()) return names;
    DIR* dir = ::opendir((support.tracker + "/" + support.prefix + relative).c_str());
    if (dir == nullptr) return names;
    while (const dirent* entry = ::readdir(dir)) {
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.') names.emplace_back(entry->d_name);
    }
    ::closedir(dir);
    return names;
}

bool cgroup_populated(const CgroupSupport& support, const std::string& relative) {
    if (!support.usable() || relative.empty()) return false;
    const auto path = support.tracker + "/" + support.prefix + relative;
    return tree_populated(AT_FDCWD, path.c_str(), support.v2_core());
}

void kill_cgroup(const CgroupSupport& support, const std::string& relative) {
    if (!support.usable() || relative.empty()) return;
    const auto path = support.tracker + "/" + support.prefix + relative;
    kill_tree(AT_FDCWD, path.c_str(), support);
}

Status end_cgroup(const CgroupSupport& support, const std::string& relative,
                  std::uint64_t deadline_ns) {
    if (!support.usable() || relative.empty()) return {};
    std::uint64_t pause_ns = 200'000;
    while (cgroup_populated(support, relative)) {
        kill_cgroup(support, relative);
        if (!cgroup_populated(support, relative)) break;
        if (boot_ns() >= deadline_ns) {
            return fail(ErrorCode::kDeadlineExceeded,
                        "cgroup " + relative + " does not become empty after SIGKILL");
        }
        timespec pause{0, static_cast<long>(pause_ns)};
        ::nanosleep(&pause, nullptr);
        if (pause_ns < 10 * kMillisecond) pause_ns *= 2;
    }
    const auto parent = relative.substr(0, relative.rfind('/'));
    for (const auto* mount : {&support.tracker, &support.memory, &support.cpu, &support.pids}) {
        if (mount->empty()) continue;
        const auto base = *mount + "/" + support.prefix;
        remove_tree(AT_FDCWD, (base + relative).c_str());
        if (parent != relative) ::rmdir((base + parent).c_str());  // fails unless empty
    }
    return {};
}

}  // namespace reeve
