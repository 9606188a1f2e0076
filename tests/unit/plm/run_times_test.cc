// Learned run times, through the records, a replay and a snapshot.
#include "plm/core/run_times.h"

#include "common/base/clock.h"
#include "plm/core/model.h"
#include "plm/core/slot_table.h"
#include "reeve/v1/reeve.pb.h"
#include "tests/support/catch.h"

namespace reeve::plm {
namespace {

constexpr std::uint64_t kStart = 3'600 * kSecond;

void submit(Model& model, JobId job, const char* name, std::uint64_t limit_ms = 0) {
    v1::JobSpec spec;
    spec.mutable_task()->add_argv("true");
    spec.mutable_task()->set_name(name);
    spec.mutable_task()->set_time_limit_ms(limit_ms);
    REQUIRE(model.apply(JobSubmitted{job, 7, 7, kStart, job, spec.SerializeAsString()}));
    REQUIRE(model.apply(Admitted{job, 0, 1, false}));
}

void end(Model& model, JobId job, Outcome outcome, std::uint64_t seconds) {
    TaskEnded ended;
    ended.job = job;
    ended.attempt = 1;
    ended.outcome = outcome;
    ended.started_ns = kStart;
    ended.ended_ns = kStart + seconds * kSecond;
    REQUIRE(model.apply(ended));
}

std::optional<double> expected(Model& model, JobId job) {
    const Job& of = *model.find(job);
    return model.run_times.expected_s(of.kind(), of.time_limit_ns);
}

}  // namespace

TEST_CASE("RunTimes: learned by user, request and name, from what ended by itself", "[plm]") {
    Model model;
    submit(model, 1, "sort");
    CHECK_FALSE(expected(model, 1));
    CHECK(model.find(1)->length_milli == 0);
    end(model, 1, Outcome::kFailed, 5);
    CHECK_FALSE(expected(model, 1));
    submit(model, 2, "sort");
    end(model, 2, Outcome::kSucceeded, 900);
    submit(model, 3, "sort");
    CHECK(expected(model, 3) == 900);
    CHECK(model.find(3)->length_milli == 2000);  // two doublings of 225 s
    CHECK(key_of(*model.find(3), 0) > key_of(*model.find(2), 0) + (7'000ULL << shm::kSequenceBits));
    submit(model, 4, "count");
    CHECK_FALSE(expected(model, 4));
    submit(model, 5, "sort", 60'000);
    CHECK(expected(model, 5) == 60);  // the limit bounds it
    CHECK(model.find(5)->length_milli == 0);
}

TEST_CASE("RunTimes: a snapshot brings them back, with what they cost", "[plm]") {
    Model model;
    submit(model, 1, "sort");
    end(model, 1, Outcome::kTimedOut, 1'234);
    submit(model, 2, "sort");
    Model again;
    REQUIRE(again.load(model.save()));
    CHECK(expected(again, 2) == 1'234);
    CHECK(again.find(2)->length_milli == model.find(2)->length_milli);
    CHECK(again.find(2)->length_milli > 2'000);
    end(again, 2, Outcome::kSucceeded, 766);
    submit(again, 3, "sort");
    CHECK(expected(again, 3) == 1'000);  // the mean
}

TEST_CASE("RunTimes: what comes back from a snapshot forgets what the first would", "[plm]") {
    RunTimes first;
    const auto learn = [](RunTimes& run_times, std::uint32_t uid) {
        run_times.learn({uid, {}, "sort"}, Outcome::kSucceeded, kStart, kStart + uid * kSecond);
    };
    for (std::uint32_t uid = 1; uid <= 3'000; ++uid) learn(first, uid);
    std::string bytes;
    ByteWriter out(bytes);
    first.save(out);
    RunTimes second;
    ByteReader in(bytes);
    second.load(in);
    for (std::uint32_t uid = 3'001; uid <= 5'000; ++uid) {
        learn(first, uid);
        learn(second, uid);
    }
    int known = 0;
    for (std::uint32_t uid = 1; uid <= 5'000; ++uid) {
        const auto expected = first.expected_s({uid, {}, "sort"}, 0);
        known += expected ? 1 : 0;
        REQUIRE(second.expected_s({uid, {}, "sort"}, 0) == expected);
    }
    CHECK(known < 5'000);
}

}  // namespace reeve::plm
