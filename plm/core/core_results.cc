// What becomes of jobs whose client listens on its submit stream: gathered per batch, told after
// the commit, one message per stream.

#include <algorithm>

#include "plm/core/core.h"

namespace reeve::plm {

v1::JobResults* Core::results_for(const Job& job) {
    const auto found = result_sinks_.find(job.id);
    if (found == result_sinks_.end()) return nullptr;
    auto* sink = found->second.get();
    auto& streamed = open_.streamed;
    auto pending = std::find_if(streamed.begin(), streamed.end(),
                                [sink](const auto& one) { return one.first.get() == sink; });
    if (pending == streamed.end()) {
        pending = streamed.emplace(pending, found->second, v1::SubmitReply{});
    }
    auto& reply = pending->second;
    const int last = reply.results_size() - 1;
    if (last >= 0 && reply.results(last).job() == job.id) return reply.mutable_results(last);
    auto* results = reply.add_results();
    results->set_job(job.id);
    return results;
}

void Core::note_result(const Job& job, TaskEnded&& ended) {
    if (result_sinks_.empty()) return;
    auto* results = results_for(job);
    if (results == nullptr) return;
    if (ended.outcome == Outcome::kSucceeded) {
        results->add_elements(job.element_of(ended.ordinal));
        results->add_results(std::move(ended.result));
    } else {
        *results->add_others() = result_of(job, ended);
    }
}

void Core::note_job_ended(JobId id) {
    if (result_sinks_.empty()) return;
    const Job* job = model_.find(id);
    if (auto* results = job == nullptr ? nullptr : results_for(*job)) {
        results->set_ended(true);
        result_sinks_.erase(id);
    }
}

void Core::tell_results(Effects& due) {
    for (auto& [sink, reply] : due.streamed) {
        if (sink->results(std::move(reply))) continue;
        std::erase_if(result_sinks_, [&](const auto& one) { return one.second == sink; });
    }
}

}  // namespace reeve::plm
