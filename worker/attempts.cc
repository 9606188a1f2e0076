#include "worker/attempts.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/assert.h"
#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/log/log.h"
#include "common/process/proc_info.h"
#include "common/process/small_file.h"
#include "common/process/spawn.h"
#include "worker/ending.h"

namespace reeve::worker {
namespace {

constexpr std::size_t kStackBytes = 64 * 1024;
constexpr std::size_t kGuardBytes = 4096;
constexpr std::uint64_t kNever = ~std::uint64_t{0};
constexpr std::uint64_t kFirstPauseNs = kMillisecond;
constexpr std::uint64_t kPauseMaxNs = 200 * kMillisecond;
constexpr std::uint64_t kTrimEveryNs = 500 * kMillisecond;
constexpr std::uint64_t kFirstTrimNs = 20 * kMillisecond;  // until its stdout is in place
constexpr std::uint64_t kStuckAfterNs = 60 * kSecond;
constexpr std::uint64_t kGroupWaitNs = 50 * kMillisecond;

std::uint64_t microseconds(const timeval& time) {
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000 +
           static_cast<std::uint64_t>(time.tv_usec);
}

char* map_stack() {
    void* memory = ::mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    ::mprotect(memory, kGuardBytes, PROT_NONE);
    return static_cast<char*>(memory) + kGuardBytes;
}

}  // namespace

Attempts::Attempts() : self_(::getpid()), share_memory_(spawn_can_share()) {
    void* memory = ::mmap(nullptr, kAttemptsMax * sizeof(ChildReport), PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REEVE_ASSERT(memory != MAP_FAILED);
    reports_ = static_cast<ChildReport*>(memory);
}

Attempts::~Attempts() {
    for (auto& block : blocks_) {
        const bool left = __atomic_load_n(&block->in_use, __ATOMIC_SEQ_CST) == 0;
        if (block->stack != nullptr && left) {
            ::munmap(block->stack - kGuardBytes, kGuardBytes + kStackBytes);
        }
    }
    ::munmap(reports_, kAttemptsMax * sizeof(ChildReport));
}

void Attempts::configure(CgroupSubtree subtree, std::string instance, std::string output_root) {
    subtree_ = std::move(subtree);
    instance_ = std::move(instance);
    output_root_ = std::move(output_root);
}

LaunchBlock* Attempts::take_block() {
    std::erase_if(leaving_blocks_, [this](LaunchBlock* block) {
        if (__atomic_load_n(&block->in_use, __ATOMIC_SEQ_CST) != 0) return false;
        free_blocks_.push_back(block);
        return true;
    });
    if (free_blocks_.empty()) {
        blocks_.push_back(std::make_unique<LaunchBlock>());
        blocks_.back()->stack = map_stack();
        return blocks_.back().get();
    }
    auto* block = free_blocks_.back();
    free_blocks_.pop_back();
    return block;
}

void Attempts::give_block(LaunchBlock* block) {
    leaving_blocks_.push_back(block);
}

std::uint32_t Attempts::new_index() {
    if (free_.empty()) {
        table_.emplace_back();
        return static_cast<std::uint32_t>(table_.size() - 1);
    }
    const auto index = free_.back();
    free_.pop_back();
    table_[index] = Attempt{};
    return index;
}

Attempts::Attempt* Attempts::find(std::uint64_t id) {
    const auto found = by_id_.find(id);
    return found == by_id_.end() ? nullptr : &table_[found->second];
}

void Attempts::refuse(const AttemptName& name, std::uint64_t id, const std::string& detail) {
    EndedRecord record;
    record.sequence = next_sequence_++;
    record.id = id;
    record.name = name;
    record.started_wall_ns = record.ended_wall_ns = wall_ns();
    record.exit_code = 125;
    record.outcome = Outcome::kFailed;
    std::snprintf(record.detail, sizeof record.detail, "%s", detail.c_str());
    ended_.push_back(record);
    tell_ended();
}

void Attempts::fill_plan(Attempt& attempt, std::uint32_t index, int input_fd) {
    auto& block = *attempt.block;
    const auto& view = block.view;
    const auto flags = view.head.flags;
    auto& plan = block.plan;
    plan = ChildPlan{};
    plan.argv = view.argv.data();
    plan.envp = view.envp.data();
    plan.path = view.path;
    plan.directory = view.directory;
    plan.input = view.input[0] != '\0' ? view.input : nullptr;
    plan.output = (flags & kStartNoOutput) == 0 ? view.output : nullptr;
    plan.error = (flags & kStartNoError) == 0 ? view.error : nullptr;
    plan.error_is_output = (flags & kStartErrorIsOutput) != 0;
    plan.temporary = view.temporary[0] != '\0' ? view.temporary : nullptr;
    plan.input_fd = input_fd;
    plan.output_root = output_root_.empty() ? nullptr : output_root_.c_str();
    plan.output_root_bytes = output_root_.size();
    plan.switch_user = (flags & kStartSwitchUser) != 0;
    plan.set_groups = (flags & kStartSetGroups) != 0;
    plan.no_new_privileges = (flags & kStartNoNewPrivileges) != 0;
    plan.uid = view.head.uid;
    plan.gid = view.head.gid;
    plan.groups = view.groups;
    plan.group_count = view.head.group_count;
    plan.affinity = view.head.affinity_bytes != 0 ? view.affinity : nullptr;
    plan.affinity_bytes = view.head.affinity_bytes;
    plan.rlimits = view.rlimits;
    plan.rlimit_count = view.head.rlimit_count;
    plan.launcher = self_;
    plan.report = &reports_[index];
    *plan.report = ChildReport{};
}

std::string Attempts::prepare(Attempt& attempt, std::string_view record) {
    auto& block = *attempt.block;
    block.record.resize((record.size() + 7) / 8);
    std::memcpy(block.record.data(), record.data(), record.size());
    const std::string_view bytes(reinterpret_cast<const char*>(block.record.data()), record.size());
    if (!decode_start(bytes, block.view)) return "damaged start record";
    const auto& head = block.view.head;
    attempt.memory_limit_bytes = head.limits.memory_bytes;
    attempt.time_limit_ns = head.time_limit_ns;
    attempt.grace_ns = head.grace_ns;
    if (head.output_limit_bytes != 0) limit_output(attempt, block.view);
    return {};
}

Status Attempts::make_cgroup(Attempt& attempt, int& cgroup_fd) {
    const auto& head = attempt.block->view.head;
    char name[sizeof attempt.cgroup.name];
    const int size = std::snprintf(
        name, sizeof name - 24, "%llu.%llu.%u", static_cast<unsigned long long>(head.name.job),
        static_cast<unsigned long long>(head.name.element), head.name.attempt);
    auto made = subtree_.make_attempt(name, head.limits, attempt.cgroup, cgroup_fd);
    if (!made && made.error().code == ErrorCode::kAlreadyExists) {
        std::snprintf(name + size, 24, "-%llu", static_cast<unsigned long long>(head.id));
        made = subtree_.make_attempt(name, head.limits, attempt.cgroup, cgroup_fd);
    }
    return made;
}

SpawnResult Attempts::clone_child(Attempt& attempt, int cgroup_fd) {
    auto& block = *attempt.block;
    // Where clone3 cannot put it into the tracker's directory, the child writes itself in.
    block.plan.entry_count = subtree_.entries(attempt.cgroup, cgroup_fd < 0, block.plan.entries);
    SpawnRequest request;
    request.function = run_child;
    request.argument = &block.plan;
    request.cgroup_fd = cgroup_fd;
    // A memory kill before exec would end everybody who shares the memory: us.
    const bool share = share_memory_ && block.stack != nullptr && attempt.memory_limit_bytes == 0;
    if (share) {
        request.stack = block.stack;
        request.stack_bytes = kStackBytes;
        request.in_use = &block.in_use;
    }
    REEVE_FAILPOINT("launcher.before_clone");
    const auto result = spawn_child(request);
    REEVE_FAILPOINT("launcher.after_clone");
    return result;
}

std::string Attempts::spawn(Attempt& attempt, std::uint32_t index, int input_fd) {
    fill_plan(attempt, index, input_fd);
    while (true) {
        int cgroup_fd = -1;
        const auto made = make_cgroup(attempt, cgroup_fd);
        if (!made) return made.error().message;
        const auto result = clone_child(attempt, cgroup_fd);
        if (cgroup_fd >= 0) ::close(cgroup_fd);
        attempt.pid = result.pid;
        if (result.pid > 0) return {};
        if (!attempt.cgroup.reused) {
            return std::string("start a process: ") + std::strerror(result.error);
        }
        // Somebody changed it so that nothing can be cloned into it: another one.
        (void)subtree_.remove(attempt.cgroup);
    }
}

void Attempts::start(std::string_view record, int input_fd) {
    StartRecord head;
    if (record.size() < sizeof head) return;
    std::memcpy(&head, record.data(), sizeof head);
    if (head.id >= next_id_) next_id_ = head.id + 1;
    if (by_id_.contains(head.id)) return;
    if (by_id_.size() >= kAttemptsMax) {
        if (input_fd >= 0) ::close(input_fd);
        refuse(head.name, head.id, "too many tasks at once on this worker");
        return;
    }
    const auto index = new_index();
    auto& attempt = table_[index];
    attempt.id = head.id;
    attempt.name = head.name;
    attempt.block = take_block();
    auto problem = prepare(attempt, record);
    if (problem.empty()) problem = spawn(attempt, index, input_fd);
    if (input_fd >= 0) ::close(input_fd);
    give_block(attempt.block);  // reused once its child has left it
    attempt.block = nullptr;
    if (!problem.empty()) {
        (void)subtree_.remove(attempt.cgroup);
        free_.push_back(index);
        refuse(head.name, head.id, problem);
        return;
    }
    attempt.started_wall_ns = wall_ns();
    by_id_.emplace(attempt.id, index);
    by_pid_.emplace(attempt.pid, index);
    if (attempt.time_limit_ns != 0) set_deadline(attempt, boot_ns() + attempt.time_limit_ns);
    if (started_.empty()) started_due_ns_ = boot_ns() + kStartedDelayNs;
    started_.push_back({attempt.id, static_cast<std::uint32_t>(attempt.pid), 0});
}

void Attempts::set_deadline(Attempt& attempt, std::uint64_t deadline_ns) {
    attempt.deadline_ns = deadline_ns;
    if (deadline_ns < next_deadline_ns_) next_deadline_ns_ = deadline_ns;
}

// The process may be a zombie nobody has looked at yet: then it ended by itself.
bool Attempts::ended_already(const Attempt& attempt) const {
    siginfo_t info{};
    return ::waitid(P_PID, static_cast<id_t>(attempt.pid), &info, WEXITED | WNOHANG | WNOWAIT) ==
               0 &&
           info.si_pid != 0;
}

// Before the child made its own session there is no such group yet.
void Attempts::signal_group(pid_t pid, int number) {
    if (::kill(-pid, number) != 0) ::kill(pid, number);
}

// One that is stopped before its session would outlive us, with our files: from then on it dies
// with us (child.cc). It is a matter of microseconds, unless the processors are busy.
void Attempts::await_group(pid_t pid) {
    const timespec pause{0, 200'000};
    for (const auto until = boot_ns() + kGroupWaitNs; boot_ns() < until;) {
        if (::kill(-pid, 0) == 0 || errno != ESRCH) return;
        ::nanosleep(&pause, nullptr);
    }
}

void Attempts::stop(std::uint64_t id, StopReason reason, bool no_grace) {
    auto* attempt = find(id);
    if (attempt == nullptr || attempt->phase == Phase::kEmptying) return;
    if (attempt->phase == Phase::kRunning) {
        if (ended_already(*attempt)) return;
        attempt->reason = reason;
    }
    const auto now = boot_ns();
    if (no_grace || attempt->grace_ns == 0) {
        kill_now(*attempt, now);
        return;
    }
    if (attempt->phase != Phase::kRunning) return;
    if (attempt->frozen) freeze(id, false);
    attempt->phase = Phase::kStopping;
    signal_group(attempt->pid, SIGTERM);
    set_deadline(*attempt, now + attempt->grace_ns);
}

void Attempts::kill_now(Attempt& attempt, std::uint64_t now_ns) {
    REEVE_FAILPOINT("launcher.before_kill");
    if (attempt.phase != Phase::kKilling) {
        attempt.phase = Phase::kKilling;
        attempt.kill_started_ns = now_ns;
        attempt.pause_ns = kFirstPauseNs;
    }
    subtree_.kill(attempt.cgroup);
    ::kill(-attempt.pid, SIGKILL);
    ::kill(attempt.pid, SIGKILL);
    if (attempt.pause_ns < kPauseMaxNs) attempt.pause_ns *= 2;
    set_deadline(attempt, now_ns + attempt.pause_ns);
}

void Attempts::stop_all(StopReason reason) {
    std::vector<std::uint64_t> ids;
    for (const auto& [id, index] : by_id_) ids.push_back(id);
    for (const auto id : ids) stop(id, reason, true);
}

void Attempts::freeze(std::uint64_t id, bool frozen) {
    auto* attempt = find(id);
    if (attempt == nullptr || attempt->frozen == frozen) return;
    if (frozen && attempt->phase != Phase::kRunning) return;
    attempt->frozen = frozen;
    if (!subtree_.freeze(attempt->cgroup, frozen)) {
        if (frozen) await_group(attempt->pid);
        signal_group(attempt->pid, frozen ? SIGSTOP : SIGCONT);
    }
    if (attempt->time_limit_ns == 0 || attempt->phase != Phase::kRunning) return;
    const auto now = boot_ns();
    if (frozen) {
        attempt->time_left_ns = attempt->deadline_ns > now ? attempt->deadline_ns - now : 0;
        attempt->deadline_ns = kNever;
    } else {
        set_deadline(*attempt, now + attempt->time_left_ns);
    }
}

void Attempts::rename(std::uint64_t id, const AttemptName& name) {
    if (auto* attempt = find(id)) {
        attempt->name = name;
        return;
    }
    for (auto& record : ended_) {
        if (record.id == id) record.name = name;
    }
}

bool Attempts::reap_one() {
    int status = 0;
    rusage usage{};
    pid_t pid = -1;
    if (!subtree_.usable()) {
        // Without cgroups the group is killed while the zombie still holds its number.
        siginfo_t info{};
        if (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0) return false;
        if (info.si_pid == 0) return false;
        pid = info.si_pid;
        if (by_pid_.contains(pid)) ::kill(-pid, SIGKILL);
    }
    pid = ::wait4(pid, &status, WNOHANG, &usage);
    if (pid <= 0) return false;
    const auto found = by_pid_.find(pid);
    if (found != by_pid_.end()) on_main_ended(found->second, status, usage);
    return true;
}

void Attempts::reap() {
    bool any = false;
    while (reap_one()) any = true;
    if (any) retry_emptying();
}

void Attempts::on_main_ended(std::uint32_t index, int status, const rusage& usage) {
    REEVE_FAILPOINT("launcher.after_exit");
    auto& attempt = table_[index];
    by_pid_.erase(attempt.pid);
    attempt.wait_status = status;
    attempt.usage = usage;
    attempt.ended_wall_ns = wall_ns();
    attempt.deadline_ns = kNever;
    const bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    if (killed && attempt.phase != Phase::kKilling) {
        attempt.stillborn = attempt.cgroup.reused && reports_[index].begun == 0;
        subtree_.distrust(attempt.cgroup);
    }
    if (empty_out(attempt)) {
        finish(index);
        return;
    }
    attempt.phase = Phase::kEmptying;
    attempt.kill_started_ns = boot_ns();
    attempt.pause_ns = kFirstPauseNs;
    emptying_.push_back(index);
    set_deadline(attempt, attempt.kill_started_ns + attempt.pause_ns);
}

// True once nothing of the attempt lives. Called with the main process reaped.
bool Attempts::empty_out(Attempt& attempt) {
    if (!attempt.cgroup.made()) return kill_orphans(attempt) == 0;
    // The counters go with the directory: they are read first where they matter.
    if (attempt.memory_limit_bytes != 0) {
        const auto use = subtree_.use(attempt.cgroup);
        attempt.oom_kills = use.oom_kills;
    }
    if (subtree_.end(attempt.cgroup) == CgroupSubtree::Removal::kGone) return true;
    subtree_.kill(attempt.cgroup);
    return subtree_.remove(attempt.cgroup) == CgroupSubtree::Removal::kGone;
}

// Without cgroups: children that were reparented to us and belong to the attempt.
int Attempts::kill_orphans(const Attempt& attempt) {
    char path[64];
    std::snprintf(path, sizeof path, "/proc/self/task/%d/children", static_cast<int>(self_));
    const auto text = read_whole(path);
    std::vector<pid_t> children;
    if (text) {
        const char* at = text->c_str();
        char* end = nullptr;
        for (long pid = std::strtol(at, &end, 10); end != at; pid = std::strtol(at, &end, 10)) {
            children.push_back(static_cast<pid_t>(pid));
            at = end;
        }
    } else {
        for (const auto pid : all_pids()) {
            const auto stat = read_proc_stat(pid);
            if (stat && stat->parent == self_) children.push_back(pid);
        }
    }
    int found = 0;
    for (const auto pid : children) {
        if (by_pid_.contains(pid) || !belongs(pid, attempt)) continue;
        ::kill(pid, SIGKILL);
        ++found;
    }
    return found;
}

// Whose is it? By session; else by the environment it began with; and when no attempt lives, any.
bool Attempts::belongs(pid_t orphan, const Attempt& attempt) const {
    const auto stat = read_proc_stat(orphan);
    if (!stat || stat->state == 'Z') return false;
    if (stat->session == attempt.pid || by_pid_.empty()) return true;
    return process_environment(orphan, "REEVE_INSTANCE") == instance_ &&
           process_environment(orphan, "REEVE_JOB_ID") == std::to_string(attempt.name.job) &&
           process_environment(orphan, "REEVE_TASK_ID") == std::to_string(attempt.name.element) &&
           process_environment(orphan, "REEVE_ATTEMPT") == std::to_string(attempt.name.attempt);
}

void Attempts::retry_emptying() {
    for (std::size_t i = 0; i < emptying_.size();) {
        const auto index = emptying_[i];
        if (!empty_out(table_[index])) {
            ++i;
            continue;
        }
        emptying_.erase(emptying_.begin() + static_cast<std::ptrdiff_t>(i));
        finish(index);
    }
}

void Attempts::finish(std::uint32_t index) {
    auto& attempt = table_[index];
    attempt.output.finish();
    attempt.output = OutputLimit();
    EndedRecord record;
    record.sequence = next_sequence_++;
    record.id = attempt.id;
    record.name = attempt.name;
    record.started_wall_ns = attempt.started_wall_ns;
    record.ended_wall_ns = attempt.ended_wall_ns;
    record.user_us = microseconds(attempt.usage.ru_utime);
    record.system_us = microseconds(attempt.usage.ru_stime);
    record.max_rss_bytes = static_cast<std::uint64_t>(attempt.usage.ru_maxrss) * 1024;
    record.pid = static_cast<std::uint32_t>(attempt.pid);
    EndingFacts facts;
    facts.wait_status = attempt.wait_status;
    facts.report = reports_[index];
    facts.reason = attempt.reason;
    facts.stillborn = attempt.stillborn;
    facts.oom_kills = attempt.oom_kills;
    facts.memory_limit_bytes = attempt.memory_limit_bytes;
    facts.time_limit_ns = attempt.time_limit_ns;
    describe_ending(facts, record);
    ended_.push_back(record);
    const auto id = attempt.id;
    const bool asked_for = attempt.reason != StopReason::kNone;
    by_id_.erase(id);
    free_.push_back(index);
    const bool enough = begin_follower(id) && !asked_for;
    ended_due_ns_ = std::min(ended_due_ns_, enough ? boot_ns() + kEndedDelayNs : 0);
}

bool Attempts::start_behind(std::string_view body) {
    BehindRecord head;
    if (body.size() < sizeof head) return false;
    std::memcpy(&head, body.data(), sizeof head);
    // One that came too late is started by the agent.
    const bool in_time = by_id_.contains(head.after_id) || followers_.waits(head.after_id);
    return !in_time || followers_.add(body);
}

// Whether one began, and enough wait behind it.
bool Attempts::begin_follower(std::uint64_t after_id) {
    const auto record = followers_.begin(after_id);
    if (!record) return false;
    StartRecord head;
    std::memcpy(&head, record->data(), sizeof head);
    began_.push_back({head.id, head.name});
    start(*record, -1);
    return followers_.line_behind(head.id, kEnoughBehind) == kEnoughBehind;
}

void Attempts::run_timers(std::uint64_t now_ns) {
    if (now_ns < next_deadline_ns_) return;
    next_deadline_ns_ = kNever;
    std::vector<std::uint32_t> due;
    for (const auto& [id, index] : by_id_) {
        const auto deadline = table_[index].deadline_ns;
        if (deadline <= now_ns) {
            due.push_back(index);
        } else if (deadline < next_deadline_ns_) {
            next_deadline_ns_ = deadline;
        }
    }
    for (const auto index : due) on_deadline(index, now_ns);
    if (now_ns >= next_trim_ns_) trim_outputs(now_ns);
    next_deadline_ns_ = std::min(next_deadline_ns_, next_trim_ns_);
}

void Attempts::limit_output(Attempt& attempt, const StartView& view) {
    if ((view.head.flags & kStartNoOutput) != 0) return;
    const bool same_user = (view.head.flags & kStartSwitchUser) == 0;
    attempt.output = OutputLimit(view.head.output_limit_bytes, same_user ? view.output : "");
    next_trim_ns_ = std::min(next_trim_ns_, boot_ns() + kFirstTrimNs);
    next_deadline_ns_ = std::min(next_deadline_ns_, next_trim_ns_);
}

void Attempts::trim_outputs(std::uint64_t now_ns) {
    next_trim_ns_ = kNever;
    for (const auto& [id, index] : by_id_) {
        auto& attempt = table_[index];
        if (!attempt.output.active() || attempt.phase == Phase::kEmptying) continue;
        attempt.output.trim(attempt.pid);
        const auto pause = attempt.output.found() ? kTrimEveryNs : kFirstTrimNs;
        next_trim_ns_ = std::min(next_trim_ns_, now_ns + pause);
    }
}

void Attempts::on_deadline(std::uint32_t index, std::uint64_t now_ns) {
    auto& attempt = table_[index];
    attempt.deadline_ns = kNever;
    switch (attempt.phase) {
        case Phase::kRunning:
            stop(attempt.id, StopReason::kTimeLimit, false);
            return;
        case Phase::kStopping:
        case Phase::kKilling:
            kill_now(attempt, now_ns);
            break;
        case Phase::kEmptying:
            if (empty_out(attempt)) {
                std::erase(emptying_, index);
                finish(index);
                return;
            }
            if (attempt.pause_ns < kPauseMaxNs) attempt.pause_ns *= 2;
            set_deadline(attempt, now_ns + attempt.pause_ns);
            break;
    }
    if (!attempt.told_stuck && now_ns - attempt.kill_started_ns > kStuckAfterNs) {
        attempt.told_stuck = true;
        log::error(
            "a task does not end after SIGKILL; drain this machine",
            {{"job", attempt.name.job}, {"element", attempt.name.element}, {"pid", attempt.pid}});
    }
}

std::vector<AliveRecord> Attempts::list() const {
    std::vector<AliveRecord> records;
    for (const auto& [id, index] : by_id_) {
        const auto& attempt = table_[index];
        records.push_back({id, attempt.name, static_cast<std::uint32_t>(attempt.pid), 0,
                           attempt.started_wall_ns});
    }
    return records;
}

}  // namespace reeve::worker
