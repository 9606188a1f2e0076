// What a new process does between clone and exec: cgroup, session, limits, user, files, exec.
//
// It may run in the launcher's own memory, beside the running launcher (common/process/spawn.h), so
// it uses nothing but its plan and system calls: no allocation, no libc, no errno. Everything in
// the plan is prepared before the clone and stays until the child has executed or ended.
//
// What went wrong is left in ChildReport, in memory both see; no pipe is needed for it.
#pragma once

#include <cstddef>
#include <cstdint>

#include <sys/types.h>

#include "common/process/cgroup.h"

namespace reeve::worker {

enum class ChildStage : std::int32_t {
    kNothing = 0,
    kCgroup,
    kSession,
    kLimit,
    kAffinity,
    kUser,
    kOutput,
    kError,
    kInput,
    kDirectory,
    kPrivilege,
    kExec,
    kTemporary,
};

// What is known about a program that could not be executed.
enum class ExecHint : std::int32_t {
    kNone = 0,
    kExistsHere = 1,          // not in PATH, but ./name exists
    kInterpreterMissing = 2,  // the file exists, the program in its #! line does not
    kNotExecutable = 3,       // no x bit
    kDirectory = 4,
};

struct ChildReport {
    ChildStage stage = ChildStage::kNothing;
    std::int32_t error = 0;  // errno
    ExecHint hint = ExecHint::kNone;
    std::int32_t begun = 0;  // 1: the child ran at all
    char subject[112]{};     // the path or command it was about, cut at the end
};

struct ChildRlimit {
    std::int32_t resource = 0;
    std::int32_t reserved = 0;
    std::uint64_t soft = 0;
    std::uint64_t hard = 0;
};

struct ChildPlan {
    CgroupEntry entries[kCgroupEntriesMax];
    int entry_count = 0;

    const char* const* argv = nullptr;  // null-terminated
    const char* const* envp = nullptr;
    const char* path = nullptr;       // the task's PATH, to look argv[0] up
    const char* directory = nullptr;  // absolute
    const char* input = nullptr;      // file; ignored when input_fd >= 0
    const char* output = nullptr;     // null: /dev/null
    const char* error = nullptr;      // null: /dev/null
    bool error_is_output = false;
    int input_fd = -1;

    // Where the cell keeps outputs. With switch_user the job's directory in it is made for the user
    // before the rights are dropped, as the state directory itself is closed to others.
    const char* output_root = nullptr;
    std::size_t output_root_bytes = 0;

    const char* temporary = nullptr;  // made for the task's user alone; null: none

    bool switch_user = false;
    bool set_groups = false;
    bool no_new_privileges = false;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    const std::uint32_t* groups = nullptr;
    std::size_t group_count = 0;

    const unsigned char* affinity = nullptr;  // a cpu_set_t of that many bytes; null: as it is
    std::size_t affinity_bytes = 0;
    const ChildRlimit* rlimits = nullptr;
    std::size_t rlimit_count = 0;

    pid_t launcher = 0;
    ChildReport* report = nullptr;
};

// ChildFunction; the argument is a ChildPlan. Returns (an exit status) only when it failed.
int run_child(void* plan);

}  // namespace reeve::worker
