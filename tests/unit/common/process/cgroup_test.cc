#include <csignal>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/process/cgroup.h"
#include "common/process/small_file.h"
#include "tests/support/catch.h"

using namespace reeve;

namespace {

std::string fresh_name() {
    return "reeve.test" + std::to_string(::getpid()) + "/w" + std::to_string(boot_ns());
}

bool exists(const std::string& path) {
    return ::access(path.c_str(), F_OK) == 0;
}

std::string path_of(const CgroupSubtree& subtree, const AttemptCgroup& attempt) {
    const auto& support = subtree.support();
    return support.tracker + "/" + support.prefix + subtree.relative() + "/" + attempt.name;
}

// A child that enters the attempt's directories and sleeps.
pid_t sleeper(const CgroupSubtree& subtree, const AttemptCgroup& attempt) {
    CgroupEntry entries[kCgroupEntriesMax];
    const int count = subtree.entries(attempt, true, entries);
    const pid_t pid = ::fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
        for (int i = 0; i < count; ++i) {
            if (write_text_at(entries[i].dir_fd, entries[i].path, "0") != 0) ::_exit(1);
        }
        while (true) ::pause();
    }
    const auto deadline = boot_ns() + 5 * kSecond;
    while (!subtree.populated(attempt) && boot_ns() < deadline) ::usleep(1000);
    REQUIRE(subtree.populated(attempt));
    return pid;
}

}  // namespace

TEST_CASE("Cgroup: the probe says what there is, in words", "[process]") {
    const auto support = probe_cgroups();
    CHECK_FALSE(support.reason.empty());
    CHECK((support.usable() || support.tracker.empty()));
    WARN("cgroups: " << to_string(support.backend) << ", " << support.reason);
}

TEST_CASE("Cgroup: an attempt's directory is made, entered, killed and removed", "[process]") {
    const auto support = probe_cgroups();
    if (!support.usable()) return;
    const auto name = fresh_name();
    auto subtree = CgroupSubtree::make(support, name);
    REQUIRE(subtree);
    CHECK_FALSE(CgroupSubtree::make(support, name));  // never one that was there before
    AttemptCgroup attempt;
    int fd = -1;
    CgroupLimits limits;
    limits.pids_max = 50;
    REQUIRE(subtree->make_attempt("1.0.1", limits, attempt, fd));
    if (fd >= 0) ::close(fd);
    AttemptCgroup again;
    CHECK(subtree->make_attempt("1.0.1", limits, again, fd).error().code ==
          ErrorCode::kAlreadyExists);
    CHECK_FALSE(subtree->populated(attempt));
    const pid_t pid = sleeper(*subtree, attempt);
    CHECK(subtree->remove(attempt) == CgroupSubtree::Removal::kBusy);
    CHECK(cgroup_populated(support, name));
    subtree->kill(attempt);
    int status = 0;
    REQUIRE(::waitpid(pid, &status, 0) == pid);
    CHECK(WTERMSIG(status) == SIGKILL);
    CHECK(subtree->remove(attempt) == CgroupSubtree::Removal::kGone);
    CHECK_FALSE(attempt.made());
    subtree->remove_subtree();
    CHECK_FALSE(exists(support.tracker + "/" + support.prefix + name));
}

TEST_CASE("Cgroup: a whole subtree ends by its name alone", "[process]") {
    const auto support = probe_cgroups();
    if (!support.usable()) return;
    const auto name = fresh_name();
    pid_t pids[3];
    {
        auto subtree = CgroupSubtree::make(support, name);
        REQUIRE(subtree);
        for (int i = 0; i < 3; ++i) {
            AttemptCgroup attempt;
            int fd = -1;
            CgroupLimits limits;
            limits.memory_bytes = 64 << 20;
            REQUIRE(subtree->make_attempt(std::to_string(i).c_str(), limits, attempt, fd));
            if (fd >= 0) ::close(fd);
            pids[i] = sleeper(*subtree, attempt);
        }
    }  // as if the launcher had died
    CHECK(cgroup_populated(support, name));
    CHECK(end_cgroup(support, name, boot_ns() + 5 * kSecond));
    CHECK_FALSE(cgroup_populated(support, name));
    for (const auto pid : pids) CHECK(::waitpid(pid, nullptr, 0) == pid);
    for (const auto* mount : {&support.tracker, &support.memory, &support.pids}) {
        if (!mount->empty()) CHECK_FALSE(exists(*mount + "/" + support.prefix + name));
    }
    CHECK(end_cgroup(support, name, boot_ns()));  // what is not there is empty
    CHECK_FALSE(cgroup_populated(support, "reeve.never/was"));
}

TEST_CASE("Cgroup: sub-directories the task made go as well", "[process]") {
    const auto support = probe_cgroups();
    if (!support.usable()) return;
    auto subtree = CgroupSubtree::make(support, fresh_name());
    REQUIRE(subtree);
    AttemptCgroup attempt;
    int fd = -1;
    REQUIRE(subtree->make_attempt("deep", {}, attempt, fd));
    if (fd >= 0) ::close(fd);
    const auto path = path_of(*subtree, attempt);
    REQUIRE(::mkdir((path + "/a").c_str(), 0755) == 0);
    REQUIRE(::mkdir((path + "/a/b").c_str(), 0755) == 0);
    CHECK(subtree->remove(attempt) == CgroupSubtree::Removal::kGone);
    CHECK_FALSE(exists(path));
    subtree->remove_subtree();
}

TEST_CASE("Cgroup: one that ended by itself is the next attempt's, any other is removed",
          "[process]") {
    const auto support = probe_cgroups();
    if (!support.v2_core()) {
        WARN("skipped: no cgroup v2 here");
        return;
    }
    auto subtree = CgroupSubtree::make(support, fresh_name());
    REQUIRE(subtree);
    AttemptCgroup attempt;
    const auto make = [&](const CgroupLimits& limits = {}) {
        int fd = -1;
        REQUIRE(subtree->make_attempt("1.0.1", limits, attempt, fd));
        CHECK(fd >= 0);
        ::close(fd);
        return path_of(*subtree, attempt);
    };
    const auto first = make();
    CHECK_FALSE(attempt.reused);
    CHECK(subtree->end(attempt) == CgroupSubtree::Removal::kGone);
    CHECK_FALSE(attempt.made());
    CHECK(exists(first));
    CHECK(make() == first);
    CHECK(attempt.reused);
    SECTION("while something lives in it, it is not") {
        const pid_t pid = sleeper(*subtree, attempt);
        CHECK(subtree->end(attempt) == CgroupSubtree::Removal::kBusy);
        ::kill(pid, SIGKILL);
        REQUIRE(::waitpid(pid, nullptr, 0) == pid);
        CHECK(subtree->end(attempt) == CgroupSubtree::Removal::kGone);
        CHECK(exists(first));
    }
    SECTION("killed") {
        subtree->kill(attempt);
        CHECK(subtree->end(attempt) == CgroupSubtree::Removal::kGone);
        CHECK_FALSE(exists(first));
    }
    SECTION("frozen") {
        REQUIRE(subtree->freeze(attempt, true));
        CHECK(subtree->end(attempt) == CgroupSubtree::Removal::kGone);
        CHECK_FALSE(exists(first));
    }
    SECTION("another was killed, maybe with all of them") {
        AttemptCgroup other;
        int fd = -1;
        REQUIRE(subtree->make_attempt("1.0.1", {}, other, fd));
        ::close(fd);
        CHECK(subtree->end(attempt) == CgroupSubtree::Removal::kGone);
        CHECK(exists(first));
        subtree->distrust(other);
        CHECK_FALSE(exists(first));
        const auto second = path_of(*subtree, other);
        CHECK(subtree->end(other) == CgroupSubtree::Removal::kGone);
        CHECK_FALSE(exists(second));
    }
    SECTION("somebody else's") {
        if (::chown(first.c_str(), ::geteuid() + 1, static_cast<gid_t>(-1)) != 0) return;
        CHECK(subtree->end(attempt) == CgroupSubtree::Removal::kGone);
        CHECK_FALSE(exists(first));
    }
    SECTION("for threads") {
        REQUIRE(write_text_at(AT_FDCWD, (first + "/cgroup.type").c_str(), "threaded") == 0);
        CHECK(subtree->end(attempt) == CgroupSubtree::Removal::kGone);
        CHECK_FALSE(exists(first));
    }
    SECTION("with a group below it") {
        REQUIRE(::mkdir((first + "/below").c_str(), 0755) == 0);
        CHECK(subtree->end(attempt) == CgroupSubtree::Removal::kGone);
        CHECK_FALSE(exists(first));
    }
    SECTION("with limits") {
        CHECK(subtree->end(attempt) == CgroupSubtree::Removal::kGone);
        CgroupLimits limits;
        limits.pids_max = 50;
        const auto limited = make(limits);
        CHECK(limited != first);
        CHECK(subtree->end(attempt) == CgroupSubtree::Removal::kGone);
        CHECK_FALSE(exists(limited));
        CHECK(make() == first);
        (void)subtree->end(attempt);
    }
    subtree->remove_subtree();
    CHECK_FALSE(exists(first));
}

TEST_CASE("Cgroup: without cgroups every call is harmless", "[process]") {
    CgroupSubtree none;
    AttemptCgroup attempt;
    int fd = 5;
    CHECK(none.make_attempt("x", {}, attempt, fd));
    CHECK(fd == -1);
    CHECK_FALSE(attempt.made());
    CHECK_FALSE(none.populated(attempt));
    none.kill(attempt);
    CHECK(none.remove(attempt) == CgroupSubtree::Removal::kGone);
    CgroupSupport support;
    CHECK(end_cgroup(support, "reeve.x/w1", boot_ns()));
}
