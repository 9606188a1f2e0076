// Core is the PLM's one thread: it gathers, commits, and only then lets effects happen.
//
//   gather   requests of gRPC threads (a queue), events of all rings, timers
//   decide   records and audit entries into the CommitBatch (the model follows at once)
//   seal     the batch is complete; what others will be told of the model is copied
//   flush    one ledger row; a large one by the Flusher's thread, while the core gathers what only
//            adds to the next batch: submissions and events (gather_beside)
//   effects  ring heads advance, slots are published and freed, intents set, callers answered
//
// One batch is in flight at most. Everything else (actions, admissions, timers, the sweep) waits
// until it has landed and its effects are done, so that only effects of durable batches move slots.
//
// Nothing is acknowledged or visible to another process before it is durable, except a PLM's own
// move of a queued slot (cancel, hold), which a restart finds in the slot and records. If the
// ledger cannot be written the same batch is tried again each second and nothing is acknowledged
// until it goes through; running tasks go on.
//
// Thread-safe: the Backend methods. All else belongs to the core thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "common/audit/log.h"
#include "common/process/cell.h"
#include "common/shm/ring.h"
#include "common/shm/segment.h"
#include "plm/core/action.h"
#include "plm/core/backlog.h"
#include "plm/core/batch.h"
#include "plm/core/effects.h"
#include "plm/core/flusher.h"
#include "plm/core/gates.h"
#include "plm/core/model.h"
#include "plm/core/slot_table.h"
#include "plm/ledger/history.h"
#include "plm/ledger/ledger.h"
#include "plm/plm.h"
#include "plm/server/backend.h"

namespace reeve::plm {

inline constexpr std::uint64_t kRunWindow = 1'024;  // queued tasks of one run outside it
inline constexpr std::uint64_t kAdmitPerBatch = 8'192;
inline constexpr std::size_t kWorstKept = 1'024;  // of a class, looked up at once
inline constexpr std::uint64_t kTurnNs = 1'000'000'000;
inline constexpr std::size_t kTurnChunks = 64;
inline constexpr std::uint64_t kEventsPerBatch = 16'384;
inline constexpr std::uint64_t kSweepIntervalNs = 1'000'000'000;
inline constexpr std::uint64_t kDiskLookNs = 10'000'000;
// How long a small commit rests: so many times what it took, and at most so long; longer where so
// many tasks ended in it that the processors are short of time for tasks, not for their records.
struct Rest {
    std::uint64_t times;
    std::uint64_t max_ns;
};
inline constexpr Rest kRest{4, 2'000'000};
inline constexpr Rest kLongRest{16, 8'000'000};
inline constexpr std::size_t kManyEnded = 4;
// A smaller batch is written by the core itself: handing it over would take longer than gathering
// beside it saves.
inline constexpr std::size_t kHandOverBytes = 8U << 10;
inline constexpr std::size_t kBesideBytesMax = 8U << 20;     // gathered beside a flush
inline constexpr std::uint64_t kBesideLookNs = 250'000;      // for events; requests wake
inline constexpr std::uint64_t kInferAfterNs = 200'000'000;  // how long a missing event may be late
inline constexpr std::uint64_t kLiveJobsMax = 20'000'000;

class Core final : public Backend {
public:
    Core(const Cell& cell, const PlmOptions& options);
    ~Core() override;

    // Opens ledger, history and audit log, rebuilds the model, and re-uses or makes the segment.
    // Errors: kDataLoss (damaged ledger or audit log: says where and what to do),
    // kResourceExhausted.
    Status open();
    // Runs until stop(); returns what made it give up, if anything.
    Status run();
    void stop();  // any thread
    // After run(), before the server shuts down: answers what is left with kUnavailable.
    void refuse_rest();

    void submit(Submission submission, Done<v1::SubmitReply> done) override;
    void act(Identity who, v1::ActRequest request, Done<v1::ActReply> done) override;
    void get(Identity who, v1::GetRequest request, Done<v1::GetReply> done) override;
    void watch(Identity who, v1::WatchRequest request, std::shared_ptr<WatchSink> sink) override;
    void unwatch(std::shared_ptr<WatchSink> sink) override;
    void audit_head(v1::AuditHeadRequest request, Done<v1::AuditHeadReply> done) override;
    void drain(Identity who, v1::DrainRequest request, Done<v1::DrainReply> done) override;
    void info(Done<v1::ServerInfoReply> done) override;
    void ledger(v1::LedgerRequest request, Done<v1::LedgerReply> done) override;
    void events(std::shared_ptr<EventSink> sink) override;

private:
    struct Watcher {
        std::shared_ptr<WatchSink> sink;
        std::set<JobId> open;  // jobs it still waits for
        bool results = false;
        bool gone = false;
    };
    enum class MayRun : std::uint8_t {
        kBetweenFlushes,
        kBesideFlush,  // only adds to the record
    };
    struct Post {
        std::function<void()> run;
        std::function<void()> refuse;  // instead, when the core stops
        MayRun may_run = MayRun::kBetweenFlushes;
    };
    struct RingCursor {
        shm::EventRing ring;
        std::uint64_t at = 0;     // next to look at
        std::uint64_t limit = 0;  // captured tail
        std::uint64_t blocked_since_ns = 0;
    };

    // core.cc: the loop
    void post(std::function<void()> run, std::function<void()> refuse,
              MayRun may_run = MayRun::kBetweenFlushes);
    template <typename T>
    static std::function<void()> refusal(const Done<T>& done) {
        return [done] { done(fail(ErrorCode::kUnavailable, "the PLM is stopping; ask again")); };
    }
    bool gather();
    bool asked();
    Status check_home();
    void pace();
    void sleep_until_work();
    void publish_loop();
    void want_trim();
    void wake_publisher();
    bool publish_or_complain();
    Status publish_audit();
    Status make_files_durable(std::uint64_t leaves);
    void tell_events();

    // core_commit.cc: what was gathered becomes durable, then takes effect
    Status commit();
    void seal();
    Status flush();
    Status write_batch();
    Status write_beside_gathering();
    Status keep_trying(Status written);
    bool gather_beside();
    bool asked_beside();
    void effects();
    bool snapshot_due() const;
    void maybe_snapshot();
    std::vector<std::string> snapshot_parts();
    void gather_budgets(Effects& due);
    void tell_budgets(Effects& due);
    void wake_scheduler();
    void wake_holder(shm::SlotWord word);

    // core_open.cc: recovery and the segment
    Status replay();
    Status open_audit_log();
    Status set_orphaned_log_aside();
    std::string log_key() const { return cell_.dir + "/audit.key"; }
    void hand_on_entries();
    Status attach_segment();
    Status create_segment(std::uint32_t generation);
    bool reuse_segment(const std::string& name);
    void adopt_slot(std::uint32_t slot);
    void publish_orphans();
    void drop_stale_results();

    // core_events.cc: what the others did
    void capture(RingCursor& cursor);
    bool drain_events();
    void fetch_ahead(const RingCursor& cursor) const;
    bool drain_ring(std::uint32_t index, bool force, std::uint64_t& budget);
    bool apply_event(const shm::Event& event, bool force);
    bool apply_moved(const shm::Event& event, bool force);
    void advance(std::uint32_t slot, shm::SlotWord target, const shm::Event& event);
    shm::SlotWord step(std::uint32_t slot, Job& job, Task& task, shm::SlotWord target,
                       const shm::Event& event);
    void attempt_assigned(std::uint32_t slot, Job& job, Task& task, shm::SlotWord word,
                          const shm::Event& event);
    bool thawed(std::uint32_t slot, shm::SlotWord target) const;
    void attempt_frozen(Job& job, Task& task, std::uint64_t ordinal, bool frozen,
                        std::uint64_t wall_ns);
    void attempt_started(std::uint32_t slot, Job& job, Task& task, std::uint64_t wall_ns);
    const WorkerRecord* death_of(WorkerId worker);  // nullptr: nobody declared it dead
    // Of such an attempt nothing but its requeue is told any more.
    bool orphan_of_dead(shm::SlotWord word, WorkerId worker) {
        return word.owner() == shm::kOwnerOrphan && death_of(worker) != nullptr;
    }
    bool record_requeued(TaskId task, std::uint16_t attempt, WorkerId holder,
                         std::uint64_t wall_time, std::int32_t code);
    void attempt_requeued(Job& job, Task& task, std::uint64_t ordinal, const shm::Event& event);
    void attempt_ended(std::uint32_t slot, Job& job, Task& task, const shm::Event& event);
    void record_ending(TaskId id, const Task& task, const TaskEnded& ended,
                       const shm::Event& event);
    void preempt_asked(const shm::Event& event);
    void tell_preempted(std::uint32_t slot, const Task& task, TaskEnded& ended);
    void worker_event(const shm::Event& event);
    void sweep();

    // core_gates.cc: limits and quotas
    void apply_policy(CellPolicy policy);
    void watch_policy();
    Gates::Tolls tolls_of(const Job& job);
    void pass_gates(Job& job, std::uint64_t& run_key, std::uint64_t& loose_key);
    void tell_gate(Job& job, bool stopped);
    std::uint64_t taken_by(const Job& job) const;
    bool has_token(const Job& job) const;
    Status check_gates(const v1::JobSpec& spec, std::uint32_t uid);

    // core_admit.cc: runs into slots and out again
    void reindex(Job& job);
    void reindex_dirty();
    bool startable(Job& job) const;
    void admit();
    void record_submitted(const Job& job, std::uint64_t ordinal, std::uint64_t cause);
    void publish_loose();
    void take_turns();
    bool publish_job(Job& job, std::uint64_t most = kNotIndexed);
    bool make_room(std::uint64_t key);
    bool take_place(Job& job, std::uint64_t key);
    bool swap_out(std::uint32_t slot);
    void release_slots();
    void retry_intents();

    // core_requests.cc and core_actions.cc: what clients ask
    Result<v1::SubmitReply> accept(Submission& submission);
    bool disk_full();
    Status check_submission(Submission& submission, std::vector<JobId>& existing);
    Status resolve_labels(Submission& submission, const std::vector<JobId>& ids);
    Status check_capacity(const v1::JobSpec& spec) const;
    Status check_key(const v1::JobSpec& spec, JobId known);
    void act_on_named(Job& job, std::uint64_t element, Action& action);
    void act_on_element(Job& job, std::uint64_t ordinal, v1::ActionKind action,
                        v1::ActResult& result);
    void act_on_waiting(Job& job, std::uint64_t ordinal, v1::ActionKind action,
                        v1::ActResult& result);
    void cancel_task(Job& job, std::uint64_t ordinal, std::int32_t code);
    void cancel_run(Job& job, std::uint64_t first, std::uint64_t last, std::int32_t code);
    void cancel_rest(Job& job, std::int32_t code);
    void cancel_stretches(Job& job, const Stretches& ranges, std::int32_t code);
    RestOfRun rest_of(const Job& job) const;
    void cancel_job(Job& job, std::int32_t code, const std::string& reason);
    void finish_cancelled(Job& job, std::uint64_t ordinal, std::int32_t code);
    bool hold_task(Job& job, std::uint64_t ordinal, Task& task);
    bool release_task(Job& job, std::uint64_t ordinal, Task& task);
    void hold_job(Job& job, v1::ActResult& result);
    void release_job(Job& job, v1::ActResult& result);
    void hold_each(Job& job);
    std::uint64_t hold_queued(Job& job);
    void record_job_held(const Job& job, audit::Kind kind);
    void retry_element(Job& job, std::uint64_t ordinal);
    void ask_holder(Job& job, std::uint64_t ordinal, Task& task, std::uint32_t intent);
    void let_go_on(Job& job, std::uint64_t ordinal, Task& task);
    void record_intent(const Job& job, std::uint64_t ordinal, const Task& task,
                       std::uint32_t intent);
    void act_on_placed(Job& job, std::uint64_t ordinal, Task& task, v1::ActionKind action,
                       v1::ActResult& result);
    void update_job(Job& job, const v1::ActRequest& request);
    void write_keys(Job& job);
    void watch_deadline(Job& job);
    bool settle_urgency(Job& job, std::uint64_t now_ns);
    void notice_deadlines(std::uint64_t now_ns);
    void resolve_dependencies();
    void check_dependencies(JobId id);
    bool dependencies_met(Job& job, JobId& broken) const;

    // core_act.cc: people's actions, piece by piece
    void work_actions();
    Status check_known(const v1::ActRequest& request) const;
    bool go_on(Action& action, std::uint64_t until);
    bool begin_selection(Action& action, Job* job);
    bool act_on_job(Job& job, Action& action, std::uint64_t until);
    bool act_on_all(Job& job, Action& action, std::uint64_t until);
    void hold_or_release(Job& job, std::uint64_t ordinal, Task& task, bool hold,
                         v1::ActResult& result);
    bool suspend_all(Job& job, Action& action, std::uint64_t until);
    bool cancel_all(Job& job, Action& action, std::uint64_t until);
    template <typename Act>
    bool for_tasks(Job& job, Action& action, std::uint64_t until, Act act);

    // core_gangs.cc: tasks that start together or not at all
    void look_at_gangs();
    void mend_gang(Job& job);
    bool some_waits(const Job& job) const;

    // core_nodes.cc: workers that take nothing new
    void note_notice(std::uint32_t index, std::uint64_t in_ms, v1::DrainReply& reply);
    void clear_noticed(std::uint32_t index, v1::DrainReply& reply);
    void keep_noticed_clear();

    // core_results.cc: results of functions, and of submit streams
    TaskEnded& begin_ending(const Task& task);
    void take_result(std::uint32_t slot, TaskId id, TaskEnded& ended);
    StreamedResults* results_for(const Job& job);
    void note_result(const Job& job, const TaskEnded& ended);
    void note_job_ended(JobId id);
    void tell_results(Effects& due);

    // core_views.cc: what clients see
    v1::JobStatus status_of(Job& job, bool with_spec, bool with_tasks) const;
    v1::TaskResult result_of(const Job& job, const TaskEnded& ended);
    void gather_news(Effects& due);
    void notify_watchers(Effects& due);
    void start_watch(const v1::WatchRequest& request, const std::shared_ptr<WatchSink>& sink);
    void drop_watcher(WatchSink* sink);

    Cell cell_;
    PlmOptions options_;
    Model model_;
    CommitBatch batch_{model_};  // gathering
    Effects open_;               // of it
    SealedBatch sealed_batch_;   // in flight, or done
    Effects sealed_;             // of it
    std::unique_ptr<Ledger> ledger_;
    std::unique_ptr<History> history_;
    std::unique_ptr<audit::AuditLog> audit_log_;
    std::unique_ptr<shm::Segment> segment_;
    std::unique_ptr<SlotTable> slots_;
    std::vector<RingCursor> rings_;

    std::mutex requests_mutex_;
    std::vector<Post> requests_;
    bool accepting_ = true;  // guarded by requests_mutex_

    Backlog backlog_;
    Gates gates_;
    bool gangs_ = false;                         // there is, or was, one
    std::set<JobId> torn_gangs_;                 // a part of it is placed, a part waits
    bool gated_ = false;                         // some job or user has a limit
    std::vector<JobId> woken_;                   // at their gates
    std::optional<std::uint64_t> policy_stamp_;  // of the file as last read
    std::set<std::pair<std::uint64_t, JobId>> begin_times_;
    std::set<std::pair<std::uint64_t, JobId>> deadline_times_;  // near, and past
    std::uint64_t backlog_tasks_ = 0;
    std::uint64_t room_blocked_key_ = ~std::uint64_t{0};
    std::uint64_t turns_taken_ns_ = 0;
    std::uint64_t turn_key_ = 0;  // of the class that had its turn last

    std::vector<std::uint32_t> to_free_;     // ended and durable; wait for the claim to clear
    std::vector<std::uint32_t> to_requeue_;  // queued again in the record; wait likewise
    std::set<std::uint32_t> intents_;        // slots whose holder was asked for something
    std::unordered_map<std::uint32_t, JobId> preempted_for_;  // slot of a victim -> who asked
    std::uint64_t result_bytes_taken_ = 0;                    // by the event under way
    TaskEnded ending_;                                        // likewise; its memory is kept
    std::vector<std::uint32_t> touched_;
    std::map<std::uint32_t, std::uint64_t> sweep_suspects_;  // slot -> word seen by the last sweep
    std::uint64_t last_sweep_ns_ = 0;
    std::uint64_t last_look_ns_ = 0;  // check_home()
    std::uint64_t disk_looked_ns_ = 0;
    bool disk_full_ = false;
    std::uint64_t ledger_inode_ = 0;
    std::uint64_t sweep_seen_ = 0;

    std::deque<std::shared_ptr<Action>> actions_;  // the first may be under way
    JobId acting_on_ = 0;                          // nothing of it enters a slot meanwhile
    std::string acting_reason_;                    // of the action under way

    std::map<WatchSink*, Watcher> watchers_;
    std::unordered_map<JobId, std::set<WatchSink*>> watched_jobs_;
    std::unordered_map<JobId, std::shared_ptr<ResultSink>> result_sinks_;

    std::map<std::uint32_t, std::uint64_t> budgets_told_;  // uid -> spent, as slots_ knows it

    std::uint64_t ledger_seq_ = 0;
    std::uint64_t bytes_since_snapshot_ = 0;
    std::uint64_t last_snapshot_bytes_ = 0;
    std::uint64_t commits_ = 0;
    std::uint64_t pace_until_ns_ = 0;  // until then only what somebody waits for is committed
    std::uint64_t cell_id_ = 0;
    std::vector<JobId> recheck_;        // after a replay: jobs whose dependencies may have ended
    std::vector<std::uint32_t> stale_;  // slots of tasks the record has no more, still held
    std::vector<std::pair<std::uint64_t, std::vector<std::string>>> replayed_entries_;

    std::unique_ptr<Flusher> flusher_;  // while run() runs
    Status flushed_;                    // what the batch in flight came to
    std::uint64_t flush_ns_ = 0;        // how long that took
    std::atomic<bool> stopping_{false};
    std::atomic<bool> large_batch_{false};  // since the last publication
    std::thread publisher_;
    std::mutex publisher_mutex_;
    std::condition_variable publisher_wanted_;
    bool unpublished_ = true;   // guarded by publisher_mutex_; at first what a replay found
    std::mutex publish_mutex_;  // one publish() at a time: the publisher's, or one asked for
    std::mutex events_mutex_;
    std::vector<std::shared_ptr<EventSink>> event_sinks_;  // guarded by events_mutex_
};

}  // namespace reeve::plm
