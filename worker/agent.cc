#include "worker/agent.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/log/log.h"
#include "common/process/pidfd.h"
#include "common/process/proc_info.h"
#include "common/role/role.h"
#include "common/shm/wake.h"
#include "worker/launcher.h"

namespace reeve::worker {
namespace {

constexpr std::uint64_t kSoonNs = kMillisecond;  // something waits for somebody else
constexpr std::uint64_t kIdleNs = 450 * kMillisecond;
constexpr std::uint64_t kAcknowledgeEveryNs = 100 * kMillisecond;
constexpr std::uint64_t kDrainWaitNs = kSecond;
constexpr std::uint64_t kStopMarginNs = 5 * kSecond;  // beyond the tasks' grace
constexpr std::uint64_t kNoSlotWaitNs = 15 * kSecond;
constexpr int kWelcomeMs = 5000;
constexpr int kExitBusy = 5;
constexpr int kExitInternal = 7;
constexpr int kExitJudged = 70;

void pause_ms(long ms) {
    const timespec pause{0, ms * 1'000'000};
    ::nanosleep(&pause, nullptr);
}

// A signal meanwhile (we may be asked to stop) is not silence.
bool readable_within(int fd, int timeout_ms) {
    pollfd entry{fd, POLLIN, 0};
    int ready = 0;
    do {
        ready = ::poll(&entry, 1, timeout_ms);
    } while (ready < 0 && errno == EINTR);
    return ready == 1;
}

}  // namespace

namespace {

std::uint32_t runner_slots(const WorkerOptions& options) {
    if (options.runners != 0) return options.runners;
    const auto milli = options.cpu_milli != 0 ? options.cpu_milli : probe_cpus().cpu_milli;
    return (milli + 999) / 1000;
}

}  // namespace

Agent::Agent(const Cell& cell, const WorkerOptions& options)
    : cell_(cell), options_(options), functions_(*this, mutex_, runner_slots(options)) {}

Agent::~Agent() {
    functions_.shut_down();
    if (reader_.joinable()) {
        ::shutdown(launcher_fd_, SHUT_RDWR);
        reader_.join();
    }
    for (auto& one : outgoing_) {
        for (const int fd : one.fds) ::close(fd);
    }
    if (launcher_fd_ >= 0) ::close(launcher_fd_);
}

int Agent::find_launcher(const std::string& socket_path) {
    auto found = connect_launcher(socket_path);
    if (found) {
        launcher_fd_ = *found;
    } else {
        auto forked = fork_launcher(socket_path);
        if (!forked) {
            log::error("cannot start the launcher", {{"why", forked.error().message}});
            return kExitInternal;
        }
        launcher_fd_ = forked->socket_fd;
    }
    std::vector<char> buffer(kMessageMax);
    WelcomeRecord welcome;
    bool greeted = false;
    std::size_t alive = 0;
    // All of it before we look at the slots: what the launcher knows is not started a second time.
    while (!greeted || alive < welcome.alive || unhandled_.size() < welcome.ended) {
        int fds[kMessageFdsMax];
        int fd_count = 0;
        const long got =
            readable_within(launcher_fd_, kWelcomeMs)
                ? receive_message(launcher_fd_, buffer.data(), buffer.size(), false, fds, &fd_count)
                : -ETIMEDOUT;
        if (got <= 0) {
            log::error("the launcher does not answer", {{"socket", socket_path}});
            return kExitBusy;
        }
        MessageReader reader({buffer.data(), static_cast<std::size_t>(got)});
        RecordView record;
        while (reader.next(record)) {
            AliveRecord one;
            EndedRecord ended;
            if (record.kind == RecordKind::kWelcome) greeted = record.read(welcome);
            if (record.kind == RecordKind::kAlive && record.read(one)) {
                launcher_alive_.emplace(one.id, one);
                ++alive;
            }
            if (record.kind == RecordKind::kEnded && record.read(ended)) {
                unhandled_.push_back(ended);
            }
        }
    }
    if (welcome.busy != 0 || welcome.version != kProtocolVersion) {
        log::error("another worker of this name lives", {{"name", options_.name}});
        return kExitBusy;
    }
    launcher_pid_ = static_cast<pid_t>(welcome.launcher_pid);
    launcher_ticks_ = welcome.launcher_start_ticks;
    launcher_configured_ = welcome.number != 0;
    id_ = {welcome.number, welcome.incarnation};
    next_id_ = welcome.next_id;
    cgroup_ = welcome.cgroup;
    MessageWriter message;
    message.add(RecordKind::kHello,
                HelloRecord{kProtocolVersion, static_cast<std::uint32_t>(::getpid())});
    send(message.text());
    return 0;
}

// The launcher reads in the order written here: what is gathered goes first, or it would be told
// to stop an attempt that it has not been told to start.
void Agent::send(std::string message, std::vector<int> fds) {
    queue_batch();
    outgoing_.push_back({std::move(message), std::move(fds)});
    (void)flush_outgoing();
}

void Agent::queue_batch() {
    if (batch_.empty()) return;
    outgoing_.push_back({batch_.text(), {}});
    batch_.clear();
}

bool Agent::flush_outgoing() {
    while (!outgoing_.empty()) {
        auto& one = outgoing_.front();
        const int error = send_message(launcher_fd_, one.message, false, one.fds.data(),
                                       static_cast<int>(one.fds.size()));
        if (error == EAGAIN || error == ENOBUFS) return false;
        if (error != 0) launcher_gone_.store(true);
        for (const int fd : one.fds) ::close(fd);
        outgoing_.pop_front();
    }
    return true;
}

void Agent::stop_attempt(Running& running, StopReason reason, bool no_grace) {
    running.stop_sent = true;
    if (running.function) {
        functions_.stop(running.id, reason, no_grace);
        function_deadline_ns_ = 0;
        return;
    }
    MessageWriter message;
    message.add(RecordKind::kStop, StopRecord{running.id, reason, no_grace ? 1U : 0U});
    send(message.text());
}

void Agent::wake_others() {
    if (std::exchange(wake_scheduler_, false)) {
        shm::wake(segment_->participant(shm::kParticipantScheduler).wake);
    }
    if (const auto urgency = std::exchange(wake_plm_, std::nullopt)) {
        shm::wake(segment_->participant(shm::kParticipantPlm).wake, *urgency);
    }
}

// One round under the mutex; true when something was done.
bool Agent::step() {
    const auto now = boot_ns();
    self_->agent.heartbeat_ns.store(now);
    bool any = start_durable();
    any = drain_dispatch() || any;
    any = look_at_running() || any;
    any = look_at_followers() || any;
    sweep_assigned();
    tell_starts(now);
    functions_.wake_fed();
    function_deadline_ns_ = functions_.look_at_deadlines(now);
    const bool owed = handled_sequence_ > acknowledged_sequence_;
    if (owed && (!batch_.empty() || now >= next_acknowledge_ns_)) {
        batch_.add(RecordKind::kAcknowledge, AcknowledgeRecord{handled_sequence_});
        acknowledged_sequence_ = handled_sequence_;
        next_acknowledge_ns_ = now + kAcknowledgeEveryNs;
    }
    queue_batch();
    (void)flush_outgoing();
    wake_others();
    return any;
}

Agent::Verdict Agent::look_around() {
    if (launcher_gone_.load()) return Verdict::kLauncherGone;
    if (!hold_->holds()) return Verdict::kRetired;
    const auto state = self_->state.load();
    const bool member = state == shm::WorkerState::kJoining || state == shm::WorkerState::kAlive ||
                        state == shm::WorkerState::kDraining;
    if (!member || self_->number.load() != id_.number ||
        self_->incarnation.load() != id_.incarnation) {
        return Verdict::kJudged;
    }
    if (stopping_) {
        const std::lock_guard lock(mutex_);
        const bool drained = state != shm::WorkerState::kAlive || boot_ns() >= bounce_from_ns_;
        const bool empty = running_.empty() && followers_.empty() && dispatch_.size() == 0;
        if (empty && drained) return Verdict::kStopped;
    }
    return Verdict::kGoOn;
}

Agent::Verdict Agent::run_attached() {
    std::uint64_t give_up_ns = ~std::uint64_t{0};
    while (true) {
        if (stop_wanted() && !stopping_) {
            stop_politely();
            give_up_ns = boot_ns() + kStopMarginNs + options_.grace_ms * kMillisecond;
        }
        const auto verdict = look_around();
        if (verdict != Verdict::kGoOn) return verdict;
        if (boot_ns() >= give_up_ns) return Verdict::kStopped;
        {
            const std::lock_guard lock(mutex_);
            if (step()) continue;
        }
        const auto ticket = shm::prepare_sleep(self_->agent.wake);
        std::uint64_t timeout_ns = kIdleNs;
        {
            const std::lock_guard lock(mutex_);
            if (step()) {
                shm::cancel_sleep(self_->agent.wake);
                continue;
            }
            if (!waiting_.empty() || blocked_ || !outgoing_.empty()) timeout_ns = kSoonNs;
            if (!starts_.empty()) timeout_ns = std::min(timeout_ns, kTellStartNs);
            if (stopping_) timeout_ns = std::min(timeout_ns, 10 * kMillisecond);
            const auto now = boot_ns();
            const auto due = std::max(function_deadline_ns_, now) - now;
            timeout_ns = std::min(timeout_ns, due);
        }
        if (launcher_gone_.load() || (stop_wanted() && !stopping_)) {
            shm::cancel_sleep(self_->agent.wake);
            continue;
        }
        shm::sleep(self_->agent.wake, ticket, timeout_ns);
    }
}

void Agent::stop_politely() {
    const std::lock_guard lock(mutex_);
    log::info("stopping", {{"worker", id_.number}, {"running", running_.size()}});
    stopping_ = true;
    bounce_from_ns_ = boot_ns() + kDrainWaitNs;
    self_->drain_wanted.store(1);
    shm::wake(segment_->participant(shm::kParticipantRegister).wake);
    std::vector<std::uint64_t> unstarted;
    for (auto& [id, running] : running_) {
        const bool waits = std::any_of(waiting_.begin(), waiting_.end(),
                                       [&, one = id](const Waiting& w) { return w.id == one; });
        if (!waits) {
            stop_attempt(running, StopReason::kShutdown, false);
            continue;
        }
        EndedRecord record;
        record.started_wall_ns = segment_->task(running.slot).started_wall_ns.load();
        record.ended_wall_ns = wall_ns();
        record.outcome = Outcome::kRequeued;
        finish(running.slot, running.word, record);
        unstarted.push_back(id);
    }
    waiting_.clear();
    for (const auto id : unstarted) forget(id);
}

// A follower that began may have ended in the same message.
void Agent::hear_starts(std::string_view message) {
    const std::lock_guard lock(mutex_);
    MessageReader starts(message);
    RecordView record;
    while (starts.next(record)) {
        StartedRecord started;
        BeganRecord began;
        if (record.kind == RecordKind::kBegan && record.read(began)) on_began(began);
        if (segment_ && record.kind == RecordKind::kStarted && record.read(started)) {
            on_started(started);
        }
    }
}

void Agent::handle_message(std::string_view message) {
    hear_starts(message);
    std::vector<std::pair<EndedRecord, OutputDigest>> ended;
    MessageReader endings(message);
    RecordView record;
    while (endings.next(record)) {
        EndedRecord one;
        if (record.kind != RecordKind::kEnded || !record.read(one)) continue;
        Files files;
        {
            const std::lock_guard lock(mutex_);
            files = files_of_running(one.id);
        }
        auto digest = look_after(one, files);
        ended.emplace_back(one, digest);
    }
    const std::lock_guard lock(mutex_);
    for (const auto& [one, digest] : ended) {
        if (!segment_) {
            unhandled_.push_back(one);
            continue;
        }
        on_ended(one, digest);
        handled_sequence_ = std::max(handled_sequence_, one.sequence);
    }
    if (!segment_) return;
    wake_others();
    if (stopping_ && running_.empty()) shm::wake(self_->agent.wake);
}

void Agent::read_launcher() {
    std::vector<char> buffer(kMessageMax);
    while (true) {
        int fds[kMessageFdsMax];
        int fd_count = 0;
        const long got =
            receive_message(launcher_fd_, buffer.data(), buffer.size(), true, fds, &fd_count);
        if (got <= 0) break;
        handle_message({buffer.data(), static_cast<std::size_t>(got)});
    }
    launcher_gone_.store(true);
    const std::lock_guard lock(mutex_);
    if (segment_) shm::wake(self_->agent.wake);
}

int Agent::serve() {
    host_ = probe_cpus();
    memory_bytes_ = options_.memory_bytes != 0 ? options_.memory_bytes : probe_memory_bytes();
    cgroups_ = probe_cgroups();
    if (!cgroups_.usable()) {
        log::warn("no cgroups: limits are not enforced, and a task may leave processes behind",
                  {{"why", cgroups_.reason}});
        if (options_.require_cgroup) return kExitInternal;
    }
    if (!launcher_configured_) end_stale_cgroups();
    find_gpus();
    reader_ = std::thread([this] { read_launcher(); });
    auto verdict = Verdict::kRetired;
    std::uint64_t no_slot_since = 0;
    while (verdict == Verdict::kRetired) {
        auto segment = wait_for_segment(cell_);
        if (segment == nullptr) {
            verdict = Verdict::kStopped;  // asked to stop before there was one
            break;
        }
        if (!attach(std::move(segment))) {
            if (crowded_) {
                log::error("the cell knows 8 named resources already; use one of their names",
                           {{"name", options_.name}});
                return kExitBusy;
            }
            if (no_slot_since == 0) no_slot_since = boot_ns();
            if (boot_ns() - no_slot_since > kNoSlotWaitNs) {
                log::error("no free worker slot in the segment", {{"name", options_.name}});
                return kExitInternal;
            }
            pause_ms(50);
            continue;
        }
        no_slot_since = 0;
        verdict = run_attached();
        if (verdict == Verdict::kRetired) {
            log::info("the segment was retired; attaching to the next one", {});
            detach();
        }
    }
    const std::lock_guard lock(mutex_);
    if (verdict == Verdict::kStopped && segment_) {
        auto state = self_->state.load();
        while ((state == shm::WorkerState::kAlive || state == shm::WorkerState::kDraining) &&
               !self_->state.compare_exchange_weak(state, shm::WorkerState::kLeft)) {
        }
        shm::wake(segment_->participant(shm::kParticipantRegister).wake);
    }
    MessageWriter message;
    message.add(RecordKind::kShutdown, ShutdownRecord{});
    send(message.text());
    auto launcher = PidFd::open(launcher_pid_, launcher_ticks_);
    if (launcher) (void)launcher->wait(static_cast<int>(options_.grace_ms) + 10'000);
    if (verdict == Verdict::kStopped) return 0;
    if (verdict == Verdict::kLauncherGone) {
        log::warn("the launcher is gone; its tasks with it", {{"worker", id_.number}});
    } else {
        log::warn("judged dead; starting again as a new worker", {{"worker", id_.number}});
    }
    return kExitJudged;
}

}  // namespace reeve::worker
