#include "common/process/proc_info.h"

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/process/small_file.h"

namespace reeve {
namespace {

constexpr std::size_t kEnvironmentMax = 4 << 20;

std::string proc_path(pid_t pid, const char* file) {
    return "/proc/" + std::to_string(pid) + "/" + file;
}

bool contains_assignment(std::string_view environment, std::string_view assignment) {
    std::size_t at = 0;
    while (at < environment.size()) {
        auto end = environment.find('\0', at);
        if (end == std::string_view::npos) end = environment.size();
        if (environment.substr(at, end - at) == assignment) return true;
        at = end + 1;
    }
    return false;
}

}  // namespace

Result<ProcStat> read_proc_stat(pid_t pid) {
    char path[48];
    std::snprintf(path, sizeof path, "/proc/%d/stat", static_cast<int>(pid));
    const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail_errno(path, errno);
    char text[1024];
    const auto got = ::read(fd, text, sizeof text - 1);
    const int error = errno;
    ::close(fd);
    if (got <= 0) return fail_errno(path, got < 0 ? error : ESRCH);
    text[got] = '\0';
    // The name may hold blanks and brackets: the fields start after the last ')'.
    const std::string_view all(text, static_cast<std::size_t>(got));
    const auto bracket = all.rfind(')');
    if (bracket == std::string_view::npos) return fail(ErrorCode::kDataLoss, path);
    ProcStat stat;
    unsigned long long ticks = 0;
    int parent = 0;
    int group = 0;
    int session = 0;
    const int fields = std::sscanf(text + bracket + 1,
                                   " %c %d %d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d "
                                   "%*d %*d %*d %llu",
                                   &stat.state, &parent, &group, &session, &ticks);
    if (fields != 5) return fail(ErrorCode::kDataLoss, path);
    stat.pid = pid;
    stat.parent = parent;
    stat.group = group;
    stat.session = session;
    stat.start_ticks = ticks;
    return stat;
}

Result<std::uint64_t> start_ticks(pid_t pid) {
    auto stat = read_proc_stat(pid);
    if (!stat) return fail(std::move(stat).error());
    return stat->start_ticks;
}

bool process_alive(pid_t pid, std::uint64_t ticks) {
    if (pid <= 0) return false;
    const auto stat = read_proc_stat(pid);
    if (!stat || stat->state == 'Z' || stat->state == 'X') return false;
    return ticks == 0 || stat->start_ticks == ticks;
}

std::vector<pid_t> all_pids() {
    std::vector<pid_t> pids;
    DIR* dir = ::opendir("/proc");
    if (dir == nullptr) return pids;
    while (const dirent* entry = ::readdir(dir)) {
        const std::string_view name(entry->d_name);
        int pid = 0;
        const auto parsed = std::from_chars(name.data(), name.data() + name.size(), pid);
        if (parsed.ec == std::errc{} && parsed.ptr == name.data() + name.size()) {
            pids.push_back(pid);
        }
    }
    ::closedir(dir);
    return pids;
}

std::string process_environment(pid_t pid, std::string_view name) {
    const auto text = read_whole(proc_path(pid, "environ"), kEnvironmentMax);
    if (!text) return {};
    const std::string wanted = std::string(name) + "=";
    const std::string_view all(*text);
    std::size_t at = 0;
    while (at < all.size()) {
        auto end = all.find('\0', at);
        if (end == std::string_view::npos) end = all.size();
        const auto one = all.substr(at, end - at);
        if (one.starts_with(wanted)) return std::string(one.substr(wanted.size()));
        at = end + 1;
    }
    return {};
}

std::vector<pid_t> pids_with_environment(std::string_view assignment) {
    std::vector<pid_t> found;
    for (const auto pid : all_pids()) {
        if (pid == ::getpid()) continue;
        const auto text = read_whole(proc_path(pid, "environ"), kEnvironmentMax);
        if (text && contains_assignment(*text, assignment)) found.push_back(pid);
    }
    return found;
}

Status kill_by_environment(std::string_view assignment, std::uint64_t deadline_ns) {
    while (true) {
        auto pids = pids_with_environment(assignment);
        std::erase_if(pids, [](pid_t pid) { return !process_alive(pid, 0); });
        if (pids.empty()) return {};
        for (const auto pid : pids) ::kill(pid, SIGKILL);
        if (boot_ns() >= deadline_ns) {
            return fail(ErrorCode::kDeadlineExceeded,
                        std::to_string(pids.size()) + " processes with " + std::string(assignment) +
                            " are still there");
        }
        timespec pause{0, 1'000'000};
        ::nanosleep(&pause, nullptr);
    }
}

}  // namespace reeve
