// Results of function tasks: taken from the slot, and told on the submit streams whose clients
// listen: gathered per batch, told after the commit, one message per stream.

#include <algorithm>

#include "common/process/small_file.h"
#include "common/process/task_space.h"
#include "common/shm/function_block.h"
#include "plm/core/core.h"

namespace reeve::plm {

constexpr std::size_t kTextKeptMax = 64U << 10;

// One object for all: its texts keep their memory, unless it is much.
TaskEnded& Core::begin_ending(const Task& task) {
    auto detail = std::move(ending_.detail);
    auto result = std::move(ending_.result);
    detail.clear();
    result.clear();
    if (result.capacity() > kTextKeptMax) result.shrink_to_fit();
    ending_ = {};
    ending_.detail = std::move(detail);
    ending_.result = std::move(result);
    ending_.attempt = task.attempt;
    ending_.worker = task.worker;
    ending_.assigned_ns = task.assigned_ns;
    ending_.started_ns = task.started_ns;
    return ending_;
}

// What the worker left of a function's result: in the slot's room, or in a file that goes once the
// ledger has it.
void Core::take_result(std::uint32_t slot, TaskId id, TaskEnded& ended) {
    const auto view = shm::view_function(*segment_, segment_->task(slot));
    if (!view) return;
    const auto bytes = view->block->result_bytes.load();
    if (bytes <= view->block->result_room) {
        result_bytes_taken_ = bytes;
        ended.result.assign(view->result, bytes);
        return;
    }
    if (bytes != shm::kResultInFile) return;
    const auto path = result_file(cell_, id.job, id.element, ended.attempt);
    auto text = read_whole(path, shm::kResultBytesMax);
    open_.result_files.push_back(path);
    if (!text) return;
    result_bytes_taken_ = text->size();
    ended.result = std::move(*text);
}

StreamedResults* Core::results_for(const Job& job) {
    const auto found = result_sinks_.find(job.id);
    if (found == result_sinks_.end()) return nullptr;
    auto* sink = found->second.get();
    auto& streamed = open_.streamed;
    auto pending = std::find_if(streamed.begin(), streamed.end(),
                                [sink](const auto& one) { return one.first.get() == sink; });
    if (pending == streamed.end()) {
        pending = streamed.emplace(pending, found->second, StreamedResults{});
    }
    return &pending->second;
}

void Core::note_result(const Job& job, const TaskEnded& ended) {
    if (result_sinks_.empty()) return;
    auto* results = results_for(job);
    if (results == nullptr) return;
    if (ended.outcome == Outcome::kSucceeded) {
        results->add(job.id, job.element_of(ended.ordinal), ended.result);
    } else {
        results->add_other(job.id, result_of(job, ended));
    }
}

void Core::note_job_ended(JobId id) {
    if (result_sinks_.empty()) return;
    const Job* job = model_.find(id);
    if (auto* results = job == nullptr ? nullptr : results_for(*job)) {
        results->add_ended(id);
        result_sinks_.erase(id);
    }
}

void Core::tell_results(Effects& due) {
    for (auto& [sink, results] : due.streamed) {
        const auto ended = results.jobs_ended();
        if (sink->results(results.take(), ended)) continue;
        std::erase_if(result_sinks_, [&](const auto& one) { return one.second == sink; });
    }
}

}  // namespace reeve::plm
