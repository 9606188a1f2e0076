#include "plm/core/backlog.h"

#include <algorithm>

#include "common/base/assert.h"

namespace reeve::plm {
namespace {

// Keeps `whom` in an index under `key` (kNotIndexed: not at all); `listed` is where it was.
template <typename Index, typename Whom>
void move_to(Index& index, Whom whom, std::uint64_t& listed, std::uint64_t key) {
    if (listed == key) return;
    if (listed != kNotIndexed) index.erase({listed, whom});
    if (key != kNotIndexed) index.emplace(key, whom);
    listed = key;
}

}  // namespace

BacklogQueue& Backlog::queue_of(Job& job) {
    if (job.queue == nullptr) {
        auto& queue = queues_[class_key(job)];
        if (!queue) queue = std::make_unique<BacklogQueue>();
        job.queue = queue.get();
        ++queue->jobs;
    }
    return *job.queue;
}

// Brings the queue's own places up to date.
void Backlog::list(BacklogQueue& queue) {
    const auto first_of = [](const BacklogQueue::Jobs& jobs) {
        return jobs.empty() ? kNotIndexed : jobs.begin()->first;
    };
    const auto run = first_of(queue.runs);
    move_to(run_queues_, &queue, queue.run_listed, queue.run_may_enter(run) ? run : kNotIndexed);
    const auto loose = first_of(queue.loose);
    move_to(loose_queues_, &queue, queue.loose_listed,
            queue.loose_may_enter(loose) ? loose : kNotIndexed);
}

void Backlog::place(Job& job, std::uint64_t run_key, std::uint64_t loose_key) {
    if (job.queue == nullptr && job.ended) return;
    auto& queue = queue_of(job);
    move_to(queue.runs, job.id, job.run_key, run_key);
    move_to(queue.loose, job.id, job.loose_key, loose_key);
    const auto loose = loose_key == kNotIndexed ? 0 : job.tasks->loose_count();
    queue.loose_tasks += loose - job.loose_counted;
    job.loose_counted = static_cast<std::uint32_t>(loose);
    // Found in a segment, or requeued: with what keys is not known here.
    if (job.queued_in_slots > job.slots_counted) queue.worst_key = kNotIndexed;
    queue.in_slots += job.queued_in_slots;
    queue.in_slots -= job.slots_counted;
    job.slots_counted = job.queued_in_slots;
    if (queue.in_slots == 0) queue.worst_key = 0;
    list(queue);
    if (!job.ended) return;
    job.queue = nullptr;
    if (--queue.jobs != 0) return;
    REEVE_ASSERT(queue.runs.empty() && queue.loose.empty() && queue.in_slots == 0);
    queues_.erase(class_key(job));
}

std::uint64_t Backlog::room(const Job& job) const {
    const auto taken = job.queue->in_slots + job.queue->loose_tasks;
    return std::max<std::uint64_t>(kClassWindow - std::min(kClassWindow, taken), shm::kChunkSlots);
}

std::uint64_t Backlog::loose_due() const {
    std::uint64_t due = 0;
    for (const auto& [key, queue] : loose_queues_) {
        due += std::min(queue->loose_tasks, kClassWindow - std::min(kClassWindow, queue->in_slots));
    }
    return due;
}

std::vector<BacklogQueue*> Backlog::loose_queues() const {
    std::vector<BacklogQueue*> queues;
    for (const auto& [key, queue] : loose_queues_) queues.push_back(queue);
    return queues;
}

void Backlog::entered(Job& job, std::uint64_t key) {
    ++queue_of(job).in_slots;
    ++job.slots_counted;
    moved(job, key);
}

void Backlog::left(Job& job) {
    --queue_of(job).in_slots;
    --job.slots_counted;
}

void Backlog::moved(Job& job, std::uint64_t key) {
    auto& queue = queue_of(job);
    queue.worst_key = std::max(queue.worst_key, key);
}

void Backlog::set_worst(BacklogQueue& queue, std::uint64_t key) {
    queue.worst_key = key;
    list(queue);
}

}  // namespace reeve::plm
