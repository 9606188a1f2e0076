// Attempts is the launcher's table of running attempts: starts them, stops them, empties them.
//
// One attempt: start -> running -> (stopping: TERM sent -> killing: KILL sent) -> reaped ->
// (emptying: what it left behind is being killed) -> ended. Its directory is gone before its ended
// record is handed out, so "ended" means that nothing of it runs any more.
//
// Without cgroups the process group is killed, then whatever was reparented to us (we are a
// subreaper) and belongs to the attempt by session or environment.
//
// Single-threaded by design; it may be used by one thread of one process only, which must be the
// one that reaps children.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include <sys/resource.h>
#include <sys/types.h>

#include "common/process/cgroup.h"
#include "common/process/spawn.h"
#include "worker/followers.h"
#include "worker/launcher_protocol.h"
#include "worker/output_limit.h"

namespace reeve::worker {

// Memory a starting child uses beside us; free again once it executed.
struct LaunchBlock {
    char* stack = nullptr;
    std::uint32_t in_use = 0;
    std::vector<std::uint64_t> record;  // 8-aligned bytes of the kStart record
    StartView view;
    ChildPlan plan;
};

inline constexpr std::uint64_t kStartedDelayNs = 10'000'000;
inline constexpr std::uint64_t kEndedDelayNs = 5'000'000;
inline constexpr std::size_t kEnoughBehind = 2;  // while the next ones are on their way

class Attempts {
public:
    Attempts();
    ~Attempts();
    Attempts(const Attempts&) = delete;
    Attempts& operator=(const Attempts&) = delete;

    // Once, before the first start.
    void configure(CgroupSubtree subtree, std::string instance, std::string output_root);

    // Takes `input_fd` (-1: none) over. A failed start yields an ended record like any other.
    void start(std::string_view record, int input_fd);
    // The body of a kStartBehind record: started when that one is over, or now. False: damaged.
    bool start_behind(std::string_view body);
    void stop(std::uint64_t id, StopReason reason, bool no_grace);
    void freeze(std::uint64_t id, bool frozen);
    void rename(std::uint64_t id, const AttemptName& name);
    void stop_all(StopReason reason);  // without grace

    void reap();                            // after SIGCHLD
    void run_timers(std::uint64_t now_ns);  // when next_deadline_ns() has passed
    std::uint64_t next_deadline_ns() const { return next_deadline_ns_; }  // ~0: none

    std::size_t alive() const { return by_id_.size(); }
    std::uint64_t next_id() const { return next_id_; }
    std::vector<AliveRecord> list() const;

    // New since they were last taken, in order. A start is worth a message of its own only once it
    // has lasted for kStartedDelayNs: most short tasks are told by their ending alone.
    std::vector<StartedRecord>& started() { return started_; }
    std::uint64_t started_due_ns() const { return started_due_ns_; }  // ~0: nothing waits
    void started_told() {
        started_.clear();
        started_due_ns_ = ~std::uint64_t{0};
    }
    std::deque<EndedRecord>& ended() { return ended_; }
    // An ending is told at once unless another task took its place and enough wait behind that:
    // then many are told together, a little later.
    std::uint64_t ended_due_ns() const { return ended_due_ns_; }  // ~0: nothing waits
    void tell_ended() { ended_due_ns_ = 0; }
    void ended_told() { ended_due_ns_ = ~std::uint64_t{0}; }
    std::vector<BeganRecord>& began() { return began_; }
    Followers& followers() { return followers_; }
    bool is_alive(std::uint64_t id) const { return by_id_.contains(id); }
    const CgroupSubtree& subtree() const { return subtree_; }
    void remove_subtree() { subtree_.remove_subtree(); }

private:
    enum class Phase : std::uint8_t { kRunning, kStopping, kKilling, kEmptying };

    struct Attempt {
        std::uint64_t id = 0;
        AttemptName name;
        pid_t pid = 0;
        Phase phase = Phase::kRunning;
        bool frozen = false;
        bool told_stuck = false;
        bool stillborn = false;
        StopReason reason = StopReason::kNone;
        AttemptCgroup cgroup;
        std::uint64_t memory_limit_bytes = 0;
        std::uint64_t time_limit_ns = 0;
        std::uint64_t grace_ns = 0;
        std::uint64_t deadline_ns = ~std::uint64_t{0};
        std::uint64_t time_left_ns = 0;  // of the time limit, while frozen
        std::uint64_t kill_started_ns = 0;
        std::uint64_t pause_ns = 0;
        std::uint64_t started_wall_ns = 0;
        std::uint64_t ended_wall_ns = 0;
        int wait_status = 0;
        rusage usage{};
        std::uint64_t oom_kills = 0;
        OutputLimit output;
        LaunchBlock* block = nullptr;
    };

    LaunchBlock* take_block();
    void give_block(LaunchBlock* block);
    // Each returns "" or what is wrong, in words for the task's owner.
    std::string prepare(Attempt& attempt, std::string_view record);
    std::string spawn(Attempt& attempt, std::uint32_t index, int input_fd);
    Status make_cgroup(Attempt& attempt, int& cgroup_fd);
    SpawnResult clone_child(Attempt& attempt, int cgroup_fd);
    void fill_plan(Attempt& attempt, std::uint32_t index, int input_fd);
    void refuse(const AttemptName& name, std::uint64_t id, const std::string& detail);
    std::uint32_t new_index();
    void on_main_ended(std::uint32_t index, int status, const rusage& usage);
    bool empty_out(Attempt& attempt);
    void finish(std::uint32_t index);
    bool begin_follower(std::uint64_t after_id);
    static void signal_group(pid_t pid, int number);
    static void await_group(pid_t pid);
    void kill_now(Attempt& attempt, std::uint64_t now_ns);
    void set_deadline(Attempt& attempt, std::uint64_t deadline_ns);
    void on_deadline(std::uint32_t index, std::uint64_t now_ns);
    void retry_emptying();
    void trim_outputs(std::uint64_t now_ns);
    void limit_output(Attempt& attempt, const StartView& view);
    bool ended_already(const Attempt& attempt) const;
    bool belongs(pid_t orphan, const Attempt& attempt) const;
    int kill_orphans(const Attempt& attempt);
    bool reap_one();
    Attempt* find(std::uint64_t id);

    CgroupSubtree subtree_;
    std::string instance_;
    std::string output_root_;
    pid_t self_ = 0;
    bool share_memory_ = false;
    ChildReport* reports_ = nullptr;  // one per index, shared with children
    std::vector<Attempt> table_;
    std::vector<std::uint32_t> free_;
    std::unordered_map<std::uint64_t, std::uint32_t> by_id_;
    std::unordered_map<pid_t, std::uint32_t> by_pid_;
    std::vector<std::uint32_t> emptying_;
    std::vector<std::unique_ptr<LaunchBlock>> blocks_;
    std::vector<LaunchBlock*> free_blocks_;
    std::vector<LaunchBlock*> leaving_blocks_;  // their child may not have executed yet
    std::vector<StartedRecord> started_;
    std::deque<EndedRecord> ended_;
    std::vector<BeganRecord> began_;
    Followers followers_;
    std::uint64_t next_deadline_ns_ = ~std::uint64_t{0};
    std::uint64_t started_due_ns_ = ~std::uint64_t{0};
    std::uint64_t ended_due_ns_ = ~std::uint64_t{0};
    std::uint64_t next_trim_ns_ = ~std::uint64_t{0};
    std::uint64_t next_id_ = 1;
    std::uint64_t next_sequence_ = 1;
};

}  // namespace reeve::worker
