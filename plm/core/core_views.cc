// What clients see of jobs and tasks: statuses, results, and the watchers they are pushed to.

#include <cstdio>
#include <iterator>

#include "plm/core/core.h"

namespace reeve::plm {

using shm::SlotState;

namespace {

std::string task_state_word(const Task& task) {
    switch (task.state) {
        case SlotState::kHeld:
            return "held";
        case SlotState::kAssigned:
            return task.ahead ? "queued" : "assigned";
        case SlotState::kRunning:
            return "running";
        case SlotState::kSuspended:
            return "suspended";
        default:
            return "queued";
    }
}

std::string gate_words(const Gates::Blocked& blocked) {
    const auto amount = [&](std::uint64_t value) {
        char text[48];
        const auto number = static_cast<double>(value);
        if (blocked.what == "cpu" && blocked.quota) {
            std::snprintf(text, sizeof text, "%g", number / 1000);
        } else if (blocked.what == "memory" && blocked.quota) {
            std::snprintf(text, sizeof text, "%.4gM", number / (1 << 20));
        } else {
            std::snprintf(text, sizeof text, "%llu", static_cast<unsigned long long>(value));
        }
        return std::string(text);
    };
    const auto taken = amount(blocked.used) + " of " + amount(blocked.capacity) + " are taken";
    if (!blocked.quota) return "the limit " + blocked.what + ": " + taken;
    return "the user's quota of " + blocked.what + ": " + taken;
}

}  // namespace

v1::JobStatus Core::status_of(Job& job, bool with_spec, bool with_tasks) const {
    v1::JobStatus status;
    status.set_job(job.id);
    status.set_name(std::string(job.name()));
    status.set_state(state_word(job));
    status.set_priority(job.priority);
    status.set_elements(job.count);
    status.set_backlog(job.waiting_tasks());
    status.set_held(job.all_held());
    status.set_queued(job.shown_queued());
    status.set_running(job.shown_running());
    status.set_succeeded(job.ok.count());
    status.set_failed(job.failed.count());
    status.set_cancelled(job.cancelled.count());
    status.set_submit_ns(job.submit_ns);
    status.set_start_ns(job.start_ns);
    status.set_end_ns(job.end_ns);
    status.set_uid(job.uid);
    status.set_reason(job.reason);
    status.set_exit_code(job.exit_code);
    status.set_cost_nano(model_.spend.of_job(job.id));
    if (const auto blocked = gates_.blocked(job.id);
        blocked && job.waits_for != shm::WaitsFor::kNothing) {
        status.set_waits_for(shm::to_string(job.waits_for));
        status.set_reason(gate_words(*blocked));
    }
    for (const auto& edge : job.extras->after) {
        auto& after = *status.add_after();
        after.set_job(edge.job);
        after.set_kind(static_cast<v1::DependencyKind>(edge.kind));
    }
    if (with_spec) (void)job.spec.parse(*status.mutable_spec());
    if (!with_tasks) return status;
    job.tasks->for_each([&](std::uint64_t ordinal, const Task& task) {
        auto& view = *status.add_tasks();
        view.set_job(job.id);
        view.set_element(job.element_of(ordinal));
        view.set_state(task_state_word(task));
        view.set_attempt(task.attempt);
        view.set_deaths(task.deaths);
        view.set_submit_ns(job.submit_ns);
        view.set_assigned_ns(task.assigned_ns);
        view.set_started_ns(task.started_ns);
        view.set_worker_number(task.worker.number);
        view.set_worker_incarnation(task.worker.incarnation);
        if (task.slot != shm::kNone32) view.set_pid(segment_->task(task.slot).pid.load());
    });
    return status;
}

v1::TaskResult Core::result_of(const Job& job, const TaskEnded& ended) {
    v1::TaskResult result;
    result.set_job(job.id);
    result.set_element(job.element_of(ended.ordinal));
    result.set_state("ended");
    result.set_outcome(std::string(to_string(ended.outcome)));
    result.set_attempt(ended.attempt);
    result.set_exit_code(ended.exit_code);
    result.set_core_dumped(ended.core_dumped);
    result.set_detail(ended.detail);
    result.set_result(ended.result);
    result.set_submit_ns(job.submit_ns);
    result.set_assigned_ns(ended.assigned_ns);
    result.set_started_ns(ended.started_ns);
    result.set_ended_ns(ended.ended_ns);
    result.set_user_us(ended.user_us);
    result.set_system_us(ended.system_us);
    result.set_max_rss_bytes(ended.max_rss_bytes);
    result.set_deaths(ended.deaths);
    result.set_worker_number(ended.worker.number);
    result.set_worker_incarnation(ended.worker.incarnation);
    const auto worker = model_.workers().find(ended.worker.incarnation);
    if (worker != model_.workers().end()) result.set_worker_name(worker->second.name);
    result.set_price_micro(model_.spend.price_of(ended.worker));
    return result;
}

void Core::watch(Identity, v1::WatchRequest request, std::shared_ptr<WatchSink> sink) {
    post(
        [this, request = std::move(request), sink] {
            // Answered with effects(), so that what it is told first is durable.
            open_.acks_read_model = true;
            open_.acks.push_back([this, request, sink] { start_watch(request, sink); });
        },
        [sink] { sink->finish(fail(ErrorCode::kUnavailable, "the PLM is stopping; ask again")); });
}

void Core::unwatch(std::shared_ptr<WatchSink> sink) {
    post([this, sink = std::move(sink)] { drop_watcher(sink.get()); }, nullptr);
}

void Core::drop_watcher(WatchSink* sink) {
    const auto found = watchers_.find(sink);
    if (found == watchers_.end()) return;
    for (const auto id : found->second.open) {
        const auto watched = watched_jobs_.find(id);
        if (watched == watched_jobs_.end()) continue;
        watched->second.erase(sink);
        if (watched->second.empty()) watched_jobs_.erase(watched);
    }
    watchers_.erase(found);
}

void Core::start_watch(const v1::WatchRequest& request, const std::shared_ptr<WatchSink>& sink) {
    Watcher watcher;
    watcher.sink = sink;
    watcher.results = request.task_results();
    std::vector<v1::JobStatus> statuses;
    for (const auto id : request.jobs()) {
        Job* job = model_.find(id);
        if (job != nullptr) {
            statuses.push_back(status_of(*job, false, false));
            if (!job->ended) watcher.open.insert(id);
            continue;
        }
        if (id == 0 || id >= model_.next_job) {
            sink->finish(fail(ErrorCode::kNotFound, "there is no job " + std::to_string(id) +
                                                        "; see which exist with: reeve ls --all"));
            return;
        }
        // Ended so long ago that only history knows the numbers; its verdict is still known.
        auto& status = statuses.emplace_back();
        status.set_job(id);
        status.set_state("ended");
        status.set_elements(1);
        (model_.ended_ok(id) ? status.set_succeeded(1) : status.set_failed(1));
    }
    if (!sink->push(std::move(statuses), {})) return;
    if (watcher.open.empty()) {
        sink->finish({});
        return;
    }
    for (const auto id : watcher.open) watched_jobs_[id].insert(sink.get());
    watchers_.emplace(sink.get(), std::move(watcher));
}

// What watchers are told of this batch: results in the order in which they became durable, then
// statuses.
void Core::gather_news(Effects& due) {
    if (watched_jobs_.empty()) return;
    std::map<WatchSink*, WatchNews> news;
    for (auto& result : due.results) {
        const auto watched = watched_jobs_.find(result.job());
        if (watched == watched_jobs_.end()) continue;
        for (auto* sink : watched->second) {
            if (watchers_.at(sink).results) news[sink].results.push_back(result);
        }
    }
    for (auto* job : model_.dirty()) {
        const auto watched = watched_jobs_.find(job->id);
        if (watched == watched_jobs_.end()) continue;
        for (auto* sink : watched->second) {
            news[sink].jobs.push_back(status_of(*job, false, false));
            if (job->ended) news[sink].ended.push_back(job->id);
        }
    }
    due.news.assign(std::make_move_iterator(news.begin()), std::make_move_iterator(news.end()));
}

// No watcher comes or goes between the sealing of a batch and this.
void Core::notify_watchers(Effects& due) {
    for (auto& [sink, what] : due.news) {
        if (!what.ended.empty() || !what.results.empty()) history_->hurry();
        auto& watcher = watchers_.at(sink);
        if (!watcher.sink->push(std::move(what.jobs), std::move(what.results))) watcher.gone = true;
        for (const auto id : what.ended) {
            watcher.open.erase(id);
            const auto watched = watched_jobs_.find(id);
            watched->second.erase(sink);
            if (watched->second.empty()) watched_jobs_.erase(watched);
        }
    }
    std::vector<WatchSink*> done;
    for (auto& [sink, watcher] : watchers_) {
        if (watcher.gone || watcher.open.empty()) done.push_back(sink);
    }
    for (auto* sink : done) {
        auto& watcher = watchers_.at(sink);
        const auto keep = watcher.sink;
        const bool gone = watcher.gone;
        drop_watcher(sink);
        if (!gone) keep->finish({});
    }
}

}  // namespace reeve::plm
