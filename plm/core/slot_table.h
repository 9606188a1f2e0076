// SlotTable is the PLM's side of the segment: it allocates and frees slots, owns chunks, classes,
// payloads and job entries, and remembers for each slot the last word the record knows.
//
// Everything here but the segment itself is private memory that a restarted PLM rebuilds. The PLM
// is the only allocator; free -> init is still one CAS, so a second PLM (which the state lock
// forbids) could not corrupt it silently. Not thread-safe: the core thread owns it.
//
// INVARIANT 1  a chunk's owner changes only while all its slots are free (SHM.md C1).
// INVARIANT 2  a slot is freed only when its ending is durable and its claim is clear.
// Death        killed after free -> init: the next PLM frees `init` slots. Killed after init ->
//              queued, before the touch: the restart touches every bound slot.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/shm/heap_key.h"
#include "common/shm/job_table.h"
#include "common/shm/layout.h"
#include "common/shm/segment.h"
#include "common/shm/task_heap.h"
#include "plm/core/arena.h"
#include "plm/core/model.h"

namespace reeve::v1 {
class JobSpec;
enum PreemptMode : int;
}  // namespace reeve::v1

namespace reeve::plm {

// Smaller starts first.
inline std::uint64_t key_of(const Job& job, std::uint64_t ordinal) {
    return shm::heap_key(job.priority, job.submit_ns, job.first_sequence + ordinal,
                         job.head_start_s());
}

// What becomes of its running tasks when a better one needs the room. A function is over too soon
// to be worth it; what may start only once is not started again; of a gang all would start again.
v1::PreemptMode preempt_mode(const Job& job);

// What the record knows of one slot.
struct Binding {
    JobId job = 0;  // 0: not bound
    std::uint64_t ordinal = 0;
    shm::SlotWord known;
    bool ended_durable = false;  // only waits to be freed
};

// What readers of the segment are told of a job.
shm::JobRecord job_record(const Job& job, const Model& model);

// What is alike for placement: tasks of one class fit or do not fit alike.
struct ClassKey {
    std::uint32_t uid;
    Resources request;
    Wants wants;
    JobId gang;  // a gang is a class of its own; 0: no gang
    auto operator<=>(const ClassKey&) const = default;
};
inline ClassKey class_key(const Job& job) {
    return {job.uid, job.request, job.extras->wants, job.gang() ? job.id : 0};
}

class SlotTable {
public:
    explicit SlotTable(shm::Segment& segment);
    ~SlotTable();

    shm::Segment& segment() { return segment_; }
    shm::TaskHeap& heap() { return heap_; }
    Binding& binding(std::uint32_t slot) { return bindings_[slot]; }
    std::uint32_t free_slots() const { return free_slots_; }
    std::uint32_t bound_slots() const { return segment_.config().task_slots - free_slots_; }

    // Fills a free slot with the task and publishes it as queued (or held, or as an orphan's
    // attempt). The caller touches the heap afterwards (touch()). nullopt: no room now.
    std::optional<std::uint32_t> publish(Job& job, std::uint64_t ordinal, const Task& task,
                                         shm::SlotState state);
    // Adopts a slot found in a reused segment; the binding's known word is the caller's.
    // job is nullptr for a leftover whose task the record no longer has.
    void adopt(std::uint32_t slot, Job* job, std::uint64_t ordinal, shm::SlotWord known);
    // Gives a slot back. Its word must be `from` (ended, init, or queued/held when swapped out).
    bool release(std::uint32_t slot, shm::SlotWord from, Job* job);
    // Removes a queued or held task from its slot, to make room. False when the scheduler was
    // faster.
    bool swap_out(std::uint32_t slot, Job& job);

    // One CAS of the PLM; on success known follows. False: somebody else moved it first.
    bool move(std::uint32_t slot, shm::SlotWord from, shm::SlotWord to);
    // TaskSlot::policy of a task that is published, pushed aside, or whose deadline comes near.
    void write_policy(std::uint32_t slot, const Job& job, const Task& task);
    // After a worker brought names of resources: classes that waited for one get their counts.
    // True: the scheduler has to look at them.
    bool number_again();
    void set_minimum_run(std::uint32_t seconds) { minimum_run_s_ = seconds; }  // the default
    // Where tasks published from now on have their learned run times from.
    void learn_from(const RunTimes& run_times) { run_times_ = &run_times; }
    void touch(std::vector<std::uint32_t>& slots);  // sorts, climbs shared ancestors once

    // What this user has spent of a budget: at or beyond it none of their tasks may start. Classes
    // made later know it, too.
    void set_budget(std::uint32_t uid, std::uint64_t spent_nano, std::uint64_t budget_nano);

    // Job entries for readers of the segment. entry_of: the job's, which it keeps until others need
    // it; nullopt when all are taken.
    std::optional<std::uint32_t> entry_of(Job& job, Model& model);
    void write_entry(std::uint32_t entry, const shm::JobRecord& record) {
        shm::write_job(segment_.job(entry), record);
    }
    void clear_entries();
    void drop_entry(Job& job);  // the job leaves memory

    // Chunks whose slots are all queued or free, the least important first: their queued slots are
    // what swap-out may take to make room for `key`. Empty when nothing is worse.
    std::vector<std::uint32_t> swap_candidates(std::uint64_t key);

    // The waiting tasks of the `count` chunks that hold nothing else and whose best key is largest:
    // they give way to classes that have no chunk, in turns.
    std::vector<std::uint32_t> worst_chunks(std::size_t count);
    bool chunk_free() const { return !free_chunks_.empty(); }
    // Chunks taken from now on are left alone by both until then (boot clock), 0: no longer so.
    void keep_new_chunks(std::uint64_t until_ns) { keep_until_ns_ = until_ns; }

    // Up to `count` of the queued slots of the job's class with the largest keys, in ascending
    // order: (key, slot).
    std::vector<std::pair<std::uint64_t, std::uint32_t>> worst_queued(Job& job, std::size_t count);

    // Rebuilds private state from the segment (a PLM restart): call once, before adopt().
    void attach();
    void finish_attach();  // after the last adopt(): unused chunks are free again

private:
    struct Budget {
        std::uint64_t spent_nano = 0;
        std::uint64_t budget_nano = 0;
    };
    struct Chunk {
        std::uint64_t used = 0;  // bit per slot
        std::uint64_t kept_until_ns = 0;
    };
    // The key of the best queued task of a chunk that holds waiting tasks only, kNotIndexed when
    // all are held; nullopt: it is empty, holds others, or is kept.
    std::optional<std::uint64_t> best_if_waiting(std::uint32_t chunk, std::uint64_t now_ns);
    void add_slots(std::uint32_t chunk, std::vector<std::uint32_t>& slots) const;

    std::optional<std::uint32_t> class_of(Job& job);
    void write_budget(std::uint32_t class_id, std::uint32_t uid);
    std::optional<std::uint32_t> allocate(std::uint32_t class_id);
    const v1::JobSpec* parsed(const Job& job);
    bool write_function(Job& job, std::uint64_t ordinal, shm::TaskSlot& slot);
    bool ensure_payload(Job& job, std::uint64_t ordinal, shm::TaskSlot& slot);
    void free_payload(std::uint32_t slot, Job* job);
    void write_run_time(const Job& job, shm::TaskSlot& slot) const;
    void mark_free(std::uint32_t slot);
    void note_used(std::uint32_t slot);
    std::uint32_t take_entry(Model& model);

    shm::Segment& segment_;
    shm::TaskHeap heap_;
    std::vector<Binding> bindings_;
    std::vector<Chunk> chunks_;
    std::vector<std::uint32_t> free_chunks_;
    std::vector<std::vector<std::uint32_t>> open_chunks_;  // per class: chunks with a free slot
    std::vector<std::uint32_t> class_chunks_;              // per class: chunks it owns
    std::map<ClassKey, std::uint32_t> classes_;
    std::map<ClassKey, std::uint32_t>::iterator last_class_ = classes_.end();  // most ask again
    std::vector<std::uint32_t> free_classes_;
    std::map<std::uint32_t, Budget> budgets_;  // by uid
    std::vector<std::uint32_t> free_entries_;
    std::uint32_t minimum_run_s_ = kMinimumRunDefault;
    const RunTimes* run_times_ = nullptr;
    std::vector<JobId> entry_job_;
    std::vector<bool> entry_ended_;
    std::deque<std::uint32_t> ended_entries_;  // oldest first
    Arena arena_;
    std::vector<bool> own_payload_;        // per slot: the payload is the slot's own, not its job's
    std::unique_ptr<v1::JobSpec> parsed_;  // of parsed_job_
    JobId parsed_job_ = 0;
    std::uint32_t free_slots_ = 0;
    std::uint64_t keep_until_ns_ = 0;
};

}  // namespace reeve::plm
