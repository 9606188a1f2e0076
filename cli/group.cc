#include "cli/group.h"

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <memory>
#include <optional>

#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/context.h"
#include "cli/group_stop.h"
#include "cli/group_view.h"
#include "cli/json_writer.h"
#include "cli/role.h"
#include "cli/running_options.h"
#include "cli/text.h"
#include "common/log/log.h"
#include "common/process/proc_info.h"

namespace reeve::cli {
namespace {

void nap_ms(long milliseconds) {
    const timespec pause{milliseconds / 1000, (milliseconds % 1000) * 1'000'000};
    nanosleep(&pause, nullptr);
}

void append(std::vector<std::string>& words, const char* name, const std::string& value) {
    if (!value.empty()) words.insert(words.end(), {name, value});
}

// What the background supervisor is started with: the same words `reeve supervise` takes.
std::vector<std::string> supervise_words(const Cell& cell, const SuperviseOptions& options,
                                         int ready_fd, int lock_fd) {
    std::vector<std::string> words{"reeve",     "--state-dir", cell.dir,
                                   "supervise", "--workers",   std::to_string(options.workers)};
    append(words, "--ready-fd", std::to_string(ready_fd));
    append(words, "--lock-fd", std::to_string(lock_fd));
    append(words, "--ready-ms", std::to_string(options.ready_timeout_ns / kMillisecond));
    const auto pass = [&](const char* name, const std::vector<std::string>& values) {
        for (const auto& value : values) words.push_back(std::string(name) + "=" + value);
    };
    pass("--worker-arg", options.worker_arguments);
    pass("--plm-arg", options.plm_arguments);
    pass("--scheduler-arg", options.scheduler_arguments);
    pass("--register-arg", options.register_arguments);
    return words;
}

// Twice forked, so that it is nobody's child; own session, no terminal, output to its log.
[[noreturn]] void become_supervisor(const Cell& cell, std::vector<std::string> words, int ready_fd,
                                    int lock_fd) {
    setsid();
    if (fork() != 0) _exit(0);
    const auto log_path = cell.logs + "/supervisor.log";
    const int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    const int log_fd = open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (null_fd >= 0) dup2(null_fd, STDIN_FILENO);
    if (log_fd >= 0) {
        dup2(log_fd, STDOUT_FILENO);
        dup2(log_fd, STDERR_FILENO);
    }
    syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC);
    fcntl(ready_fd, F_SETFD, 0);
    fcntl(lock_fd, F_SETFD, 0);
    if (chdir("/") != 0) _exit(kExitInternal);
    std::vector<char*> argv;
    for (auto& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    execv(own_executable().c_str(), argv.data());
    _exit(kExitInternal);
}

// The supervisor's one line: "ready", or "failed CODE WHY". nullopt: it died without a word. After
// "failed" it has ended, too.
std::optional<std::string> read_answer(int fd, std::uint64_t timeout_ns) {
    const auto deadline = boot_ns() + timeout_ns;
    std::string answer;
    while (answer.find('\n') == std::string::npos || answer.starts_with("failed")) {
        const auto now = boot_ns();
        if (now >= deadline) break;
        pollfd entry{fd, POLLIN, 0};
        poll(&entry, 1, static_cast<int>((deadline - now) / kMillisecond + 1));
        char text[512];
        const auto got = read(fd, text, sizeof text);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        answer.append(text, static_cast<std::size_t>(got));
    }
    if (answer.find('\n') == std::string::npos) return std::nullopt;
    return answer.substr(0, answer.find('\n'));
}

int tell_up(const Cell& cell) {
    const auto view = view_group(cell);
    std::string line = "reeve is up in " + cell.dir + " (";
    std::size_t workers = 0;
    for (const auto& process : view.processes) {
        if (process.state == "dead" || process.state == "missing") continue;
        if (process.role == "worker") ++workers;
        if (process.role == "worker" || process.role == "launcher") continue;
        line += process.name + " " + std::to_string(process.pid) + ", ";
    }
    line += std::to_string(workers) + (workers == 1 ? " worker)" : " workers)");
    std::puts(line.c_str());
    return finish(kExitOk);
}

void warn_of_kept(const char* who, const std::vector<std::string>& flags) {
    if (flags.empty()) return;
    std::string text;
    for (const auto& flag : flags) text += (text.empty() ? "" : " ") + flag;
    warn(std::string(who) + " keeps its own " + text +
         "; to change that: reeve down, then this reeve up again");
}

// Roles whose supervisor died are taken over as they are; what is missing of them is started as it
// was before.
void take_adopted(const Cell& cell, const UpRequest& request, SuperviseOptions& options) {
    if (view_group(cell).state == "down") return;
    auto flags = other_options(cell, options, request.by_default);
    std::erase(flags, "--workers");
    warn_of_kept("what still runs of the cell", flags);
    take_running_options(cell, request.by_default, options);
}

// The group goes on as it is; the policy alone is taken over while it runs.
int tell_up_already(const Cell& cell, const SuperviseOptions& options, const UpRequest& request) {
    warn_of_kept("the running cell", other_options(cell, options, request.by_default));
    std::puts(request.policy.empty() ? "reeve was up already; its options are unchanged"
              : request.policy == "none"
                  ? "reeve was up already; it goes on without a policy within a second"
                  : "reeve was up already; it takes the new policy over within a second");
    return tell_up(cell);
}

// The supervisor's place; nullopt once somebody else's group is up there. Waits for whoever has it:
// an `up` that starts the group, or a `down` that stops it.
Result<std::optional<int>> take_place(const Cell& cell, std::uint64_t timeout_ns) {
    for (const auto deadline = boot_ns() + timeout_ns;; nap_ms(20)) {
        auto lock = lock_supervisor(cell);
        if (lock) return *lock;
        if (lock.error().code != ErrorCode::kFailedPrecondition) return fail(lock.error());
        if (supervisor_ready(cell) && view_group(cell).state == "up") return std::nullopt;
        if (boot_ns() > deadline) {
            return fail(ErrorCode::kDeadlineExceeded,
                        "the group is being started or stopped by somebody else and is not done; "
                        "see reeve status --state-dir " +
                            cell.dir);
        }
    }
}

// Takes one value of a log line, quoted or plain, off the front.
std::string take_value(std::string_view& rest) {
    std::string out;
    if (!rest.starts_with('"')) {
        const auto end = std::min(rest.find(' '), rest.size());
        out = rest.substr(0, end);
        rest.remove_prefix(end);
        return out;
    }
    std::size_t at = 1;
    for (; at < rest.size() && rest[at] != '"'; ++at) {
        if (rest[at] == '\\' && at + 1 < rest.size()) ++at;
        out += rest[at];
    }
    rest.remove_prefix(std::min(at + 1, rest.size()));
    return out;
}

// `... t=... level=error role=plm pid=7 msg="the PLM cannot start" why="..."` as a person says it.
std::string in_words(std::string_view text) {
    const auto line = text.find("t=2");
    const auto message = text.find(" msg=");
    if (line == std::string_view::npos || message == std::string_view::npos || message < line) {
        return std::string(text);
    }
    std::string out(text.substr(0, line));
    auto rest = text.substr(message + 5);
    out += take_value(rest);
    while (rest.starts_with(' ')) {
        rest.remove_prefix(1);
        const auto equals = rest.find('=');
        if (equals == std::string_view::npos) break;
        const std::string name(rest.substr(0, equals));
        rest.remove_prefix(equals + 1);
        out += (name == "why" ? ": " : ", " + name + " ") + take_value(rest);
    }
    return out.append(rest);
}

int report_failure(const Cell& cell, const std::optional<std::string>& answer) {
    const auto see = "; see " + cell.logs + "/";
    if (!answer) {
        std::fprintf(stderr, "reeve: the supervisor ended without a word%ssupervisor.log\n",
                     see.c_str());
        return kExitInternal;
    }
    int code = kExitInternal;
    std::string_view rest(*answer);
    rest.remove_prefix(std::min(rest.size(), std::string_view("failed ").size()));
    const auto parsed = std::from_chars(rest.data(), rest.data() + rest.size(), code);
    rest.remove_prefix(static_cast<std::size_t>(parsed.ptr - rest.data()));
    std::fprintf(stderr, "reeve: the group did not start:%s%s\n", escape(in_words(rest)).c_str(),
                 see.c_str());
    return code;
}

// Asks a living supervisor to stop the group and waits until it is gone.
void stop_supervisor(const Cell& cell, std::uint64_t patience_ns) {
    const auto file = read_pid_file(cell, "supervisor");
    if (!file) return;
    const auto process = PidFd::open(file->pid, file->start_ticks);
    if (!process || process->ended()) return;
    [[maybe_unused]] auto told = process->signal(SIGTERM);
    told = process->signal(SIGCONT);
    if (process->wait(static_cast<int>(patience_ns / kMillisecond))) return;
    std::fprintf(stderr, "reeve: the supervisor does not stop and is killed\n");
    [[maybe_unused]] const auto killed = process->kill_and_wait(5'000);
}

// The supervisor's place, once nobody has it any more: neither a supervisor nor another `down`.
Result<int> take_over(const Cell& cell, std::uint64_t patience_ns) {
    const auto deadline = boot_ns() + patience_ns;
    for (;; nap_ms(20)) {
        stop_supervisor(cell, patience_ns);
        auto lock = lock_supervisor(cell);
        if (lock || lock.error().code != ErrorCode::kFailedPrecondition || boot_ns() > deadline) {
            return lock;
        }
    }
}

std::vector<Role> living_roles(const Cell& cell) {
    std::vector<Role> roles;
    const auto view = view_group(cell);
    for (const auto& process : view.processes) {
        if (process.role == "supervisor" || process.role == "launcher") continue;
        Role role(process.name, {process.role});
        const auto ticks = start_ticks(process.pid);
        const bool lives = process.state != "dead" && process.state != "missing";
        if (lives && ticks && role.adopt(cell, PidFile{process.pid, *ticks})) {
            roles.push_back(std::move(role));
        }
    }
    return roles;
}

}  // namespace

int up_main(const Cell& cell, SuperviseOptions options, const UpRequest& request) {
    if (request.foreground) {
        take_adopted(cell, request, options);
        return supervise_main(cell, options);
    }
    if (const auto made = create_cell_directories(cell); !made) return report(made.error());
    const auto lock = take_place(cell, options.ready_timeout_ns);
    if (!lock) return report(lock.error());
    if (!*lock) {
        return tell_up_already(cell, options, request);
    }
    take_adopted(cell, request, options);
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return report(fail_errno("pipe", errno).value());
    const pid_t child = fork();
    if (child < 0) return report(fail_errno("fork", errno).value());
    if (child == 0) {
        close(ends[0]);
        become_supervisor(cell, supervise_words(cell, options, ends[1], **lock), ends[1], **lock);
    }
    close(ends[1]);
    close(**lock);  // it is the supervisor's now
    waitpid(child, nullptr, 0);
    // The supervisor has its own limit; ours only covers a supervisor that hangs.
    const auto answer = read_answer(ends[0], options.ready_timeout_ns + 60 * kSecond);
    close(ends[0]);
    if (answer && *answer == "ready") return tell_up(cell);
    return report_failure(cell, answer);
}

int down_main(const Cell& cell, const DownOptions& options) {
    const auto grace_ns = static_cast<std::uint64_t>(options.grace_seconds * 1e9);
    StopTimes times;
    times.worker_ns = grace_ns + 5 * kSecond;
    times.head_ns = grace_ns;
    if (access(cell.dir.c_str(), F_OK) != 0) {
        std::printf("nothing runs in %s\n", cell.dir.c_str());
        return finish(kExitOk);
    }
    bool was_up = view_group(cell).state != "down";
    auto lock = take_over(cell, times.worker_ns + times.slots_ns + 3 * times.head_ns);
    if (!lock) return report(lock.error());
    log::init("down");
    auto roles = living_roles(cell);
    was_up = was_up || !roles.empty();
    stop_roles(cell, roles, times);
    const auto cleared = clear_cell(cell);
    unlink(pid_file_path(cell, "supervisor").c_str());
    close(*lock);
    if (!cleared) return report(cleared.error());
    if (*cleared != 0) {
        std::fprintf(stderr,
                     "reeve: %llu reports of tasks are not in the ledger yet (was the disk full?); "
                     "they stay "
                     "in shared memory, and the next reeve up records them\n",
                     static_cast<unsigned long long>(*cleared));
    }
    std::printf(was_up ? "reeve is down in %s\n" : "nothing runs in %s\n", cell.dir.c_str());
    return finish(kExitOk);
}

}  // namespace reeve::cli
