// From a TaskSpec to what the launcher needs: arguments, environment, files with names filled in.
//
// Pure but for the user database (cached). Placeholders in cwd, input, output and error:
//   %j %{JOB_ID}   job            %a %{TASK_ID}  element       %A  job (Slurm's array master)
//   %x %{ATTEMPT} %{INSTANCE_ID}  attempt        %u user       %N  worker's name
//   %{CWD}         the working directory (not inside cwd itself)    %%  a percent sign
// Unknown ones stay as they are. What is filled in is not looked at again.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/model/wants.h"
#include "reeve/v1/reeve.pb.h"
#include "worker/launcher_protocol.h"

namespace reeve::worker {

struct UserInfo {
    std::string name;
    std::string home;
    std::uint32_t gid = 0;
    std::vector<std::uint32_t> groups;
};

// Looks users up once each. Not thread-safe.
class UserTable {
public:
    // kNotFound: no such user here.
    Result<const UserInfo*> find(std::uint32_t uid, std::uint32_t gid);

private:
    std::map<std::pair<std::uint32_t, std::uint32_t>, UserInfo> users_;
};

// What does not change from task to task of one worker.
struct WorkerContext {
    std::string output_root;  // Cell::output
    std::string state_dir;
    std::string node_name;    // the worker's name
    std::string instance;     // "<cell hash>.<worker number>.<incarnation>"
    std::string own_space;    // worker_space() for our own user; "": could not be made
    std::string other_space;  // and for others
    std::uint32_t uid = 0;    // ours
    std::uint32_t gid = 0;
    std::uint64_t grace_ns = 0;
    std::uint32_t pids_max = 0;
    bool limit_cpu = false;
    bool has_gpus = false;
};

struct TaskInstance {
    TaskId task;
    std::uint32_t attempt = 0;
    std::uint64_t time_limit_ns = 0;
    std::vector<std::string> gpu_ids;    // granted
    std::vector<NamedAmount> resources;  // held
    std::uint32_t gang_size = 0;         // it is one of so many, 0: of none
};

// Of a request for parts of one, all that it needs to itself.
inline std::uint32_t whole_cpus(const v1::TaskSpec& spec) {
    return std::max(1U, (spec.resources().cpu_milli() + 999) / 1000);
}

std::string fill_placeholders(const std::string& text, const TaskInstance& task,
                              const WorkerContext& worker, const std::string& user,
                              const std::string& directory);

// Errors are for the task's owner: kInvalidArgument (no argv, NUL inside), kNotFound (user),
// kPermissionDenied (another user's task, and we are not root).
Result<StartText> make_start(const v1::TaskSpec& spec, const TaskInstance& task,
                             const WorkerContext& worker, UserTable& users);

}  // namespace reeve::worker
