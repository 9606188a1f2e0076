#include "common/audit/rules.h"

#include <random>

#include "common/base/assert.h"
#include "common/base/ids.h"

namespace reeve::audit {
namespace {

constexpr std::size_t kFirstPlaces = 1024;

std::string text(std::uint64_t index) {
    return index == kNoIndex ? "none" : std::to_string(index);
}

// seq is the next of its subject and prev names the subject's previous entry.
std::optional<std::string> check_chain(const Entry& entry, std::uint64_t next_seq,
                                       std::uint64_t last) {
    if (entry.seq != next_seq) {
        return "seq is " + std::to_string(entry.seq) + " where " + std::to_string(next_seq) +
               " must follow";
    }
    if (entry.prev != last) {
        return "prev is " + text(entry.prev) + ", the subject's previous entry is " + text(last);
    }
    return std::nullopt;
}

bool is_report(Kind kind) {
    return kind == Kind::kStarted || kind == Kind::kFinished || kind == Kind::kFailed ||
           kind == Kind::kPreempted || kind == Kind::kResumed;
}

}  // namespace

std::string_view to_string(TaskState state) {
    switch (state) {
        case TaskState::kNone:
            return "unknown";
        case TaskState::kQueued:
            return "queued";
        case TaskState::kHeld:
            return "held";
        case TaskState::kAssigned:
            return "assigned";
        case TaskState::kRunning:
            return "running";
        case TaskState::kPreempted:
            return "preempted";
        case TaskState::kFailed:
            return "failed";
        case TaskState::kDone:
            return "done";
    }
    return "unknown";
}

std::optional<TaskState> next_state(TaskState state, Kind kind) {
    const bool held_by_worker = state == TaskState::kAssigned || state == TaskState::kRunning ||
                                state == TaskState::kPreempted;
    const bool queued = state == TaskState::kQueued;
    const bool held = state == TaskState::kHeld;
    const bool working = state == TaskState::kAssigned || state == TaskState::kRunning;
    const auto when = [](bool allowed, TaskState next) -> std::optional<TaskState> {
        if (!allowed) return std::nullopt;
        return next;
    };
    switch (kind) {
        case Kind::kTaskSubmitted:
            return when(state == TaskState::kNone, TaskState::kQueued);
        case Kind::kAssigned:
            return when(queued, TaskState::kAssigned);
        case Kind::kHeld:
            return when(queued, TaskState::kHeld);
        case Kind::kReleased:
            return when(held, TaskState::kQueued);
        case Kind::kUpdated:
            return when(queued || held, state);
        case Kind::kStarted:
            return when(state == TaskState::kAssigned, TaskState::kRunning);
        case Kind::kFinished:
            return when(state == TaskState::kRunning, TaskState::kDone);
        case Kind::kFailed:
            return when(working, TaskState::kFailed);
        case Kind::kPreempted:
            return when(working, TaskState::kPreempted);
        case Kind::kResumed:
            return when(state == TaskState::kPreempted, TaskState::kRunning);
        case Kind::kReassigned:
            return when(held_by_worker, TaskState::kAssigned);
        case Kind::kRequeued:
            return when(held_by_worker || state == TaskState::kFailed, TaskState::kQueued);
        case Kind::kCancelled:
            return when(state != TaskState::kNone && state != TaskState::kDone, TaskState::kDone);
        default:
            return std::nullopt;
    }
}

Auditor::Auditor() : seed_(std::random_device{}()), tasks_(kFirstPlaces) {}

std::optional<std::string> Auditor::add(const Entry& entry) {
    const std::uint64_t index = next_index_;
    if (entry.cause != kNoIndex && entry.cause >= index) {
        return "cause " + std::to_string(entry.cause) + " does not lie before the entry";
    }
    std::optional<std::string> wrong;
    switch (subject_of(entry.kind)) {
        case Subject::kTask:
            wrong = add_task_entry(entry);
            break;
        case Subject::kWorker:
            wrong = add_worker_entry(entry);
            break;
        case Subject::kScheduler:
            wrong = add_scheduler_entry(entry);
            break;
    }
    if (!wrong) ++next_index_;
    return wrong;
}

// The seed keeps a hostile log from choosing ids that all fall into one place.
std::size_t Auditor::slot_of(Id id) const {
    std::uint64_t mixed = (id.high ^ seed_) * 0x9E3779B97F4A7C15ULL;
    mixed ^= mixed >> 32;
    mixed = (mixed + id.low) * 0xD6E8FEB86659FD93ULL;
    mixed ^= mixed >> 32;
    mixed *= 0xD6E8FEB86659FD93ULL;
    return static_cast<std::size_t>(mixed ^ (mixed >> 32)) & (tasks_.size() - 1);
}

void Auditor::grow() {
    std::vector<Task> old(2 * tasks_.size());
    old.swap(tasks_);
    for (const Task& task : old) {
        if (task.state == TaskState::kNone) continue;
        std::size_t at = slot_of(task.id);
        while (tasks_[at].state != TaskState::kNone) at = (at + 1) & (tasks_.size() - 1);
        tasks_[at] = task;
    }
}

Auditor::Task& Auditor::place_of(Id id) {
    if ((subject_count_ + 1) * 4 > tasks_.size() * 3) grow();
    std::size_t at = slot_of(id);
    while (tasks_[at].state != TaskState::kNone && tasks_[at].id != id) {
        at = (at + 1) & (tasks_.size() - 1);
    }
    return tasks_[at];
}

const Auditor::Worker* Auditor::find_worker(Id id) const {
    const auto found = worker_index_.find(id);
    return found == worker_index_.end() ? nullptr : &workers_[found->second];
}

std::optional<std::string> Auditor::add_task_entry(const Entry& entry) {
    Task& task = place_of(entry.task);
    const bool fresh = task.state == TaskState::kNone;
    const bool header = entry.task.low == kHeaderElement;
    const auto next = next_state(task.state, entry.kind);
    if (!next) {
        return std::string(audit::to_string(entry.kind)) + " of a task that is " +
               std::string(to_string(task.state));
    }
    if (auto wrong = check_chain(entry, task.next_seq, fresh ? kNoIndex : task.last)) return wrong;
    if (auto wrong = check_task_step(task, entry)) return wrong;
    if (entry.seq == ~std::uint32_t{0}) return "more than 2^32 entries of one task";

    if (fresh) {
        ++subject_count_;
        if (header) ++headers_.known;
        task = Task{};
        task.id = entry.task;
        task.holder = kNobody;
    }
    if (entry.kind == Kind::kAssigned || entry.kind == Kind::kReassigned) {
        task.holder = worker_index_.at(entry.worker);
        task.attempt = entry.attempt;
    }
    if (task.state == TaskState::kFailed) --failed_count_;
    if (*next == TaskState::kFailed) ++failed_count_;
    task.state = *next;
    task.last = next_index_;
    ++task.next_seq;
    if (*next == TaskState::kDone) {
        ++done_count_;
        if (header) ++headers_.done;
    }
    return std::nullopt;
}

std::optional<std::string> Auditor::check_task_step(const Task& task, const Entry& entry) const {
    if (entry.kind == Kind::kTaskSubmitted && entry.attempt != 0) {
        return "TASK_SUBMITTED with an attempt";
    }
    if (is_report(entry.kind)) return check_report(task, entry);
    if (entry.kind == Kind::kRequeued || entry.kind == Kind::kReassigned) {
        if (auto wrong = check_taking(task, entry)) return wrong;
    }
    if (entry.kind == Kind::kAssigned || entry.kind == Kind::kReassigned) {
        return check_assignment(task, entry);
    }
    return std::nullopt;
}

std::optional<std::string> Auditor::check_report(const Task& task, const Entry& entry) const {
    const std::string kind(audit::to_string(entry.kind));
    REEVE_ASSERT(task.holder < workers_.size());
    const Worker& holder = workers_[task.holder];
    if (entry.worker != holder.id) {
        return kind + " by " + to_hex(entry.worker) + ", the holder is " + to_hex(holder.id);
    }
    if (entry.attempt != task.attempt) {
        return kind + " of attempt " + std::to_string(entry.attempt) + ", the current one is " +
               std::to_string(task.attempt);
    }
    if (holder.life == Life::kDead) {
        return kind + " by a worker declared dead at entry " + std::to_string(holder.death);
    }
    return std::nullopt;
}

std::optional<std::string> Auditor::check_assignment(const Task& task, const Entry& entry) const {
    const std::string kind(audit::to_string(entry.kind));
    const Worker* worker = find_worker(entry.worker);
    if (worker == nullptr || worker->life != Life::kAlive) {
        return kind + " to " + to_hex(entry.worker) + ", which is not a living worker";
    }
    if (entry.attempt != task.attempt + 1) {
        return kind + " as attempt " + std::to_string(entry.attempt) + " after attempt " +
               std::to_string(task.attempt);
    }
    if (entry.kind == Kind::kReassigned && entry.worker == entry.peer) {
        return "REASSIGNED to the worker it was taken from";
    }
    return std::nullopt;
}

std::optional<std::string> Auditor::check_taking(const Task& task, const Entry& entry) const {
    const std::string kind(audit::to_string(entry.kind));
    REEVE_ASSERT(task.holder < workers_.size());
    const Worker& holder = workers_[task.holder];
    // After FAILED nobody holds it any more: a retry may name the last holder, or nobody.
    const bool failed = task.state == TaskState::kFailed;
    if (entry.peer != holder.id && !(failed && entry.peer.none())) {
        return kind + " names " + to_hex(entry.peer) + " as peer, the holder is " +
               to_hex(holder.id);
    }
    if (holder.life == Life::kDead && !failed && entry.cause != holder.death) {
        return kind + " from a dead holder with cause " + text(entry.cause) +
               ", its WORKER_DEAD is entry " + std::to_string(holder.death);
    }
    const auto death = deaths_.find(entry.cause);
    if (death != deaths_.end() && death->second != task.holder) {
        return kind + " cites the death of another worker";
    }
    return std::nullopt;
}

std::optional<std::string> Auditor::add_worker_entry(const Entry& entry) {
    const Worker* known = find_worker(entry.worker);
    const std::string kind(audit::to_string(entry.kind));
    if (auto wrong = check_chain(entry, known == nullptr ? 0 : known->next_seq,
                                 known == nullptr ? kNoIndex : known->last)) {
        return wrong;
    }
    if (entry.kind == Kind::kWorkerJoined) {
        if (known != nullptr && known->life == Life::kAlive) return "WORKER_JOINED twice";
        if (known == nullptr) {
            worker_index_.emplace(entry.worker, static_cast<std::uint32_t>(workers_.size()));
            workers_.push_back({});
            workers_.back().id = entry.worker;
        }
    } else if (known == nullptr || known->life == Life::kDead) {
        return kind + " of " + to_hex(entry.worker) +
               (known == nullptr ? ", which never joined" : ", which is dead already");
    }
    const std::uint32_t number = worker_index_.at(entry.worker);
    Worker& worker = workers_[number];
    if (entry.kind == Kind::kWorkerJoined) {
        worker.life = Life::kAlive;
        worker.death = kNoIndex;
    } else if (entry.kind == Kind::kWorkerDead) {
        worker.life = Life::kDead;
        worker.death = next_index_;
        deaths_.emplace(next_index_, number);
    } else {
        worker.life = Life::kLeft;
    }
    worker.last = next_index_;
    ++worker.next_seq;
    return std::nullopt;
}

std::optional<std::string> Auditor::add_scheduler_entry(const Entry& entry) {
    if (entry.kind == Kind::kLogOpened && next_index_ != 0) return "LOG_OPENED past index 0";
    if (auto wrong = check_chain(entry, scheduler_next_seq_, scheduler_last_)) return wrong;
    scheduler_last_ = next_index_;
    ++scheduler_next_seq_;
    return std::nullopt;
}

}  // namespace reeve::audit
