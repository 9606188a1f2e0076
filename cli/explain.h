// explain: why a job waits. Every reason, per worker what is missing, and which tasks hold it.
//
// The reasoning is pure: explain_job() takes a picture of the cell and the job; only its callers
// read shared memory. So it works with the scheduler stopped, and the tests draw their own
// pictures. The reason codes are part of the JSON schema reeve.explain.v1 and do not change.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "cli/context.h"
#include "cli/gather.h"
#include "cli/look.h"
#include "scheduler/core/order.h"
#include "scheduler/core/select_node.h"

namespace reeve::cli {

// A queued or placed task as the picture has it.
struct PictureTask {
    std::uint64_t job = 0;
    std::uint64_t element = 0;
    bool array = false;
    shm::SlotState state = shm::SlotState::kQueued;
    std::uint64_t key = 0;
    std::uint32_t class_id = shm::kNone32;
    std::uint32_t worker_slot = shm::kNone32;  // whose resources it holds
    Resources request;
    std::uint64_t started_ns = 0;
    std::uint64_t time_limit_ns = 0;
    std::uint64_t expected_ns = 0;  // learned run time; 0: none
    std::uint32_t length_milli = 0;
    std::uint8_t sla = 0;   // v1::SlaClass; critical while its deadline is near
    bool stopping = false;  // somebody asked its holder to end it
};

struct Picture {
    bool down = false;  // the cell is, and none of this is known
    std::vector<PictureTask> tasks;
    std::vector<WorkerView> workers;
    std::map<std::uint32_t, Wants> wants;  // by class, where there are any
    struct Budget {
        std::uint64_t spent_nano = 0;
        std::uint64_t budget_nano = 0;
    };
    std::map<std::uint32_t, Budget> spent_up;  // by uid, whose budget is spent
    std::uint64_t backlog = 0;                 // queued tasks that are in no slot
    bool full = false;                         // each chunk of slots belongs to a kind of tasks
    std::uint64_t scheduler_silent_ns = 0;     // since its last heartbeat; 0: alive
    bool scheduler_present = true;
    bool acknowledging = true;
    std::uint64_t pushing_job = 0;  // the task that others are pushed aside for; 0: none
    std::uint64_t pushing_element = 0;
    std::uint64_t now_ns = 0;  // wall clock

    static Picture of_cell_down() {
        Picture picture;
        picture.down = true;
        return picture;
    }
};
Picture take_picture(const shm::Segment& segment);

// What is known about one job beyond the picture.
struct ExplainJob {
    v1::JobStatus status;  // with spec where known
    Resources request;
    Wants wants;
    std::uint32_t nodes = 1;  // more: a gang of so many
    std::vector<std::pair<v1::Dependency, std::optional<v1::JobStatus>>> after;
    std::optional<std::uint64_t> element;  // one task of it
    std::string gate;                      // "the limit licence: 2 of 2 are taken", if known
};

struct Holder {
    const PictureTask* task = nullptr;
    bool enough = false;  // ending it alone makes room
};
struct WorkerAnswer {
    const WorkerView* worker = nullptr;
    // fits, busy, too-small, not-alive, draining, wrong-node, label-missing, spot-not-allowed,
    // price-above-limit
    std::string code;
    std::string barrier;                   // in words, for the last three
    std::vector<sched::Refusal> refusals;  // every reason, as the simulator calls them
    Resources free;
    Resources missing;  // beyond what is free, where code is busy or too-small
    std::vector<Holder> holders;
    bool drained = false;  // code is draining, and nothing else keeps the job off it
};
struct Reason {
    std::string code;
    std::string text;
    std::vector<std::uint64_t> jobs;  // the jobs it is about
};
struct Answer {
    std::uint64_t job = 0;
    std::string state;
    std::vector<Reason> reasons;  // the first one is what keeps it from starting now
    std::vector<WorkerAnswer> workers;
    std::uint32_t nodes = 1;                 // it starts on so many workers at once
    std::uint32_t nodes_able = 0;            // that could run a task of it
    std::uint32_t nodes_free = 0;            // of these, that have room now
    std::uint64_t ahead = 0;                 // queued tasks before it, of any kind
    std::uint64_t ahead_alike = 0;           // of its class
    std::optional<sched::OrderTerms> order;  // of a queued task
    std::uint64_t deadline_ns = 0;
    bool urgent = false;                  // counts as critical because its deadline is near
    std::uint64_t earliest_start_ns = 0;  // by time limits (forecast.h); 0: cannot be told
    std::uint64_t likely_end_ns = 0;      // by learned run times; 0: cannot be told
};
// Why a job that wants this cannot start on any of the workers that are here, whatever becomes
// free; "" when it can, or when there are none at all.
std::string no_worker_words(const std::vector<WorkerView>& workers, const Wants& wants,
                            const Resources& request);
Answer explain_job(const Picture& picture, const ExplainJob& job);
// Its last part (explain_placement.cc): what answer.workers say of a job that nothing else keeps.
void add_placement_reasons(const Answer& answer, const ExplainJob& job,
                           std::vector<Reason>& reasons);

struct ExplainOptions {
    std::vector<std::string> selectors;
};
int explain_command(const Context& context, const ExplainOptions& options);

}  // namespace reeve::cli
