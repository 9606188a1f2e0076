#include "plm/core/backlog.h"

#include "tests/support/catch.h"

using reeve::plm::Backlog;
using reeve::plm::Job;
using reeve::plm::kClassWindow;
using reeve::plm::kNotIndexed;

namespace {

Job job_of(std::uint64_t id, std::uint32_t cpus) {
    Job job;
    job.id = id;
    job.request.cpu_milli = cpus * 1'000;
    return job;
}

// As the core does with `count` of a job's tasks that get slots.
void fill(Backlog& backlog, Job& job, std::uint64_t first_key, std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) {
        backlog.entered(job, first_key + i);
        ++job.queued_in_slots;
    }
}

}  // namespace

TEST_CASE("the best run comes first, over all classes", "[plm][backlog]") {
    Backlog backlog;
    Job a = job_of(1, 1);
    Job b = job_of(2, 2);
    Job c = job_of(3, 1);
    backlog.place(a, 30, kNotIndexed);
    backlog.place(b, 20, kNotIndexed);
    backlog.place(c, 40, kNotIndexed);
    CHECK(backlog.best_run() == 2);
    backlog.place(b, kNotIndexed, kNotIndexed);
    CHECK(backlog.best_run() == 1);
    backlog.place(a, 50, kNotIndexed);
    CHECK(backlog.best_run() == 3);
}

TEST_CASE("a class whose window is full leaves the turn to others", "[plm][backlog]") {
    Backlog backlog;
    Job full = job_of(1, 2);
    Job later = job_of(2, 2);
    Job other = job_of(3, 1);
    fill(backlog, full, 100, kClassWindow);
    backlog.place(full, kNotIndexed, kNotIndexed);
    backlog.place(later, 90'000, kNotIndexed);
    CHECK(backlog.best_run() == 0);
    backlog.place(other, 95'000, kNotIndexed);
    CHECK(backlog.best_run() == 3);
    // One precedes what the class has in slots: it may come, the window notwithstanding.
    Job better = job_of(4, 2);
    backlog.place(better, 50, kNotIndexed);
    CHECK(backlog.best_run() == 4);
    CHECK(backlog.room(better) == reeve::shm::kChunkSlots);
    // The slots of the class were looked at: nothing there is worse.
    backlog.set_worst(*better.queue, 40);
    CHECK(backlog.best_run() == 3);
    // One of them starts.
    --full.queued_in_slots;
    backlog.place(full, kNotIndexed, kNotIndexed);
    CHECK(backlog.best_run() == 4);
}

TEST_CASE("loose tasks take the room of their class", "[plm][backlog]") {
    Backlog backlog;
    Job job = job_of(1, 1);
    job.count = 10'000;
    for (std::uint64_t i = 0; i < kClassWindow; ++i) {
        job.tasks.edit().add(i, job.count);
        job.tasks->set_loose(i, true);
    }
    backlog.place(job, 9'000, 10);
    CHECK(backlog.best_run() == 0);
    CHECK(backlog.loose_due() == kClassWindow);
    CHECK(backlog.loose_queues().size() == 1);
    fill(backlog, job, 10, kClassWindow);
    job.tasks = reeve::plm::TaskTable<reeve::plm::Task>{};
    backlog.place(job, 9'000, kNotIndexed);
    CHECK(backlog.loose_due() == 0);
    CHECK(backlog.loose_queues().empty());
    CHECK(backlog.best_run() == 0);
}

TEST_CASE("tasks found in slots make no wrong promise about keys", "[plm][backlog]") {
    Backlog backlog;
    Job found = job_of(1, 1);
    found.queued_in_slots = kClassWindow;  // as after a restart of the PLM
    backlog.place(found, kNotIndexed, kNotIndexed);
    Job better = job_of(2, 1);
    backlog.place(better, 5, kNotIndexed);
    CHECK(backlog.best_run() == 2);
}

TEST_CASE("an ended job leaves, and comes back when it is retried", "[plm][backlog]") {
    Backlog backlog;
    Job job = job_of(1, 1);
    backlog.place(job, 10, kNotIndexed);
    job.ended = true;
    backlog.place(job, kNotIndexed, kNotIndexed);
    CHECK(job.queue == nullptr);
    CHECK(backlog.best_run() == 0);
    backlog.place(job, kNotIndexed, kNotIndexed);
    job.ended = false;
    backlog.place(job, 10, kNotIndexed);
    CHECK(backlog.best_run() == 1);
}
