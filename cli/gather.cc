#include "cli/gather.h"

#include <algorithm>
#include <chrono>
#include <set>

#include "cli/render.h"
#include "cli/catalogue.h"
#include "common/rpc/client.h"

namespace reeve::cli {

namespace {

// A wedged PLM must not make `show` hang.
constexpr std::chrono::milliseconds kAskTimeout{1500};

bool by_element(const v1::TaskResult& a, const v1::TaskResult& b) {
    return a.element() != b.element() ? a.element() < b.element() : a.attempt() < b.attempt();
}

// A retried task has several endings: only the newest one counts.
void keep_last_attempts(std::vector<v1::TaskResult>& tasks) {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < tasks.size(); ++i) {
        const bool last = i + 1 == tasks.size() || tasks[i + 1].element() != tasks[i].element();
        if (!last) continue;
        if (kept != i) tasks[kept] = std::move(tasks[i]);
        ++kept;
    }
    tasks.resize(kept);
}

}  // namespace

void take_dependencies(v1::JobStatus& status, const v1::JobSpec& spec) {
    const bool resolved =
        std::all_of(spec.after().begin(), spec.after().end(),
                    [](const v1::Dependency& dependency) { return dependency.job() != 0; });
    if (resolved && spec.after_size() > 0) *status.mutable_after() = spec.after();
}

Gatherer::Gatherer(const Context& context) : context_(context) {
    auto segment = open_segment(context.cell);
    if (segment) {
        segment_ = std::move(*segment);
        workers_ = segment_workers(*segment_);
    } else {
        segment_error_ = segment.error();
    }
    auto history = History::open(context.cell);
    if (history) history_ = std::move(*history);
}

std::string Gatherer::worker_name(std::uint64_t number) const {
    const auto found = std::find_if(workers_.begin(), workers_.end(), [number](const auto& worker) {
        return worker.number == number;
    });
    return found == workers_.end() ? "" : found->name;
}

std::optional<v1::JobStatus> Gatherer::ask_plm(std::uint64_t job, bool with_spec) {
    if (!rpc::cell_is_run(context_.cell)) return std::nullopt;
    auto client = rpc::Client::connect(context_.cell);
    if (!client) return std::nullopt;
    v1::GetRequest request;
    request.add_jobs(job);
    request.set_with_spec(with_spec);
    auto reply = (*client)->call(&v1::Reeve::Stub::Get, request, kAskTimeout);
    if (!reply || reply->jobs().empty() || reply->jobs(0).job() != job) return std::nullopt;
    return reply->jobs(0);
}

std::vector<std::pair<std::string, std::vector<std::uint64_t>>> elements_by_state(
    const std::vector<v1::TaskResult>& tasks) {
    std::vector<std::pair<std::string, std::vector<std::uint64_t>>> groups;
    for (const auto& task : tasks) {
        const auto state = task_state(task);
        auto found = std::find_if(groups.begin(), groups.end(),
                                  [&](const auto& group) { return group.first == state; });
        if (found == groups.end()) found = groups.insert(groups.end(), {state, {}});
        found->second.push_back(task.element());
    }
    return groups;
}

Result<v1::JobStatus> Gatherer::status(std::uint64_t job) {
    if (segment_) {
        if (auto found = segment_job(*segment_, job)) {
            // The whole name, and why it was cancelled, are only in the history.
            const bool cut = found->name().size() + 1 >= shm::kNameBytes;
            if ((cut || found->state() == "ended") && history_) {
                if (const auto known = history_->job(job)) {
                    found->set_reason(known->reason());
                    found->set_name(known->name());
                }
            }
            return std::move(*found);
        }
    }
    std::optional<v1::JobStatus> old;
    if (history_) old = history_->job(job);
    if (old && old->state() == "ended") return std::move(*old);
    if (auto live = ask_plm(job, false)) return std::move(*live);
    if (old) return std::move(*old);
    return fail(
        ErrorCode::kNotFound,
        "job " + std::to_string(job) + " is not known here; see which exist with: reeve ls --all");
}

std::optional<v1::JobSpec> Gatherer::spec(std::uint64_t job) {
    if (history_) {
        const auto found = history_->job(job, true);
        if (found && found->has_spec()) return found->spec();
    }
    if (auto live = ask_plm(job, true); live && live->has_spec()) return live->spec();
    return std::nullopt;
}

Result<JobDetail> Gatherer::detail(const Selected& selected, const Detailed& wanted) {
    JobDetail out;
    REEVE_TRY_ASSIGN(out.status, status(selected.job));
    std::vector<TaskView> views;
    if (segment_) views = tasks_of_job(*segment_, selected.job);
    std::set<std::uint64_t> seen;
    for (const auto& view : views) {
        if (!contains(selected, view.result.element())) continue;
        auto result = view.result;
        result.set_worker_name(worker_name(result.worker_number()));
        seen.insert(result.element());
        out.tasks.push_back(std::move(result));
    }
    if (history_) {
        auto attempts =
            history_->attempts(selected, std::max(wanted.tasks_max + 1, kElementsLookedAt));
        if (!attempts) return fail(attempts.error());
        for (auto& attempt : *attempts) {
            const auto& result = attempt.result;
            const bool live = seen.count(result.element()) != 0;
            if (!wanted.all_attempts && (live || !attempt.terminal)) continue;
            // The slot of an ended task may still be there: one row is enough.
            const bool same = live && std::any_of(views.begin(), views.end(), [&](const auto& one) {
                                  return one.result.element() == result.element() &&
                                         one.result.attempt() == result.attempt();
                              });
            if (!same) out.tasks.push_back(result);
        }
    }
    std::stable_sort(out.tasks.begin(), out.tasks.end(), by_element);
    if (!wanted.all_attempts) keep_last_attempts(out.tasks);
    out.states = elements_by_state(out.tasks);
    if (out.tasks.size() > wanted.tasks_max) {
        out.tasks_cut = out.tasks.size() - wanted.tasks_max;
        out.tasks.resize(wanted.tasks_max);
    }
    if (!wanted.spec) return out;
    if (auto whole = spec(selected.job)) {
        *out.status.mutable_spec() = std::move(*whole);
        out.has_spec = true;
    } else if (!views.empty() && segment_) {
        if (auto task = task_spec(*segment_, views.front().slot)) {
            *out.status.mutable_spec()->mutable_task() = std::move(*task);
            out.has_spec = true;
        }
    }
    if (out.has_spec) take_dependencies(out.status, out.status.spec());
    return out;
}

std::vector<v1::JobStatus> Gatherer::beyond_segment(std::uint64_t& missing) {
    missing = segment_ ? segment_->header().backlog_jobs.load() : 0;
    std::vector<v1::JobStatus> out;
    if (missing == 0 && segment_) return out;
    if (!rpc::cell_is_run(context_.cell)) return out;
    auto client = rpc::Client::connect(context_.cell);
    if (!client) return out;
    v1::GetRequest request;
    request.set_limit(kAllJobs);
    auto reply = (*client)->call(&v1::Reeve::Stub::Get, request, kAskTimeout);
    if (!reply) return out;
    missing = 0;
    for (auto& status : *reply->mutable_jobs()) out.push_back(std::move(status));
    return out;
}

}  // namespace reeve::cli
