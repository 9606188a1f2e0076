#include "cli/role.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/process/proc_info.h"
#include "common/process/small_file.h"
#include "common/process/stop_signals.h"

namespace reeve::cli {
namespace {

namespace fs = std::filesystem;

constexpr int kPidFdType = 3;  // P_PIDFD, which older headers lack

// What the child needs, made before the fork.
struct ChildPlan {
    std::string executable;
    std::vector<std::string> words;
    std::vector<char*> argv;
    std::vector<std::string> variables;
    std::vector<char*> environment;
    std::string pid_path;
    std::string log_path;
};

ChildPlan make_plan(const Cell& cell, const std::string& name,
                    const std::vector<std::string>& arguments) {
    ChildPlan plan;
    plan.executable = own_executable();
    plan.words = {"reeve", "--state-dir", cell.dir};
    plan.words.insert(plan.words.end(), arguments.begin(), arguments.end());
    for (char** variable = environ; *variable != nullptr; ++variable) {
        const std::string_view text(*variable);
        if (text.starts_with("REEVE_CELL=") || text.starts_with("REEVE_STATE_DIR=")) continue;
        plan.variables.emplace_back(text);
    }
    plan.variables.push_back("REEVE_CELL=" + cell.hash);
    plan.variables.push_back("REEVE_STATE_DIR=" + cell.dir);
    for (auto& word : plan.words) plan.argv.push_back(word.data());
    plan.argv.push_back(nullptr);
    for (auto& variable : plan.variables) plan.environment.push_back(variable.data());
    plan.environment.push_back(nullptr);
    plan.pid_path = pid_file_path(cell, name);
    plan.log_path = cell.logs + "/" + name + ".log";
    return plan;
}

[[noreturn]] void run_child(const ChildPlan& plan) {
    setsid();  // a terminal's Ctrl-C reaches the supervisor only, which stops the roles in order
    // Blocked until the role can hear them: asked to stop while it starts, it stops in good order.
    const auto stops = stop_signals();
    sigprocmask(SIG_SETMASK, &stops, nullptr);
    for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGCHLD}) {
        ::signal(number, SIG_DFL);
    }
    const int null_fd = open("/dev/null", O_RDONLY);
    const int log_fd =
        open(plan.log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW, 0600);
    if (null_fd < 0 || log_fd < 0) _exit(7);
    dup2(null_fd, STDIN_FILENO);
    dup2(log_fd, STDOUT_FILENO);
    dup2(log_fd, STDERR_FILENO);
    if (chdir("/") != 0) _exit(7);
    if (!write_pid_file(plan.pid_path, getpid(), start_ticks(getpid()).value_or(0))) _exit(7);
    syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC);
    execve(plan.executable.c_str(), plan.argv.data(), plan.environment.data());
    std::perror("execve");
    _exit(7);
}

void rotate_log(const std::string& path) {
    struct stat info {};
    if (stat(path.c_str(), &info) != 0) return;
    if (static_cast<std::uint64_t>(info.st_size) < kLogBytesMax) return;
    rename(path.c_str(), (path + ".1").c_str());
}

}  // namespace

std::string RoleEnd::text() const {
    if (!known) return "ended";
    if (signal != 0) return "killed by signal " + std::to_string(signal);
    return "ended with status " + std::to_string(code);
}

std::string pid_file_path(const Cell& cell, const std::string& name) {
    return cell.run + "/" + name + ".pid";
}

std::optional<PidFile> read_pid_file(const Cell& cell, const std::string& name) {
    const auto text = read_whole(pid_file_path(cell, name), 256);
    if (!text) return std::nullopt;
    PidFile file;
    const char* end = text->data() + text->size();
    const auto first = std::from_chars(text->data(), end, file.pid);
    if (first.ec != std::errc{} || first.ptr == end || *first.ptr != ' ') return std::nullopt;
    const auto second = std::from_chars(first.ptr + 1, end, file.start_ticks);
    if (second.ec != std::errc{} || file.pid <= 0) return std::nullopt;
    return file;
}

bool write_pid_file(const std::string& path, pid_t pid, std::uint64_t ticks) {
    char text[64];
    const int size = std::snprintf(text, sizeof text, "%d %llu\n", static_cast<int>(pid),
                                   static_cast<unsigned long long>(ticks));
    const auto temporary = path + ".new";
    const int fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW,
                        0600);
    if (fd < 0) return false;
    const bool written = write(fd, text, static_cast<std::size_t>(size)) == size;
    close(fd);
    return written && rename(temporary.c_str(), path.c_str()) == 0;
}

std::vector<std::string> pid_file_names(const Cell& cell) {
    std::vector<std::string> names;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(cell.run, error)) {
        if (entry.path().extension() == ".pid") names.push_back(entry.path().stem().string());
    }
    std::sort(names.begin(), names.end());
    return names;
}

std::string own_executable() {
    std::error_code error;
    const auto path = fs::read_symlink("/proc/self/exe", error);
    return !error && fs::exists(path, error) ? path.string() : "/proc/self/exe";
}

std::string last_log_line(const Cell& cell, const std::string& name) {
    const int fd = open((cell.logs + "/" + name + ".log").c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return {};
    char text[4096];
    const auto size = lseek(fd, 0, SEEK_END);
    const auto from = std::max<off_t>(0, size - static_cast<off_t>(sizeof text));
    const auto got = pread(fd, text, sizeof text, from);
    close(fd);
    std::string line(text, got > 0 ? static_cast<std::size_t>(got) : 0);
    while (!line.empty() && line.back() == '\n') line.pop_back();
    const auto start = line.rfind('\n');
    return start == std::string::npos ? line : line.substr(start + 1);
}

Status Role::spawn(const Cell& cell) {
    const auto plan = make_plan(cell, name_, arguments_);
    rotate_log(plan.log_path);
    const pid_t child = fork();
    if (child < 0) return fail_errno("fork for " + name_, errno);
    if (child == 0) run_child(plan);
    auto opened = PidFd::open(child, 0);  // not reaped yet, so the pid is this child's
    if (!opened) return fail(std::move(opened).error());
    process_ = std::move(*opened);
    start_ticks_ = reeve::start_ticks(child).value_or(0);
    started_ns_ = boot_ns();
    child_ = true;
    return {};
}

bool Role::adopt(const Cell& cell, std::optional<PidFile> known) {
    const auto file = known ? known : read_pid_file(cell, name_);
    if (!file) return false;
    auto opened = PidFd::open(file->pid, file->start_ticks);
    if (!opened || opened->ended()) return false;
    if (known) write_pid_file(pid_file_path(cell, name_), file->pid, file->start_ticks);
    process_ = std::move(*opened);
    start_ticks_ = file->start_ticks;
    started_ns_ = boot_ns();
    child_ = false;
    return true;
}

std::optional<RoleEnd> Role::poll_end() {
    if (!running() || !process_.ended()) return std::nullopt;
    RoleEnd end;
    siginfo_t info{};
    if (child_ && waitid(static_cast<idtype_t>(kPidFdType), static_cast<id_t>(process_.fd()), &info,
                         WEXITED | WNOHANG) == 0 && info.si_pid != 0) {
        end.known = true;
        if (info.si_code == CLD_EXITED) end.code = info.si_status;
        else end.signal = info.si_status;
    }
    process_ = PidFd{};
    return end;
}

void Role::signal(int number) const {
    if (!running()) return;
    [[maybe_unused]] const auto sent = process_.signal(number);  // gone already: fine
}

}  // namespace reeve::cli
