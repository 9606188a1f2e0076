// The agent's part that has function tasks run: between their slots and the pool of runners.
// Everything here runs under the agent's mutex.
#include <cerrno>
#include <cstdio>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/log/log.h"
#include "common/shm/wake.h"
#include "worker/agent.h"

namespace reeve::worker {
namespace {

constexpr std::uint64_t kRunnerJob = 0;  // the job of an attempt that is a runner

// 0, or errno.
int write_new_file(const std::string& path, std::string_view bytes) {
    const int fd =
        ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return errno;
    std::size_t done = 0;
    int error = 0;
    while (done < bytes.size() && error == 0) {
        const auto wrote = ::write(fd, bytes.data() + done, bytes.size() - done);
        if (wrote < 0 && errno != EINTR) error = errno;
        if (wrote > 0) done += static_cast<std::size_t>(wrote);
    }
    ::close(fd);
    if (error != 0) ::unlink(path.c_str());
    return error;
}

}  // namespace

v1::TaskSpec Agent::runner_spec(std::uint32_t index, std::uint32_t uid) const {
    v1::TaskSpec spec;
    spec.add_argv(options_.executable);
    spec.add_argv("runner");
    for (const auto& plugin : options_.plugins) {
        spec.add_argv("--plugin");
        spec.add_argv(plugin);
    }
    if (!options_.runner_program.empty()) {
        spec.add_argv("--program");
        spec.add_argv(options_.runner_program);
        spec.add_argv("--recycle");
        spec.add_argv(std::to_string(options_.recycle_after));
        spec.add_argv("--output-root");
        spec.add_argv(cell_.output);
    }
    spec.set_uid(uid);
    const bool ours = uid == context_.uid;
    if (ours) spec.set_gid(context_.gid);
    spec.set_output(ours ? cell_.logs + "/" + options_.name + ".runner-" + std::to_string(index) +
                               ".log"
                         : "none");
    spec.set_cwd(options_.runner_directory);
    for (char** variable = environ; *variable != nullptr; ++variable) {
        const std::string_view text(*variable);
        const auto equals = text.find('=');
        if (!ours || equals == std::string_view::npos || text.starts_with("REEVE_")) continue;
        auto& one = *spec.add_env();
        one.set_name(std::string(text.substr(0, equals)));
        one.set_value(std::string(text.substr(equals + 1)));
    }
    return spec;
}

std::uint64_t Agent::start_runner(std::uint32_t index, std::uint32_t life, const RunnerRing& ring) {
    TaskInstance instance;
    instance.task = {kRunnerJob, index};
    instance.attempt = life;
    const auto spec = runner_spec(index, ring.header().uid);
    auto start = make_start(spec, instance, context_, users_);
    const int fd = ::fcntl(ring.fd(), F_DUPFD_CLOEXEC, 3);
    if (!start || fd < 0) {
        log::error("cannot start a runner",
                   {{"why", start ? std::string(std::strerror(errno)) : start.error().message}});
        if (fd >= 0) ::close(fd);
        return 0;
    }
    start->head.id = next_id_++;
    start->head.grace_ns = 0;
    start->head.flags |= kStartInputFd;
    MessageWriter message;
    message.add_bytes(RecordKind::kStart, encode_start(*start));
    send(message.text(), {fd});
    return start->head.id;
}

void Agent::kill_runner(std::uint64_t launch_id) {
    MessageWriter message;
    message.add(RecordKind::kStop, StopRecord{launch_id, StopReason::kRequeue, 1});
    send(message.text());
}

bool Agent::has_function_room(const shm::TaskSlot& task) {
    return functions_.has_room(task.uid, task.payload_bytes);
}

FunctionStart Agent::function_start(const Running& running, const shm::FunctionView& view) const {
    const auto& task = segment_->task(running.slot);
    FunctionStart start;
    start.id = running.id;
    start.task = running.task;
    start.attempt = running.word.attempt();
    start.uid = task.uid;
    start.time_limit_ns = task.time_limit_ns;
    const auto grace_ms = view.block->grace_ms;
    start.grace_ns = (grace_ms != 0 ? grace_ms : options_.grace_ms) * kMillisecond;
    start.handler = view.handler;
    start.data = view.data;
    return start;
}

// False: no runner takes it now.
bool Agent::feed_function(const Running& running) {
    auto& task = segment_->task(running.slot);
    const auto view = shm::view_function(*segment_, task);
    const auto pid = view ? functions_.feed(function_start(running, *view)) : std::nullopt;
    if (pid) task.pid.store(*pid);
    return pid.has_value();
}

void Agent::launch_function(std::uint32_t slot, shm::SlotWord word, bool wait_durable) {
    auto& task = segment_->task(slot);
    if (!shm::view_function(*segment_, task)) {
        EndedRecord record;
        record.ended_wall_ns = wall_ns();
        record.exit_code = 125;
        record.outcome = Outcome::kFailed;
        std::snprintf(record.detail, sizeof record.detail, "its payload is damaged");
        finish(slot, word, record);
        return;
    }
    Running running;
    running.id = next_id_++;
    running.slot = slot;
    running.word = word;
    running.task = {task.job, task.element};
    running.function = true;
    remember(Running(running));
    self_->tasks_running.store(static_cast<std::uint32_t>(running_.size()),
                               std::memory_order_relaxed);
    const auto durable_at = wait_durable ? events_.produced() : 0;
    if (wait_durable) wake_plm_ = shm::Urgency::kNow;
    if (wait_durable || !feed_function(running)) {
        waiting_.push_back({durable_at, running.id, {}, {}});
    }
}

void Agent::again(std::uint64_t id) {
    if (running_.contains(id)) waiting_.push_back({0, id, {}, {}});
    if (self_ != nullptr) shm::wake(self_->agent.wake);
}

void Agent::flush() {
    if (segment_) wake_others();
    if (segment_ && (blocked_ || !waiting_.empty() || (stopping_ && running_.empty()))) {
        shm::wake(self_->agent.wake);
    }
}

// Into the slot's room, or a file when it is too large. False: neither, the record says why.
bool Agent::store_result(const Running& running, std::string_view result, EndedRecord& record) {
    const auto view = shm::view_function(*segment_, segment_->task(running.slot));
    if (!view) return true;  // the PLM will see the same
    if (result.size() <= view->block->result_room) {
        std::memcpy(view->result, result.data(), result.size());
        view->block->result_bytes.store(static_cast<std::uint32_t>(result.size()));
        return true;
    }
    const auto path =
        result_file(cell_, running.task.job, running.task.element, running.word.attempt());
    const int error = write_new_file(path, result);
    view->block->result_bytes.store(error == 0 ? shm::kResultInFile : 0);
    if (error == 0) return true;
    record.outcome = Outcome::kFailed;
    record.exit_code = 125;
    std::snprintf(record.detail, sizeof record.detail, "its result cannot be kept: %s",
                  std::strerror(error));
    return false;
}

void Agent::answered(const FunctionAnswer& answer) {
    const auto found = running_.find(answer.id);
    if (found == running_.end()) return;
    const auto running = found->second;
    forget(answer.id);
    const auto& task = segment_->task(running.slot);
    if (shm::load_word(task) != running.word) {
        refused(running.slot, running.word.to(shm::SlotState::kEnded, shm::kOwnerPlm),
                running.task);
        return;
    }
    auto record = answer.record;
    if (record.started_wall_ns == 0) record.started_wall_ns = task.started_wall_ns.load();
    if (record.ended_wall_ns == 0) record.ended_wall_ns = wall_ns();
    if (record.outcome == Outcome::kSucceeded) store_result(running, answer.result, record);
    finish(running.slot, running.word, record);
}

// Runners that outlived the agent before us, with what they hold.
void Agent::adopt_runners(std::unordered_map<std::uint64_t, AliveRecord>& known) {
    for (auto at = known.begin(); at != known.end();) {
        if (at->second.name.job != kRunnerJob) {
            ++at;
            continue;
        }
        functions_.adopt(at->second);
        at = known.erase(at);
    }
}

void Agent::adopt_function(std::uint32_t slot, shm::SlotWord word) {
    auto& task = segment_->task(slot);
    Running running;
    running.id = next_id_++;
    running.slot = slot;
    running.word = word;
    running.task = {task.job, task.element};
    running.function = true;
    const auto view = shm::view_function(*segment_, task);
    const bool held =
        view && functions_.claim(running.task, word.attempt(), function_start(running, *view));
    const bool orphan = word.owner() == shm::kOwnerOrphan;
    if (!held && orphan) return;  // the register gives it back
    if (held && orphan) {
        const auto ours = word.to(word.state(), owner_);
        auto expected = word.raw;
        if (!task.word.compare_exchange_strong(expected, ours.raw)) return;
        (void)push_moved(slot, word, ours, Outcome::kNone, 0);
        running.word = ours;
    }
    if (held) {
        // Our predecessor may not have told its start. Telling it twice does no harm.
        if (!orphan) tell_start_later(slot, word);
        remember(std::move(running));
        return;
    }
    // No living runner has it. Whether a dead one began it nobody knows.
    const bool once = (task.flags & shm::kTaskAtMostOnce) != 0;
    (void)push_moved(slot, word.to(shm::SlotState::kAssigned, owner_), word, Outcome::kNone, 0);
    if (!once) {
        waiting_.push_back({0, running.id, {}, {}});
        remember(std::move(running));
        return;
    }
    EndedRecord record;
    record.started_wall_ns = task.started_wall_ns.load();
    record.ended_wall_ns = wall_ns();
    record.outcome = Outcome::kLost;
    std::snprintf(record.detail, sizeof record.detail, "its runner died with its worker's agent");
    finish(slot, word, record);
}

}  // namespace reeve::worker
