#include <csignal>
#include <thread>

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/process/pidfd.h"
#include "common/process/proc_info.h"
#include "common/process/small_file.h"
#include "tests/support/catch.h"

using namespace reeve;

namespace {

pid_t pausing_child() {
    const pid_t pid = ::fork();
    if (pid == 0) {
        while (true) ::pause();
    }
    return pid;
}

}  // namespace

TEST_CASE("ProcInfo: a process is its pid and its start", "[process]") {
    const auto own = start_ticks(::getpid());
    REQUIRE(own);
    CHECK(process_alive(::getpid(), *own));
    CHECK(process_alive(::getpid(), 0));
    CHECK_FALSE(process_alive(::getpid(), *own + 1));
    CHECK_FALSE(process_alive(0, 0));
    CHECK_FALSE(process_alive(0x3FFFFFF, 0));
    CHECK(start_ticks(0x3FFFFFF).error().code == ErrorCode::kNotFound);
    const auto stat = read_proc_stat(::getpid());
    REQUIRE(stat);
    CHECK(stat->parent == ::getppid());
    CHECK(stat->session == ::getsid(0));
}

TEST_CASE("ProcInfo: odd program names do not confuse the fields", "[process]") {
    const pid_t pid = ::fork();
    if (pid == 0) {
        ::prctl(PR_SET_NAME, "a) R 1 (b", 0, 0, 0);
        while (true) ::pause();
    }
    const auto deadline = boot_ns() + 5 * kSecond;
    const auto name = "/proc/" + std::to_string(pid) + "/comm";
    while (read_whole(name).value_or("") != "a) R 1 (b\n" && boot_ns() < deadline) ::usleep(1000);
    const auto stat = read_proc_stat(pid);
    REQUIRE(stat);
    CHECK(stat->parent == ::getpid());
    ::kill(pid, SIGKILL);
    // A zombie is not alive.
    CHECK([&] {
        const auto until = boot_ns() + 5 * kSecond;
        while (process_alive(pid, 0) && boot_ns() < until) ::usleep(1000);
        return !process_alive(pid, 0);
    }());
    ::waitpid(pid, nullptr, 0);
}

TEST_CASE("PidFd: waits, signals, and is not fooled by another start time", "[process]") {
    const pid_t pid = pausing_child();
    const auto ticks = start_ticks(pid).value();
    CHECK_FALSE(PidFd::open(pid, ticks + 1));
    auto process = PidFd::open(pid, ticks);
    REQUIRE(process);
    CHECK_FALSE(process->ended());
    CHECK_FALSE(process->wait(20));
    CHECK(process->signal(0));
    CHECK(process->kill_and_wait(5000));
    CHECK(process->ended());
    ::waitpid(pid, nullptr, 0);
    CHECK(process->signal(SIGTERM).error().code == ErrorCode::kNotFound);
    CHECK(PidFd::open(pid, ticks).error().code == ErrorCode::kNotFound);
}

TEST_CASE("ProcInfo: the sweep finds exactly those with the mark, and ends them", "[process]") {
    const std::string mark = "REEVE_INSTANCE=sweep" + std::to_string(::getpid());
    const auto start = [](const std::string& assignment) {
        const pid_t pid = ::fork();
        if (pid == 0) {
            const char* envp[] = {assignment.c_str(), "OTHER=1", nullptr};
            const char* argv[] = {"sleep", "1000", nullptr};
            ::execve("/bin/sleep", const_cast<char**>(argv), const_cast<char**>(envp));
            ::_exit(1);
        }
        return pid;
    };
    const pid_t ours = start(mark);
    const pid_t longer = start(mark + "0");
    const auto deadline = boot_ns() + 5 * kSecond;
    while (pids_with_environment(mark + "0").empty() || pids_with_environment(mark).empty()) {
        REQUIRE(boot_ns() < deadline);
        ::usleep(1000);
    }
    CHECK(pids_with_environment(mark) == std::vector<pid_t>{ours});
    CHECK(process_environment(ours, "OTHER") == "1");
    CHECK(kill_by_environment(mark, boot_ns() + 5 * kSecond));
    CHECK_FALSE(process_alive(ours, 0));
    CHECK(process_alive(longer, 0));
    ::kill(longer, SIGKILL);
    ::waitpid(ours, nullptr, 0);
    ::waitpid(longer, nullptr, 0);
}
