// Starts a child, inside its cgroup from its first instruction where the kernel can (clone3).
//
// Two ways, the same child function:
//   shared   CLONE_VM on a stack of its own, the parent goes on at once: no page tables are copied.
//            x86-64 only. The child function may use raw_syscall() and its argument, nothing else,
//            and the argument and the stack must stay until it has executed or ended.
//   copied   like fork. Used where `shared` is not possible, or asked for.
// Must be called from a single-threaded process that outlives its children: PR_SET_PDEATHSIG fires
// when the forking *thread* ends.
#pragma once

#include <cstddef>
#include <cstdint>

#include <sys/types.h>

namespace reeve {

using ChildFunction = int (*)(void* argument);  // its result is the child's exit status

struct SpawnRequest {
    ChildFunction function = nullptr;
    void* argument = nullptr;
    int cgroup_fd = -1;     // -1: none
    void* stack = nullptr;  // lowest address; null: copied
    std::size_t stack_bytes = 0;
    // Shared only: set to 1 before, cleared by the kernel once the child left our memory.
    std::uint32_t* in_use = nullptr;
    int* pidfd = nullptr;  // receives one when not null
};

struct SpawnResult {
    pid_t pid = -1;
    int error = 0;           // errno when pid < 0
    bool in_cgroup = false;  // false: the child has to enter by itself
};

SpawnResult spawn_child(const SpawnRequest& request);

// Whether clone3 with CLONE_INTO_CGROUP and shared memory are available here.
bool spawn_can_share();

}  // namespace reeve
