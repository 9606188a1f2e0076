// FunctionPool is the agent's side of its runners: it starts them, feeds them, takes their answers,
// ends what overruns, and puts a new runner in the place of a dead one.
//
// A runner is started when the first task of its user needs it, at most `slots` per user. It runs
// its requests in order; the agent keeps a short queue in each, so that a runner never waits for a
// round trip through the scheduler. What a dead runner had not begun goes to the next one.
//
// Each runner has a thread here that sleeps until answers come. Everything is called with the
// agent's mutex held, and the owner's functions are called with it held.
//
// INVARIANT 1  an entry leaves a queue exactly once: answered, or handed back with again().
// Tested in tests/unit/worker/function_pool_test.cc and tests/e2e/test_functions.py.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "common/base/ids.h"
#include "worker/launcher_protocol.h"
#include "worker/runner/runner_ring.h"

namespace reeve::worker {

struct FunctionStart {
    std::uint64_t id = 0;
    TaskId task;
    std::uint32_t attempt = 0;
    std::uint32_t uid = 0;
    std::uint64_t time_limit_ns = 0;  // 0: none
    std::uint64_t grace_ns = 0;
    std::string_view handler;
    std::string_view data;
};

struct FunctionAnswer {
    std::uint64_t id = 0;
    EndedRecord record;       // outcome, code, times, words
    std::string_view result;  // of a success
};

class FunctionOwner {
public:
    virtual ~FunctionOwner() = default;
    // Asks the launcher for runner `index` in its life `life`; the ring is its stdin. Returns the
    // id its end will be told under, or 0.
    virtual std::uint64_t start_runner(std::uint32_t index, std::uint32_t life,
                                       const RunnerRing& ring) = 0;
    virtual void kill_runner(std::uint64_t launch_id) = 0;
    virtual void answered(const FunctionAnswer& answer) = 0;
    virtual void again(std::uint64_t id) = 0;  // it never began: feed it once more
    virtual void flush() = 0;                  // some answers were taken
};

class FunctionPool {
public:
    FunctionPool(FunctionOwner& owner, std::mutex& mutex, std::uint32_t slots);
    ~FunctionPool();
    FunctionPool(const FunctionPool&) = delete;
    FunctionPool& operator=(const FunctionPool&) = delete;

    // The mutex is held in all of these.
    bool has_room(std::uint32_t uid, std::size_t bytes);
    // The pid of the runner that took it (0: it is only starting), or nullopt: later.
    std::optional<std::uint32_t> feed(const FunctionStart& start);
    void wake_fed();  // runners that were fed since the last call
    void stop(std::uint64_t id, StopReason reason, bool no_grace);
    // Ends what is over its time; returns when to come again (boot clock), ~0: no need.
    std::uint64_t look_at_deadlines(std::uint64_t now_ns);
    bool runner_ended(const EndedRecord& record);  // false: not one of ours
    void start_all(std::uint32_t uid);             // before anybody needs them

    // A new agent, or a new segment: runners that live, and what they hold.
    void adopt(const AliveRecord& alive);
    bool claim(TaskId task, std::uint32_t attempt, const FunctionStart& start);
    void pause();      // answers wait in the rings; entries forget their ids
    void resume();     // entries nobody claimed are cancelled
    void shut_down();  // not with the mutex held: ends the threads

private:
    struct Entry {
        std::uint64_t sequence = 0;
        std::uint64_t id = 0;  // 0: nobody waits for it
        TaskId task;
        std::uint32_t attempt = 0;
        std::uint64_t end = 0;  // position behind its request
        RequestRecord* request = nullptr;
        std::uint64_t time_limit_ns = 0;
        std::uint64_t grace_ns = 0;
        std::uint64_t kill_at_ns = 0;  // 0: it may run on
        StopReason reason = StopReason::kNone;
    };
    struct Runner {
        std::uint32_t index = 0;
        std::uint32_t uid = 0;
        std::uint32_t life = 0;
        std::uint64_t launch_id = 0;
        std::shared_ptr<RunnerRing> ring;  // none: not started
        std::deque<Entry> queue;
        std::uint64_t next_sequence = 1;
        std::uint64_t not_before_ns = 0;
        std::uint32_t failures = 0;  // starts that came to nothing, in a row
        bool killed = false;
        bool fed = false;
        std::thread thread;
    };

    Runner* choose(std::uint32_t uid);
    Runner& make(std::uint32_t index);
    bool ensure_started(Runner& runner);
    bool take_answers(Runner& runner);
    void take_answer(Runner& runner, const Response& response);
    static void describe_stop(const Entry& entry, EndedRecord& record);
    void tell(const Runner& runner, const Entry& entry, const Response& response);
    void tell_ended(const Entry& entry, const EndedRecord& record);
    void end_front(Runner& runner, std::uint64_t now_ns);
    void reap(Runner& runner);

    FunctionOwner& owner_;
    std::mutex& mutex_;
    const std::uint32_t slots_;
    std::vector<std::unique_ptr<Runner>> runners_;
    bool paused_ = true;
    std::atomic<bool> over_{false};
};

}  // namespace reeve::worker
