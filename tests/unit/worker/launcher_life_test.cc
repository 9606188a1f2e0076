// What happens to tasks when agent or launcher die, and to the launcher when nobody comes.
#include <csignal>
#include <filesystem>
#include <fstream>
#include <thread>

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/process/proc_info.h"
#include "tests/support/catch.h"
#include "tests/unit/worker/launcher_rig.h"

using namespace reeve;
using namespace reeve::worker;
using namespace reeve::worker::test;

namespace {

int number_in(const std::string& text) {
    return std::atoi(text.c_str());
}

}  // namespace

TEST_CASE("Launcher: tasks outlive the agent and the next one is told all", "[worker]") {
    LauncherRig rig({true, 5000});
    const auto runs = rig.shell("sleep 1; echo done");
    const auto ends = rig.shell("sleep 0.2; exit 8");
    const int pid = rig.pid_of(runs);
    const int short_pid = rig.pid_of(ends);
    rig.drop_connection();
    // The second one ends, and is reaped, while no agent is there.
    REQUIRE(eventually([&] { return !read_proc_stat(short_pid); }));
    const auto welcome = rig.connect_again();
    CHECK(welcome.number == 1);
    CHECK(welcome.incarnation == 1);
    CHECK(welcome.next_id == 3);
    CHECK(std::string(welcome.cgroup) == rig.cgroup());
    REQUIRE(rig.alive().size() == 1);
    CHECK(rig.alive()[0].id == runs);
    CHECK(rig.alive()[0].pid == static_cast<std::uint32_t>(pid));
    CHECK(rig.alive()[0].name.element == runs);
    const auto ended = rig.wait_ended(ends);
    CHECK(ended.exit_code == 8);
    CHECK(ended.name.element == ends);
    CHECK(rig.wait_ended(runs).outcome == Outcome::kSucceeded);
    CHECK(rig.output() == "done\n");
    // Not acknowledged: told again. Acknowledged: not.
    rig.drop_connection();
    rig.connect_again();
    CHECK(rig.wait_ended(runs).outcome == Outcome::kSucceeded);
    rig.acknowledge(rig.wait_ended(runs).sequence);
    CHECK(rig.run_shell("exit 0").outcome == Outcome::kSucceeded);
    rig.drop_connection();
    rig.connect_again();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    CHECK_FALSE(rig.has_ended(runs));
}

TEST_CASE("Launcher: a second agent is sent away while the first lives", "[worker]") {
    LauncherRig rig;
    auto fd = connect_launcher(rig.socket_path());
    REQUIRE(fd);
    std::vector<char> buffer(kMessageMax);
    int fds[kMessageFdsMax];
    int fd_count = 0;
    const long got = receive_message(*fd, buffer.data(), buffer.size(), true, fds, &fd_count);
    REQUIRE(got > 0);
    MessageReader reader({buffer.data(), static_cast<std::size_t>(got)});
    RecordView record;
    WelcomeRecord welcome;
    REQUIRE(reader.next(record));
    REQUIRE(record.read(welcome));
    CHECK(welcome.busy == 1);
    ::close(*fd);
    CHECK(rig.run_shell("exit 0").outcome == Outcome::kSucceeded);
}

TEST_CASE("Launcher: its socket is for us alone", "[worker]") {
    LauncherRig rig;
    struct stat info {};
    REQUIRE(::stat(rig.socket_path().c_str(), &info) == 0);
    CHECK((info.st_mode & 0777) == 0600);
}

TEST_CASE("Launcher: without an agent for a lease and a margin it ends everything", "[worker]") {
    const bool cgroups = GENERATE(true, false);
    LauncherRig rig({cgroups, 300});
    const auto id =
        rig.shell("setsid sh -c 'trap \"\" TERM; echo $$ > d; exec sleep 1000' & sleep 1000");
    const int main_pid = rig.pid_of(id);
    REQUIRE(eventually([&] { return number_in(rig.output("d")) > 1; }));
    const int daemon_pid = number_in(rig.output("d"));
    const auto since = boot_ns();
    rig.drop_connection();
    CHECK(rig.wait_launcher_gone(8000));
    CHECK(boot_ns() - since >= 1200 * kMillisecond);
    CHECK(eventually([&] { return !process_exists(main_pid) && !process_exists(daemon_pid); }));
    CHECK_FALSE(std::filesystem::exists(rig.socket_path()));
    CHECK_FALSE(std::filesystem::exists(rig.socket_path() + ".lock"));
    if (!rig.cgroup().empty())
        CHECK_FALSE(std::filesystem::exists(rig.support().tracker + "/" + rig.cgroup()));
}

TEST_CASE("Launcher: killed, its children die with it and the cgroup can be ended", "[worker]") {
    LauncherRig rig;
    const auto id =
        rig.shell("setsid sh -c 'trap \"\" TERM; echo $$ > d; exec sleep 1000' & sleep 1000");
    const int main_pid = rig.pid_of(id);
    REQUIRE(eventually([&] { return number_in(rig.output("d")) > 1; }));
    const int daemon_pid = number_in(rig.output("d"));
    ::kill(rig.launcher_pid(), SIGKILL);
    CHECK(eventually([&] { return !process_exists(main_pid); }, 3000));
    if (!rig.cgroup().empty()) {
        CHECK(cgroup_populated(rig.support(), rig.cgroup()));  // the daemon
        CHECK(end_cgroup(rig.support(), rig.cgroup(), boot_ns() + 3 * kSecond));
        CHECK_FALSE(cgroup_populated(rig.support(), rig.cgroup()));
    } else {
        CHECK(
            kill_by_environment("REEVE_INSTANCE=test." + std::to_string(rig.launcher_pid()) + ".1",
                                boot_ns() + 3 * kSecond));
    }
    CHECK(eventually([&] { return !process_exists(daemon_pid); }, 3000));
}

TEST_CASE("Launcher: without cgroups what it left is found by its mark", "[worker]") {
    LauncherRig rig({false, 500});
    const auto id = rig.shell("setsid sh -c 'echo $$ > d; exec sleep 1000' & sleep 1000");
    (void)rig.pid_of(id);
    REQUIRE(eventually([&] { return number_in(rig.output("d")) > 1; }));
    const int daemon_pid = number_in(rig.output("d"));
    ::kill(rig.launcher_pid(), SIGKILL);
    const auto mark = "REEVE_INSTANCE=test." + std::to_string(rig.launcher_pid()) + ".1";
    CHECK(kill_by_environment(mark, boot_ns() + 3 * kSecond));
    CHECK(eventually([&] { return !process_exists(daemon_pid); }, 3000));
    CHECK(pids_with_environment(mark).empty());
}

// A launcher started by a thread that ends must keep its children: PDEATHSIG follows the thread
// that forked the *task*, and that is the launcher's only one.
TEST_CASE("Launcher: forked from a thread that ends, its tasks live on", "[worker]") {
    char name[] = "/tmp/reeve-test-XXXXXX";
    const std::string dir = ::mkdtemp(name);
    ForkedLauncher launcher;
    std::thread([&] { launcher = fork_launcher(dir + "/l.sock").value(); }).join();
    MessageWriter message;
    ConfigureRecord configure;
    configure.number = 1;
    configure.incarnation = 1;
    configure.lease_ns = kSecond;
    message.add(RecordKind::kConfigure, configure);
    StartText start;
    start.head.id = 1;
    start.head.uid = ::geteuid();
    start.head.flags = kStartErrorIsOutput;
    start.arguments = {"/bin/sh", "-c", "sleep 0.5; echo lived"};
    start.directory = dir;
    start.output = dir + "/out";
    message.add_bytes(RecordKind::kStart, encode_start(start));
    REQUIRE(send_message(launcher.socket_fd, message.text(), true) == 0);
    CHECK(eventually([&] { return read_file(dir + "/out") == "lived\n"; }));
    MessageWriter bye;
    bye.add(RecordKind::kShutdown, ShutdownRecord{});
    REQUIRE(send_message(launcher.socket_fd, bye.text(), true) == 0);
    int status = 0;
    CHECK(eventually([&] { return ::waitpid(launcher.pid, &status, WNOHANG) == launcher.pid; }));
    CHECK(status == 0);
    ::close(launcher.socket_fd);
    std::filesystem::remove_all(dir);
}

TEST_CASE("Launcher: damaged messages cost the connection, not the launcher", "[worker]") {
    LauncherRig rig({true, 5000});
    const auto id = rig.shell("sleep 0.5; exit 2");
    (void)rig.pid_of(id);
    for (const std::string& bytes :
         {std::string(3, 'x'), std::string(64, '\xff'), std::string("\x03\0\0\0\x40\0\0\0", 8)}) {
        rig.drop_connection();
        auto fd = connect_launcher(rig.socket_path());
        REQUIRE(fd);
        (void)send_message(*fd, bytes, true);
        ::close(*fd);
    }
    REQUIRE(eventually([&] { return process_exists(rig.launcher_pid()); }));
    rig.connect_again();
    CHECK(rig.wait_ended(id).exit_code == 2);
}
