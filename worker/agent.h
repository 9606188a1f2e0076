// Agent is the half of a worker that speaks with the segment: it starts what the scheduler
// dispatched, obeys intents, and writes the endings that its launcher reports.
//
// Two threads, both under one mutex: the main one sleeps on the worker slot's wake word (dispatch,
// intents, heartbeat); the reader blocks on the launcher's socket and handles endings at once. So
// neither path pays for a second hand-off.
//
// Order of a start: the slot word becomes RUNNING and its event is pushed before the launcher hears
// of the task: whoever is fenced off never executes. With kTaskAtMostOnce the launcher hears of it
// only when the PLM's ring head has passed that event, which means it is durable.
//
// A follower (scheduler/ahead.h) waits in the launcher, which makes its word RUNNING itself when
// the one before it is over; we hear of it and push the event then.
//
// A function's start is told together with its end where that comes soon (kTellStartNs): one event
// from ASSIGNED to ENDED, and the start's time in the slot.
//
// Death   between RUNNING and the launcher: the next agent finds a running slot its launcher does
//         not know, and starts it then (it never ran). Between the launcher's ended record and our
//         CAS: the record is told again to the next agent. Tested in tests/unit/worker/.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "common/base/clock.h"
#include "common/process/cell.h"
#include "common/process/cgroup.h"
#include "common/process/host.h"
#include "common/role/role.h"
#include "common/shm/function_block.h"
#include "common/shm/ring.h"
#include "common/shm/segment.h"
#include "common/shm/wake.h"
#include "worker/function_pool.h"
#include "worker/launcher_protocol.h"
#include "worker/gpu/gpu_watch.h"
#include "worker/output_digest.h"
#include "worker/task_text.h"
#include "worker/worker.h"

namespace reeve::worker {

inline constexpr std::uint64_t kTellStartNs = 5 * kMillisecond;

class Agent final : private FunctionOwner {
public:
    Agent(const Cell& cell, const WorkerOptions& options);
    ~Agent() override;
    Agent(const Agent&) = delete;
    Agent& operator=(const Agent&) = delete;

    // Finds or forks the launcher; before any thread. 0, or the exit code to leave with.
    int find_launcher(const std::string& socket_path);
    // Until asked to stop. The exit code of worker_main.
    int serve();

private:
    using OutputDigest = std::optional<merkle::Hash>;
    enum class Verdict : std::uint8_t { kGoOn, kRetired, kJudged, kLauncherGone, kStopped };

    struct Files {
        std::string output;  // "": none
        std::string error;   // "": none of its own
        std::uint32_t uid = 0;
        std::uint32_t gid = 0;
        bool remove = false;  // after a success
        bool known = false;
    };
    struct Running {
        std::uint64_t id = 0;
        std::uint32_t slot = 0;
        shm::SlotWord word;  // as it is now: running or suspended
        TaskId task;
        bool stop_sent = false;
        std::vector<int> cpus;       // pinned
        std::uint64_t gpu_mask = 0;  // as in its slot
        bool function = false;       // the pool has it, not the launcher
        Files files;
    };
    struct Outgoing {
        std::string message;
        std::vector<int> fds;  // ours until sent
    };
    // RUNNING, but its event is not durable yet, or no runner had room for it.
    struct Waiting {
        std::uint64_t ring_position = 0;
        std::uint64_t id = 0;
        StartText start;
        std::string input;
    };
    // RUNNING, and the PLM has not been told.
    struct Untold {
        std::uint32_t slot = 0;
        shm::SlotWord word;
        std::uint64_t since_ns = 0;
    };
    struct Follower {
        shm::SlotHint before;  // the one it waits for
        shm::SlotWord word;    // ASSIGNED
        Running running;       // as it will be
    };
    struct ParsedPayload {
        std::string bytes;
        v1::TaskSpec spec;
        bool valid = false;
    };

    // agent_join.cc
    bool attach(std::unique_ptr<shm::Segment> segment);
    bool take_slot_back();
    bool claim_slot();
    void fill_slot();
    void end_stale_cgroups();
    void configure_launcher();
    void adopt();
    struct BegunBefore {
        std::uint64_t id = 0;
        pid_t pid = 0;  // 0: not known
        std::uint64_t gpu_mask = 0;
    };
    BegunBefore begun_before(const shm::TaskSlot& task, shm::SlotWord word,
                             const std::unordered_map<std::uint64_t, AliveRecord>& known) const;
    void adopt_slot(std::uint32_t slot, shm::SlotWord word,
                    std::unordered_map<std::uint64_t, AliveRecord>& known);
    std::vector<int> pinned_before(std::uint64_t id, pid_t pid, const v1::TaskSpec& spec);
    void detach();

    // agent_tasks.cc: the mutex is held
    bool drain_dispatch();
    bool start_task(std::uint32_t slot, shm::SlotWord word);
    bool launch(std::uint32_t slot, shm::SlotWord word, bool wait_durable);
    Result<const v1::TaskSpec*> payload_of(const shm::TaskSlot& task);
    Result<StartText> text_for(std::uint32_t slot, shm::SlotWord word, const v1::TaskSpec& spec);
    void send_start(std::uint64_t id, StartText& start, const std::string& input);
    void end_unstarted(std::uint32_t slot, shm::SlotWord word, Outcome outcome,
                       const std::string& detail);
    bool start_durable();
    bool look_at_running();
    bool look_at_one(Running& running, bool& over);
    bool obey_stop(Running& running, bool cancel, bool& over);
    bool obey_freeze(Running& running, bool frozen);
    void on_ended(const EndedRecord& record, const OutputDigest& digest = std::nullopt);
    void on_started(const StartedRecord& record);
    void write_result(shm::TaskSlot& task, const EndedRecord& record, const OutputDigest& digest);
    void finish(std::uint32_t slot, shm::SlotWord from, const EndedRecord& record,
                const OutputDigest& digest = std::nullopt);
    void refused(std::uint32_t slot, shm::SlotWord attempted, TaskId task);
    void remember(Running&& running);
    void forget(std::uint64_t id);
    void sweep_assigned();
    void pin(const v1::TaskSpec& spec, StartText& start, std::vector<int>& cpus);
    bool push_moved(std::uint32_t slot, shm::SlotWord from, shm::SlotWord to, Outcome outcome,
                    std::int32_t code);
    void tell_start_later(std::uint32_t slot, shm::SlotWord word);
    void tell_starts(std::uint64_t now_ns);
    void hint_scheduler(std::uint32_t slot, shm::SlotWord word);
    bool room_for_start() const;
    bool waits_for_endings() const;
    bool is_mine(shm::SlotWord word) const;

    // agent_ahead.cc: likewise
    void tell_segment(const std::string& name);
    void take_follower(std::uint32_t slot, shm::SlotWord word, const shm::SlotHint& before);
    static bool names(const shm::SlotHint& hint, const Running& one);
    std::uint64_t id_of(const shm::SlotHint& hint) const;
    void send_behind(Follower& follower, std::uint64_t after_id);
    void send_line(const Running& first);
    void on_began(const BeganRecord& record);
    bool look_at_followers();
    void forget_follower(std::uint32_t slot);

    // agent_functions.cc: likewise; the overrides are the pool's
    std::uint64_t start_runner(std::uint32_t index, std::uint32_t life,
                               const RunnerRing& ring) override;
    void kill_runner(std::uint64_t launch_id) override;
    void answered(const FunctionAnswer& answer) override;
    void again(std::uint64_t id) override;
    void flush() override;
    v1::TaskSpec runner_spec(std::uint32_t index, std::uint32_t uid) const;
    bool has_function_room(const shm::TaskSlot& task);
    void launch_function(std::uint32_t slot, shm::SlotWord word, bool wait_durable);
    bool feed_function(const Running& running);
    FunctionStart function_start(const Running& running, const shm::FunctionView& view) const;
    void adopt_runners(std::unordered_map<std::uint64_t, AliveRecord>& known);
    void adopt_function(std::uint32_t slot, shm::SlotWord word);
    bool store_result(const Running& running, std::string_view result, EndedRecord& record);
    // agent_after.cc: look_after() reads files and needs no mutex; agent_gpus.cc
    void make_spaces();
    OutputDigest look_after(EndedRecord& record, const Files& files);
    Files files_of_running(std::uint64_t id) const;
    void clear_space(EndedRecord& record, bool other_user);
    void hear_task(EndedRecord& record, const std::string& file, std::uint32_t uid);
    void find_gpus();
    void note_gpu(std::size_t position, const GpuLoad& load);
    static Files files_of(const StartText& start, const v1::TaskSpec& spec);

    // agent.cc
    void send(std::string message, std::vector<int> fds = {});
    void queue_batch();
    void stop_attempt(Running& running, StopReason reason, bool no_grace);
    bool flush_outgoing();
    void wake_others();
    bool step();
    Verdict look_around();
    Verdict run_attached();
    void stop_politely();
    void read_launcher();
    void handle_message(std::string_view message);
    void hear_starts(std::string_view message);

    const Cell& cell_;
    WorkerOptions options_;
    HostCpus host_;
    CgroupSupport cgroups_;
    std::uint64_t memory_bytes_ = 0;

    std::mutex mutex_;
    std::unique_ptr<shm::Segment> segment_;
    std::optional<SegmentHold> hold_;  // of segment_
    std::uint32_t worker_index_ = shm::kNone32;
    shm::WorkerSlot* self_ = nullptr;
    shm::HintRing dispatch_;
    shm::HintRing completion_;
    shm::EventRing events_;
    std::uint16_t owner_ = 0;
    WorkerId id_;
    WorkerContext context_;
    UserTable users_;

    int launcher_fd_ = -1;
    pid_t launcher_pid_ = 0;
    std::uint64_t launcher_ticks_ = 0;
    bool launcher_configured_ = false;
    std::string cgroup_;
    std::unordered_map<std::uint64_t, AliveRecord> launcher_alive_;  // told at take-over
    std::atomic<bool> launcher_gone_{false};
    std::thread reader_;
    std::unique_ptr<GpuWatch> gpu_watch_;

    std::uint64_t next_id_ = 1;
    std::unordered_map<std::uint64_t, Running> running_;
    std::vector<decltype(running_)::node_type> spare_;  // of it
    std::deque<Waiting> waiting_;
    std::vector<Follower> followers_;
    shm::SlotHint before_;               // the last one taken from the ring
    std::vector<shm::SlotWord> untold_;  // by slot: RUNNING, and its next event begins at ASSIGNED
    std::deque<Untold> starts_;          // some of them are told by now
    std::deque<Outgoing> outgoing_;
    MessageWriter batch_;
    std::deque<EndedRecord> unhandled_;  // arrived while not attached
    std::uint64_t handled_sequence_ = 0;
    std::uint64_t acknowledged_sequence_ = 0;
    std::unordered_map<std::uint64_t, ParsedPayload> parsed_;  // by payload offset
    FunctionPool functions_;
    std::uint64_t function_deadline_ns_ = ~std::uint64_t{0};
    std::vector<int> free_cpus_;
    // Ended because no slot knows them: what they hold is theirs until the launcher says so.
    std::unordered_set<std::uint64_t> ending_;
    std::uint64_t ending_until_ns_ = 0;
    std::unordered_map<std::uint64_t, std::vector<int>> pinned_;  // by id, while not attached
    bool stopping_ = false;
    bool crowded_ = false;                  // the segment has no number left for a resource of ours
    NamedCounts named_;                     // what we offer of them
    std::optional<shm::Urgency> wake_plm_;  // after this step
    bool wake_scheduler_ = false;
    bool blocked_ = false;  // the event ring has no room for a start
    std::uint64_t next_sweep_ns_ = 0;
    std::uint64_t bounce_from_ns_ = 0;  // while stopping: the register had its chance to drain us
    std::uint64_t next_acknowledge_ns_ = 0;
};

}  // namespace reeve::worker
