// Model is everything the PLM knows of jobs, tasks and workers, as plain memory without I/O.
//
// It changes only through apply(record): live, each record is applied as it is written into the
// batch; at recovery the same records come back from the ledger. So what a restart rebuilds is what
// was there, by construction. Not thread-safe: the core thread owns it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/merkle/hash.h"
#include "common/model/outcome.h"
#include "common/model/resources.h"
#include "common/model/wants.h"
#include "common/shm/layout.h"
#include "common/shm/slot_word.h"
#include "plm/core/interval_set.h"
#include "plm/core/lazy.h"
#include "plm/core/records.h"
#include "plm/core/spend.h"
#include "plm/core/task_table.h"
#include "plm/core/run_times.h"
#include "plm/core/usage.h"
#include "plm/policy.h"
#include "scheduler/core/order.h"
#include "scheduler/core/preempt.h"

namespace reeve::plm {

using shm::SlotState;

// Where a subject's chain in the audit log stands.
struct Chain {
    std::uint64_t next_seq = 0;
    std::uint64_t last_leaf = ~std::uint64_t{0};
};

inline constexpr std::uint32_t kMinimumRunUnset = 0xFFFFFFFFU;

// Where a task that left its job's run stands: in a slot, or loose (slot == kNone32).
struct Task {
    SlotState state = SlotState::kQueued;  // queued held assigned running suspended
    bool ahead = false;                    // assigned before there is room for it; not durable
    std::uint16_t attempt = 0;
    std::uint32_t retries_used = 0;
    std::uint32_t deaths = 0;
    std::uint32_t slot = 0xFFFFFFFFU;  // not durable
    std::uint32_t intent = 0;          // what was asked of its holder and is not yet obeyed
    std::uint32_t pushed = 0;          // how often it was pushed aside for a better one
    WorkerId worker;
    std::uint64_t assigned_ns = 0;
    std::uint64_t started_ns = 0;
    Chain chain;  // of an array's element; a single task's is its job's
};

enum class DependencyKind : std::uint8_t { kAfterOk = 0, kAfterAny = 1, kAfterNotOk = 2 };
struct DependencyEdge {
    JobId job = 0;
    DependencyKind kind = DependencyKind::kAfterOk;
};

struct FailedAttempt {
    std::uint16_t attempt = 0;
    WorkerId worker;
    Chain chain;
};

// What most jobs leave as it is: order, preemption, limits.
struct JobPolicy {
    sched::SlaClass sla = sched::SlaClass::kStandard;
    sched::PreemptMode preempt = sched::PreemptMode::kRequeue;
    bool urgent = false;  // its deadline is near: counts as critical; derived, not durable
    std::uint32_t minimum_run_s = kMinimumRunUnset;
    std::uint64_t deadline_ns = 0;
    std::vector<LimitTaken> limits;

    bool empty() const {
        return sla == sched::SlaClass::kStandard && preempt == sched::PreemptMode::kRequeue &&
               minimum_run_s == kMinimumRunUnset && deadline_ns == 0 && limits.empty();
    }
    sched::SlaClass counts_as() const { return urgent ? sched::SlaClass::kCritical : sla; }
};

inline constexpr std::uint64_t kNotIndexed = ~std::uint64_t{0};

struct ElementSpan {
    Element first = 0;
    Element last = 0;
};

// What a plain job of one task has nothing of.
struct JobExtras {
    std::vector<ElementSpan> spans;
    std::vector<DependencyEdge> after;
    std::uint64_t max_running = 0;
    std::uint64_t max_failures = 0;
    std::uint64_t not_before_ns = 0;
    std::uint32_t nodes = 0;     // its elements are one gang of so many; 0: none
    merkle::Hash spec_digest{};  // of an array, whose elements all cite it
    std::string key;
    Wants wants;
    JobPolicy policy;

    bool empty() const { return false; }
};

// A serialised JobSpec in no more room than it needs.
class SpecBytes {
public:
    SpecBytes() = default;
    explicit SpecBytes(std::string_view bytes)
        : size_(static_cast<std::uint32_t>(bytes.size())),
          bytes_(std::make_unique_for_overwrite<char[]>(bytes.size())) {
        std::copy(bytes.begin(), bytes.end(), bytes_.get());
    }
    std::string_view view() const { return {bytes_.get(), size_}; }
    template <typename Message>
    bool parse(Message& message) const {
        return message.ParseFromArray(bytes_.get(), static_cast<int>(size_));
    }

private:
    std::uint32_t size_ = 0;
    std::unique_ptr<char[]> bytes_;
};

// A part of them.
struct SpecText {
    std::uint32_t at = 0;
    std::uint32_t size = 0;
};

struct BacklogQueue;

// A job is a run of `count` elements addressed by ordinal (0, 1, 2 ...): those below `cursor` have
// left the run (they are in `tasks`, or ended), but for those that were held when it passed; the
// others cost nothing each.
struct Job {
    JobId id = 0;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::int32_t priority = 0;
    bool array = false;
    bool held = false;
    bool at_most_once = false;
    bool ended = false;
    bool waiting = false;  // for dependencies or its begin time; derived, not durable
    bool values_per_element = false;
    bool function = false;
    bool rest_cancelled = false;  // one CANCELLED on the header stands for the rest of the run
    std::uint32_t retries_max = 0;
    std::int32_t exit_code = 0;
    std::uint32_t ahead = 0;  // of `running` those that wait for their room; not durable
    std::uint64_t count = 1;
    std::uint64_t first_sequence = 0;
    std::uint64_t time_limit_ns = 0;
    std::uint64_t submit_ns = 0;
    std::uint64_t start_ns = 0;
    std::uint64_t end_ns = 0;
    Resources request;
    SpecBytes spec;  // serialised JobSpec, as accepted
    SpecText name_in_spec;
    Chain chain;  // of a single task, or of an array's header
    Lazy<JobExtras> extras;
    Lazy<std::string> reason;  // why it was cancelled

    std::uint64_t cursor = 0;
    IntervalSet ok;
    IntervalSet failed;
    IntervalSet cancelled;
    IntervalSet closed;  // failed for good (lost, poison): the record takes no retry
    Lazy<std::map<std::uint64_t, FailedAttempt>> failed_attempts;  // of `failed`, for a retry
    IntervalSet held_elements;                                     // in the run, held one by one
    IntervalSet passed;  // in the run below the cursor, no longer held; derived, not durable
    Lazy<TaskTable<Task>> tasks;  // loose there: queued, without a slot
    std::uint32_t queued_in_slots = 0;
    std::uint32_t running = 0;  // assigned, running, suspended
    std::uint32_t held_tasks = 0;

    // What the segment side keeps with a job (not durable); see slot_table.h.
    std::uint32_t entry = 0xFFFFFFFFU;
    std::uint64_t payload_offset = 0;
    std::uint32_t payload_bytes = 0;
    std::uint32_t payload_slots = 0;
    bool dirty = false;
    std::uint16_t fair_milli = 0;    // fair-share points when it was submitted, in thousandths
    std::uint16_t length_milli = 0;  // length points, the same
    shm::WaitsFor waits_for = shm::WaitsFor::kNothing;  // as the gates last said
    // What the backlog keeps with a job (not durable); see backlog.h.
    BacklogQueue* queue = nullptr;
    std::uint64_t run_key = kNotIndexed;
    std::uint64_t loose_key = kNotIndexed;
    std::uint32_t loose_counted = 0;
    std::uint32_t slots_counted = 0;
    std::uint64_t backlog_counted = 0;  // as last added to Header::backlog_tasks

    // By how much it is put ahead of its submission, beside priority (heap_key.h).
    std::int64_t head_start_s() const {
        return sched::head_start_s(0, extras->policy.counts_as(), fair_milli / 1000.0,
                                   length_milli / 1000.0);
    }
    bool gang() const { return extras->nodes != 0; }
    WorkKind kind() const { return {uid, request, name()}; }

    std::uint64_t ended_count() const { return ok.count() + failed.count() + cancelled.count(); }
    // Each of its slots has a payload of its own.
    bool own_payloads() const { return values_per_element || function; }
    std::uint64_t backlog() const { return in_run() + tasks->loose_count(); }
    std::string_view name() const { return spec.view().substr(name_in_spec.at, name_in_spec.size); }
    merkle::Hash spec_digest() const;
    // In the hands of the scheduler or a worker.
    std::uint64_t in_use() const { return std::uint64_t{queued_in_slots} + running; }
    // These and what waits for a slot: all that left the run and is not held.
    std::uint64_t admitted() const { return in_use() + tasks->loose_count(); }
    // How many more its own limit (%N of an array) lets in beside so many.
    std::uint64_t room_beside(std::uint64_t others) const {
        const auto most = extras->max_running;
        return most == 0 ? std::numeric_limits<std::uint64_t>::max()
                         : most - std::min(most, others);
    }
    // What people are told: everything not yet started is either held or in the backlog; and a task
    // runs from when it has its room.
    std::uint64_t shown_queued() const { return std::uint64_t{queued_in_slots} + ahead; }
    std::uint64_t shown_running() const { return running - ahead; }
    std::uint64_t all_held() const {
        return held_tasks + (held ? backlog() : held_elements.count());
    }
    std::uint64_t waiting_tasks() const { return held ? 0 : backlog() - held_elements.count(); }
    Element element_of(std::uint64_t ordinal) const;
    // count when the job has no such element.
    std::uint64_t ordinal_of(Element element) const;
    bool ended_element(std::uint64_t ordinal) const {
        return ok.contains(ordinal) || failed.contains(ordinal) || cancelled.contains(ordinal);
    }
    std::uint64_t in_run() const { return count - ended_count() - tasks->size(); }
    // The next ordinal that is still in the run and may start, or count.
    std::uint64_t next_in_run() const;
    // How many from this one on are like it, `most` at most.
    std::uint64_t stretch_in_run(std::uint64_t next, std::uint64_t most) const;
    // Lets held elements start.
    void release_elements(std::uint64_t first, std::uint64_t last);
    // Finds `passed` anew.
    void settle_passed();
};

struct WorkerRecord {
    WorkerId id;
    std::string name;
    bool alive = false;
    bool dead = false;                             // declared dead (not: left politely)
    std::uint64_t death_leaf = ~std::uint64_t{0};  // its WORKER_DEAD entry
};

// Ended jobs are kept for whoever asks for them next: so many, or as many as have so many bytes of
// specs (a job's data is part of its spec, and each snapshot writes them all), but these at least.
inline constexpr std::size_t kEndedJobsKept = 10'000;
inline constexpr std::size_t kEndedBytesKept = 8U << 20;
inline constexpr std::size_t kEndedJobsKeptMin = 1'000;
inline constexpr std::size_t kKeysKept = 100'000;  // of jobs beyond those

class Model {
public:
    // Changes the model as the record says. kDataLoss when it cannot follow from what is known
    // (only a damaged ledger or a bug can cause that).
    Status apply(const Record& record);
    Status apply(const TaskMoved& record) { return apply_moved(record); }
    Status apply(const TaskEnded& record) { return apply_ended(record); }

    Job* find(JobId id);
    Task* find_task(JobId id, std::uint64_t ordinal);
    bool ended_ok(JobId id) const { return jobs_ok_.contains(id); }
    bool ended_not_ok(JobId id) const { return jobs_not_ok_.contains(id); }
    JobId by_key(std::uint32_t uid, const std::string& key) const;

    std::map<JobId, Job>& jobs() { return jobs_; }
    std::map<std::uint64_t, WorkerRecord>& workers() { return workers_; }
    std::vector<JobId>& dependents(JobId id) { return dependents_[id]; }
    void forget_dependents(JobId id) { dependents_.erase(id); }
    // Jobs that ended or changed since the caller last emptied these.
    std::vector<JobId>& just_ended() { return just_ended_; }
    std::vector<Job*>& dirty() { return dirty_; }
    void mark(Job& job);
    // Notes that a task has a slot now, or none (kNone32). Not durable.
    void bind_slot(Job& job, std::uint64_t ordinal, Task& task, std::uint32_t slot);
    // An assigned one has no room yet (kClaimAhead).
    void note_ahead(Job& job, Task& task);

    // Drops the oldest ended jobs beyond what is kept; returns those dropped. Not called while
    // anybody holds a Job pointer. A replay forgets no sooner than the core did, whatever held up
    // the core's own call: it keeps `times` as many.
    std::vector<std::map<JobId, Job>::node_type> evict_ended(std::size_t times = 1);

    // A task's chain: kept with the task, with its job (a single task's, or an array's header), or
    // with its failed attempt. That of an element that is nowhere (it is cancelled in its run)
    // lasts until settle_chains(), which a batch ends with.
    Chain& chain_of(TaskId task);
    // A replay knows the batch's entries before its records: the chains find their places at the
    // end.
    void note_chain(TaskId task, const Chain& chain) { unplaced_chains_[task] = chain; }
    void settle_chains();

    std::uint64_t next_job = 1;
    std::uint64_t next_sequence = 0;
    std::uint64_t next_leaf = 0;
    std::uint64_t epoch = 0;
    std::uint32_t segment_generation = 0;
    std::uint64_t next_worker_number = 1;
    std::uint64_t next_worker_incarnation = 1;
    Spend spend;
    std::map<std::uint64_t, Chain> worker_chains;  // by incarnation
    Chain scheduler_chain;
    Usage usage;
    RunTimes run_times;

    // A snapshot of all of it, and back: save() gives what the parts are together. All parts but
    // the last have `part_bytes`.
    std::vector<std::string> save_parts(std::size_t part_bytes) const;
    std::string save() const;
    Status load(std::string_view bytes);

private:
    Status apply_submitted(const JobSubmitted& record);
    Status apply_admitted(const Admitted& record);
    Status apply_moved(const TaskMoved& record);
    Status apply_ended(const TaskEnded& record);
    Status apply_job_changed(const JobChanged& record);
    Status apply_run_cancelled(const RunCancelled& record);
    Status apply_retried(const TaskRetried& record);
    void apply_worker(const WorkerChanged& record);
    void leave_state(Job& job, std::uint64_t ordinal, const Task& task);
    void enter_state(Job& job, std::uint64_t ordinal, const Task& task);
    void check_ended(Job& job, std::uint64_t wall_ns);
    void index_job(Job& job);

    Chain* placed_chain(TaskId task);

    std::map<JobId, Job> jobs_;
    std::unordered_map<TaskId, Chain, TaskIdHash> unplaced_chains_;
    Job* last_found_ = nullptr;                      // of jobs_
    std::map<std::uint64_t, WorkerRecord> workers_;  // by incarnation
    std::unordered_map<JobId, std::vector<JobId>> dependents_;
    using Key = std::pair<std::uint32_t, std::string>;  // (uid, text)
    std::map<Key, JobId> keys_;
    std::deque<Key> old_keys_;  // of jobs that are forgotten otherwise, oldest first
    void keep_key(Key key);
    IntervalSet jobs_ok_;
    IntervalSet jobs_not_ok_;
    std::deque<JobId> ended_order_;
    std::size_t ended_bytes_ = 0;  // of their specs
    std::vector<JobId> just_ended_;
    std::vector<Job*> dirty_;

    friend class ModelSnapshot;
};

// Fills the fields of a Job that follow from its serialised JobSpec. kDataLoss if it does not
// parse.
Status parse_spec(Job& job);
// The record of a task as it stands; its caller writes what changes.
TaskMoved record_of(JobId job, std::uint64_t ordinal, const Task& task, std::uint64_t wall_ns);
Status take_spec(Job& job, const v1::JobSpec& spec);  // which is what job.spec holds

}  // namespace reeve::plm
