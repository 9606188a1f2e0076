#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "plm/core/batch.h"
#include "plm/core/flusher.h"
#include "plm/core/projection.h"
#include "reeve/v1/reeve.pb.h"
#include "tests/support/catch.h"

namespace reeve::plm {
namespace {

void submit(CommitBatch& batch, JobId id) {
    v1::JobSpec spec;
    spec.mutable_task()->set_function("echo");
    batch.emit(JobSubmitted{id, 1, 1, 1000, id, spec.SerializeAsString(), 0, &spec});
    batch.audit_task(audit::Kind::kTaskSubmitted, TaskId{id, 0}, 0, {}, 1000);
}

}  // namespace

TEST_CASE("CommitBatch: what is gathered after a seal is not in the sealed batch", "[batch]") {
    Model model;
    CommitBatch batch(model);
    SealedBatch first;
    SealedBatch second;
    submit(batch, 1);
    batch.seal(first);
    REQUIRE(batch.empty());
    submit(batch, 2);  // beside the flush of the first, whose bytes are made only now
    submit(batch, 3);
    Model replayed;
    REQUIRE(replay_frames(replayed, 1, first.frames(), nullptr, nullptr));
    CHECK(replayed.find(1) != nullptr);
    CHECK(replayed.find(2) == nullptr);
    CHECK(replayed.next_leaf == 1);
    batch.seal(second);
    CHECK(first.first_leaf() == 0);
    CHECK(second.first_leaf() == 1);
    CHECK(second.entries().count == 2);
    REQUIRE(replay_frames(replayed, 2, second.frames(), nullptr, nullptr));
    CHECK(replayed.find(3) != nullptr);
    CHECK(replayed.next_leaf == model.next_leaf);
    CHECK(replayed.save() == model.save());
}

TEST_CASE("Flusher: a job has landed when it is done, and then it wakes its owner", "[batch]") {
    std::atomic<int> woken{0};
    std::atomic<bool> go{false};
    int written = 0;
    Flusher flusher([&woken] { ++woken; });
    CHECK(flusher.landed());
    for (int round = 1; round <= 50; ++round) {
        go.store(false);
        flusher.start([&] {
            while (!go.load()) std::this_thread::yield();
            written = round;
        });
        const bool early = flusher.landed();
        go.store(true);
        while (woken.load() < round) std::this_thread::yield();
        REQUIRE_FALSE(early);
        REQUIRE(flusher.landed());
        REQUIRE(written == round);
    }
}

}  // namespace reeve::plm
