#include "common/process/spawn.h"

#include <atomic>
#include <cerrno>

#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include "common/process/raw_syscall.h"

#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ULL
#endif

namespace reeve {
namespace {

// The kernel's struct clone_args, version 2 (88 bytes, Linux 5.7).
struct CloneArguments {
    std::uint64_t flags = 0;
    std::uint64_t pidfd = 0;
    std::uint64_t child_tid = 0;
    std::uint64_t parent_tid = 0;
    std::uint64_t exit_signal = 0;
    std::uint64_t stack = 0;
    std::uint64_t stack_size = 0;
    std::uint64_t tls = 0;
    std::uint64_t set_tid = 0;
    std::uint64_t set_tid_size = 0;
    std::uint64_t cgroup = 0;
};
static_assert(sizeof(CloneArguments) == 88);

std::atomic<bool> clone3_missing{false};

[[noreturn]] void exit_child(int status) {
    while (true) raw_syscall(SYS_exit_group, status);
}

long clone_copied(const CloneArguments& arguments, const SpawnRequest& request) {
    const long pid = raw_syscall(SYS_clone3, raw(&arguments), sizeof arguments);
    if (pid == 0) exit_child(request.function(request.argument));
    return pid;
}

#if defined(__x86_64__)
// The child comes back from the system call on the new stack, so it must not return through this
// frame: function and argument are in registers, and it calls from there.
long clone_shared(const CloneArguments& arguments, const SpawnRequest& request) {
    long result = SYS_clone3;
    register ChildFunction function __asm__("r12") = request.function;
    register void* argument __asm__("r13") = request.argument;
    __asm__ volatile(
        "syscall\n\t"
        "test %%rax, %%rax\n\t"
        "jnz 1f\n\t"
        "xor %%ebp, %%ebp\n\t"
        "mov %%r13, %%rdi\n\t"
        "call *%%r12\n\t"
        "mov %%eax, %%edi\n\t"
        "mov $231, %%eax\n\t"  // exit_group
        "syscall\n\t"
        "hlt\n\t"
        "1:\n\t"
        : "+a"(result)
        : "D"(&arguments), "S"(sizeof arguments), "r"(function), "r"(argument)
        : "rcx", "r11", "memory");
    return result;
}
#endif

long clone_once(const SpawnRequest& request, bool into_cgroup) {
    CloneArguments arguments;
    arguments.exit_signal = SIGCHLD;
    if (request.pidfd != nullptr) {
        arguments.flags |= CLONE_PIDFD;
        arguments.pidfd = reinterpret_cast<std::uint64_t>(request.pidfd);
    }
    if (into_cgroup) {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = static_cast<std::uint64_t>(request.cgroup_fd);
    }
#if defined(__x86_64__)
    if (request.stack != nullptr) {
        arguments.flags |= CLONE_VM | CLONE_CHILD_CLEARTID;
        arguments.child_tid = reinterpret_cast<std::uint64_t>(request.in_use);
        arguments.stack = reinterpret_cast<std::uint64_t>(request.stack);
        arguments.stack_size = request.stack_bytes & ~std::size_t{15};
        __atomic_store_n(request.in_use, 1U, __ATOMIC_SEQ_CST);
        const long pid = clone_shared(arguments, request);
        if (pid < 0) __atomic_store_n(request.in_use, 0U, __ATOMIC_SEQ_CST);
        return pid;
    }
#endif
    return clone_copied(arguments, request);
}

// No clone3 (seccomp of an old container runtime, or before 5.3): plain fork semantics.
long clone_plain(const SpawnRequest& request) {
#if defined(__x86_64__)
    const long pid = raw_syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) exit_child(request.function(request.argument));
#else
    const long forked = ::fork();
    if (forked == 0) exit_child(request.function(request.argument));
    const long pid = forked < 0 ? -errno : forked;
#endif
    if (pid > 0 && request.pidfd != nullptr) {
        *request.pidfd = static_cast<int>(raw_syscall(SYS_pidfd_open, pid, 0));
    }
    return pid;
}

}  // namespace

SpawnResult spawn_child(const SpawnRequest& request) {
    SpawnResult result;
    long pid = -ENOSYS;
    if (!clone3_missing.load(std::memory_order_relaxed)) {
        if (request.cgroup_fd >= 0) {
            pid = clone_once(request, true);
            result.in_cgroup = pid > 0;
        }
        // Kernels before 5.7 know no cgroup argument: enter by writing to cgroup.procs instead.
        if (request.cgroup_fd < 0 || pid == -EINVAL || pid == -E2BIG) {
            pid = clone_once(request, false);
        }
        if (pid == -ENOSYS) clone3_missing.store(true, std::memory_order_relaxed);
    }
    if (pid == -ENOSYS) pid = clone_plain(request);
    if (pid < 0) {
        result.error = static_cast<int>(-pid);
        return result;
    }
    result.pid = static_cast<pid_t>(pid);
    return result;
}

bool spawn_can_share() {
#if defined(__x86_64__)
    return !clone3_missing.load(std::memory_order_relaxed);
#else
    return false;
#endif
}

}  // namespace reeve
