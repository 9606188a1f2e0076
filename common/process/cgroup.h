// Control groups: a directory for each attempt, so that everything it forked can be ended.
//
// What a machine offers is probed once (CgroupSupport):
//   v2       one hierarchy with controllers: limits, cgroup.kill, exact accounting
//   hybrid   v2 core for tracking and killing, v1 controllers for limits
//   v1       the freezer hierarchy tracks; killing is freeze, SIGKILL each, thaw, again
//   none     process group, subreaper and a sweep of /proc; what daemonises with an emptied
//            environment may escape
// A subtree is named relative to the place where we may create ("reeve.<cell>/w<incarnation>..."),
// the same in every v1 hierarchy, so the register can end a dead worker's subtree by that name
// alone. Roles of one cell are started from one place, so they agree on it.
//
// A child cloned into a directory that once saw cgroup.kill dies at birth on current kernels
// (kill_seq mismatch), so one that was killed, or has limits, is never used again and names are
// unique in a worker's life. One that ended by itself goes to the next attempt without limits:
// making and removing it would take longer than the start of a program (decision 19).
//
// Not thread-safe per object; the free functions are.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/result.h"

namespace reeve {

enum class CgroupBackend : std::uint8_t { kV2, kHybrid, kV1, kNone };
const char* to_string(CgroupBackend backend);

struct CgroupSupport {
    CgroupBackend backend = CgroupBackend::kNone;
    std::string tracker;  // mount of the hierarchy that holds the processes (v2, or v1 freezer)
    std::string prefix;   // where below it we may create: "" or "user.slice/.../app.slice/"
    std::string memory;   // mounts for limits; the tracker itself with v2; "" when not available
    std::string cpu;
    std::string pids;
    bool kill_file = false;  // cgroup.kill exists (5.14)
    std::string reason;      // one line for people: what was found, or why there is none

    bool usable() const { return backend != CgroupBackend::kNone; }
    bool v2_core() const {
        return backend == CgroupBackend::kV2 || backend == CgroupBackend::kHybrid;
    }
};

// Looks at the mounts and tries to make and remove a directory. A few milliseconds.
CgroupSupport probe_cgroups();

struct CgroupLimits {
    std::uint64_t memory_bytes = 0;  // 0: none
    std::uint32_t cpu_milli = 0;     // 0: none
    std::uint32_t pids_max = 0;      // 0: none
};

struct CgroupUse {
    std::uint64_t oom_kills = 0;
    std::uint64_t memory_peak_bytes = 0;  // 0: unknown
    std::uint64_t cpu_us = 0;             // 0: unknown
};

// The directories of one attempt. Plain data, so that a table of them needs no allocation.
struct AttemptCgroup {
    char name[72]{};           // "" : none
    std::uint8_t v1_dirs = 0;  // bits of CgroupSubtree::V1Dir made beside the tracker's
    bool pristine = false;     // without limits and never killed: end() may keep it
    bool reused = false;       // was another attempt's before
    bool made() const { return name[0] != '\0'; }
};

// A file the new process itself has to write "0" to, before it drops its rights.
struct CgroupEntry {
    int dir_fd = -1;
    char path[96]{};
};
inline constexpr int kCgroupEntriesMax = 4;

class CgroupSubtree {
public:
    enum V1Dir : std::uint8_t { kMemoryDir = 1, kCpuDir = 2, kPidsDir = 4 };
    enum class Removal : std::uint8_t { kGone, kBusy };

    CgroupSubtree() = default;  // unusable: every call is a no-op, made() stays false
    // Makes the subtree (and its parents) in the tracker. Refused when it existed before.
    static Result<CgroupSubtree> make(const CgroupSupport& support, const std::string& relative);

    ~CgroupSubtree();
    CgroupSubtree(CgroupSubtree&& other) noexcept;
    CgroupSubtree& operator=(CgroupSubtree&& other) noexcept;
    CgroupSubtree(const CgroupSubtree&) = delete;
    CgroupSubtree& operator=(const CgroupSubtree&) = delete;

    bool usable() const { return tracker_fd_ >= 0; }
    const CgroupSupport& support() const { return support_; }
    const std::string& relative() const { return relative_; }

    // An empty directory with its limits; without any, one kept by end() or "any.N", whatever the
    // name. `fd` receives a directory fd for CLONE_INTO_CGROUP (the caller closes it), or -1 where
    // the child must enter by entries() alone.
    Status make_attempt(const char* name, const CgroupLimits& limits, AttemptCgroup& out, int& fd);
    // What the child must write to; `tracker_too` when it was not cloned into the cgroup.
    int entries(const AttemptCgroup& attempt, bool tracker_too,
                CgroupEntry (&out)[kCgroupEntriesMax]) const;
    void kill(AttemptCgroup& attempt) const;  // one round; repeat until removed
    bool freeze(const AttemptCgroup& attempt, bool frozen) const;
    bool populated(const AttemptCgroup& attempt) const;
    CgroupUse use(const AttemptCgroup& attempt) const;
    // kBusy: something still lives in it. Sub-directories the task made are removed as well.
    Removal remove(AttemptCgroup& attempt) const;
    // Keeps it for a later attempt if it is empty and as it was made, or removes it.
    Removal end(AttemptCgroup& attempt);
    // Somebody else killed what was in it, maybe with what is above and beside it: neither it nor
    // any that is kept goes to another attempt.
    void distrust(AttemptCgroup& attempt);
    // Removes the subtree itself once it is empty; its parent too if it was the last.
    void remove_subtree();

private:
    Status open_v1(const std::string& mount, int& fd);
    int v1_fd(V1Dir dir) const;
    bool apply_limits(AttemptCgroup& out, const CgroupLimits& limits, Error& error);
    Status make_directory(const char* name, AttemptCgroup& out);
    int open_directory(const char* name) const;
    bool take_spare(AttemptCgroup& out, int& fd);
    bool as_made(const AttemptCgroup& attempt) const;

    CgroupSupport support_;
    std::string relative_;
    int tracker_fd_ = -1;
    int memory_fd_ = -1;  // v1 only, opened when first needed
    int cpu_fd_ = -1;
    int pids_fd_ = -1;
    std::uint64_t made_ = 0;
    std::vector<std::string> spare_;  // kept by end(): empty, nobody's
};

// By relative name, for whoever cleans up after a dead worker. A subtree that is not there is
// empty. Names of the directories directly below "reeve.<cell>"; empty when there are none.
std::vector<std::string> list_cgroups(const CgroupSupport& support, const std::string& relative);
bool cgroup_populated(const CgroupSupport& support, const std::string& relative);
void kill_cgroup(const CgroupSupport& support, const std::string& relative);  // one round
// Kills until it is empty, then removes it in every hierarchy. kDeadlineExceeded: something in it
// does not die (uninterruptible); nothing is removed then.
Status end_cgroup(const CgroupSupport& support, const std::string& relative,
                  std::uint64_t deadline_ns);

}  // namespace reeve
