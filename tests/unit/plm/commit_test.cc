#include <atomic>
#include <chrono>
#include <memory>
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

TEST_CASE("Model: forgets ended jobs by number and by bytes, and never the last thousand",
          "[batch]") {
    const auto ended_jobs = [](std::size_t spec_bytes, JobId count) {
        auto model = std::make_unique<Model>();
        for (JobId id = 1; id <= count; ++id) {
            v1::JobSpec spec;
            spec.mutable_task()->set_function("echo");
            spec.mutable_task()->set_data(std::string(spec_bytes, 'd'));
            REQUIRE(
                model->apply(JobSubmitted{id, 1, 1, 1000, id, spec.SerializeAsString(), 0, &spec}));
            REQUIRE(model->apply(Admitted{id, 0, 1, false}));
            TaskEnded ended;
            ended.job = id;
            ended.final = true;
            ended.outcome = id % 2 != 0 ? Outcome::kSucceeded : Outcome::kFailed;
            REQUIRE(model->apply(ended));
        }
        for (auto* job : model->dirty()) job->dirty = false;
        model->dirty().clear();
        return model;
    };
    SECTION("small ones") {
        auto model = ended_jobs(10, kEndedJobsKept + 5);
        CHECK(model->evict_ended().size() == 5);
        CHECK(model->find(5) == nullptr);
        CHECK(model->find(6) != nullptr);
    }
    SECTION("large ones, also after a snapshot; a retried one counts no more") {
        constexpr std::size_t kBytes = 4'000;
        auto model = ended_jobs(kBytes, 3'000);
        Model loaded;
        REQUIRE(loaded.load(model->save()));
        CHECK(loaded.evict_ended(2).empty());
        REQUIRE(model->apply(TaskRetried{2'998, 0, 1, 1000}));
        REQUIRE(loaded.apply(TaskRetried{2'998, 0, 1, 1000}));
        for (auto* one : {model.get(), &loaded}) {
            for (auto* job : one->dirty()) job->dirty = false;
            one->dirty().clear();
            const auto gone = one->evict_ended().size();
            const auto kept = 2'999 - gone;
            CHECK(kept * (kBytes + 100) > kEndedBytesKept - 2 * kBytes);
            CHECK(kept * kBytes <= kEndedBytesKept);
            CHECK(one->find(2'998) != nullptr);
        }
        CHECK(loaded.save() == model->save());
    }
    SECTION("very large ones") {
        auto model = ended_jobs(40'000, kEndedJobsKeptMin + 7);
        CHECK(model->evict_ended().size() == 7);
    }
}

TEST_CASE("Model: the parts of a snapshot are the snapshot", "[batch]") {
    Model model;
    CommitBatch batch(model);
    for (JobId id = 1; id <= 500; ++id) submit(batch, id);
    for (const std::size_t size : {std::size_t{1}, std::size_t{64}, std::size_t{5'000}}) {
        const auto parts = model.save_parts(size);
        std::string whole;
        for (const auto& part : parts) {
            CHECK((&part == &parts.back() ? part.size() < size : part.size() == size));
            whole += part;
        }
        CHECK(whole == model.save());
    }
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
