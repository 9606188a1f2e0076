// Everything known about jobs, from where it can be had: shared memory first, then the history
// file, and the PLM only for what neither holds.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/context.h"
#include "cli/look.h"
#include "cli/selectors.h"

namespace reeve::cli {

inline constexpr std::uint64_t kElementsLookedAt = 200'000;

struct JobDetail {
    v1::JobStatus status;
    bool has_spec = false;              // status.spec is whole, not only what JobEntry tells
    std::vector<v1::TaskResult> tasks;  // live ones from their slots, ended ones from history
    std::uint64_t tasks_cut = 0;        // how many more there are
    // Which elements are in which state, of those cut off, too (up to kElementsLookedAt).
    std::vector<std::pair<std::string, std::vector<std::uint64_t>>> states;
};

std::vector<std::pair<std::string, std::vector<std::uint64_t>>> elements_by_state(
    const std::vector<v1::TaskResult>& tasks);

// kNotFound naming the job.
Error unknown_job(std::uint64_t job);

// The dependencies with their kinds, from a spec whose labels the PLM has resolved; shared memory
// tells the first few ids only.
void take_dependencies(v1::JobStatus& status, const v1::JobSpec& spec);

// One look at a cell; the parts that are missing say why.
class Gatherer {
public:
    explicit Gatherer(const Context& context);

    // Looks, once a second at most, whether the cell has another segment by now, and takes that.
    void refresh();

    const shm::Segment* segment() const { return segment_.get(); }
    History* history() const { return history_.get(); }
    const Error& segment_error() const { return segment_error_; }
    // True when there is neither a segment nor a history.
    bool nothing() const { return segment_ == nullptr && history_ == nullptr; }

    // The job's counts and words. kNotFound naming the job.
    Result<v1::JobStatus> status(std::uint64_t job);
    // kNotFound naming the first element asked for that a job of theirs does not have. What is not
    // known of a job is not refused.
    Status check_elements(const std::vector<Selected>& selected);
    struct Detailed {
        bool all_attempts = false;
        std::uint64_t tasks_max = 1000;
        bool spec = true;
    };
    Result<JobDetail> detail(const Selected& selected, const Detailed& wanted);
    std::optional<v1::JobSpec> spec(std::uint64_t job);
    // Gives these jobs their reason, and their specs' SLA class, deadline and limits, where
    // somebody knows them: the history, else the PLM in one question.
    void add_policies(std::vector<v1::JobStatus*> jobs);
    std::string worker_name(std::uint64_t number) const;
    // What the PLM says a job waits for at a limit or quota; "" when it cannot be asked.
    std::string waiting_words(std::uint64_t job);

    // Live jobs that are in no JobEntry, from the PLM; `missing` says how many could not be told.
    std::vector<v1::JobStatus> beyond_segment(std::uint64_t& missing);

private:
    void open();
    std::optional<v1::JobStatus> ask_plm(std::uint64_t job, bool with_spec);
    std::optional<v1::GetReply> ask_plm(const v1::GetRequest& request);

    const Context& context_;
    std::unique_ptr<shm::Segment> segment_;
    Error segment_error_;
    std::unique_ptr<History> history_;
    std::vector<WorkerView> workers_;
    std::uint64_t looked_ns_ = 0;
};

// What these selectors mean, ended jobs too; errors of parse_selectors(), select_jobs() and
// Gatherer::check_elements().
Result<std::vector<Selected>> select_known(const Context& context,
                                           const std::vector<std::string>& texts);

}  // namespace reeve::cli
