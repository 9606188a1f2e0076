#include "worker/child.h"

#include <csignal>

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/prctl.h>

#include "common/process/raw_syscall.h"

// Compiled without sanitizers and without builtin loops (CMakeLists.txt): see child.h.

namespace reeve::worker {
namespace {

constexpr std::size_t kPathBytes = 4096;
constexpr int kStartFailed = 127;

std::size_t length(const char* text) {
    std::size_t size = 0;
    while (text[size] != '\0') ++size;
    return size;
}

bool fail_at(const ChildPlan& plan, ChildStage stage, long error, const char* subject) {
    auto& report = *plan.report;
    std::size_t i = 0;
    for (; subject != nullptr && subject[i] != '\0' && i + 1 < sizeof report.subject; ++i) {
        report.subject[i] = subject[i];
    }
    report.subject[i] = '\0';
    report.error = static_cast<std::int32_t>(-error);
    report.stage = stage;
    return false;
}

bool enter_cgroups(const ChildPlan& plan) {
    for (int i = 0; i < plan.entry_count; ++i) {
        const auto& entry = plan.entries[i];
        const long fd =
            raw_syscall(SYS_openat, entry.dir_fd, raw(entry.path), O_WRONLY | O_CLOEXEC);
        if (fd < 0) return fail_at(plan, ChildStage::kCgroup, fd, entry.path);
        const long wrote = raw_syscall(SYS_write, fd, raw("0"), 1);
        raw_syscall(SYS_close, fd);
        if (wrote < 0) return fail_at(plan, ChildStage::kCgroup, wrote, entry.path);
    }
    return true;
}

bool apply_limits(const ChildPlan& plan) {
    for (std::size_t i = 0; i < plan.rlimit_count; ++i) {
        const auto& limit = plan.rlimits[i];
        const std::uint64_t pair[2] = {limit.soft, limit.hard};
        const long done = raw_syscall(SYS_prlimit64, 0, limit.resource, raw(pair), 0);
        if (done < 0) return fail_at(plan, ChildStage::kLimit, done, "resource limit");
    }
    if (plan.affinity == nullptr) return true;
    const long done = raw_syscall(SYS_sched_setaffinity, 0, static_cast<long>(plan.affinity_bytes),
                                  raw(plan.affinity));
    if (done < 0) return fail_at(plan, ChildStage::kAffinity, done, "cpu affinity");
    return true;
}

bool under_root(const ChildPlan& plan, const char* path) {
    if (!plan.switch_user || plan.output_root == nullptr || path == nullptr) return false;
    for (std::size_t i = 0; i < plan.output_root_bytes; ++i) {
        if (path[i] != plan.output_root[i]) return false;
    }
    return path[plan.output_root_bytes] == '/';
}

// OUT/<job>/<rest>: makes OUT/<job> for the user while we still may, and returns a directory fd of
// it, `rest` the path below. The rest is opened after the rights were dropped.
long open_job_directory(const ChildPlan& plan, const char* path, const char*& rest) {
    char name[kPathBytes];
    std::size_t i = 0;
    const std::size_t start = plan.output_root_bytes + 1;
    for (; path[i] != '\0' && (i < start || path[i] != '/'); ++i) {
        if (i + 1 >= sizeof name) return -ENAMETOOLONG;
        name[i] = path[i];
    }
    if (path[i] != '/' || i == start) return -EINVAL;
    name[i] = '\0';
    rest = path + i + 1;
    const long made = raw_syscall(SYS_mkdirat, AT_FDCWD, raw(name), 0700);
    const long fd =
        raw_syscall(SYS_openat, AT_FDCWD, raw(name), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && made == 0) {
        raw_syscall(SYS_fchownat, fd, raw(""), plan.uid, plan.gid, AT_EMPTY_PATH);
    }
    return fd;
}

long open_checked(long dir_fd, const char* path, std::uint64_t flags, std::uint64_t resolve) {
    open_how how{};
    how.flags = flags | O_CLOEXEC | O_NOCTTY;
    how.mode = (flags & O_CREAT) != 0 ? 0666 : 0;
    how.resolve = resolve;
    const long fd = raw_syscall(SYS_openat2, dir_fd, raw(path), raw(&how), sizeof how);
    if (fd != -ENOSYS && fd != -EPERM) return fd;
    return raw_syscall(SYS_openat, dir_fd, raw(path), static_cast<long>(how.flags), 0666);
}

// mkdir -p of everything before the last '/'.
long make_parents(long dir_fd, const char* path) {
    char part[kPathBytes];
    long refused = 0;
    for (std::size_t i = 0; path[i] != '\0'; ++i) {
        if (i + 1 >= sizeof part) return -ENAMETOOLONG;
        if (path[i] == '/' && i > 0) {
            part[i] = '\0';
            const long made = raw_syscall(SYS_mkdirat, dir_fd, raw(part), 0777);
            const bool denied = made == -EACCES || made == -EROFS;
            if (made < 0 && made != -EEXIST && !denied) {
                return made == -ENOENT && refused != 0 ? refused : made;
            }
            if (denied && refused == 0) refused = made;
        }
        part[i] = path[i];
    }
    return refused;
}

// A symlink as the last component is refused: whoever may write to the directory could otherwise
// make the user overwrite a file of theirs. So is a fifo without a reader (ENXIO), which would
// block for ever.
long open_output(long dir_fd, const char* path, std::uint64_t resolve) {
    constexpr std::uint64_t kFlags =
        O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW | O_NONBLOCK;
    long fd = open_checked(dir_fd, path, kFlags, resolve);
    if (fd == -ENOENT) {
        const long made = make_parents(dir_fd, path);
        if (made < 0 && made != -EACCES && made != -EROFS) return made;
        fd = open_checked(dir_fd, path, kFlags, resolve);
        if (fd == -ENOENT && made < 0) fd = made;
    }
    if (fd >= 0) raw_syscall(SYS_fcntl, fd, F_SETFL, O_APPEND);
    return fd;
}

// Its parent is there, but for a worker whose space somebody removed.
bool make_temporary(const ChildPlan& plan) {
    if (plan.temporary == nullptr) return true;
    const auto make = [&] {
        return raw_syscall(SYS_mkdirat, AT_FDCWD, raw(plan.temporary), 0700);
    };
    long done = make();
    if (done == -ENOENT) {
        done = make_parents(AT_FDCWD, plan.temporary);
        if (done == 0) done = make();
    }
    if (done == 0 && plan.switch_user) {
        done = raw_syscall(SYS_fchownat, AT_FDCWD, raw(plan.temporary), plan.uid, plan.gid,
                           AT_SYMLINK_NOFOLLOW);
    }
    return done == 0 || fail_at(plan, ChildStage::kTemporary, done, plan.temporary);
}

struct JobDirectory {
    long fd = -1;
    const char* rest = nullptr;
};

bool find_job_directory(const ChildPlan& plan, ChildStage stage, const char* path,
                        JobDirectory& job) {
    if (!under_root(plan, path)) return true;
    job.fd = open_job_directory(plan, path, job.rest);
    return job.fd >= 0 || fail_at(plan, stage, job.fd, path);
}

bool drop_rights(const ChildPlan& plan) {
    long done = 0;
    if (plan.set_groups) {
        done = raw_syscall(SYS_setgroups, static_cast<long>(plan.group_count), raw(plan.groups));
    }
    if (done == 0 && plan.switch_user) {
        done = raw_syscall(SYS_setresgid, plan.gid, plan.gid, plan.gid);
        if (done == 0) done = raw_syscall(SYS_setresuid, plan.uid, plan.uid, plan.uid);
    }
    return done == 0 || fail_at(plan, ChildStage::kUser, done, "the task's user");
}

bool put_at(const ChildPlan& plan, ChildStage stage, long fd, int target, const char* path) {
    if (fd < 0) return fail_at(plan, stage, fd, path);
    const long done = raw_syscall(SYS_dup3, fd, target, 0);
    if (done < 0 && fd != target) return fail_at(plan, stage, done, path);
    return true;
}

long open_one(const JobDirectory& job, const char* path) {
    if (path == nullptr) return raw_syscall(SYS_openat, AT_FDCWD, raw("/dev/null"), O_WRONLY);
    if (job.fd >= 0) {
        return open_output(job.fd, job.rest, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
    }
    return open_output(AT_FDCWD, path, RESOLVE_NO_MAGICLINKS);
}

// Files are opened at 3 and above (the launcher keeps 0 to 2 open), then moved into place.
bool open_files(const ChildPlan& plan, const JobDirectory& output, const JobDirectory& error) {
    const long out = open_one(output, plan.output);
    if (!put_at(plan, ChildStage::kOutput, out, 1, plan.output)) return false;
    if (plan.error_is_output) {
        if (!put_at(plan, ChildStage::kError, out, 2, plan.output)) return false;
    } else {
        const long err = open_one(error, plan.error);
        if (!put_at(plan, ChildStage::kError, err, 2, plan.error)) return false;
        raw_syscall(SYS_close, err);
    }
    raw_syscall(SYS_close, out);
    const char* input = plan.input != nullptr ? plan.input : "/dev/null";
    const long in = plan.input_fd >= 0 ? plan.input_fd
                                       : raw_syscall(SYS_openat, AT_FDCWD, raw(input),
                                                     O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (!put_at(plan, ChildStage::kInput, in, 0, input)) return false;
    return true;
}

// A launcher that died before this leaves us with another parent.
void die_with_launcher(const ChildPlan& plan) {
    raw_syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (raw_syscall(SYS_getppid) != plan.launcher) raw_syscall(SYS_exit_group, kStartFailed);
}

bool last_steps(const ChildPlan& plan) {
    const long moved = raw_syscall(SYS_chdir, raw(plan.directory));
    if (moved < 0) return fail_at(plan, ChildStage::kDirectory, moved, plan.directory);
    if (plan.no_new_privileges) {
        const long done = raw_syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if (done < 0) return fail_at(plan, ChildStage::kPrivilege, done, "no_new_privs");
    }
    die_with_launcher(plan);  // again: setresuid clears it
    raw_syscall(SYS_close_range, 3, ~0U, 4 /* CLOSE_RANGE_CLOEXEC */);
    const std::uint64_t empty_mask = 0;
    raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, raw(&empty_mask), 0, sizeof empty_mask);
    return true;
}

long execute(const ChildPlan& plan, const char* file) {
    return raw_syscall(SYS_execve, raw(file), raw(plan.argv), raw(plan.envp));
}

bool has_slash(const char* text) {
    for (; *text != '\0'; ++text) {
        if (*text == '/') return true;
    }
    return false;
}

// Like execvp, but with the task's own PATH, and a file that is no program is not given to sh.
long execute_by_path(const ChildPlan& plan, const char* name) {
    char file[kPathBytes];
    const std::size_t name_size = length(name);
    long result = -ENOENT;
    const char* at = plan.path;
    while (at != nullptr) {
        std::size_t size = 0;
        while (at[size] != '\0' && at[size] != ':') ++size;
        if (size + name_size + 2 < sizeof file) {
            std::size_t end = 0;
            for (; end < size; ++end) file[end] = at[end];
            if (size == 0) file[end++] = '.';
            file[end++] = '/';
            for (std::size_t i = 0; i <= name_size; ++i) file[end + i] = name[i];
            const long tried = execute(plan, file);
            const bool missing = tried == -ENOENT || tried == -ENOTDIR || tried == -EACCES ||
                                 tried == -ESTALE || tried == -ENODEV || tried == -ETIMEDOUT;
            if (!missing) return tried;
            if (tried == -EACCES) result = -EACCES;
        }
        at = at[size] == ':' ? at + size + 1 : nullptr;
    }
    return result;
}

bool is_there(const char* file, long mode) {
    return raw_syscall(SYS_faccessat, AT_FDCWD, raw(file), mode, 0) == 0;
}

ExecHint hint_for(const char* name, long error) {
    if (error == -ENOENT) {
        if (!is_there(name, 0)) return ExecHint::kNone;
        return has_slash(name) ? ExecHint::kInterpreterMissing : ExecHint::kExistsHere;
    }
    if (error != -EACCES || !has_slash(name)) return ExecHint::kNone;
    const long fd = raw_syscall(SYS_openat, AT_FDCWD, raw(name), O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) return ExecHint::kDirectory;
    return is_there(name, 0) && !is_there(name, 1) ? ExecHint::kNotExecutable : ExecHint::kNone;
}

}  // namespace

int run_child(void* argument) {
    const auto& plan = *static_cast<const ChildPlan*>(argument);
    plan.report->begun = 1;
    // Before the session: without cgroups we may be stopped from then on, with the launcher's lock
    // among our files.
    die_with_launcher(plan);
    raw_syscall(SYS_umask, 077);
    if (!enter_cgroups(plan)) return kStartFailed;
    const long session = raw_syscall(SYS_setsid);
    if (session < 0) {
        fail_at(plan, ChildStage::kSession, session, "setsid");
        return kStartFailed;
    }
    if (!apply_limits(plan)) return kStartFailed;
    JobDirectory output;
    JobDirectory error;
    if (!find_job_directory(plan, ChildStage::kOutput, plan.output, output)) return kStartFailed;
    if (!plan.error_is_output && !find_job_directory(plan, ChildStage::kError, plan.error, error)) {
        return kStartFailed;
    }
    if (!make_temporary(plan)) return kStartFailed;
    if (!drop_rights(plan)) return kStartFailed;
    if (!open_files(plan, output, error)) return kStartFailed;
    if (!last_steps(plan)) return kStartFailed;
    const char* name = plan.argv[0];
    const long result = has_slash(name) ? execute(plan, name) : execute_by_path(plan, name);
    plan.report->hint = hint_for(name, result);
    fail_at(plan, ChildStage::kExec, result, name);
    return kStartFailed;
}

}  // namespace reeve::worker
