#include <csignal>
#include <cstdlib>
#include <vector>

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/process/cgroup.h"
#include "common/process/raw_syscall.h"
#include "common/process/small_file.h"
#include "common/process/spawn.h"
#include "tests/support/catch.h"

using namespace reeve;

namespace {

constexpr std::size_t kStack = 64 * 1024;

// Status 7 when it sits in the cgroup named by its argument.
struct Work {
    int status = 0;
    volatile int touched = 0;
};

__attribute__((no_sanitize("address", "undefined"))) int child_main(void* argument) {
    auto* work = static_cast<Work*>(argument);
    work->touched = 1;
    return work->status;
}

__attribute__((no_sanitize("address", "undefined"))) int child_exec(void*) {
    const char* argv[] = {"sleep", "1000", nullptr};
    const char* envp[] = {nullptr};
    raw_syscall(SYS_execve, raw("/bin/sleep"), raw(argv), raw(envp));
    return 1;
}

int status_of(pid_t pid) {
    int status = 0;
    REQUIRE(::waitpid(pid, &status, 0) == pid);
    return status;
}

}  // namespace

TEST_CASE("Spawn: copied children do not touch our memory, shared ones do", "[process]") {
    Work work;
    work.status = 7;
    SpawnRequest request;
    request.function = child_main;
    request.argument = &work;
    auto result = spawn_child(request);
    REQUIRE(result.pid > 0);
    CHECK(WEXITSTATUS(status_of(result.pid)) == 7);
    CHECK(work.touched == 0);
    if (!spawn_can_share()) return;
    void* stack =
        ::mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    std::uint32_t in_use = 0;
    request.stack = stack;
    request.stack_bytes = kStack;
    request.in_use = &in_use;
    result = spawn_child(request);
    REQUIRE(result.pid > 0);
    CHECK(WEXITSTATUS(status_of(result.pid)) == 7);
    CHECK(work.touched == 1);
    CHECK(__atomic_load_n(&in_use, __ATOMIC_SEQ_CST) == 0);
    ::munmap(stack, kStack);
}

TEST_CASE("Spawn: a shared child leaves our memory when it executes", "[process]") {
    if (!spawn_can_share()) return;
    void* stack =
        ::mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    std::uint32_t in_use = 0;
    SpawnRequest request;
    request.function = child_exec;
    request.stack = stack;
    request.stack_bytes = kStack;
    request.in_use = &in_use;
    const auto result = spawn_child(request);
    REQUIRE(result.pid > 0);
    const auto deadline = boot_ns() + 5 * kSecond;
    while (__atomic_load_n(&in_use, __ATOMIC_SEQ_CST) != 0 && boot_ns() < deadline) ::usleep(200);
    CHECK(__atomic_load_n(&in_use, __ATOMIC_SEQ_CST) == 0);
    CHECK(::kill(result.pid, 0) == 0);
    ::kill(result.pid, SIGKILL);
    CHECK(WTERMSIG(status_of(result.pid)) == SIGKILL);
    ::munmap(stack, kStack);
}

TEST_CASE("Spawn: the child is in its cgroup from the first instruction", "[process]") {
    const auto support = probe_cgroups();
    if (!support.v2_core()) return;
    auto subtree = CgroupSubtree::make(
        support, "reeve.test" + std::to_string(::getpid()) + "/s" + std::to_string(boot_ns()));
    REQUIRE(subtree);
    AttemptCgroup attempt;
    int fd = -1;
    REQUIRE(subtree->make_attempt("one", {}, attempt, fd));
    SpawnRequest request;
    request.function = child_exec;
    request.cgroup_fd = fd;
    const auto result = spawn_child(request);
    REQUIRE(result.pid > 0);
    if (result.in_cgroup) {
        const auto text = read_whole("/proc/" + std::to_string(result.pid) + "/cgroup");
        REQUIRE(text);
        CHECK(text->find(subtree->relative() + "/" + attempt.name + "\n") != std::string::npos);
    }
    ::close(fd);
    ::kill(result.pid, SIGKILL);
    (void)status_of(result.pid);
    CHECK(subtree->remove(attempt) == CgroupSubtree::Removal::kGone);
    subtree->remove_subtree();
}

// The fact this design rests on; should a kernel change it, we want to know.
TEST_CASE("Spawn: a cgroup that was killed once kills what is cloned into it", "[process]") {
    const auto support = probe_cgroups();
    if (!support.v2_core() || !support.kill_file) return;
    auto subtree = CgroupSubtree::make(
        support, "reeve.test" + std::to_string(::getpid()) + "/k" + std::to_string(boot_ns()));
    REQUIRE(subtree);
    AttemptCgroup attempt;
    int fd = -1;
    REQUIRE(subtree->make_attempt("one", {}, attempt, fd));
    subtree->kill(attempt);
    Work work;
    SpawnRequest request;
    request.function = child_main;
    request.argument = &work;
    request.cgroup_fd = fd;
    const auto result = spawn_child(request);
    REQUIRE(result.pid > 0);
    const int status = status_of(result.pid);
    WARN("reused after cgroup.kill: " << (WIFSIGNALED(status) ? "killed at birth" : "lives"));
    ::close(fd);
    CHECK(subtree->remove(attempt) == CgroupSubtree::Removal::kGone);
    CHECK(subtree->make_attempt("two", {}, attempt, fd));
    request.cgroup_fd = fd;
    const auto fresh = spawn_child(request);
    REQUIRE(fresh.pid > 0);
    CHECK(status_of(fresh.pid) == 0);
    ::close(fd);
    CHECK(subtree->remove(attempt) == CgroupSubtree::Removal::kGone);
    subtree->remove_subtree();
}
