#include "cli/gather.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <map>
#include <set>

#include "cli/render.h"
#include "cli/catalogue.h"
#include "common/base/clock.h"
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

bool has_element(const v1::JobSpec& spec, std::uint64_t element) {
    if (spec.elements().empty()) return element == 0;
    return std::any_of(spec.elements().begin(), spec.elements().end(), [element](const auto& one) {
        return one.first() <= element && element <= one.last();
    });
}

// The first of the elements that a job does not have.
std::optional<std::uint64_t> first_missing(const v1::JobSpec& spec, const Range& wanted) {
    auto next = wanted.first;
    if (spec.elements().empty()) {
        if (next == 0) ++next;
    }
    for (const auto& range : spec.elements()) {  // in ascending order
        if (range.first() <= next && next <= range.last()) next = range.last() + 1;
    }
    if (next > wanted.last) return std::nullopt;
    return next;
}

// Elements asked for by number, and the one task of a plain job, that have not left their run for a
// slot: nobody but the job knows of them yet. Of an ended job those that never left it.
void add_unstarted(JobDetail& out, const Selected& selected, const v1::JobSpec& spec,
                   std::size_t most) {
    const bool ended = out.status.state() == "ended";
    auto ranges = selected.elements;
    if (ended && ranges.empty()) {
        for (const auto& range : spec.elements()) ranges.push_back({range.first(), range.last()});
    }
    // Of an ended job only those are in no row that were cancelled with the rest of the run.
    auto left = ended ? out.status.cancelled() : std::numeric_limits<std::uint64_t>::max();
    if (ranges.empty() && out.status.elements() == 1 && spec.elements().empty()) {
        ranges.push_back({0, 0});
    }
    std::set<std::uint64_t> known;
    for (const auto& task : out.tasks) {
        const bool first = known.insert(task.element()).second;
        const bool cancelled = task.outcome() == to_string(Outcome::kCancelled);
        if (ended && first && cancelled && left != 0 && selected.elements.empty()) --left;
    }
    const auto state = out.status.state() == "active" ? "queued" : out.status.state();
    for (const auto& range : ranges) {
        for (auto element = range.first; element <= range.last; ++element) {
            if (out.tasks.size() >= most || left == 0) return;
            if (known.count(element) != 0 || !has_element(spec, element)) continue;
            --left;
            auto& task = out.tasks.emplace_back();
            task.set_job(selected.job);
            task.set_element(element);
            task.set_state(state);
            task.set_submit_ns(out.status.submit_ns());
            if (!ended) continue;
            task.set_outcome(std::string(to_string(Outcome::kCancelled)));
            task.set_detail(out.status.reason());
        }
    }
}

}  // namespace

Error unknown_job(std::uint64_t job) {
    return {ErrorCode::kNotFound, "job " + std::to_string(job) +
                                      " is not known here; see which exist with: reeve ls --all"};
}

void take_dependencies(v1::JobStatus& status, const v1::JobSpec& spec) {
    const bool resolved =
        std::all_of(spec.after().begin(), spec.after().end(),
                    [](const v1::Dependency& dependency) { return dependency.job() != 0; });
    if (resolved && spec.after_size() > 0) *status.mutable_after() = spec.after();
}

Gatherer::Gatherer(const Context& context) : context_(context) {
    open();
}

void Gatherer::refresh() {
    if (boot_ns() - looked_ns_ < kSecond) return;
    looked_ns_ = boot_ns();
    const auto name = read_segment_name(context_.cell);
    if (segment_ && name && *name == segment_->name() && !segment_->retired()) return;
    segment_.reset();
    workers_.clear();
    open();
}

void Gatherer::open() {
    looked_ns_ = boot_ns();
    auto segment = open_segment(context_.cell);
    if (segment) {
        segment_ = std::move(*segment);
        workers_ = segment_workers(*segment_);
    } else {
        segment_error_ = segment.error();
    }
    if (history_ != nullptr) return;
    auto history = History::open(context_.cell);
    if (history) history_ = std::move(*history);
}

std::string Gatherer::worker_name(std::uint64_t number) const {
    const auto found = std::find_if(workers_.begin(), workers_.end(), [number](const auto& worker) {
        return worker.number == number;
    });
    return found == workers_.end() ? "" : found->name;
}

std::optional<v1::GetReply> Gatherer::ask_plm(const v1::GetRequest& request) {
    if (!rpc::cell_is_run(context_.cell)) return std::nullopt;
    auto client = rpc::Client::connect(context_.cell);
    if (!client) return std::nullopt;
    auto reply = (*client)->call(&v1::Reeve::Stub::Get, request, kAskTimeout);
    if (!reply) return std::nullopt;
    return std::move(*reply);
}

std::optional<v1::JobStatus> Gatherer::ask_plm(std::uint64_t job, bool with_spec) {
    v1::GetRequest request;
    request.add_jobs(job);
    request.set_with_spec(with_spec);
    const auto reply = ask_plm(request);
    if (!reply || reply->jobs().empty() || reply->jobs(0).job() != job) return std::nullopt;
    return reply->jobs(0);
}

void Gatherer::add_policies(std::vector<v1::JobStatus*> jobs) {
    const auto take = [](v1::JobStatus& job, const v1::JobSpec& spec) {
        job.mutable_spec()->set_sla(spec.sla());
        job.mutable_spec()->set_deadline_unix_ms(spec.deadline_unix_ms());
        *job.mutable_spec()->mutable_limits() = spec.limits();
        *job.mutable_spec()->mutable_resources() = spec.resources();
    };
    std::erase_if(jobs, [&](v1::JobStatus* job) {
        if (!history_) return false;
        const auto found = history_->job(job->job(), true);
        if (found && job->reason().empty()) job->set_reason(found->reason());
        if (!found || !found->has_spec()) return false;
        take(*job, found->spec());
        return true;
    });
    if (jobs.empty()) return;
    v1::GetRequest request;
    for (const auto* job : jobs) request.add_jobs(job->job());
    request.set_with_spec(true);
    request.set_limit(static_cast<std::uint32_t>(jobs.size()));
    const auto reply = ask_plm(request);
    if (!reply) return;
    std::map<std::uint64_t, const v1::JobSpec*> specs;
    for (const auto& live : reply->jobs()) {
        if (live.has_spec()) specs.emplace(live.job(), &live.spec());
    }
    for (auto* job : jobs) {
        const auto found = specs.find(job->job());
        if (found != specs.end()) take(*job, *found->second);
    }
}

std::string Gatherer::waiting_words(std::uint64_t job) {
    const auto live = ask_plm(job, false);
    return live && !live->waits_for().empty() ? live->reason() : "";
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
    return fail(unknown_job(job));
}

std::optional<v1::JobSpec> Gatherer::spec(std::uint64_t job) {
    if (history_) {
        const auto found = history_->job(job, true);
        if (found && found->has_spec()) return found->spec();
    }
    if (auto live = ask_plm(job, true); live && live->has_spec()) return live->spec();
    return std::nullopt;
}

Status Gatherer::check_elements(const std::vector<Selected>& selected) {
    for (const auto& one : selected) {
        if (one.elements.empty()) continue;
        const auto whole = spec(one.job);
        if (!whole) {
            REEVE_TRY(status(one.job));
            continue;
        }
        for (const auto& range : one.elements) {
            if (const auto missing = first_missing(*whole, range)) {
                return fail(ErrorCode::kNotFound,
                            "job " + std::to_string(one.job) + " has no element " +
                                std::to_string(*missing) + "; see which it has with: reeve show " +
                                std::to_string(one.job));
            }
        }
    }
    return {};
}

Result<std::vector<Selected>> select_known(const Context& context,
                                           const std::vector<std::string>& texts) {
    REEVE_TRY_ASSIGN(const auto selectors, parse_selectors(texts));
    REEVE_TRY_ASSIGN(auto selected, select_jobs(context, selectors, Scope::kKnown));
    REEVE_TRY(Gatherer(context).check_elements(selected));
    return selected;
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
        for (const auto& worker : workers_) {
            if (worker.incarnation != result.worker_incarnation()) continue;
            result.set_price_micro(worker.price_micro);
        }
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
    // Asked for only where it can matter: it may be the PLM that has to tell it.
    const bool unstarted = !selected.elements.empty() || out.tasks.empty() ||
                           (out.status.state() == "ended" && out.status.cancelled() != 0);
    auto whole = wanted.spec || unstarted ? spec(selected.job) : std::nullopt;
    if (whole) add_unstarted(out, selected, *whole, wanted.tasks_max + 1);
    std::stable_sort(out.tasks.begin(), out.tasks.end(), by_element);
    if (!wanted.all_attempts) keep_last_attempts(out.tasks);
    out.states = elements_by_state(out.tasks);
    if (out.tasks.size() > wanted.tasks_max) {
        out.tasks_cut = out.tasks.size() - wanted.tasks_max;
        out.tasks.resize(wanted.tasks_max);
    }
    if (!wanted.spec) return out;
    if (whole) {
        // The spec is what was submitted; `update` may have changed the limit since.
        const bool live = out.status.has_spec();
        const auto limit_ms = out.status.spec().task().time_limit_ms();
        *out.status.mutable_spec() = std::move(*whole);
        if (live) out.status.mutable_spec()->mutable_task()->set_time_limit_ms(limit_ms);
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
