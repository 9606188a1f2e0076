// RunnerRing and FunctionPool, with the test in the place of the runner process.
#include "worker/function_pool.h"

#include <fcntl.h>
#include <unistd.h>

#include <map>
#include <string>
#include <thread>

#include "common/base/clock.h"
#include "tests/support/catch.h"

namespace reeve::worker {
namespace {

std::unique_ptr<RunnerRing> map_again(const RunnerRing& ring) {
    auto mapped = RunnerRing::map(::fcntl(ring.fd(), F_DUPFD_CLOEXEC, 3));
    REQUIRE(mapped.has_value());
    return std::move(*mapped);
}

RequestRecord* push(RunnerRing& ring, std::uint64_t sequence, const std::string& data) {
    RequestRecord head;
    head.sequence = sequence;
    head.job = 7;
    head.element = sequence;
    head.attempt = 1;
    return ring.push_request(head, "handler", data);
}

// What a runner process does, one request at a time.
class FakeRunner {
public:
    explicit FakeRunner(const RunnerRing& ring) : ring_(map_again(ring)) {
        ring_->header().ready.store(1);
    }

    RequestRecord* begin() {
        auto* request = ring_->next_request(at_);
        if (request == nullptr) return nullptr;
        ring_->header().begun_ns.store(boot_ns());
        ring_->header().begun.store(request->sequence);
        return request;
    }
    void answer(const RequestRecord& request, CallStatus status, const std::string& result) {
        char* room = ring_->response_room(result.size());
        std::copy(result.begin(), result.end(), room);
        ResponseRecord response;
        response.sequence = request.sequence;
        response.status = status;
        response.result_bytes = static_cast<std::uint32_t>(result.size());
        ring_->publish_response(response);
    }
    RunnerRing& ring() { return *ring_; }

private:
    std::unique_ptr<RunnerRing> ring_;
    std::uint64_t at_ = 0;
};

struct FakeOwner : FunctionOwner {
    std::uint64_t start_runner(std::uint32_t index, std::uint32_t,
                               const RunnerRing& ring) override {
        runners[index] = std::make_unique<FakeRunner>(ring);
        return 100 + started++;
    }
    void kill_runner(std::uint64_t launch_id) override { killed.push_back(launch_id); }
    void answered(const FunctionAnswer& answer) override {
        outcomes[answer.id] = answer.record.outcome;
        results[answer.id] = std::string(answer.result);
    }
    void again(std::uint64_t id) override { handed_back.push_back(id); }
    void flush() override {}

    std::map<std::uint32_t, std::unique_ptr<FakeRunner>> runners;
    std::uint64_t started = 0;
    std::vector<std::uint64_t> killed;
    std::vector<std::uint64_t> handed_back;
    std::map<std::uint64_t, Outcome> outcomes;
    std::map<std::uint64_t, std::string> results;
};

struct Rig {
    FakeOwner owner;
    std::mutex mutex;
    FunctionPool pool{owner, mutex, 1};

    Rig() {
        const std::lock_guard hold(mutex);
        pool.resume();
    }
    bool feed(std::uint64_t id, std::uint64_t limit_ns = 0, std::uint64_t grace_ns = 0) {
        const std::lock_guard hold(mutex);
        FunctionStart start;
        start.id = id;
        start.task = {7, id};
        start.attempt = 1;
        start.time_limit_ns = limit_ns;
        start.grace_ns = grace_ns;
        start.handler = "echo";
        start.data = "data";
        return pool.feed(start).has_value();
    }
    FakeRunner& runner() { return *owner.runners.at(0); }
    // The pool's own thread takes answers; the test waits for it.
    bool until_answered(std::uint64_t id) {
        const auto deadline = boot_ns() + 10 * kSecond;
        while (boot_ns() < deadline) {
            {
                const std::lock_guard hold(mutex);
                if (owner.outcomes.contains(id)) return true;
            }
            ::usleep(1000);
        }
        return false;
    }
    void end_runner(std::int32_t code) {
        const std::lock_guard hold(mutex);
        EndedRecord record;
        record.id = 100 + owner.started - 1;
        record.exit_code = code;
        record.outcome = Outcome::kFailed;
        REQUIRE(pool.runner_ended(record));
    }
};

}  // namespace

TEST_CASE("RunnerRing: records of all sizes come out as they went in, round and round",
          "[runner]") {
    auto made = RunnerRing::create(0);
    REQUIRE(made.has_value());
    auto& ring = **made;
    const auto other = map_again(ring);
    std::uint64_t at = 0;
    std::uint64_t sequence = 0;
    for (int round = 0; round < 200; ++round) {
        const std::string data(static_cast<std::size_t>(round) * 997 % 200'000,
                               static_cast<char>('a' + round % 26));
        ++sequence;
        REQUIRE(push(ring, sequence, data) != nullptr);
        const auto* request = other->next_request(at);
        REQUIRE(request != nullptr);
        CHECK(request->sequence == sequence);
        CHECK(request->handler() == "handler");
        CHECK(request->data() == data);
        ring.header().released.store(at);
    }
    CHECK(other->next_request(at) == nullptr);
}

TEST_CASE("RunnerRing: a full ring takes nothing more, and again after a release", "[runner]") {
    auto made = RunnerRing::create(0);
    REQUIRE(made.has_value());
    auto& ring = **made;
    const std::string data(1 << 20, 'x');
    int pushed = 0;
    while (push(ring, 1, data) != nullptr) ++pushed;
    CHECK(pushed == 3);
    std::uint64_t at = 0;
    REQUIRE(ring.next_request(at) != nullptr);
    REQUIRE(ring.next_request(at) != nullptr);
    ring.header().released.store(at);
    CHECK(push(ring, 2, data) != nullptr);
}

TEST_CASE("RunnerRing: positions and sizes a runner scribbled over are not followed", "[runner]") {
    auto made = RunnerRing::create(0);
    REQUIRE(made.has_value());
    auto& ring = **made;
    ring.header().response_tail.store(~std::uint64_t{0});
    CHECK_FALSE(ring.next_response().has_value());
    ring.header().response_tail.store(64);
    CHECK_FALSE(ring.next_response().has_value());  // a record of no bytes
    std::uint64_t at = 0;
    ring.header().request_tail.store(kRequestBytes * 3);
    CHECK(ring.next_request(at) == nullptr);
}

TEST_CASE("FunctionPool: an answer reaches the one who waits, with its bytes", "[runner]") {
    Rig rig;
    REQUIRE(rig.feed(1));
    const auto* request = rig.runner().begin();
    REQUIRE(request != nullptr);
    rig.runner().answer(*request, CallStatus::kOk, "result");
    REQUIRE(rig.until_answered(1));
    CHECK(rig.owner.outcomes[1] == Outcome::kSucceeded);
    CHECK(rig.owner.results[1] == "result");
}

TEST_CASE("FunctionPool: a dead runner's task has failed, those behind it are handed back",
          "[runner]") {
    Rig rig;
    for (std::uint64_t id = 1; id <= 4; ++id) REQUIRE(rig.feed(id));
    const auto* first = rig.runner().begin();
    rig.runner().answer(*first, CallStatus::kOk, "one");
    REQUIRE(rig.runner().begin() != nullptr);  // it dies in the second
    rig.end_runner(-11);
    CHECK(rig.owner.outcomes[1] == Outcome::kSucceeded);
    CHECK(rig.owner.outcomes[2] == Outcome::kFailed);
    CHECK(rig.owner.handed_back == std::vector<std::uint64_t>{3, 4});
    REQUIRE(rig.feed(3));  // a new runner takes it
    CHECK(rig.owner.started == 2);
}

TEST_CASE("FunctionPool: a runner that dies idle takes no task with it", "[runner]") {
    Rig rig;
    REQUIRE(rig.feed(1));
    rig.end_runner(-9);
    CHECK(rig.owner.outcomes.empty());
    CHECK(rig.owner.handed_back == std::vector<std::uint64_t>{1});
}

TEST_CASE("FunctionPool: what overruns is flagged, then killed, and the next never begins",
          "[runner]") {
    Rig rig;
    REQUIRE(rig.feed(1, kMillisecond, kMillisecond));
    REQUIRE(rig.feed(2));
    auto* request = rig.runner().begin();
    ::usleep(3000);
    {
        const std::lock_guard hold(rig.mutex);
        (void)rig.pool.look_at_deadlines(boot_ns());
        CHECK(request->cancel.load() == 1);
        CHECK(rig.owner.killed.empty());
        (void)rig.pool.look_at_deadlines(boot_ns() + 5 * kMillisecond);
        CHECK(rig.owner.killed == std::vector<std::uint64_t>{100});
        CHECK(rig.runner().ring().header().halt.load() == 1);
    }
    rig.end_runner(-9);
    CHECK(rig.owner.outcomes[1] == Outcome::kTimedOut);
    CHECK(rig.owner.handed_back == std::vector<std::uint64_t>{2});
}

TEST_CASE("FunctionPool: one cancelled before it began is not run", "[runner]") {
    Rig rig;
    REQUIRE(rig.feed(1));
    {
        const std::lock_guard hold(rig.mutex);
        rig.pool.stop(1, StopReason::kCancel, false);
    }
    std::uint64_t at = 0;
    const auto* request = rig.runner().ring().next_request(at);
    REQUIRE(request->cancel.load() == 1);
    rig.runner().answer(*request, CallStatus::kNotRun, "");
    REQUIRE(rig.until_answered(1));
    CHECK(rig.owner.outcomes[1] == Outcome::kCancelled);
}

TEST_CASE("FunctionPool: a runner that never gets ready fails its tasks after three tries",
          "[runner]") {
    Rig rig;
    for (int tries = 1; tries <= 3; ++tries) {
        const auto deadline = boot_ns() + 10 * kSecond;
        while (!rig.feed(1) && boot_ns() < deadline) ::usleep(5000);
        rig.runner().ring().header().ready.store(0);
        rig.end_runner(3);
    }
    CHECK(rig.owner.handed_back.size() == 2);
    CHECK(rig.owner.outcomes[1] == Outcome::kFailed);
}

}  // namespace reeve::worker
