#include "cli/supervise.h"

#include <algorithm>
#include <cerrno>
#include <optional>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/context.h"
#include "cli/group_stop.h"
#include "cli/restart_policy.h"
#include "cli/role.h"
#include "cli/running_options.h"
#include "cli/segment_watch.h"
#include "common/log/log.h"
#include "common/process/proc_info.h"
#include "common/process/stop_signals.h"
#include "common/process/task_space.h"
#include "register/core/failure_detector.h"

namespace reeve::cli {
namespace {

constexpr int kAsksRestart = 70;  // a worker that was judged dead: start again as a new one
constexpr std::size_t kFirstStartsMax = 4;  // of a role while somebody waits for `up`
constexpr int kBadOptions = 2;              // no restart makes them better
constexpr std::uint64_t kTickStartingNs = 5 * kMillisecond;
constexpr const char* kReadyName = "ready";  // a pid file: the supervisor whose group was ready
constexpr std::uint64_t kDownNsMax = 30 * kSecond;
constexpr std::uint64_t kTickNs = 500 * kMillisecond;

// What asks us to stop; blocked, so that it is read from a descriptor.
sigset_t block_stop_signals() {
    const auto wanted = stop_signals();
    sigprocmask(SIG_BLOCK, &wanted, nullptr);
    return wanted;
}

bool accepts_connections(const std::string& path) {
    sockaddr_un address{};
    if (path.size() >= sizeof address.sun_path) return false;
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, path.size());
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return false;
    const bool connected =
        connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    close(fd);
    return connected;
}

std::optional<std::uint32_t> participant_of(const std::string& subcommand) {
    if (subcommand == "plm") return shm::kParticipantPlm;
    if (subcommand == "scheduler") return shm::kParticipantScheduler;
    if (subcommand == "register") return shm::kParticipantRegister;
    return std::nullopt;
}

class Supervisor {
public:
    Supervisor(const Cell& cell, const SuperviseOptions& options)
        : cell_(cell), options_(options), segments_(cell), stale_(detector_options(options)) {}
    int run();

private:
    struct Life {
        RestartPolicy policy;
        std::uint64_t due_ns = 0;  // when to start it; 0: at once
        bool ready = false;
    };

    static registry::DetectorOptions detector_options(const SuperviseOptions& options) {
        return {options.heartbeat_stale_ns, 0};
    }
    void add(std::string name, std::vector<std::string> arguments);
    void add_roles();
    void adopt(std::uint64_t now);
    std::optional<int> reap(std::uint64_t now);
    std::optional<int> note_end(std::size_t index, const RoleEnd& end, std::uint64_t now);
    std::optional<int> start_due(std::uint64_t now);
    bool earlier_ready(std::size_t index) const;
    bool look_ready(const Role& role);
    void look_ready_all();
    bool home_stands();
    void kill_stale(std::uint64_t now);
    std::uint64_t sleep_ns(std::uint64_t now) const;
    bool wait(std::uint64_t timeout_ns);
    void tell_ready(const std::string& line);
    int stop(int exit_code);
    int give_up(int exit_code, const std::string& why);

    Cell cell_;
    SuperviseOptions options_;
    std::vector<Role> roles_;
    std::vector<Life> lives_;
    SegmentWatch segments_;
    std::uint64_t home_inode_ = 0;
    registry::FailureDetector stale_;  // leases of heartbeat_stale_ns: only our own time counts
    int signals_ = -1;
    std::uint64_t begun_ns_ = 0;
    bool ready_ = false;
};

void Supervisor::add(std::string name, std::vector<std::string> arguments) {
    roles_.emplace_back(std::move(name), std::move(arguments));
    RestartLimits limits;
    limits.crashes_max = options_.crashes_max;
    limits.crash_window_ns = options_.crash_window_ns;
    lives_.push_back(Life{RestartPolicy(limits), 0, false});
}

void Supervisor::add_roles() {
    const auto with = [](const char* subcommand, const std::vector<std::string>& rest) {
        std::vector<std::string> words{subcommand};
        words.insert(words.end(), rest.begin(), rest.end());
        return words;
    };
    add("plm", with("plm", options_.plm_arguments));
    add("scheduler", with("scheduler", options_.scheduler_arguments));
    add("register", with("register", options_.register_arguments));
    std::vector<std::string> workers;
    for (std::uint32_t i = 1; i <= options_.workers; ++i) {
        workers.push_back("worker-" + std::to_string(i));
    }
    // Workers of an earlier, larger group that still live belong to the group as well.
    for (const auto& name : pid_file_names(cell_)) {
        const auto file = name.starts_with("worker-") ? read_pid_file(cell_, name) : std::nullopt;
        if (!file || !process_alive(file->pid, file->start_ticks)) continue;
        if (std::find(workers.begin(), workers.end(), name) == workers.end()) {
            workers.push_back(name);
        }
    }
    for (const auto& name : workers) {
        auto words = with("worker", options_.worker_arguments);
        words.insert(words.begin() + 1, {"--name", name});
        add(name, std::move(words));
    }
}

void Supervisor::adopt(std::uint64_t now) {
    for (std::size_t i = 0; i < roles_.size(); ++i) {
        auto& role = roles_[i];
        bool adopted = role.adopt(cell_);
        const auto participant = participant_of(role.subcommand());
        const auto* segment = segments_.current();
        if (!adopted && participant && segment != nullptr) {
            const auto& entry = segment->participant(*participant);
            const auto pid = static_cast<pid_t>(entry.pid.load());
            if (pid > 0) adopted = role.adopt(cell_, PidFile{pid, entry.start_ticks.load()});
        }
        if (!adopted) continue;
        lives_[i].due_ns = now;
        log::info("role adopted", {{"name", role.name()}, {"child", role.pid()}});
    }
}

std::optional<int> Supervisor::reap(std::uint64_t now) {
    for (std::size_t i = 0; i < roles_.size(); ++i) {
        const auto end = roles_[i].poll_end();
        if (!end) continue;
        if (const auto result = note_end(i, *end, now)) return result;
    }
    return std::nullopt;
}

std::optional<int> Supervisor::note_end(std::size_t index, const RoleEnd& end, std::uint64_t now) {
    auto& role = roles_[index];
    auto& life = lives_[index];
    stale_.forget(static_cast<std::uint32_t>(index));
    LifeEnd facts;
    facts.lived_ns = now - role.started_ns();
    facts.was_ready = life.ready;
    facts.killed = end.signal == SIGKILL || !end.known;
    facts.asks_restart = end.code == kAsksRestart && role.is_worker();
    const auto delay = life.policy.ended(facts, now);
    life.ready = false;
    life.due_ns = now + delay;
    log::warn("a role ended and is started again", {{"name", role.name()},
                                                    {"how", end.text()},
                                                    {"lived_ms", facts.lived_ns / kMillisecond},
                                                    {"delay_ms", delay / kMillisecond}});
    const bool hopeless = end.known && end.signal == 0 && end.code == kBadOptions;
    const bool first_start_fails = !ready_ && life.policy.crashes() >= kFirstStartsMax;
    if (hopeless || first_start_fails || life.policy.crash_loop()) {
        const auto log_path = cell_.logs + "/" + role.name() + ".log";
        log::error("a role cannot be kept running", {{"name", role.name()},
                                                     {"how", end.text()},
                                                     {"crashes", life.policy.crashes()},
                                                     {"log", log_path}});
        return give_up(hopeless ? kExitUsage : kExitInternal,
                       role.name() + " " + end.text() + ": " + last_log_line(cell_, role.name()));
    }
    return std::nullopt;
}

bool Supervisor::earlier_ready(std::size_t index) const {
    if (ready_) return true;  // only the first start is in order; later each is on its own
    for (std::size_t i = 0; i < index; ++i) {
        if (roles_[i].subcommand() == roles_[index].subcommand()) break;
        if (!lives_[i].ready) return false;
    }
    return true;
}

std::optional<int> Supervisor::start_due(std::uint64_t now) {
    for (std::size_t i = 0; i < roles_.size(); ++i) {
        auto& role = roles_[i];
        if (role.running() || lives_[i].due_ns > now || !earlier_ready(i)) continue;
        if (const auto started = role.spawn(cell_); !started) {
            log::error("cannot start a role",
                       {{"name", role.name()}, {"why", started.error().message}});
            lives_[i].due_ns = now + kSecond;
            continue;
        }
        log::info("role started", {{"name", role.name()}, {"child", role.pid()}});
    }
    return std::nullopt;
}

bool Supervisor::look_ready(const Role& role) {
    const auto* segment = segments_.current();
    if (segment == nullptr || !role.running()) return false;
    const auto pid = static_cast<std::uint32_t>(role.pid());
    if (const auto index = participant_of(role.subcommand())) {
        const auto& entry = segment->participant(*index);
        if (entry.pid.load() != pid || entry.heartbeat_ns.load() == 0) return false;
        return *index != shm::kParticipantPlm || accepts_connections(cell_.socket);
    }
    for (std::uint32_t i = 0; i < segment->config().workers; ++i) {
        const auto& worker = segment->worker(i);
        const auto state = worker.state.load();
        const bool member =
            state == shm::WorkerState::kAlive || state == shm::WorkerState::kDraining;
        if (member && worker.agent.pid.load() == pid) return true;
    }
    return false;
}

void Supervisor::look_ready_all() {
    bool all = true;
    for (std::size_t i = 0; i < roles_.size(); ++i) {
        if (!lives_[i].ready) lives_[i].ready = look_ready(roles_[i]);
        all = all && lives_[i].ready;
    }
    if (!all || ready_) return;
    ready_ = true;
    const auto ticks = start_ticks(getpid()).value_or(0);
    write_pid_file(pid_file_path(cell_, kReadyName), getpid(), ticks);
    log::info("the group is ready", {{"ms", (boot_ns() - begun_ns_) / kMillisecond}});
    tell_ready("ready\n");
}

// Whether the state directory is still the one we were started for.
bool Supervisor::home_stands() {
    struct stat info {};
    // The lock goes with the directory, also where something is written anew into what is left.
    if (::stat((cell_.dir + "/supervisor.lock").c_str(), &info) != 0) return false;
    if (home_inode_ == 0) home_inode_ = info.st_ino;
    return home_inode_ == info.st_ino;
}

void Supervisor::kill_stale(std::uint64_t now) {
    const auto* segment = segments_.current();
    for (std::size_t i = 0; i < roles_.size(); ++i) {
        const auto participant = participant_of(roles_[i].subcommand());
        if (!participant || !roles_[i].running() || segment == nullptr) continue;
        const auto pid = static_cast<std::uint32_t>(roles_[i].pid());
        const auto index = static_cast<std::uint32_t>(i);
        const auto& entry = segment->participant(*participant);
        stale_.worker_seen(index, WorkerId{pid, roles_[i].start_ticks()},
                           options_.heartbeat_stale_ns, now);
        if (entry.pid.load() == pid) stale_.heartbeat(index, entry.heartbeat_ns.load(), now);
    }
    for (const auto& death : stale_.tick(now)) {
        auto& role = roles_[death.index];
        log::error("a role hangs and is killed",
                   {{"name", role.name()}, {"silent_ms", death.silence_ns / kMillisecond}});
        role.signal(SIGKILL);
    }
}

std::uint64_t Supervisor::sleep_ns(std::uint64_t now) const {
    auto timeout = kTickNs;
    for (std::size_t i = 0; i < roles_.size(); ++i) {
        if (!lives_[i].ready) timeout = std::min(timeout, kTickStartingNs);
        const auto due = lives_[i].due_ns;
        if (!roles_[i].running()) timeout = std::min(timeout, due > now ? due - now : 1);
    }
    return std::max(timeout, kMillisecond);
}

// True when we are asked to stop.
bool Supervisor::wait(std::uint64_t timeout_ns) {
    std::vector<pollfd> entries{{signals_, POLLIN, 0}};
    for (const auto& role : roles_) {
        if (role.running()) entries.push_back({role.pidfd(), POLLIN, 0});
    }
    poll(entries.data(), entries.size(), static_cast<int>(timeout_ns / kMillisecond));
    signalfd_siginfo info{};
    return read(signals_, &info, sizeof info) == sizeof info;
}

void Supervisor::tell_ready(const std::string& line) {
    if (options_.ready_fd < 0) return;
    // After bad news it stays open: its end tells that we, too, are gone.
    const bool last = line.starts_with("failed");
    [[maybe_unused]] const auto written = write(options_.ready_fd, line.data(), line.size());
    if (!last) close(options_.ready_fd);
    options_.ready_fd = -1;
}

int Supervisor::stop(int exit_code) {
    log::info("stopping the group");
    const bool clean = stop_roles(cell_, roles_, StopTimes{});
    if (const auto cleared = clear_cell(cell_); !cleared) {
        log::error("something of the cell is left", {{"what", cleared.error().message}});
        return kExitInternal;
    } else if (*cleared != 0) {
        log::warn("the segment is kept: it holds reports of tasks that are not in the ledger",
                  {{"reports", *cleared}});
    }
    log::info("the group is stopped", {{"clean", clean}});
    return exit_code;
}

// Before the group was ever ready it is stopped again; later the other roles go on without us:
// their tasks run, and the next `reeve up` adopts them.
int Supervisor::give_up(int exit_code, const std::string& why) {
    const bool was_ready = ready_;
    if (!was_ready) stop(exit_code);
    tell_ready("failed " + std::to_string(exit_code) + " " + why + "\n");
    return exit_code;
}

int Supervisor::run() {
    const auto wanted = block_stop_signals();
    ::signal(SIGPIPE, SIG_IGN);
    ::signal(SIGHUP, SIG_IGN);
    signals_ = signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
    begun_ns_ = boot_ns();
    add_roles();
    adopt(begun_ns_);
    remove_stale_spaces(cell_);
    for (;;) {
        const auto now = boot_ns();
        if (const auto result = reap(now)) return *result;
        look_ready_all();
        if (const auto result = start_due(now)) return *result;
        kill_stale(now);
        if (!home_stands()) {
            log::error("the state directory was removed; stopping the group",
                       {{"path", cell_.dir}});
            return stop(kExitInternal);
        }
        if (!ready_ && now - begun_ns_ > options_.ready_timeout_ns) {
            for (std::size_t i = 0; i < roles_.size(); ++i) {
                if (lives_[i].ready) continue;
                const auto& name = roles_[i].name();
                log::error("the group does not become ready", {{"waits_for", name}});
                return give_up(kExitTimeout,
                               name + " is not ready after " +
                                   std::to_string(options_.ready_timeout_ns / kSecond) +
                                   " s: " + last_log_line(cell_, name));
            }
        }
        if (wait(sleep_ns(boot_ns()))) {
            const int code = stop(kExitOk);
            if (!ready_)
                tell_ready("failed 5 it was asked to stop before it was ready; repeat reeve up\n");
            return code;
        }
    }
}

}  // namespace

namespace {

// A `down` has the lock for a moment, a supervisor for long.
Result<int> lock_or_wait(const Cell& cell) {
    const auto deadline = boot_ns() + kDownNsMax;
    for (;; poll(nullptr, 0, 20)) {
        auto lock = lock_supervisor(cell);
        if (lock || lock.error().code != ErrorCode::kFailedPrecondition) return lock;
        const auto other = read_pid_file(cell, "supervisor");
        const bool supervised = other && process_alive(other->pid, other->start_ticks);
        if (supervised || boot_ns() > deadline) return lock;
    }
}

}  // namespace

Result<int> lock_supervisor(const Cell& cell) {
    const auto path = cell.dir + "/supervisor.lock";
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return fail_errno("open " + path, errno);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
    close(fd);
    return fail(
        ErrorCode::kFailedPrecondition,
        "this cell has a supervisor already; stop it with: reeve down --state-dir " + cell.dir);
}

bool supervisor_ready(const Cell& cell) {
    const auto supervisor = read_pid_file(cell, "supervisor");
    const auto ready = read_pid_file(cell, kReadyName);
    return supervisor && ready && supervisor->pid == ready->pid &&
           supervisor->start_ticks == ready->start_ticks;
}

int supervise_main(const Cell& cell, const SuperviseOptions& options) {
    log::init("supervisor");
    int exit_code = kExitOk;
    auto made = create_cell_directories(cell);
    auto lock = !made                  ? Result<int>(fail(made.error()))
                : options.lock_fd >= 0 ? Result<int>(options.lock_fd)
                                       : lock_or_wait(cell);
    if (!lock) {
        exit_code = exit_code_of(lock.error().code);
        const auto line = "failed " + std::to_string(exit_code) + " " + lock.error().message + "\n";
        if (options.ready_fd >= 0) {
            [[maybe_unused]] const auto n = write(options.ready_fd, line.data(), line.size());
        }
        log::error("the supervisor cannot start", {{"why", lock.error().message}});
        return exit_code;
    }
    const auto pid_path = pid_file_path(cell, "supervisor");
    (void)block_stop_signals();  // who reads our pid may send one at once
    write_pid_file(pid_path, getpid(), start_ticks(getpid()).value_or(0));
    write_running_options(cell, options);
    exit_code = Supervisor(cell, options).run();
    unlink(pid_path.c_str());
    close(*lock);
    return exit_code;
}

}  // namespace reeve::cli
