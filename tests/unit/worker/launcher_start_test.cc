// What a task finds when it starts, and what is said when it cannot.
#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "tests/support/catch.h"
#include "tests/unit/worker/launcher_rig.h"

using namespace reeve;
using namespace reeve::worker;
using namespace reeve::worker::test;

namespace {

std::string path_in(const LauncherRig& rig, const std::string& name) {
    return rig.dir() + "/" + name;
}

void write_program(const std::string& path, const std::string& content, mode_t mode) {
    std::ofstream(path) << content;
    ::chmod(path.c_str(), mode);
}

}  // namespace

TEST_CASE("Launcher: runs a command and tells status, times and output", "[worker]") {
    LauncherRig rig;
    const auto before = wall_ns();
    const auto ended = rig.run_shell("echo hello; echo oops >&2; exit 3");
    CHECK(ended.outcome == Outcome::kFailed);
    CHECK(ended.exit_code == 3);
    CHECK(std::string(ended.detail) == "exit status 3");
    CHECK(ended.started_wall_ns >= before);
    CHECK(ended.ended_wall_ns >= ended.started_wall_ns);
    CHECK(ended.pid > 1);
    CHECK(ended.max_rss_bytes > 0);
    CHECK(rig.output() == "hello\noops\n");
    CHECK(rig.run_shell("exit 0").outcome == Outcome::kSucceeded);
}

TEST_CASE("Launcher: a program that is not there is named, with a hint", "[worker]") {
    LauncherRig rig;
    auto ended = rig.run(rig.text({"no-such-program-xyz", "arg"}));
    CHECK(ended.outcome == Outcome::kFailed);
    CHECK(ended.exit_code == 127);
    CHECK_THAT(ended.detail, contains("no-such-program-xyz") && contains("PATH"));
    // Its output file is there, and empty.
    CHECK(std::filesystem::exists(path_in(rig, "out")));
    CHECK(rig.output().empty());

    write_program(path_in(rig, "tool"), "#!/bin/sh\nexit 0\n", 0755);
    ended = rig.run(rig.text({"tool"}));
    CHECK(ended.exit_code == 127);
    CHECK_THAT(ended.detail, contains("'tool'") && contains("./ has one"));
    CHECK(rig.run(rig.text({"./tool"})).outcome == Outcome::kSucceeded);
    CHECK(rig.run(rig.text({path_in(rig, "tool")})).outcome == Outcome::kSucceeded);

    ended = rig.run(rig.text({"/no/such/place/tool"}));
    CHECK(ended.exit_code == 127);
    CHECK_THAT(ended.detail, contains("/no/such/place/tool"));
}

TEST_CASE("Launcher: what cannot be executed is said in words", "[worker]") {
    LauncherRig rig;
    write_program(path_in(rig, "plain"), "#!/bin/sh\nexit 0\n", 0644);
    auto ended = rig.run(rig.text({"./plain"}));
    CHECK(ended.exit_code == 126);
    CHECK_THAT(ended.detail, contains("chmod +x"));

    write_program(path_in(rig, "orphan"), "#!/no/such/interpreter\n", 0755);
    ended = rig.run(rig.text({"./orphan"}));
    CHECK(ended.exit_code == 127);
    CHECK_THAT(ended.detail, contains("#!"));

    write_program(path_in(rig, "noformat"), "just text\n", 0755);
    ended = rig.run(rig.text({"./noformat"}));
    CHECK(ended.exit_code == 126);
    CHECK_THAT(ended.detail, contains("#!"));

    ended = rig.run(rig.text({"./"}));
    CHECK(ended.exit_code == 126);
    CHECK_THAT(ended.detail, contains("directory"));

    write_program(path_in(rig, "busy"), "#!/bin/sh\n", 0755);
    const int writer = ::open(path_in(rig, "busy").c_str(), O_WRONLY | O_CLOEXEC);
    ended = rig.run(rig.text({"./busy"}));
    ::close(writer);
    CHECK(ended.exit_code == 126);
    CHECK_THAT(ended.detail, contains("busy"));

    REQUIRE(::symlink("loop", path_in(rig, "loop").c_str()) == 0);
    ended = rig.run(rig.text({"./loop"}));
    CHECK(ended.exit_code == 126);

    std::vector<std::string> argv{"/bin/true"};
    argv.emplace_back(300'000, 'x');  // longer than one argument may be
    ended = rig.run(rig.text(argv));
    CHECK(ended.exit_code == 126);
    CHECK_THAT(ended.detail, contains("too long"));

    ended = rig.run(rig.text({std::string(400, 'n')}));
    CHECK(ended.outcome == Outcome::kFailed);
    CHECK(std::string(ended.detail).size() < 64);
}

TEST_CASE("Launcher: long argument lists arrive whole", "[worker]") {
    LauncherRig rig;
    std::vector<std::string> argv{"/bin/sh", "-c", "echo $#; for a; do :; done; echo \"$a\"", "sh"};
    for (int i = 0; i < 10'000; ++i) argv.push_back("argument-" + std::to_string(i));
    CHECK(rig.run(rig.text(argv)).outcome == Outcome::kSucceeded);
    CHECK(rig.output() == "10000\nargument-9999\n");
}

TEST_CASE("Launcher: arguments are taken literally", "[worker]") {
    LauncherRig rig;
    const std::vector<std::string> odd{"$(id)", ";", "a b", "new\nline", "\xff\xfe", "*", "''", ""};
    std::vector<std::string> argv{"/usr/bin/printf", "%s|"};
    std::string expected;
    for (const auto& one : odd) {
        argv.push_back(one);
        expected += one + "|";
    }
    CHECK(rig.run(rig.text(argv)).outcome == Outcome::kSucceeded);
    CHECK(rig.output() == expected);
}

TEST_CASE("Launcher: output paths", "[worker]") {
    LauncherRig rig;
    const auto with_output = [&](const std::string& path) {
        auto start = rig.text({"/bin/echo", "text"});
        start.output = path;
        return rig.run(std::move(start));
    };
    SECTION("missing parents are made, for the user alone") {
        CHECK(with_output(path_in(rig, "a/b/c.out")).outcome == Outcome::kSucceeded);
        CHECK(rig.output("a/b/c.out") == "text\n");
        struct stat info {};
        REQUIRE(::stat(path_in(rig, "a/b/c.out").c_str(), &info) == 0);
        CHECK((info.st_mode & 0777) == 0600);
        REQUIRE(::stat(path_in(rig, "a").c_str(), &info) == 0);
        CHECK((info.st_mode & 0777) == 0700);
    }
    SECTION("a symlink is refused and its target untouched") {
        std::ofstream(path_in(rig, "precious")) << "keep";
        REQUIRE(::symlink("precious", path_in(rig, "link").c_str()) == 0);
        const auto ended = with_output(path_in(rig, "link"));
        CHECK(ended.outcome == Outcome::kFailed);
        CHECK(ended.exit_code == 125);
        CHECK_THAT(ended.detail, contains("symlink"));
        CHECK(rig.output("precious") == "keep");
    }
    SECTION("a directory, a parent that is a file, a fifo nobody reads") {
        CHECK_THAT(with_output(rig.dir()).detail, contains("directory"));
        CHECK_THAT(with_output("/dev/null/foo").detail, contains("parent"));
        REQUIRE(::mkfifo(path_in(rig, "fifo").c_str(), 0600) == 0);
        CHECK_THAT(with_output(path_in(rig, "fifo")).detail, contains("fifo"));
    }
    SECTION("devices") {
        CHECK(with_output("/dev/null").outcome == Outcome::kSucceeded);
        CHECK(with_output("/dev/full").exit_code == 1);  // echo tells ENOSPC
    }
    SECTION("none, and a file for errors alone") {
        auto start = rig.text({"/bin/sh", "-c", "echo out; echo err >&2"});
        start.head.flags = kStartNoOutput;
        start.error = path_in(rig, "err");
        CHECK(rig.run(std::move(start)).outcome == Outcome::kSucceeded);
        CHECK(rig.output("err") == "err\n");
        CHECK_FALSE(std::filesystem::exists(path_in(rig, "out")));
    }
    SECTION("one that exists is emptied first; both streams append to it") {
        std::ofstream(path_in(rig, "out")) << "old and long";
        CHECK(rig.run_shell("echo a; echo b >&2; echo c").outcome == Outcome::kSucceeded);
        CHECK(rig.output() == "a\nb\nc\n");
    }
}

TEST_CASE("Launcher: a missing working directory fails that task only", "[worker]") {
    LauncherRig rig;
    auto start = rig.text({"/bin/true"});
    start.directory = "/no/such/directory";
    const auto ended = rig.run(std::move(start));
    CHECK(ended.exit_code == 125);
    CHECK_THAT(ended.detail, contains("/no/such/directory"));
    CHECK(rig.run_shell("pwd").outcome == Outcome::kSucceeded);
    CHECK(rig.output() == rig.dir() + "\n");
}

TEST_CASE("Launcher: stdin is empty, a file, or given bytes", "[worker]") {
    LauncherRig rig;
    CHECK(rig.run_shell("cat; echo end").outcome == Outcome::kSucceeded);
    CHECK(rig.output() == "end\n");

    std::ofstream(path_in(rig, "in")) << "from a file";
    auto start = rig.text({"/bin/cat"});
    start.input = path_in(rig, "in");
    CHECK(rig.run(std::move(start)).outcome == Outcome::kSucceeded);
    CHECK(rig.output() == "from a file");

    start = rig.text({"/bin/cat"});
    start.input = "/no/such/input";
    const auto ended = rig.run(std::move(start));
    CHECK(ended.exit_code == 125);
    CHECK_THAT(ended.detail, contains("input") && contains("/no/such/input"));

    std::string big(2'000'000, 'x');
    big += "tail";
    auto id = rig.start(rig.text({"/usr/bin/wc", "-c"}), big);
    CHECK(rig.wait_ended(id).outcome == Outcome::kSucceeded);
    CHECK(rig.output() == "2000004\n");
    // A task that reads a part of it neither hangs nor fails.
    id = rig.start(rig.text({"/usr/bin/head", "-c", "3"}), big);
    CHECK(rig.wait_ended(id).outcome == Outcome::kSucceeded);
    CHECK(rig.output() == "xxx");
}

TEST_CASE("Launcher: a task sees three files, its own environment and a strict umask", "[worker]") {
    ::setenv("REEVE_TEST_SECRET", "hunter2", 1);
    ::setenv("LD_LIBRARY_PATH", "/nowhere", 1);
    const int leak = ::open("/etc/passwd", O_RDONLY);  // on purpose without close-on-exec
    LauncherRig rig;
    ::close(leak);
    ::unsetenv("LD_LIBRARY_PATH");
    CHECK(rig.run(rig.text({"/bin/ls", "/proc/self/fd"})).outcome == Outcome::kSucceeded);
    CHECK(rig.output() == "0\n1\n2\n3\n");  // 3 is ls reading the directory
    CHECK(rig.run(rig.text({"/usr/bin/env"})).outcome == Outcome::kSucceeded);
    CHECK_THAT(rig.output(), !contains("hunter2") && !contains("LD_LIBRARY_PATH"));
    CHECK_THAT(rig.output(), contains("REEVE_TASK_ID="));
    CHECK(rig.run_shell("umask").outcome == Outcome::kSucceeded);
    CHECK(rig.output() == "0077\n");
    // Own session, no signal blocked or ignored.
    CHECK(rig.run_shell("grep -E '^Sig(Blk|Ign)' /proc/self/status").outcome ==
          Outcome::kSucceeded);
    CHECK(rig.output() == "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
    const auto ended = rig.run_shell("cut -d' ' -f5,6 /proc/$$/stat; echo $$");
    CHECK(rig.output() == std::to_string(ended.pid) + " " + std::to_string(ended.pid) + "\n" +
                              std::to_string(ended.pid) + "\n");
    ::unsetenv("REEVE_TEST_SECRET");
}

TEST_CASE("Launcher: resource limits and affinity are set", "[worker]") {
    LauncherRig rig;
    auto start = rig.text(
        {"/bin/sh", "-c", "ulimit -n; ulimit -c; grep Cpus_allowed_list /proc/self/status"});
    start.rlimits.push_back({RLIMIT_NOFILE, 0, 77, 77});
    start.rlimits.push_back({RLIMIT_CORE, 0, 0, 0});
    start.affinity = {1, 0, 0, 0, 0, 0, 0, 0};
    CHECK(rig.run(std::move(start)).outcome == Outcome::kSucceeded);
    CHECK(rig.output() == "77\n0\nCpus_allowed_list:\t0\n");

    start = rig.text({"/bin/sh", "-c", "head -c 100000 /dev/zero > big"});
    start.rlimits.push_back({RLIMIT_FSIZE, 0, 4096, 4096});
    const auto ended = rig.run(std::move(start));
    CHECK(ended.outcome == Outcome::kFailed);
    CHECK(std::filesystem::file_size(path_in(rig, "big")) == 4096);
}

TEST_CASE("Launcher: as root, another user's task has that user's rights only", "[worker][root]") {
    if (::geteuid() != 0) return;
    LauncherRig rig;
    const auto as_nobody = [&](std::vector<std::string> argv) {
        auto start = rig.text(std::move(argv));
        start.head.flags |= kStartSwitchUser | kStartSetGroups | kStartNoNewPrivileges;
        start.head.uid = 65534;
        start.head.gid = 65534;
        start.groups = {65534};
        start.directory = "/";
        start.output = path_in(rig, "open/out");
        return start;
    };
    REQUIRE(::mkdir(path_in(rig, "open").c_str(), 0777) == 0);
    REQUIRE(::chmod(path_in(rig, "open").c_str(), 0777) == 0);
    auto ended = rig.run(
        as_nobody({"/bin/sh", "-c", "id -u; id -g; id -G; grep NoNewPrivs /proc/self/status"}));
    CHECK(ended.outcome == Outcome::kSucceeded);
    CHECK(rig.output("open/out") == "65534\n65534\n65534\nNoNewPrivs:\t1\n");
    ended = rig.run(as_nobody({"/bin/cat", "/etc/shadow"}));
    CHECK(ended.outcome == Outcome::kFailed);
    // The output is opened as the user, not as root.
    auto start = as_nobody({"/bin/true"});
    start.output = path_in(rig, "forbidden/out");
    REQUIRE(::mkdir(path_in(rig, "forbidden").c_str(), 0700) == 0);
    ended = rig.run(std::move(start));
    CHECK(ended.exit_code == 125);
    CHECK_THAT(ended.detail, contains("permission denied"));
    // It cannot signal its launcher, and dies with it all the same (PDEATHSIG set after setuid).
    ended = rig.run(
        as_nobody({"/bin/sh", "-c", "kill -9 $PPID 2>/dev/null && echo killed || echo refused"}));
    CHECK(rig.output("open/out") == "refused\n");
}

TEST_CASE("Launcher: a damaged or impossible start is refused, the launcher lives on", "[worker]") {
    LauncherRig rig;
    auto start = rig.text({"/bin/true"});
    start.rlimits.push_back({9999, 0, 1, 1});
    auto ended = rig.run(std::move(start));
    CHECK(ended.exit_code == 125);
    CHECK_THAT(ended.detail, contains("limit"));
    start = rig.text({""});
    ended = rig.run(std::move(start));
    CHECK(ended.outcome == Outcome::kFailed);
    CHECK_THAT(ended.detail, contains("damaged"));
    CHECK(rig.run_shell("exit 0").outcome == Outcome::kSucceeded);
}
