#include "worker/task_text.h"

#include <algorithm>
#include <unordered_map>

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include "common/process/task_space.h"

namespace reeve::worker {
namespace {

constexpr const char* kDefaultPath = "/usr/local/bin:/usr/bin:/bin";
constexpr std::uint64_t kMillisecondNs = 1'000'000;

void append_named(std::string& out, std::string_view name, const TaskInstance& task,
                  const std::string& directory) {
    if (name == "JOB_ID") {
        out += std::to_string(task.task.job);
    } else if (name == "TASK_ID") {
        out += std::to_string(task.task.element);
    } else if (name == "ATTEMPT" || name == "INSTANCE_ID") {
        out += std::to_string(task.attempt);
    } else if (name == "CWD") {
        out += directory;
    } else {
        out.append("%{").append(name).append("}");
    }
}

bool has_nul(const std::string& text) {
    return text.find('\0') != std::string::npos;
}

// Collects NAME=value pairs. add() keeps what is there, so what must not be overridden comes first.
class Environment {
public:
    explicit Environment(std::vector<std::string>& out) : out_(out) {}
    void add(std::string_view name, std::string_view value) {
        if (index_.contains(std::string(name))) return;
        put(name, value);
    }
    // The task's own words: the last one of a name wins, but never over ours.
    void add_all(const google::protobuf::RepeatedPtrField<v1::EnvVar>& variables) {
        const auto ours = out_.size();
        for (const auto& one : variables) {
            const auto found = index_.find(one.name());
            if (found == index_.end()) {
                put(one.name(), one.value());
            } else if (found->second >= ours) {
                out_[found->second] = one.name() + "=" + one.value();
            }
        }
    }
    std::string value(const std::string& name) const {
        const auto found = index_.find(name);
        return found == index_.end() ? "" : out_[found->second].substr(name.size() + 1);
    }

private:
    void put(std::string_view name, std::string_view value) {
        index_.emplace(name, out_.size());
        std::string line;
        line.reserve(name.size() + value.size() + 1);
        line.append(name).append("=").append(value);
        out_.push_back(std::move(line));
    }
    std::vector<std::string>& out_;
    std::unordered_map<std::string, std::size_t> index_;
};

std::string join(const std::vector<std::string>& parts) {
    std::string out;
    for (const auto& part : parts) out += (out.empty() ? "" : ",") + part;
    return out;
}

// Its temporary directory, and where it may write why it failed.
Status add_space(const v1::TaskSpec& spec, const TaskInstance& task, const WorkerContext& worker,
                 Environment& environment, StartText& start) {
    const bool other_user = spec.uid() != worker.uid;
    const auto& space = other_user ? worker.other_space : worker.own_space;
    if (space.empty() && spec.private_tmp()) {
        return fail(ErrorCode::kResourceExhausted, "no place for its temporary directory");
    }
    if (space.empty()) return {};
    const auto place = attempt_space(space, task.task, task.attempt);
    if (spec.private_tmp()) {
        start.temporary = place;
        environment.add("TMPDIR", place);
    }
    if (spec.private_tmp() || !other_user) {
        environment.add("REEVE_ERROR_FILE", error_file(place, other_user));
    }
    return {};
}

// Ours first: a task cannot pretend to be another one.
Status fill_environment(const v1::TaskSpec& spec, const TaskInstance& task,
                        const WorkerContext& worker, const UserInfo& user, StartText& start) {
    Environment environment(start.environment);
    environment.add("REEVE_JOB_ID", std::to_string(task.task.job));
    environment.add("REEVE_TASK_ID", std::to_string(task.task.element));
    environment.add("REEVE_ATTEMPT", std::to_string(task.attempt));
    environment.add("REEVE_INSTANCE", worker.instance);
    environment.add("REEVE_CPUS", std::to_string(whole_cpus(spec)));
    environment.add("REEVE_MEM", std::to_string(spec.resources().memory_bytes()));
    environment.add("REEVE_GPUS", std::to_string(task.gpu_ids.size()));
    std::vector<std::string> held;
    for (const auto& each : task.resources) {
        held.push_back(each.name + "=" + std::to_string(each.count));
    }
    environment.add("REEVE_RESOURCES", join(held));
    if (task.gang_size != 0) {
        environment.add("REEVE_GANG_RANK", std::to_string(task.task.element));
        environment.add("REEVE_GANG_SIZE", std::to_string(task.gang_size));
    }
    if (worker.has_gpus) {
        environment.add("CUDA_DEVICE_ORDER", "PCI_BUS_ID");
        environment.add("CUDA_VISIBLE_DEVICES", join(task.gpu_ids));
    }
    REEVE_TRY(add_space(spec, task, worker, environment, start));
    environment.add_all(spec.env());
    environment.add("REEVE_STATE_DIR", worker.state_dir);
    environment.add("PATH", kDefaultPath);
    environment.add("HOME", user.home);
    environment.add("USER", user.name);
    environment.add("OMP_NUM_THREADS", std::to_string(whole_cpus(spec)));
    start.path = environment.value("PATH");
    return {};
}

std::string absolute(const std::string& path, const std::string& directory) {
    return path.empty() || path.front() == '/' ? path : directory + "/" + path;
}

void fill_files(const v1::TaskSpec& spec, const TaskInstance& task, const WorkerContext& worker,
                const UserInfo& user, StartText& start) {
    auto& flags = start.head.flags;
    start.directory = fill_placeholders(spec.cwd(), task, worker, user.name, "%{CWD}");
    if (start.directory.empty()) start.directory = user.home.empty() ? "/" : user.home;
    const auto named = [&](const std::string& path) {
        return absolute(fill_placeholders(path, task, worker, user.name, start.directory),
                        start.directory);
    };
    if (!spec.input().empty() && spec.input() != "none") start.input = named(spec.input());
    if (spec.output() == "none") {
        flags |= kStartNoOutput;
    } else {
        start.output = spec.output().empty() ? named(worker.output_root + "/%j/%a.%x.out")
                                             : named(spec.output());
    }
    if (spec.error() == "none" || (spec.error().empty() && (flags & kStartNoOutput) != 0)) {
        flags |= kStartNoError;
        return;
    }
    start.error = spec.error().empty() ? start.output : named(spec.error());
    if (start.error == start.output && (flags & kStartNoOutput) == 0) {
        flags |= kStartErrorIsOutput;
    }
}

Status fill_user(const v1::TaskSpec& spec, const WorkerContext& worker, const UserInfo& user,
                 StartText& start) {
    auto& head = start.head;
    head.uid = spec.uid();
    head.gid = user.gid;
    if (worker.uid == 0) {
        if (head.uid == 0) return {};
        head.flags |= kStartSetGroups | kStartSwitchUser | kStartNoNewPrivileges;
        start.groups = user.groups;
        return {};
    }
    head.flags |= kStartNoNewPrivileges;
    if (head.uid == worker.uid) return {};
    return fail(ErrorCode::kPermissionDenied,
                "cannot run as uid " + std::to_string(head.uid) + ": the worker is not root");
}

Status check_text(const StartText& start) {
    const auto checked = {&start.arguments, &start.environment};
    for (const auto* list : checked) {
        for (const auto& one : *list) {
            if (has_nul(one)) {
                return fail(ErrorCode::kInvalidArgument, "a NUL byte in argument or environment");
            }
        }
    }
    for (const auto* one : {&start.directory, &start.input, &start.output, &start.error}) {
        if (has_nul(*one)) return fail(ErrorCode::kInvalidArgument, "a NUL byte in a path");
        if (one->size() > 4000) return fail(ErrorCode::kInvalidArgument, "a path is too long");
    }
    if (start.arguments.empty() || start.arguments.front().empty()) {
        return fail(ErrorCode::kInvalidArgument, "no command");
    }
    return {};
}

}  // namespace

Result<const UserInfo*> UserTable::find(std::uint32_t uid, std::uint32_t gid) {
    const auto known = users_.find({uid, gid});
    if (known != users_.end()) return &known->second;
    std::vector<char> buffer(64 * 1024);
    passwd entry{};
    passwd* found = nullptr;
    ::getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found);
    UserInfo user;
    if (found != nullptr) {
        user.name = found->pw_name;
        user.home = found->pw_dir;
        user.gid = gid != 0 || uid == 0 ? gid : found->pw_gid;
        int count = 256;
        std::vector<gid_t> groups(static_cast<std::size_t>(count));
        if (::getgrouplist(found->pw_name, user.gid, groups.data(), &count) >= 0) {
            groups.resize(static_cast<std::size_t>(count));
            user.groups.assign(groups.begin(), groups.end());
        }
    } else {
        // A uid without an entry can still run: containers have them.
        user.name = std::to_string(uid);
        user.home = "/";
        user.gid = gid;
    }
    if (user.groups.empty()) user.groups.push_back(user.gid);
    return &users_.emplace(std::pair{uid, gid}, std::move(user)).first->second;
}

std::string fill_placeholders(const std::string& text, const TaskInstance& task,
                              const WorkerContext& worker, const std::string& user,
                              const std::string& directory) {
    if (text.find('%') == std::string::npos) return text;
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '%' || i + 1 == text.size()) {
            out += text[i];
            continue;
        }
        const char mark = text[++i];
        switch (mark) {
            case 'j':
            case 'A':
                out += std::to_string(task.task.job);
                break;
            case 'a':
                out += std::to_string(task.task.element);
                break;
            case 'x':
                out += std::to_string(task.attempt);
                break;
            case 'u':
                out += user;
                break;
            case 'N':
                out += worker.node_name;
                break;
            case '%':
                out += '%';
                break;
            case '{': {
                const auto end = text.find('}', i);
                if (end == std::string::npos) {
                    out += "%{";
                    break;
                }
                append_named(out, std::string_view(text).substr(i + 1, end - i - 1), task,
                             directory);
                i = end;
                break;
            }
            default:
                out += '%';
                out += mark;
        }
    }
    return out;
}

Result<StartText> make_start(const v1::TaskSpec& spec, const TaskInstance& task,
                             const WorkerContext& worker, UserTable& users) {
    StartText start;
    REEVE_TRY_ASSIGN(const auto* user, users.find(spec.uid(), spec.gid()));
    auto& head = start.head;
    head.name.job = task.task.job;
    head.name.element = task.task.element;
    head.name.attempt = task.attempt;
    head.time_limit_ns = task.time_limit_ns;
    head.grace_ns = spec.grace_ms() != 0 ? spec.grace_ms() * kMillisecondNs : worker.grace_ns;
    head.output_limit_bytes = spec.output_limit_bytes();
    head.limits.memory_bytes = spec.resources().memory_bytes();
    head.limits.cpu_milli = worker.limit_cpu ? spec.resources().cpu_milli() : 0;
    head.limits.pids_max = worker.pids_max;
    start.arguments.assign(spec.argv().begin(), spec.argv().end());
    REEVE_TRY(fill_environment(spec, task, worker, *user, start));
    fill_files(spec, task, worker, *user, start);
    REEVE_TRY(fill_user(spec, worker, *user, start));
    REEVE_TRY(check_text(start));
    return start;
}

}  // namespace reeve::worker
