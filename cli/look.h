// Looking at a cell without asking anybody: the segment, read-only, and the history file.
//
// Works with every daemon stopped or wedged. The segment's contents are untrusted: indices are
// checked, texts are cut at their NUL or their end, and a slot that moves while it is copied is
// copied again. Everything is handed on as the messages the PLM itself would send, so that tables
// and JSON have one source.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/selectors.h"
#include "common/base/result.h"
#include "common/model/resources.h"
#include "common/process/cell.h"
#include "common/shm/segment.h"
#include "reeve/v1/reeve.pb.h"
#include "scheduler/core/select_node.h"

struct sqlite3;
struct sqlite3_stmt;

namespace reeve::cli {

// Its worker has it already, behind a brief one whose room it will have: to people it is queued. So
// is one that has begun behind one that is over, until that end is told, some milliseconds later:
// else both would run. `now_ns`: wall clock.
bool waits_ahead(const shm::TaskSlot& slot, shm::SlotWord word, std::uint64_t now_ns);

// A consistent copy of one task slot.
struct TaskView {
    std::uint32_t slot = 0;
    shm::SlotWord word;
    std::uint64_t key = 0;
    std::uint32_t class_id = shm::kNone32;
    std::uint32_t flags = 0;
    std::uint32_t intent = 0;
    std::uint32_t policy = 0;  // shm::TaskPolicy
    std::uint32_t claim = 0;   // worker slot + 1, kClaimAhead
    bool ahead = false;        // waits_ahead()
    std::uint64_t gpu_mask = 0;
    std::uint64_t time_limit_ns = 0;
    std::uint64_t expected_ns = 0;   // learned run time; 0: none
    std::uint32_t length_milli = 0;  // what that cost it in its key, in thousandths of a point
    std::uint64_t not_before_ns = 0;
    std::int32_t priority = 0;
    std::uint32_t uid = 0;
    std::uint32_t retries_max = 0;
    std::uint32_t payload_bytes = 0;
    v1::TaskResult result;  // job, element, state, attempt, times, worker, outcome ...
};

struct WorkerView {
    std::uint32_t slot = 0;
    shm::WorkerState state = shm::WorkerState::kFree;
    std::uint64_t number = 0;
    std::uint64_t incarnation = 0;
    std::string name;
    std::string host;
    std::string cgroup;
    Resources capacity;
    Resources used;
    std::uint64_t gpu_used_mask = 0;
    std::uint32_t gpus = 0;
    struct Gpu {
        std::string uuid;
        bool known = false;  // the figures below
        std::uint32_t busy_percent = 0;
        std::uint64_t memory_used_bytes = 0;
        std::uint64_t memory_total_bytes = 0;
    };
    std::vector<Gpu> gpu_loads;  // of the first few
    std::uint32_t agent_pid = 0;
    std::uint64_t agent_start_ticks = 0;
    std::uint32_t launcher_pid = 0;
    std::uint64_t heartbeat_age_ns = 0;
    std::uint64_t lease_ns = 0;
    std::uint64_t joined_ns = 0;
    std::uint32_t tasks = 0;  // slots it owns, without those that wait ahead
    bool drain_wanted = false;
    std::vector<std::string> labels;  // without node=NAME
    std::uint32_t price_micro = 0;    // what an hour costs now
    std::uint32_t on_demand_micro = 0;
    bool spot = false;
    std::uint64_t notice_ns = 0;  // when it will vanish; 0: not told
};
// As placement sees it, with what is used.
sched::NodeOffer offer_of(const WorkerView& worker);

// kUnavailable: there is no such cell, or it is down; with the command that starts it.
Error cell_is_down(const Cell& cell);
// The live segment of a cell, read-only. kUnavailable when none was ever made or it is gone.
Result<std::unique_ptr<shm::Segment>> open_segment(const Cell& cell);

std::vector<v1::JobStatus> segment_jobs(const shm::Segment& segment);
std::optional<v1::JobStatus> segment_job(const shm::Segment& segment, std::uint64_t job);

// Nothing for a free slot, one being filled, or one that does not hold still.
std::optional<TaskView> view_task(const shm::Segment& segment, std::uint32_t slot);
void for_each_task(const shm::Segment& segment, const std::function<void(const TaskView&)>& visit);
std::vector<TaskView> tasks_of_job(const shm::Segment& segment, std::uint64_t job);
std::optional<v1::TaskSpec> task_spec(const shm::Segment& segment, std::uint32_t slot);

std::vector<WorkerView> segment_workers(const shm::Segment& segment);

// A text in the segment, cut at its NUL or at its end.
std::string fixed_text(const char* text, std::size_t size);

// history.db, read-only.
class History {
public:
    // kNotFound when there is none yet.
    static Result<std::unique_ptr<History>> open(const Cell& cell);
    ~History();
    History(const History&) = delete;
    History& operator=(const History&) = delete;

    std::optional<v1::JobStatus> job(std::uint64_t id, bool with_spec = false);
    struct JobQuery {
        std::uint64_t limit = 100;
        std::uint64_t before = 0;  // ids below this; 0: from the newest
        std::string name_glob;
        std::string outcome;  // succeeded failed cancelled ended waiting ...; "" for all
        std::uint64_t since_ns = 0;
        bool ended_only = false;
    };
    Result<std::vector<v1::JobStatus>> jobs(const JobQuery& query);
    // What jobs have cost so far, live ones too, the dearest first.
    struct CostRow {
        std::uint32_t part = 0;  // uid, or SlaClass
        std::uint64_t jobs = 0;
        std::uint64_t tasks = 0;  // that ended
        std::uint64_t cost_nano = 0;
    };
    Result<std::vector<CostRow>> costs(const JobQuery& query, bool by_user);
    std::uint64_t count_ended();
    std::uint64_t last_job();

    struct AttemptRow {
        v1::TaskResult result;
        bool terminal = false;
    };
    // Attempts of the selected elements, in order.
    Result<std::vector<AttemptRow>> attempts(const Selected& selected, std::uint64_t limit);
    struct FunctionResult {
        std::uint64_t element = 0;
        std::uint32_t attempt = 0;
        std::string outcome;
        std::string detail;
        std::string bytes;
        std::int32_t exit_code = 0;
    };
    // The ending of each selected element that has one, with what its function gave back.
    std::vector<FunctionResult> function_results(const Selected& selected, std::uint64_t limit);
    struct Ending {
        std::uint64_t element = 0;
        bool succeeded = false;
    };
    // The newest ending of each selected element that has one, ascending.
    std::vector<Ending> endings(const Selected& selected);

private:
    explicit History(sqlite3* database) : database_(database) {}
    sqlite3* database_;
    struct Told;  // an attempt and where its function's result lies
    Result<std::vector<Told>> told(const Selected& selected, std::uint64_t limit, bool results);
    Status single_rows(const Selected& selected, std::uint64_t limit, bool results,
                       std::vector<Told>& out);
    Status packed_rows(const Selected& selected, std::uint64_t limit, bool results,
                       std::vector<Told>& out);

    std::string job_columns_;  // all of read_job_row but the spec
    bool priced_ = false;      // the file has columns for cost
    bool packed_ = false;      // attempts lie in packs
};

}  // namespace reeve::cli
