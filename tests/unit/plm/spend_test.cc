// What work costs, through the records, a replay and a snapshot.
#include "plm/core/spend.h"

#include "common/base/clock.h"
#include "common/model/wants.h"
#include "plm/core/model.h"
#include "reeve/v1/reeve.pb.h"
#include "tests/support/catch.h"

namespace reeve::plm {
namespace {

constexpr std::uint64_t kHour = 3'600 * kSecond;
constexpr WorkerId kDear{1, 1};
constexpr WorkerId kFree{2, 2};

template <typename T>
void apply(Model& model, const T& record) {
    // As the ledger would give it back.
    const auto again = decode(encode(Record(record)));
    REQUIRE(again);
    REQUIRE(model.apply(*again));
}

void submit(Model& model, JobId job, std::uint32_t uid) {
    v1::JobSpec spec;
    spec.mutable_task()->add_argv("true");
    apply(model, JobSubmitted{job, uid, uid, kHour, job, spec.SerializeAsString()});
    apply(model, Admitted{job, 0, 1, false});
}

void attempt(Model& model, JobId job, WorkerId worker, std::uint16_t number, std::uint64_t ns,
             bool final) {
    apply(model, TaskMoved{job, 0, SlotState::kAssigned, number, worker, kHour});
    apply(model, TaskMoved{job, 0, SlotState::kRunning, number, worker, kHour});
    TaskEnded ended;
    ended.job = job;
    ended.attempt = number;
    ended.outcome = final ? Outcome::kSucceeded : Outcome::kRequeued;
    ended.final = final;
    ended.worker = worker;
    ended.started_ns = kHour;
    ended.ended_ns = kHour + ns;
    apply(model, ended);
    if (!final) apply(model, TaskMoved{job, 0, SlotState::kQueued, number, WorkerId{}});
}

WorkerChanged joined(WorkerId worker, std::uint32_t price) {
    return WorkerChanged{worker, WorkerChange::kJoined, "w", 0, price};
}

}  // namespace

TEST_CASE("cost_nano: the price of an hour times the wall time", "[cost]") {
    CHECK(cost_nano(1'500'000, kHour, 2 * kHour) == 1'500'000'000);
    CHECK(cost_nano(1'000'000, 1, 1 + kSecond) == 277'777);
    CHECK(cost_nano(kPriceMicroMax, kSecond, kSecond + 10'000 * kHour) ==
          std::uint64_t{kPriceMicroMax} * 10'000 * 1'000);
    CHECK(cost_nano(kPriceMicroMax, 1, kHour) > std::uint64_t{kPriceMicroMax - 1'000} * 1'000);
    CHECK(cost_nano(0, 1, kHour) == 0);
    CHECK(cost_nano(5, 0, kHour) == 0);  // it never started
    CHECK(cost_nano(5, kHour, 1) == 0);
}

TEST_CASE("spend: every attempt counts, by job and by user", "[cost]") {
    Model model;
    apply(model, joined(kDear, 2'000'000));
    apply(model, joined(kFree, 0));
    submit(model, 1, 100);
    submit(model, 2, 100);
    submit(model, 3, 200);
    attempt(model, 1, kDear, 1, kHour, false);
    attempt(model, 1, kDear, 2, kHour / 2, true);
    attempt(model, 2, kFree, 1, kHour, true);
    attempt(model, 3, kDear, 1, kHour, true);
    CHECK(model.spend.of_job(1) == 3'000'000'000);
    CHECK(model.spend.of_job(2) == 0);
    CHECK(model.spend.of_user(100) == 3'000'000'000);
    CHECK(model.spend.of_user(200) == 2'000'000'000);
    CHECK(model.spend.of_user(300) == 0);

    Model loaded;
    REQUIRE(loaded.load(model.save()));
    CHECK(loaded.spend.of_job(1) == 3'000'000'000);
    CHECK(loaded.spend.of_user(200) == 2'000'000'000);
    CHECK(loaded.spend.price_of(kDear) == 2'000'000);
    // Its price is known to what ran there when the snapshot was made.
    submit(loaded, 4, 200);
    attempt(loaded, 4, kDear, 1, kHour, true);
    CHECK(loaded.spend.of_user(200) == 4'000'000'000);
}

TEST_CASE("spend: records and snapshots from before end sooner", "[cost]") {
    auto bytes = encode(Record(joined(kDear, 7)));
    bytes.resize(bytes.size() - sizeof(std::uint32_t));
    const auto old = decode(bytes);
    REQUIRE(old);
    CHECK(std::get<WorkerChanged>(*old).price_micro == 0);
    CHECK(std::get<WorkerChanged>(*old).name == "w");
    const Model model;
    auto snapshot = model.save();
    // Without run times; without three empty maps and keys, too.
    for (const std::size_t fields : {2U, 4U}) {
        snapshot.resize(snapshot.size() - fields * sizeof(std::uint64_t));
        Model loaded;
        CHECK(loaded.load(snapshot));
    }
    snapshot.resize(snapshot.size() - 1);
    Model cut;
    CHECK_FALSE(cut.load(snapshot));
}

}  // namespace reeve::plm
