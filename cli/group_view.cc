#include "cli/group_view.h"

#include <algorithm>
#include <cstring>

#include <unistd.h>

#include "cli/role.h"
#include "common/base/clock.h"
#include "common/process/proc_info.h"
#include "common/shm/segment.h"

namespace reeve::cli {
namespace {

constexpr std::uint64_t kStaleNs = 3 * kSecond;

std::int64_t age_ms(std::uint64_t then_ns, std::uint64_t now_ns) {
    if (then_ns == 0) return -1;
    return then_ns >= now_ns ? 0 : static_cast<std::int64_t>((now_ns - then_ns) / kMillisecond);
}

// What /proc says about exactly that life of a process.
std::string proc_state(pid_t pid, std::uint64_t ticks, std::int64_t& uptime_ms) {
    if (pid <= 0) return "missing";
    const auto stat = read_proc_stat(pid);
    if (!stat || (ticks != 0 && stat->start_ticks != ticks)) return "dead";
    if (stat->state == 'Z' || stat->state == 'X') return "dead";
    const auto per_second = static_cast<std::uint64_t>(sysconf(_SC_CLK_TCK));
    uptime_ms =
        age_ms(std::max<std::uint64_t>(1, stat->start_ticks * (kSecond / per_second)), boot_ns());
    return stat->state == 'T' || stat->state == 't' ? "stopped" : "running";
}

ProcessView look(std::string role, std::string name, pid_t pid, std::uint64_t ticks,
                 std::uint64_t heartbeat_ns) {
    ProcessView view;
    view.role = std::move(role);
    view.name = std::move(name);
    view.pid = pid;
    view.state = proc_state(pid, ticks, view.uptime_ms);
    view.heartbeat_age_ms = age_ms(heartbeat_ns, boot_ns());
    const bool silent = view.heartbeat_age_ms > static_cast<std::int64_t>(kStaleNs / kMillisecond);
    if (view.state == "running" && silent) view.state = "stale";
    return view;
}

class Viewer {
public:
    explicit Viewer(const Cell& cell) : cell_(cell) {}
    GroupView view();

private:
    void open_segment();
    void add_role(const std::string& role, std::uint32_t participant);
    void add_workers();
    void add_member(std::uint32_t index);
    std::string verdict() const;

    const Cell& cell_;
    GroupView result_;
    std::unique_ptr<shm::Segment> segment_;
};

void Viewer::open_segment() {
    const auto name = read_segment_name(cell_);
    if (!name) return;
    result_.segment = *name;
    auto opened = shm::Segment::open(*name, false);
    if (!opened) {
        result_.segment_note = opened.error().message;
        return;
    }
    segment_ = std::move(*opened);
    const auto& header = segment_->header();
    result_.generation = header.generation;
    result_.epoch = header.epoch.load();
    result_.cell_id = header.cell_id;
    result_.acknowledging = header.acknowledging.load() != 0;
}

void Viewer::add_role(const std::string& role, std::uint32_t participant) {
    const auto file = read_pid_file(cell_, role);
    pid_t pid = file ? file->pid : 0;
    std::uint64_t ticks = file ? file->start_ticks : 0;
    std::uint64_t heartbeat = 0;
    if (segment_ != nullptr && participant < shm::kParticipants) {
        const auto& entry = segment_->participant(participant);
        const auto announced = static_cast<pid_t>(entry.pid.load());
        // A role started by hand has no pid file; the segment knows it.
        const bool file_lives = file && process_alive(pid, ticks);
        if (announced > 0 && !file_lives) {
            pid = announced;
            ticks = entry.start_ticks.load();
        }
        if (announced == pid) heartbeat = entry.heartbeat_ns.load();
    }
    result_.processes.push_back(look(role, role, pid, ticks, heartbeat));
}

void Viewer::add_member(std::uint32_t index) {
    const auto& worker = segment_->worker(index);
    const auto state = worker.state.load();
    if (state == shm::WorkerState::kFree) return;
    const std::string name(worker.name, strnlen(worker.name, sizeof worker.name));
    const auto pid = static_cast<pid_t>(worker.agent.pid.load());
    const auto launcher = static_cast<pid_t>(worker.launcher_pid.load());
    auto agent_view = look("worker", name, pid, worker.agent.start_ticks.load(),
                           worker.agent.heartbeat_ns.load());
    auto launcher_view = look("launcher", name, launcher, worker.launcher_start_ticks.load(), 0);
    for (auto* view : {&agent_view, &launcher_view}) {
        view->worker_state = shm::to_string(state);
        view->worker_number = worker.number.load();
        view->worker_incarnation = worker.incarnation.load();
    }
    result_.processes.push_back(std::move(agent_view));
    if (launcher > 0) result_.processes.push_back(std::move(launcher_view));
}

void Viewer::add_workers() {
    if (segment_ != nullptr) {
        for (std::uint32_t i = 0; i < segment_->config().workers; ++i) add_member(i);
    }
    // Started and not (or no longer) in the segment.
    for (const auto& name : pid_file_names(cell_)) {
        if (!name.starts_with("worker")) continue;
        const auto file = read_pid_file(cell_, name);
        const bool known =
            file && std::any_of(result_.processes.begin(), result_.processes.end(),
                                [&](const ProcessView& view) { return view.pid == file->pid; });
        if (!file || known) continue;
        result_.processes.push_back(look("worker", name, file->pid, file->start_ticks, 0));
    }
}

std::string Viewer::verdict() const {
    std::size_t living = 0;
    bool all_well = true;
    for (const auto& view : result_.processes) {
        const bool lives = view.state != "dead" && view.state != "missing";
        living += lives ? 1 : 0;
        all_well = all_well && view.state == "running";
    }
    if (living == 0) return "down";
    return all_well ? "up" : "degraded";
}

GroupView Viewer::view() {
    open_segment();
    add_role("supervisor", shm::kParticipants);
    add_role("plm", shm::kParticipantPlm);
    add_role("scheduler", shm::kParticipantScheduler);
    add_role("register", shm::kParticipantRegister);
    add_workers();
    result_.state = verdict();
    return std::move(result_);
}

}  // namespace

GroupView view_group(const Cell& cell) {
    return Viewer(cell).view();
}

}  // namespace reeve::cli
