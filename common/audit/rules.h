// Auditor checks, entry by entry, that a log tells a possible story (the audit rules).
//
// It knows nothing of reeve's own state: whatever the writer believed, a chain with a gap, a result
// by a worker declared dead, a task taken from a dead holder without naming the death, or a step
// the state table does not have is refused. docs/formats/audit.md lists the rules.
//
// Memory: 40 bytes per task ever seen at a load of at most 3/4; a done task stays known, so that it
// cannot rise again. About 60 ns per entry. Not thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/audit/entry.h"

namespace reeve::audit {

enum class TaskState : std::uint8_t {
    kNone,
    kQueued,
    kHeld,
    kAssigned,
    kRunning,
    kPreempted,
    kFailed,
    kDone,
};
std::string_view to_string(TaskState state);

// The state table: where `kind` leads from `state`, or nullopt when it may not stand there.
std::optional<TaskState> next_state(TaskState state, Kind kind);

class Auditor {
public:
    Auditor();

    // Entries in index order from 0. nullopt: allowed; else what is wrong with it. After a refusal
    // the auditor must not be fed any further.
    std::optional<std::string> add(const Entry& entry);

    std::uint64_t entries() const { return next_index_; }
    // An array's own entries are of no task and count as none.
    std::uint64_t tasks() const { return subject_count_ - headers_.known; }
    // Those something is still to come of. A task that failed is not: what is tried again is queued
    // by the entry behind its failure.
    std::uint64_t open_tasks() const {
        return subject_count_ - done_count_ - failed_count_ - (headers_.known - headers_.done);
    }

private:
    struct Task {
        Id id;
        std::uint64_t last = 0;
        std::uint32_t next_seq = 0;
        std::uint32_t holder = 0;  // index into workers_, kNobody before the first assignment
        std::uint16_t attempt = 0;
        TaskState state = TaskState::kNone;  // kNone: the place is free
    };
    static_assert(sizeof(Task) == 40);
    enum class Life : std::uint8_t { kAlive, kDead, kLeft };
    struct Worker {
        Id id;
        std::uint64_t last = 0;
        std::uint64_t next_seq = 0;
        std::uint64_t death = kNoIndex;  // its WORKER_DEAD since the last JOINED
        Life life = Life::kAlive;
    };
    struct IdHash {
        std::size_t operator()(const Id& id) const noexcept {
            return static_cast<std::size_t>(id.high * 0x9E3779B97F4A7C15ULL + id.low);
        }
    };

    std::optional<std::string> add_task_entry(const Entry& entry);
    std::optional<std::string> add_worker_entry(const Entry& entry);
    std::optional<std::string> add_scheduler_entry(const Entry& entry);
    std::optional<std::string> check_task_step(const Task& task, const Entry& entry) const;
    std::optional<std::string> check_report(const Task& task, const Entry& entry) const;
    std::optional<std::string> check_assignment(const Task& task, const Entry& entry) const;
    std::optional<std::string> check_taking(const Task& task, const Entry& entry) const;
    const Worker* find_worker(Id id) const;
    Task& place_of(Id id);
    void grow();
    std::size_t slot_of(Id id) const;

    static constexpr std::uint32_t kNobody = ~std::uint32_t{0};

    std::uint64_t next_index_ = 0;
    std::uint64_t seed_;
    std::vector<Task> tasks_;          // open addressing, a power of two
    std::uint64_t subject_count_ = 0;  // tasks and headers
    std::uint64_t done_count_ = 0;
    std::uint64_t failed_count_ = 0;  // in the state kFailed now
    struct {
        std::uint64_t known = 0;
        std::uint64_t done = 0;
    } headers_;  // those among them
    std::vector<Worker> workers_;
    std::unordered_map<Id, std::uint32_t, IdHash> worker_index_;
    std::unordered_map<std::uint64_t, std::uint32_t> deaths_;  // leaf index -> worker
    std::uint64_t scheduler_last_ = kNoIndex;
    std::uint64_t scheduler_next_seq_ = 0;
};

}  // namespace reeve::audit
