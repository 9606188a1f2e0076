// How tasks end: by themselves, by signal, limit or request; and that nothing of them stays.
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include <dirent.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/process/proc_info.h"
#include "tests/support/catch.h"
#include "tests/unit/worker/launcher_rig.h"
#include "worker/ending.h"

using namespace reeve;
using namespace reeve::worker;
using namespace reeve::worker::test;
using Catch::Matchers::EndsWith;

namespace {

int number_in(const std::string& text) {
    return std::atoi(text.c_str());
}

// Waits until the task wrote pids into files; returns them.
std::vector<int> pids_in(const LauncherRig& rig, const std::vector<std::string>& names) {
    std::vector<int> pids;
    for (const auto& name : names) {
        REQUIRE(eventually([&] { return number_in(rig.output(name)) > 1; }));
        pids.push_back(number_in(rig.output(name)));
    }
    return pids;
}

bool all_gone(const std::vector<int>& pids, int timeout_ms = 3000) {
    return eventually(
        [&] {
            for (const int pid : pids) {
                if (process_exists(pid)) return false;
            }
            return true;
        },
        timeout_ms);
}

int open_files(int pid) {
    int count = 0;
    DIR* dir = ::opendir(("/proc/" + std::to_string(pid) + "/fd").c_str());
    if (dir == nullptr) return -1;
    while (::readdir(dir) != nullptr) ++count;
    ::closedir(dir);
    return count;
}

int children_of(int parent) {
    int count = 0;
    for (const auto pid : all_pids()) {
        const auto stat = read_proc_stat(pid);
        if (stat && stat->parent == parent) ++count;
    }
    return count;
}

double milliseconds_of(const EndedRecord& ended) {
    return static_cast<double>(ended.ended_wall_ns - ended.started_wall_ns) / 1e6;
}

// Leaves two daemons: one in a session of its own that ignores signals, one double-forked.
const char* const kDaemons =
    "setsid sh -c 'trap \"\" TERM HUP INT; echo $$ > d1; exec sleep 1000' & "
    "(setsid sh -c 'echo $$ > d2; exec sleep 1000' &) ; "
    "while [ ! -s d1 ] || [ ! -s d2 ]; do sleep 0.01; done; ";

}  // namespace

TEST_CASE("Launcher: every deadly signal is told by number and name", "[worker]") {
    LauncherRig rig;
    std::set<int> harmless{SIGCHLD, SIGCONT, SIGURG, SIGWINCH, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU};
    for (int number = 1; number < 32; ++number) {
        if (harmless.contains(number)) continue;
        const auto ended = rig.run_shell("kill -" + std::to_string(number) + " $$; sleep 5");
        INFO("signal " << number);
        CHECK(ended.outcome == Outcome::kFailed);
        CHECK(ended.exit_code == -number);
        CHECK_THAT(ended.detail, contains("signal " + std::to_string(number)));
        CHECK_THAT(ended.detail, contains(signal_name(number)));
    }
}

TEST_CASE("Launcher: the core bit is told", "[worker]") {
    EndedRecord out;
    EndingFacts facts;
    facts.wait_status = SIGSEGV | 0x80;
    describe_ending(facts, out);
    CHECK(out.core_dumped == 1);
    CHECK_THAT(out.detail, contains("SIGSEGV") && contains("core dumped"));
    facts.wait_status = SIGSEGV;
    describe_ending(facts, out);
    CHECK(out.core_dumped == 0);
}

TEST_CASE("Launcher: a time limit of 500 ms ends a task after 500 ms", "[worker]") {
    const bool cgroups = GENERATE(true, false);
    LauncherRig rig({cgroups, 500});
    auto start = rig.text({"/bin/sleep", "100"});
    start.head.time_limit_ns = 500 * kMillisecond;
    const auto ended = rig.run(std::move(start));
    CHECK(ended.outcome == Outcome::kTimedOut);
    CHECK_THAT(ended.detail, contains("time limit of 500 ms"));
    CHECK(milliseconds_of(ended) >= 499);
    CHECK(milliseconds_of(ended) < 2000);  // 500 to 520 on an idle machine
    start = rig.text({"/bin/sleep", "0.1"});
    start.head.time_limit_ns = 20 * kSecond;
    CHECK(rig.run(std::move(start)).outcome == Outcome::kSucceeded);
}

TEST_CASE("Launcher: TERM first, KILL after the grace, for the whole tree", "[worker]") {
    const bool cgroups = GENERATE(true, false);
    LauncherRig rig({cgroups, 500});
    SECTION("a polite task ends by itself and is cancelled all the same") {
        const auto id =
            rig.shell("trap 'echo bye; exit 0' TERM; echo up > up; while :; do sleep 0.05; done");
        REQUIRE(eventually([&] { return rig.output("up") == "up\n"; }));
        rig.stop(id, StopReason::kCancel);
        const auto ended = rig.wait_ended(id);
        CHECK(ended.outcome == Outcome::kCancelled);
        CHECK(ended.exit_code == 0);
        CHECK_THAT(rig.output(), EndsWith("bye\n"));  // sh may say "Terminated" of its sleep
    }
    SECTION("one that ignores TERM is killed after its grace") {
        auto start =
            rig.text({"/bin/sh", "-c", "trap '' TERM; echo up > up; while :; do sleep 0.05; done"});
        start.head.grace_ns = 300 * kMillisecond;
        const auto id = rig.start(std::move(start));
        REQUIRE(eventually([&] { return rig.output("up") == "up\n"; }));
        const auto asked = boot_ns();
        rig.stop(id, StopReason::kCancel);
        const auto ended = rig.wait_ended(id);
        CHECK(ended.outcome == Outcome::kCancelled);
        CHECK(ended.exit_code == -SIGKILL);
        CHECK(boot_ns() - asked >= 290 * kMillisecond);
        CHECK(boot_ns() - asked < 2 * kSecond);
    }
    SECTION("daemons of a cancelled task die too") {
        const auto id = rig.shell(std::string(kDaemons) + "sleep 1000");
        const auto pids = pids_in(rig, {"d1", "d2"});
        rig.stop(id, StopReason::kCancel);
        CHECK(rig.wait_ended(id).outcome == Outcome::kCancelled);
        CHECK(all_gone(pids));
    }
    SECTION("daemons of a task that ended by itself die too") {
        const auto id = rig.shell(std::string(kDaemons) + "exit 7");
        CHECK(rig.wait_ended(id).exit_code == 7);
        CHECK(all_gone({number_in(rig.output("d1")), number_in(rig.output("d2"))}));
    }
}

TEST_CASE("Launcher: a task's daemons go, its neighbour's stay", "[worker]") {
    const bool cgroups = GENERATE(true, false);
    LauncherRig rig({cgroups, 500});
    const auto neighbour =
        rig.shell("setsid sh -c 'echo $$ > n1; exec sleep 1000' & echo $$ > n0; wait; sleep 1000");
    const auto theirs = pids_in(rig, {"n0", "n1"});
    const auto id = rig.shell(std::string(kDaemons) + "exit 0");
    CHECK(rig.wait_ended(id).outcome == Outcome::kSucceeded);
    CHECK(all_gone({number_in(rig.output("d1")), number_in(rig.output("d2"))}));
    CHECK(process_exists(theirs[0]));
    CHECK(process_exists(theirs[1]));
    rig.stop(neighbour, StopReason::kRequeue, true);
    CHECK(rig.wait_ended(neighbour).outcome == Outcome::kRequeued);
    CHECK(all_gone(theirs));
}

TEST_CASE("Launcher: a fork bomb ends with its task", "[worker]") {
    LauncherRig rig;
    if (rig.support().pids.empty()) return;  // never without a limit on a real machine
    auto start = rig.text({"/bin/sh", "-c", "bomb() { bomb | bomb & }; bomb; sleep 1000"});
    start.head.limits.pids_max = 60;
    const auto id = rig.start(std::move(start));
    (void)rig.pid_of(id);
    std::this_thread::sleep_for(std::chrono::milliseconds(300));  // let it fork
    rig.stop(id, StopReason::kCancel, true);
    CHECK(rig.wait_ended(id).outcome == Outcome::kCancelled);
    CHECK(rig.cgroup_children().empty());
    // A chain whose pid changes at each fork, so that no list of pids is ever right.
    const auto chain = rig.shell("f() { (f) & exit; }; (f) & sleep 0.2");
    (void)rig.wait_ended(chain);
    CHECK(rig.cgroups_in_use() == 0);
}

TEST_CASE("Launcher: memory limit, kill, cancel and time limit are told apart", "[worker]") {
    LauncherRig rig;
    const std::string hog =
        "exec python3 -c 'x = bytearray(400 << 20); import time; time.sleep(100)'";
    const auto limited = [&](const std::string& script, std::uint64_t mib) {
        auto start = rig.text({"/bin/sh", "-c", script});
        start.head.limits.memory_bytes = mib << 20;
        return start;
    };
    const bool limits = !rig.support().memory.empty();
    if (limits) {
        const auto ended = rig.run(limited(hog, 64));
        CHECK(ended.outcome == Outcome::kOutOfMemory);
        CHECK(ended.exit_code == -SIGKILL);
        CHECK_THAT(ended.detail, contains("memory limit of 64.0 MiB"));
        // A child that is killed for memory makes its parent fail: still out of memory.
        CHECK(rig.run(limited("sh -c '" + std::string("exec python3 -c \"bytearray(400 << 20)\"") +
                                  "' || exit 9",
                              64))
                  .outcome == Outcome::kOutOfMemory);
        // One that copes is a success.
        CHECK(rig.run(limited("sh -c 'exec python3 -c \"bytearray(400 << 20)\"'; exit 0", 64))
                  .outcome == Outcome::kSucceeded);
        // A limit too small for any program: that task fails, the launcher lives.
        (void)rig.run(limited("exit 0", 0 + 1));
        auto tiny = rig.text({"/bin/true"});
        tiny.head.limits.memory_bytes = 4096;
        CHECK(rig.run(std::move(tiny)).outcome != Outcome::kSucceeded);
    }
    // The user's own kill -9 under a memory limit is a signal, not a memory kill.
    const auto id = rig.start(limited("sleep 100", 64));
    ::kill(rig.pid_of(id), SIGKILL);
    const auto killed = rig.wait_ended(id);
    CHECK(killed.outcome == Outcome::kFailed);
    CHECK(killed.exit_code == -SIGKILL);
    CHECK_THAT(killed.detail, contains("SIGKILL"));
    auto both = limited("sleep 100", 64);
    both.head.time_limit_ns = 200 * kMillisecond;
    const auto first = rig.start(std::move(both));
    CHECK(rig.wait_ended(first).outcome == Outcome::kTimedOut);
}

TEST_CASE("Launcher: an ending that came first wins over a later stop", "[worker]") {
    LauncherRig rig;
    for (int round = 0; round < 50; ++round) {
        const auto id = rig.shell("exit 5");
        if (round % 2 == 0) (void)rig.pid_of(id);
        rig.stop(id, StopReason::kCancel);
        const auto ended = rig.wait_ended(id);
        const bool natural = ended.outcome == Outcome::kFailed && ended.exit_code == 5;
        const bool cancelled = ended.outcome == Outcome::kCancelled;
        CHECK((natural || cancelled));
    }
    const auto id = rig.shell("exit 5");
    CHECK(rig.wait_ended(id).exit_code == 5);
    rig.stop(id, StopReason::kCancel);  // of something that is over: nothing
    CHECK(rig.run_shell("exit 0").outcome == Outcome::kSucceeded);
}

TEST_CASE("Launcher: a frozen task makes no progress, keeps its time, and can be ended",
          "[worker]") {
    const bool cgroups = GENERATE(true, false);
    LauncherRig rig({cgroups, 500});
    auto start = rig.text(
        {"/bin/sh", "-c", "i=0; while :; do i=$((i+1)); echo $i > count; sleep 0.01; done"});
    start.head.time_limit_ns = 1500 * kMillisecond;
    const auto id = rig.start(std::move(start));
    REQUIRE(eventually([&] { return number_in(rig.output("count")) > 3; }));
    rig.freeze(id, true);
    std::string last;
    REQUIRE(eventually([&] {  // two equal readings 100 ms apart
        last = rig.output("count");
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        return rig.output("count") == last;
    }));
    std::this_thread::sleep_for(std::chrono::milliseconds(1600));
    CHECK_FALSE(rig.has_ended(id));  // the limit does not run while frozen
    CHECK(rig.output("count") == last);
    SECTION("thawed it goes on, and meets its limit") {
        rig.freeze(id, false);
        REQUIRE(eventually([&] { return rig.output("count") != last; }));
        CHECK(rig.wait_ended(id).outcome == Outcome::kTimedOut);
    }
    SECTION("cancelled it ends") {
        rig.stop(id, StopReason::kCancel);
        CHECK(rig.wait_ended(id, 8000).outcome == Outcome::kCancelled);
    }
}

TEST_CASE("Launcher: one that is frozen while it starts dies with its launcher", "[worker]") {
    LauncherRig rig({false, 500});
    std::vector<int> pids;
    for (int i = 0; i < 10; ++i) {
        const auto id = rig.shell("sleep 1000");
        rig.freeze(id, true);
        pids.push_back(rig.pid_of(id));
    }
    ::kill(rig.launcher_pid(), SIGKILL);
    CHECK(all_gone(pids));
}

TEST_CASE("Launcher: one that is frozen while it starts stays where it is", "[worker]") {
    const bool cgroups = GENERATE(true, false);
    LauncherRig rig({cgroups, 500});
    std::vector<std::uint64_t> ids;
    for (int i = 0; i < 10; ++i) {
        ids.push_back(rig.shell("sleep 0.3; echo over > frozen" + std::to_string(i)));
        rig.freeze(ids.back(), true);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(800));
    const auto over = [&] {
        std::size_t count = 0;
        for (int i = 0; i < 10; ++i) count += !rig.output("frozen" + std::to_string(i)).empty();
        return count;
    };
    CHECK(over() == 0);
    for (const auto id : ids) rig.freeze(id, false);
    for (const auto id : ids) CHECK(rig.wait_ended(id).outcome == Outcome::kSucceeded);
    CHECK(over() == ids.size());
}

TEST_CASE("Launcher: a thousand short tasks leave nothing behind", "[worker]") {
    const bool cgroups = GENERATE(true, false);
    LauncherRig rig({cgroups, 500});
    CHECK(rig.run_shell("exit 0").outcome == Outcome::kSucceeded);
    const int files_before = open_files(rig.launcher_pid());
    std::vector<std::uint64_t> ids;
    std::size_t waited = 0;
    for (int i = 0; i < 1000; ++i) {
        ids.push_back(rig.start(rig.text({"/bin/true"})));
        while (ids.size() - waited > 8) {
            CHECK(rig.wait_ended(ids[waited]).outcome == Outcome::kSucceeded);
            ++waited;
        }
    }
    for (; waited < ids.size(); ++waited) {
        CHECK(rig.wait_ended(ids[waited]).outcome == Outcome::kSucceeded);
    }
    CHECK(rig.cgroups_in_use() == 0);
    CHECK(rig.cgroup_children().size() <= 9);     // as many as ran at once, for the next ones
    CHECK(children_of(rig.launcher_pid()) == 0);  // not even zombies
    CHECK(open_files(rig.launcher_pid()) == files_before);
}

TEST_CASE("Launcher: many at once", "[worker]") {
    LauncherRig rig;
    std::vector<std::uint64_t> ids;
    for (int i = 0; i < 200; ++i) {
        auto start = rig.text({"/bin/sleep", "0.3"});
        start.output = "/dev/null";
        ids.push_back(rig.start(std::move(start)));
    }
    for (const auto id : ids) CHECK(rig.wait_ended(id, 30'000).outcome == Outcome::kSucceeded);
    CHECK(rig.cgroups_in_use() == 0);
    CHECK(rig.cgroup_children().size() < ids.size());
}

TEST_CASE("Launcher: the same attempt twice gets a directory of its own", "[worker]") {
    LauncherRig rig;
    if (rig.cgroup().empty()) return;
    // Same job, element and attempt; the first is killed through its cgroup, the second must live.
    for (int round = 0; round < 3; ++round) {
        auto start = rig.text({"/bin/sh", "-c", std::string(kDaemons) + "rm d1 d2; exit 4"});
        const auto ended = rig.run(std::move(start));
        CHECK(ended.exit_code == 4);
    }
    auto one = rig.text({"/bin/sleep", "100"});
    one.head.name.job = 77;
    const auto first = rig.start(one);
    (void)rig.pid_of(first);
    rig.stop(first, StopReason::kCancel, true);
    const auto second = rig.start(rig.text({"/bin/sh", "-c", "exit 6"}));
    CHECK(rig.wait_ended(first).outcome == Outcome::kCancelled);
    CHECK(rig.wait_ended(second).exit_code == 6);
}

TEST_CASE("Launcher: a directory goes from task to task until one is killed in it", "[worker]") {
    LauncherRig rig;
    if (!rig.support().v2_core()) {
        WARN("skipped: no cgroup v2 here");
        return;
    }
    const auto directory_of_next = [&] {
        const auto ended = rig.run_shell("grep ^0:: /proc/self/cgroup; exit 3");
        CHECK(ended.exit_code == 3);
        return rig.output();
    };
    const auto first = directory_of_next();
    CHECK(first.find(rig.cgroup() + "/any.") != std::string::npos);
    CHECK(directory_of_next() == first);
    SECTION("killed") {
        const auto id = rig.shell("sleep 100");
        (void)rig.pid_of(id);
        rig.stop(id, StopReason::kCancel, true);
        CHECK(rig.wait_ended(id).outcome == Outcome::kCancelled);
    }
    SECTION("killed by somebody else") {
        const auto id = rig.shell("sleep 100");
        (void)rig.pid_of(id);
        kill_cgroup(rig.support(), rig.cgroup());
        CHECK(rig.wait_ended(id).exit_code == -SIGKILL);
    }
    SECTION("killed by somebody else while nobody was in it") {
        kill_cgroup(rig.support(), rig.cgroup());
        const auto ended = rig.run_shell("exit 3");  // it dies at birth on some kernels
        CHECK((ended.exit_code == 3 || ended.outcome == Outcome::kRequeued));
    }
    SECTION("left somebody behind") {
        const auto id = rig.shell(std::string(kDaemons) + "exit 0");
        CHECK(rig.wait_ended(id).outcome == Outcome::kSucceeded);
    }
    SECTION("away when it is needed") {
        REQUIRE(rig.cgroup_children().size() == 1);
        const auto path = rig.support().tracker + "/" + rig.support().prefix;
        REQUIRE(::rmdir((path + rig.cgroup_children()[0]).c_str()) == 0);
    }
    const auto second = directory_of_next();
    CHECK(second != first);
    CHECK(second.find(rig.cgroup() + "/any.") != std::string::npos);
    CHECK(directory_of_next() == second);
    CHECK(rig.cgroup_children().size() == 1);
}

TEST_CASE("Launcher: output beyond its limit is punched out, offsets stay", "[worker]") {
    LauncherRig rig;
    auto start =
        rig.text({"/bin/sh", "-c", "head -c 20000000 /dev/zero | tr '\\0' x; echo END; sleep 100"});
    start.head.output_limit_bytes = 1 << 20;
    const auto id = rig.start(std::move(start));
    const auto path = rig.dir() + "/out";
    struct stat info {};
    CHECK(eventually([&] {
        return ::stat(path.c_str(), &info) == 0 && info.st_size == 20'000'004 &&
               info.st_blocks * 512 < (2 << 20);
    }));
    rig.stop(id, StopReason::kCancel, true);
    (void)rig.wait_ended(id);
    const auto text = rig.output();
    REQUIRE(text.size() == 20'000'004);
    CHECK(text.ends_with("xxxEND\n"));
    CHECK(text[0] == '\0');
    // One that ended before anybody looked at it is cut as well.
    start = rig.text({"/bin/sh", "-c", "head -c 8000000 /dev/zero | tr '\\0' y"});
    start.head.output_limit_bytes = 1 << 20;
    CHECK(rig.run(std::move(start)).outcome == Outcome::kSucceeded);
    REQUIRE(::stat(path.c_str(), &info) == 0);
    CHECK(info.st_size == 8'000'000);
    CHECK(info.st_blocks * 512 < (2 << 20));
}
