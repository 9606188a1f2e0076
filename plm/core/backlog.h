// Backlog orders what waits outside the segment: whose elements leave their run next, and which
// loose tasks (durable, without a slot) get slots next.
//
// Tasks of one class (user and request) fit or do not fit alike, so a class has at most
// kClassWindow tasks queued in slots: a million that fit nowhere leave the table to what does fit,
// and cost a slot only when their turn is near. Within a class the heap key decides; so it does
// among classes. Where the window is full, a task that precedes one its class has in slots takes
// its place: the scheduler sees the best of every class.
//
// Invariants: run_queues_ lists each queue with elements that may enter once, under the key of the
// best; loose_queues_ likewise; a job is in its queue's sets under the keys it remembers. Not
// thread-safe: core thread only.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include <absl/container/btree_set.h>

#include "plm/core/slot_table.h"

namespace reeve::plm {

inline constexpr std::uint64_t kClassWindow = 8'192;

// What one class has waiting.
struct BacklogQueue {
    using Jobs = absl::btree_set<std::pair<std::uint64_t, JobId>>;  // (key, job), best first

    Jobs runs;   // jobs with elements in their run, by the next one's key
    Jobs loose;  // jobs with loose tasks, by the best one's key
    std::uint64_t loose_tasks = 0;
    std::uint64_t in_slots = 0;   // queued there
    std::uint64_t worst_key = 0;  // no queued slot of the class has a larger one
    // Some of the worst of its queued slots when last looked at, worst last: (key, slot).
    std::vector<std::pair<std::uint64_t, std::uint32_t>> worst;
    std::uint64_t jobs = 0;  // that have not ended
    std::uint64_t run_listed = kNotIndexed;
    std::uint64_t loose_listed = kNotIndexed;

    bool loose_may_enter(std::uint64_t key) const {
        return in_slots < kClassWindow || key < worst_key;
    }
    bool run_may_enter(std::uint64_t key) const {
        return in_slots + loose_tasks < kClassWindow || key < worst_key;
    }
};

class Backlog {
public:
    // Brings the job's places up to date. Keys of its next element in the run and of its best loose
    // task, kNotIndexed where there is none or it may not start. An ended job leaves.
    void place(Job& job, std::uint64_t run_key, std::uint64_t loose_key);

    // The job whose next element is the best of all that may be admitted, 0: none.
    JobId best_run() const {
        return run_queues_.empty() ? 0 : run_queues_.begin()->second->runs.begin()->second;
    }
    // How many of this job's elements its class lets in now; at least a few for best_run().
    std::uint64_t room(const Job& job) const;
    // Loose tasks that their classes let in: slots are spoken for.
    std::uint64_t loose_due() const;
    // Classes with loose tasks that may enter, in the order of the best.
    std::vector<BacklogQueue*> loose_queues() const;

    // One of the job's tasks is queued in a slot now, or was taken out of it by the caller.
    void entered(Job& job, std::uint64_t key);
    void left(Job& job);
    void moved(Job& job, std::uint64_t key);  // it got another key there
    // What worst_key says was found to be too much.
    void set_worst(BacklogQueue& queue, std::uint64_t key);

private:
    BacklogQueue& queue_of(Job& job);
    void list(BacklogQueue& queue);

    std::map<ClassKey, std::unique_ptr<BacklogQueue>> queues_;
    std::set<std::pair<std::uint64_t, BacklogQueue*>> run_queues_;
    std::set<std::pair<std::uint64_t, BacklogQueue*>> loose_queues_;
};

}  // namespace reeve::plm
