// The bare launch loop: what this machine can do at most, to hold the worker against.
//
//   launch_loop [tasks] [parallel] [fork|shared] [program] [fresh|again] [directory]
//
// For each task: a cgroup directory (where possible; a fresh one that is removed at the end, or the
// one before's again), clone3 into it, an output file made, exec, wait; `parallel` at a time from
// one process, no scheduler, no record. The output files go to the directory and stay there;
// without one to a temporary directory. One JSON line.
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/process/cgroup.h"
#include "common/process/raw_syscall.h"
#include "common/process/spawn.h"

namespace {

constexpr std::size_t kStackBytes = 32 * 1024;

struct Child {
    char path[128]{};
    const char* program = nullptr;
    char* stack = nullptr;
    std::uint32_t in_use = 0;
    pid_t pid = 0;
    reeve::AttemptCgroup cgroup;
};

int run_child(void* argument) {
    auto* child = static_cast<Child*>(argument);
    using reeve::raw;
    using reeve::raw_syscall;
    const long in = raw_syscall(SYS_openat, AT_FDCWD, raw("/dev/null"), O_RDONLY);
    const long out =
        raw_syscall(SYS_openat, AT_FDCWD, raw(child->path), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (in < 0 || out < 0) return 125;
    raw_syscall(SYS_dup3, in, 0, 0);
    raw_syscall(SYS_dup3, out, 1, 0);
    raw_syscall(SYS_dup3, out, 2, 0);
    raw_syscall(SYS_close, in);
    raw_syscall(SYS_close, out);
    const char* argv[] = {child->program, nullptr};
    const char* envp[] = {"PATH=/usr/bin:/bin", nullptr};
    raw_syscall(SYS_execve, raw(child->program), raw(argv), raw(envp));
    return 127;
}

bool complain(const char* what) {
    std::fprintf(stderr, "launch_loop: %s\n", what);
    return false;
}

struct Loop {
    reeve::CgroupSubtree subtree;
    std::string directory;
    bool shared = false;
    bool again = false;
    const char* program = "/bin/true";

    bool start(Child& child, long number) {
        child.program = program;
        std::snprintf(child.path, sizeof child.path, "%s/%ld.out", directory.c_str(), number);
        char name[32];
        std::snprintf(name, sizeof name, "%ld", number);
        int fd = -1;
        if (subtree.usable()) {
            const auto made = subtree.make_attempt(name, {}, child.cgroup, fd);
            if (!made) return complain(made.error().message.c_str());
        }
        reeve::SpawnRequest request;
        request.function = run_child;
        request.argument = &child;
        request.cgroup_fd = fd;
        if (shared) {
            request.stack = child.stack;
            request.stack_bytes = kStackBytes;
            request.in_use = &child.in_use;
        }
        const auto result = reeve::spawn_child(request);
        if (fd >= 0) ::close(fd);
        child.pid = result.pid;
        return result.pid > 0 || complain(std::strerror(result.error));
    }
};

}  // namespace

int main(int argc, char** argv) {
    const long tasks = argc > 1 ? std::atol(argv[1]) : 2000;
    const long parallel = argc > 2 ? std::atol(argv[2]) : 2;
    Loop loop;
    loop.shared = argc > 3 && std::strcmp(argv[3], "shared") == 0;
    if (argc > 4) loop.program = argv[4];
    loop.again = argc > 5 && std::strcmp(argv[5], "again") == 0;
    char directory[] = "/tmp/launch_loop.XXXXXX";
    const bool temporary = argc <= 6;
    if (temporary && ::mkdtemp(directory) == nullptr) return 1;
    loop.directory = temporary ? directory : argv[6];
    const auto support = reeve::probe_cgroups();
    if (support.usable()) {
        auto made =
            reeve::CgroupSubtree::make(support, "reeve.bench/w" + std::to_string(::getpid()));
        if (made) loop.subtree = std::move(*made);
    }
    std::vector<Child> children(static_cast<std::size_t>(parallel));
    for (auto& child : children) child.stack = static_cast<char*>(std::malloc(kStackBytes));
    const auto start = reeve::boot_ns();
    long started = 0;
    long ended = 0;
    for (auto& child : children) {
        if (started < tasks && !loop.start(child, started++)) return 1;
    }
    while (ended < tasks) {
        int status = 0;
        const pid_t pid = ::wait(&status);
        if (pid < 0 || status != 0) {
            std::fprintf(stderr, "launch_loop: pid %d, wait status %d\n", pid, status);
            return 1;
        }
        for (auto& child : children) {
            if (child.pid != pid) continue;
            (void)(loop.again ? loop.subtree.end(child.cgroup) : loop.subtree.remove(child.cgroup));
            ++ended;
            child.pid = 0;
            if (started < tasks && !loop.start(child, started++)) return 1;
        }
    }
    const auto seconds = static_cast<double>(reeve::boot_ns() - start) / 1e9;
    loop.subtree.remove_subtree();
    const std::string remove = std::string("rm -rf ") + directory;
    if (temporary && std::system(remove.c_str()) != 0) return 1;
    std::printf(
        "{\"name\":\"launch_loop_%s\",\"unit\":\"tasks/s\",\"value\":%.1f,\"tasks\":%ld,"
        "\"parallel\":%ld,\"cgroup\":\"%s\",\"directories\":\"%s\"}\n",
        loop.shared ? "shared" : "fork", static_cast<double>(tasks) / seconds, tasks, parallel,
        reeve::to_string(support.backend), loop.again ? "again" : "fresh");
    return 0;
}
