#include "common/shm/class_index.h"
#include "common/shm/job_table.h"
#include "common/shm/ring.h"
#include "common/shm/segment.h"
#include "common/shm/task_heap.h"
#include "common/shm/wake.h"
#include "common/shm/worker_heap.h"

#include <unistd.h>

#include "tests/support/catch.h"

namespace reeve::shm {

TEST_CASE("Segment: a task pushed through one mapping is claimed through another", "[shm]") {
    const auto name = "/reeve-test-smoke-" + std::to_string(getpid());
    Segment::remove(name);
    SegmentConfig config;
    config.task_slots = 1'024;
    config.jobs = 16;
    config.arena_bytes = 1 << 16;
    auto made = Segment::create(name, config, 42, 1);
    REQUIRE(made);
    REQUIRE_FALSE(Segment::open(name, true));
    (*made)->header().phase = Phase::kReady;
    auto opened = Segment::open(name, true);
    REQUIRE(opened);
    const auto& plm = **made;

    plm.chunk_owner(3).store(7);
    TaskHeap heap(plm);
    auto& slot = plm.task(3 * 64 + 5);
    slot.key = 99;
    slot.word = SlotWord::make(1, 0, 0, SlotState::kQueued).raw;
    heap.touch(3 * 64 + 5);

    ClassIndex index(**opened);
    const auto head = index.best();
    REQUIRE(head);
    CHECK(head->class_id == 7);
    CHECK(head->entry == HeapEntry{99, 3 * 64 + 5});
    const auto claimed = index.claim(7);
    REQUIRE(claimed);
    CHECK(claimed->slot == 3 * 64 + 5);
    CHECK(load_word(slot) == claimed->claimed);
    CHECK_FALSE(index.best());
    CHECK(heap.heal() == 0);

    WorkerHeap workers(plm);
    workers.update(17, 5);
    workers.update(3, 4);
    CHECK(workers.best() == HeapEntry{4, 3});

    update_job(plm.job(2), [](JobRecord& record) { record.job = 12; });
    CHECK(read_job((*opened)->job(2))->job == 12);

    CHECK(dispatch_ring(plm, 1).try_push(SlotHint{1, 2, 0}));
    CHECK(dispatch_ring(**opened, 1).pop()->slot == 2);
    wake(plm.participant(0).wake);
    Segment::remove(name);
}

}  // namespace reeve::shm
