// The agent's part that moves task slots. Everything here runs under the agent's mutex.
#include <algorithm>
#include <cstring>

#include <sys/mman.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/log/log.h"
#include "common/shm/class_wants.h"
#include "common/shm/transitions.h"
#include "common/shm/used_slots.h"
#include "worker/agent.h"

namespace reeve::worker {
namespace {

using shm::SlotState;
using shm::SlotWord;

constexpr std::size_t kParsedMax = 64;
constexpr std::uint64_t kEventsKeptForEndings = 64;
constexpr std::uint64_t kSweepEveryNs = 2 * kSecond;
constexpr std::size_t kDispatchPerStep = 64;
constexpr std::size_t kSpareMax = 1'024;

bool move_word(shm::TaskSlot& task, SlotWord from, SlotWord to) {
    REEVE_ASSERT(shm::is_lawful(shm::Role::kWorker, from, to));
    return task.word.compare_exchange_strong(from.raw, to.raw, std::memory_order_seq_cst);
}

int memory_file(const char* name, const std::string& bytes) {
    const int fd = ::memfd_create(name, MFD_CLOEXEC);
    if (fd < 0) return -1;
    std::size_t done = 0;
    while (done < bytes.size()) {
        const auto wrote = ::write(fd, bytes.data() + done, bytes.size() - done);
        if (wrote <= 0) {
            ::close(fd);
            return -1;
        }
        done += static_cast<std::size_t>(wrote);
    }
    ::lseek(fd, 0, SEEK_SET);
    return fd;
}

}  // namespace

bool Agent::is_mine(SlotWord word) const {
    return word.owner() == owner_;
}

bool Agent::room_for_start() const {
    const auto kept = std::min(kEventsKeptForEndings, events_.capacity() / 4);
    return events_.size() + kept < events_.capacity();
}

bool Agent::waits_for_endings() const {
    return !ending_.empty() && boot_ns() < ending_until_ns_;
}

bool Agent::push_moved(std::uint32_t slot, SlotWord from, SlotWord to, Outcome outcome,
                       std::int32_t code) {
    const auto& task = segment_->task(slot);
    if (untold_[slot] == from) {
        untold_[slot] = {};
        from = from.to(SlotState::kAssigned, owner_);
    }
    shm::Event event;
    event.kind = shm::EventKind::kMoved;
    event.slot = slot;
    event.old_word = from.raw;
    event.new_word = to.raw;
    event.job = task.job;
    event.element = task.element;
    event.wall_ns = wall_ns();
    event.worker_number = id_.number;
    event.worker_incarnation = id_.incarnation;
    event.worker_slot = worker_index_;
    event.code = code;
    event.outcome = static_cast<std::uint8_t>(outcome);
    if (!wake_plm_) wake_plm_ = shm::Urgency::kSoon;
    if (events_.try_push(event)) return true;
    // The slot holds it; the PLM sweeps.
    segment_->header().sweep_requested.fetch_add(1);
    return false;
}

// Its end may tell it, if that comes soon.
void Agent::tell_start_later(std::uint32_t slot, SlotWord word) {
    untold_[slot] = word;
    starts_.push_back({slot, word, boot_ns()});
}

void Agent::tell_starts(std::uint64_t now_ns) {
    for (; !starts_.empty(); starts_.pop_front()) {
        const auto& [slot, word, since_ns] = starts_.front();
        if (untold_[slot] != word) continue;
        if (since_ns + kTellStartNs > now_ns || !room_for_start()) return;
        // Of another word somebody else tells.
        if (shm::load_word(segment_->task(slot)) == word) {
            (void)push_moved(slot, word, word, Outcome::kNone, 0);
        }
        untold_[slot] = {};
    }
}

void Agent::hint_scheduler(std::uint32_t slot, SlotWord word) {
    wake_scheduler_ = true;
    if (!completion_.try_push({word.raw, slot})) segment_->header().sweep_requested.fetch_add(1);
}

// A CAS of ours was refused: somebody else moved on. Counted and told, nothing else.
void Agent::refused(std::uint32_t slot, SlotWord attempted, TaskId task) {
    segment_->header().fenced_reports.fetch_add(1);
    shm::Event event;
    event.kind = shm::EventKind::kReportRefused;
    event.slot = slot;
    event.old_word = segment_->task(slot).word.load();
    event.new_word = attempted.raw;
    event.job = task.job;
    event.element = task.element;
    event.wall_ns = wall_ns();
    event.worker_number = id_.number;
    event.worker_incarnation = id_.incarnation;
    event.worker_slot = worker_index_;
    (void)events_.try_push(event);
    wake_plm_ = shm::Urgency::kNow;
    log::warn("a report was refused: the task is no longer ours",
              {{"job", task.job}, {"element", task.element}, {"attempt", attempted.attempt()}});
}

bool Agent::drain_dispatch() {
    std::size_t handled = 0;
    blocked_ = false;
    while (handled < kDispatchPerStep) {
        const auto at = dispatch_.head();
        if (at == dispatch_.tail()) break;
        // While stopping, first let the register take us off the scheduler's list: what we give
        // back would come straight back.
        if (stopping_ && self_->state.load() == shm::WorkerState::kAlive &&
            boot_ns() < bounce_from_ns_) {
            break;
        }
        const auto hint = dispatch_.peek(at);
        if (segment_->valid_slot(hint.slot)) {
            const auto word = shm::load_word(segment_->task(hint.slot));
            const bool ours = word.state() == SlotState::kAssigned && is_mine(word);
            if (ours && hint.kind == shm::HintKind::kFollower && !stopping_) {
                take_follower(hint.slot, word, before_);
            } else if (ours && hint.kind != shm::HintKind::kBehind &&
                       !start_task(hint.slot, word)) {
                blocked_ = true;  // stays in the ring
                break;
            }
        }
        before_ = hint;
        dispatch_.advance(at + 1);
        ++handled;
    }
    return handled > 0;
}

// Hints get lost with whoever should have pushed them; the words do not.
void Agent::sweep_assigned() {
    const auto now = boot_ns();
    if (now < next_sweep_ns_) return;
    next_sweep_ns_ = now + kSweepEveryNs;
    shm::for_each_used_slot(*segment_, [this](std::uint32_t slot, const shm::TaskSlot& task) {
        const auto word = shm::load_word(task);
        const bool ours = word.state() == SlotState::kAssigned && is_mine(word);
        const bool ahead = (task.claim.load() & shm::kClaimAhead) != 0;
        if (ours && !ahead) (void)start_task(slot, word);
    });
}

// False: try again later. True: dealt with.
bool Agent::start_task(std::uint32_t slot, SlotWord word) {
    auto& task = segment_->task(slot);
    forget_follower(slot);
    const auto intent = task.intent.load();
    if ((intent & shm::kIntentCancel) != 0) {
        end_unstarted(slot, word, Outcome::kCancelled, "cancelled before it started");
        return true;
    }
    if ((intent & shm::kIntentRequeue) != 0 || stopping_) {
        end_unstarted(slot, word, Outcome::kRequeued, "not started");
        return true;
    }
    if (waits_for_endings()) return false;
    const bool function = (task.flags & shm::kTaskFunction) != 0;
    if (!room_for_start() || launcher_gone_.load() || (function && !has_function_room(task))) {
        wake_plm_ = shm::Urgency::kNow;
        return false;
    }
    REEVE_FAILPOINT("worker.before_start");
    const auto running_word = word.to(SlotState::kRunning, owner_);
    shm::fill_start(task, wall_ns());
    if (!move_word(task, word, running_word)) {
        refused(slot, running_word, {task.job, task.element});
        return true;
    }
    const bool wait_durable = (task.flags & shm::kTaskAtMostOnce) != 0;
    if (function && !wait_durable) {
        tell_start_later(slot, running_word);
    } else {
        (void)push_moved(slot, word, running_word, Outcome::kNone, 0);
    }
    REEVE_FAILPOINT("worker.after_start");
    if (function) {
        launch_function(slot, running_word, wait_durable);
    } else {
        launch(slot, running_word, wait_durable);
    }
    return true;
}

Result<const v1::TaskSpec*> Agent::payload_of(const shm::TaskSlot& task) {
    const auto bytes = segment_->payload(task);
    if (bytes.empty()) return fail(ErrorCode::kDataLoss, "its payload is damaged");
    if (parsed_.size() > kParsedMax) parsed_.clear();
    auto& parsed = parsed_[task.payload_offset];
    if (parsed.valid && parsed.bytes == bytes) return &parsed.spec;
    parsed.bytes.assign(bytes);
    parsed.valid = parsed.spec.ParseFromString(parsed.bytes);
    if (!parsed.valid) return fail(ErrorCode::kDataLoss, "its payload is damaged");
    return &parsed.spec;
}

Result<StartText> Agent::text_for(std::uint32_t slot, SlotWord word, const v1::TaskSpec& spec) {
    const auto& task = segment_->task(slot);
    TaskInstance instance;
    instance.task = {task.job, task.element};
    instance.attempt = word.attempt();
    instance.time_limit_ns = task.time_limit_ns;
    const auto mask = task.gpu_mask.load();
    for (std::uint32_t i = 0; i < options_.gpus && i < 64; ++i) {
        if ((mask >> i & 1) == 0) continue;
        instance.gpu_ids.push_back(i < options_.gpu_ids.size() ? options_.gpu_ids[i]
                                                               : std::to_string(i));
    }
    if (task.class_id < segment_->config().classes) {
        const auto& entry = segment_->task_class(task.class_id);
        instance.resources = shm::read_resources(entry.resources);
        instance.gang_size = entry.nodes;
    }
    REEVE_TRY_ASSIGN(auto start, make_start(spec, instance, context_, users_));
    start.head.name.slot = slot;
    start.head.name.word = word.raw;
    start.head.name.gpu_mask = mask;
    return start;
}

bool Agent::launch(std::uint32_t slot, SlotWord word, bool wait_durable) {
    auto& task = segment_->task(slot);
    const auto spec = payload_of(task);
    auto start = spec ? text_for(slot, word, **spec) : fail(spec.error());
    Running running;
    running.id = next_id_++;
    running.slot = slot;
    running.word = word;
    running.task = {task.job, task.element};
    if (!start) {
        EndedRecord record;
        record.started_wall_ns = task.started_wall_ns.load();
        record.ended_wall_ns = wall_ns();
        record.exit_code = 125;
        record.outcome = Outcome::kFailed;
        std::snprintf(record.detail, sizeof record.detail, "%s", start.error().message.c_str());
        finish(slot, word, record);
        return false;
    }
    start->head.id = running.id;
    running.gpu_mask = start->head.name.gpu_mask;
    pin(**spec, *start, running.cpus);
    running.files = files_of(*start, **spec);
    const auto id = running.id;
    remember(std::move(running));
    self_->tasks_running.store(static_cast<std::uint32_t>(running_.size()));
    if (wait_durable) {
        waiting_.push_back({events_.produced(), id, std::move(*start), (*spec)->stdin_data()});
        wake_plm_ = shm::Urgency::kNow;
        return true;
    }
    send_start(id, *start, (*spec)->stdin_data());
    if (const auto now = running_.find(id); now != running_.end()) send_line(now->second);
    return true;
}

void Agent::pin(const v1::TaskSpec& spec, StartText& start, std::vector<int>& cpus) {
    if (!spec.pin_cpus()) return;
    const auto wanted = whole_cpus(spec);
    if (free_cpus_.size() < wanted)
        return;  // more tasks than cpus: unpinned rather than not at all
    for (std::uint32_t i = 0; i < wanted; ++i) {
        cpus.push_back(free_cpus_.front());
        free_cpus_.erase(free_cpus_.begin());
    }
    start.affinity.assign(kAffinityBytesMax / 8, 0);
    for (const int cpu : cpus) {
        const auto byte = static_cast<std::size_t>(cpu) / 8;
        if (byte >= start.affinity.size()) continue;
        start.affinity[byte] = static_cast<unsigned char>(start.affinity[byte] | (1 << (cpu % 8)));
    }
}

void Agent::send_start(std::uint64_t id, StartText& start, const std::string& input) {
    std::vector<int> fds;
    if (!input.empty()) {
        const int fd = memory_file("stdin", input);
        if (fd >= 0) {
            start.head.flags |= kStartInputFd;
            fds.push_back(fd);
        }
    }
    const auto record = encode_start(start);
    REEVE_FAILPOINT("worker.before_launcher");
    if (fds.empty() && batch_.room_for(record.size())) {
        batch_.add_bytes(RecordKind::kStart, record);
        return;
    }
    MessageWriter message;
    if (message.room_for(record.size())) {
        message.add_bytes(RecordKind::kStart, record);
        send(message.text(), std::move(fds));
        return;
    }
    const int fd = record.size() <= kStartRecordMax ? memory_file("start", record) : -1;
    if (fd < 0) {
        for (const int one : fds) ::close(one);
        EndedRecord ended;
        ended.id = id;
        ended.ended_wall_ns = wall_ns();
        ended.exit_code = 126;
        ended.outcome = Outcome::kFailed;
        std::snprintf(ended.detail, sizeof ended.detail,
                      "arguments and environment are too long (4 MiB)");
        on_ended(ended);
        return;
    }
    fds.insert(fds.begin(), fd);
    message.add_bytes(RecordKind::kStartByFd, {});
    send(message.text(), std::move(fds));
}

void Agent::end_unstarted(std::uint32_t slot, SlotWord word, Outcome outcome,
                          const std::string& detail) {
    auto& task = segment_->task(slot);
    task.started_wall_ns.store(0);
    EndedRecord record;
    record.ended_wall_ns = wall_ns();
    record.outcome = outcome;
    std::snprintf(record.detail, sizeof record.detail, "%s", detail.c_str());
    finish(slot, word, record);
}

bool Agent::start_durable() {
    bool any = false;
    while (!waiting_.empty() && events_.head() >= waiting_.front().ring_position) {
        const auto running = running_.find(waiting_.front().id);
        const bool function = running != running_.end() && running->second.function;
        if (function && !feed_function(running->second)) break;
        auto waiting = std::move(waiting_.front());
        waiting_.pop_front();
        if (running != running_.end() && !function) {
            send_start(waiting.id, waiting.start, waiting.input);
        }
        any = true;
    }
    return any;
}

bool Agent::look_at_running() {
    bool any = false;
    std::vector<std::uint64_t> lost;
    std::vector<std::uint64_t> over;
    for (auto& [id, running] : running_) {
        if (shm::load_word(segment_->task(running.slot)) != running.word) {
            lost.push_back(id);
            continue;
        }
        bool ended = false;
        any = look_at_one(running, ended) || any;
        if (ended) over.push_back(id);
    }
    for (const auto id : over) forget(id);
    for (const auto id : lost) {
        auto& running = running_.at(id);
        refused(running.slot, running.word, running.task);
        stop_attempt(running, StopReason::kFenced, true);
        forget(id);
        any = true;
    }
    return any;
}

bool Agent::look_at_one(Running& running, bool& over) {
    const auto intent = segment_->task(running.slot).intent.load();
    if (intent == 0 && running.word.state() == SlotState::kRunning) return false;
    if (running.stop_sent) return false;
    if ((intent & shm::kIntentStop) != 0) {
        return obey_stop(running, (intent & shm::kIntentCancel) != 0, over);
    }
    return obey_freeze(running, (intent & shm::kIntentSuspend) != 0);
}

bool Agent::obey_stop(Running& running, bool cancel, bool& over) {
    running.stop_sent = true;
    const auto waiting = std::find_if(waiting_.begin(), waiting_.end(),
                                      [&](const Waiting& one) { return one.id == running.id; });
    if (waiting == waiting_.end()) {
        stop_attempt(running, cancel ? StopReason::kCancel : StopReason::kRequeue, false);
        return true;
    }
    // RUNNING by its word, but the launcher never heard of it.
    waiting_.erase(waiting);
    EndedRecord record;
    record.started_wall_ns = segment_->task(running.slot).started_wall_ns.load();
    record.ended_wall_ns = wall_ns();
    record.outcome = cancel ? Outcome::kCancelled : Outcome::kRequeued;
    finish(running.slot, running.word, record);
    over = true;
    return true;
}

bool Agent::obey_freeze(Running& running, bool frozen) {
    if (running.function) return false;  // others share its runner
    const auto wanted = frozen ? SlotState::kSuspended : SlotState::kRunning;
    if (running.word.state() == wanted) return false;
    const bool unstarted = std::any_of(waiting_.begin(), waiting_.end(),
                                       [&](const Waiting& one) { return one.id == running.id; });
    if (unstarted) return false;  // once the launcher has it
    const auto next = running.word.to(wanted, owner_);
    MessageWriter message;
    message.add(RecordKind::kFreeze, FreezeRecord{running.id, frozen ? 1U : 0U, 0});
    send(message.text());
    if (!move_word(segment_->task(running.slot), running.word, next)) return false;
    (void)push_moved(running.slot, running.word, next, Outcome::kNone, 0);
    running.word = next;
    return true;
}

void Agent::on_started(const StartedRecord& record) {
    const auto found = running_.find(record.id);
    if (found == running_.end()) return;
    auto& task = segment_->task(found->second.slot);
    if (shm::load_word(task) == found->second.word) task.pid.store(record.pid);
}

void Agent::on_ended(const EndedRecord& record, const OutputDigest& digest) {
    ending_.erase(record.id);
    if (functions_.runner_ended(record)) return;
    const auto found = running_.find(record.id);
    if (found == running_.end()) return;  // told again, or fenced and forgotten
    const auto running = found->second;
    forget(record.id);
    auto& task = segment_->task(running.slot);
    const auto word = shm::load_word(task);
    if (word != running.word) {
        refused(running.slot, running.word.to(SlotState::kEnded, shm::kOwnerPlm), running.task);
        return;
    }
    auto from = running.word;
    if (from.state() == SlotState::kSuspended) {
        // The table knows no way from suspended to ended: it was resumed first.
        const auto resumed = from.to(SlotState::kRunning, owner_);
        if (!move_word(task, from, resumed)) return;
        (void)push_moved(running.slot, from, resumed, Outcome::kNone, 0);
        from = resumed;
    }
    finish(running.slot, from, record, digest);
}

void Agent::write_result(shm::TaskSlot& task, const EndedRecord& record,
                         const OutputDigest& digest) {
    shm::fill(task.ended_wall_ns, record.ended_wall_ns);
    shm::fill(task.pid, record.pid);
    shm::fill(task.exit_code, record.exit_code);
    shm::fill(task.outcome, static_cast<std::uint8_t>(record.outcome));
    shm::fill(task.core_dumped, record.core_dumped);
    shm::fill(task.user_us, record.user_us);
    shm::fill(task.system_us, record.system_us);
    shm::fill(task.max_rss_bytes, record.max_rss_bytes);
    shm::fill(task.has_digest, digest ? 1 : 0);
    shm::fill(task.has_text, record.has_text);
    std::memcpy(task.detail, record.detail, sizeof task.detail);
    task.detail[sizeof task.detail - 1] = '\0';
    if (digest) std::memcpy(task.detail, digest->data(), digest->size());
}

void Agent::finish(std::uint32_t slot, SlotWord from, const EndedRecord& record,
                   const OutputDigest& digest) {
    auto& task = segment_->task(slot);
    const TaskId id{task.job, task.element};
    const auto to = from.to(SlotState::kEnded, shm::kOwnerPlm);
    REEVE_FAILPOINT("worker.before_end");
    if (shm::load_word(task) != from) {
        refused(slot, to, id);
        return;
    }
    auto outcome = record.outcome;
    if (record.stopped_for == StopReason::kShutdown && (task.flags & shm::kTaskAtMostOnce) != 0) {
        outcome = Outcome::kLost;  // it began, and may not begin again
    }
    write_result(task, record, digest);
    shm::fill(task.outcome, static_cast<std::uint8_t>(outcome));
    if (!move_word(task, from, to)) {
        refused(slot, to, id);
        return;
    }
    REEVE_FAILPOINT("worker.after_end");
    (void)push_moved(slot, from, to, outcome, record.exit_code);
    hint_scheduler(slot, to);
}

// A node that was used before: the one that ends a task is often another thread than the one that
// begins it, and their allocator would carry memory from one to the other for good.
void Agent::remember(Running&& running) {
    if (spare_.empty()) {
        running_.emplace(running.id, std::move(running));
        return;
    }
    auto node = std::move(spare_.back());
    spare_.pop_back();
    node.key() = running.id;
    node.mapped() = std::move(running);
    running_.insert(std::move(node));
}

void Agent::forget(std::uint64_t id) {
    const auto found = running_.find(id);
    if (found == running_.end()) return;
    for (const int cpu : found->second.cpus) free_cpus_.push_back(cpu);
    if (spare_.size() < kSpareMax) {
        spare_.push_back(running_.extract(found));
    } else {
        running_.erase(found);
    }
    self_->tasks_running.store(static_cast<std::uint32_t>(running_.size()),
                               std::memory_order_relaxed);
}

}  // namespace reeve::worker
