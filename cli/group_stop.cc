#include "cli/group_stop.h"

#include <algorithm>
#include <csignal>
#include <filesystem>

#include <time.h>
#include <unistd.h>

#include "cli/segment_watch.h"
#include "common/log/log.h"
#include "common/process/cgroup.h"
#include "common/process/proc_info.h"
#include "common/process/task_space.h"
#include "common/shm/ring.h"

namespace reeve::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kClearNs = 5 * kSecond;

void nap_ms(long milliseconds) {
    const timespec pause{milliseconds / 1000, (milliseconds % 1000) * 1'000'000};
    nanosleep(&pause, nullptr);
}

// TERM to all of them at once, then waits for each; KILL for those that outstay.
bool stop_some(const std::vector<Role*>& roles, std::uint64_t patience_ns) {
    for (auto* role : roles) {
        role->signal(SIGTERM);
        role->signal(SIGCONT);  // a stopped process would never see it
    }
    const auto deadline = boot_ns() + patience_ns;
    bool clean = true;
    for (auto* role : roles) {
        const auto now = boot_ns();
        const auto left_ms = now < deadline ? (deadline - now) / kMillisecond + 1 : 0;
        if (!role->wait(static_cast<int>(left_ms))) {
            log::warn("a role does not stop and is killed",
                      {{"name", role->name()}, {"victim", role->pid()}});
            role->signal(SIGKILL);
            role->wait(10'000);
            clean = false;
        }
        const auto end = role->poll_end();
        if (end && end->known && (end->code != 0 || end->signal != 0)) {
            log::warn("a role stopped badly", {{"name", role->name()}, {"how", end->text()}});
            clean = false;
        } else {
            log::info("role stopped", {{"name", role->name()}});
        }
    }
    return clean;
}

// The register frees the slots of workers that left; a restart then finds their tasks queued.
void wait_for_free_slots(const Cell& cell, std::uint64_t patience_ns) {
    SegmentWatch watch(cell);
    for (const auto deadline = boot_ns() + patience_ns; boot_ns() < deadline; nap_ms(5)) {
        const auto* segment = watch.current();
        if (segment == nullptr) return;
        bool busy = false;
        for (std::uint32_t i = 0; i < segment->config().workers; ++i) {
            busy = busy || segment->worker(i).state.load() != shm::WorkerState::kFree;
        }
        if (!busy) return;
    }
}

// A handful of processes at most, so each round looks at all of /proc again.
Status kill_marked(const std::string& marked_prefix, const std::string& variable) {
    const auto deadline = boot_ns() + kClearNs;
    for (;;) {
        std::size_t alive = 0;
        for (const auto pid : all_pids()) {
            if (pid == getpid()) continue;
            if (!process_environment(pid, variable).starts_with(marked_prefix)) continue;
            if (!process_alive(pid, 0)) continue;
            kill(pid, SIGKILL);
            ++alive;
        }
        if (alive == 0) return {};
        if (boot_ns() > deadline) {
            return fail(ErrorCode::kDeadlineExceeded,
                        std::to_string(alive) + " processes of the cell do not end");
        }
        nap_ms(2);
    }
}

// What the rings of the cell's segment hold beyond the ledger: the PLM takes a report out of a ring
// only once it is durable.
std::uint64_t reports_waiting(const Cell& cell) {
    const auto name = read_segment_name(cell);
    if (!name) return 0;
    const auto segment = shm::Segment::open(*name, false);
    if (!segment || (*segment)->retired()) return 0;
    std::uint64_t waiting = 0;
    for (std::uint32_t i = 0; i < shm::event_ring_count(**segment); ++i) {
        waiting += shm::event_ring(**segment, i).size();
    }
    return waiting;
}

// A segment that holds what the ledger does not know stays, for the next PLM to record.
void remove_segments(const Cell& cell, bool keep_current) {
    std::error_code error;
    const auto current = read_segment_name(cell);
    for (const auto& entry : fs::directory_iterator("/dev/shm", error)) {
        const auto name = "/" + entry.path().filename().string();
        if (!name.starts_with("/reeve-" + cell.hash + "-")) continue;
        if (!keep_current || !current || *current != name) shm::Segment::remove(name);
    }
    if (!keep_current) fs::remove(cell.segment_file, error);
}

struct Stranger {
    pid_t pid = 0;
    std::uint64_t start_ticks = 0;
    bool alive() const { return pid > 1 && process_alive(pid, start_ticks); }
};

// Workers somebody started by hand belong to the cell, too: TERM to their agents.
std::vector<Stranger> term_strangers(const Cell& cell, const std::vector<Role*>& workers) {
    std::vector<Stranger> strangers;
    SegmentWatch watch(cell);
    const auto* segment = watch.current();
    if (segment == nullptr) return strangers;
    for (std::uint32_t i = 0; i < segment->config().workers; ++i) {
        const auto& worker = segment->worker(i);
        const Stranger agent{static_cast<pid_t>(worker.agent.pid.load()),
                             worker.agent.start_ticks.load()};
        const bool managed = std::any_of(workers.begin(), workers.end(), [&](const Role* role) {
            return role->pid() == agent.pid;
        });
        if (worker.state.load() == shm::WorkerState::kFree || managed || !agent.alive()) continue;
        kill(agent.pid, SIGTERM);
        kill(agent.pid, SIGCONT);
        strangers.push_back(agent);
        strangers.push_back(
            {static_cast<pid_t>(worker.launcher_pid.load()), worker.launcher_start_ticks.load()});
    }
    return strangers;
}

// Waits for them, then kills. False when it had to.
bool end_strangers(const std::vector<Stranger>& strangers, std::uint64_t patience_ns) {
    const auto living = [&] {
        return std::any_of(strangers.begin(), strangers.end(),
                           [](const Stranger& one) { return one.alive(); });
    };
    const auto deadline = boot_ns() + patience_ns;
    while (living() && boot_ns() < deadline) nap_ms(5);
    if (!living()) return true;
    for (const auto& one : strangers) {
        if (one.alive()) kill(one.pid, SIGKILL);
    }
    return false;
}

void remove_files(const Cell& cell) {
    std::error_code error;
    for (const auto& name : pid_file_names(cell)) {
        if (name != "supervisor") fs::remove(pid_file_path(cell, name), error);
    }
    // Only what is ours by name: sockets and their locks, then the directory if nothing else lies
    // in it.
    for (const auto& entry : fs::directory_iterator(cell.runtime_dir, error)) {
        const bool lock = entry.path().string().ends_with(".sock.lock");
        if (lock || entry.is_socket(error)) fs::remove(entry.path(), error);
    }
    rmdir(cell.runtime_dir.c_str());
    const auto parent = fs::path(cell.runtime_dir).parent_path();
    // Our own directory in /tmp goes with its last cell; $XDG_RUNTIME_DIR is not ours to remove.
    if (parent.string().starts_with("/tmp/reeve-")) rmdir(parent.c_str());
}

}  // namespace

bool stop_roles(const Cell& cell, std::vector<Role>& roles, const StopTimes& times) {
    std::vector<Role*> workers;
    std::vector<Role*> head;
    for (auto& role : roles) {
        if (role.running()) (role.is_worker() ? workers : head).push_back(&role);
    }
    const auto strangers = term_strangers(cell, workers);
    bool clean = stop_some(workers, times.worker_ns);
    clean = end_strangers(strangers, times.worker_ns) && clean;
    const bool register_runs = std::any_of(head.begin(), head.end(), [](const Role* role) {
        return role->subcommand() == "register";
    });
    if (register_runs) wait_for_free_slots(cell, times.slots_ns);
    std::reverse(head.begin(), head.end());
    for (auto* role : head) clean = stop_some({role}, times.head_ns) && clean;
    return clean;
}

Result<std::uint64_t> clear_cell(const Cell& cell) {
    // Supervisors are not marked with REEVE_CELL; launchers that outlived their agents are.
    Status roles_gone = kill_marked(cell.hash, "REEVE_CELL");
    const auto support = probe_cgroups();
    Status cgroups_gone;
    if (support.usable()) {
        cgroups_gone = end_cgroup(support, "reeve." + cell.hash, boot_ns() + kClearNs);
    }
    Status tasks_gone = kill_marked(cell.hash + ".", "REEVE_INSTANCE");
    const auto waiting = reports_waiting(cell);
    remove_segments(cell, waiting != 0);
    remove_all_spaces(cell);
    remove_files(cell);
    REEVE_TRY(std::move(roles_gone));
    REEVE_TRY(std::move(cgroups_gone));
    REEVE_TRY(std::move(tasks_gone));
    return waiting;
}

}  // namespace reeve::cli
