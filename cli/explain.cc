#include "cli/explain.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "cli/forecast.h"
#include "cli/render.h"
#include "cli/text.h"
#include "common/base/clock.h"
#include "common/process/proc_info.h"
#include "common/process/users.h"
#include "common/shm/class_wants.h"
#include "common/shm/heap_key.h"
#include "common/shm/task_policy.h"

namespace reeve::cli {

namespace {

constexpr std::uint64_t kSilentNs = 3 * kSecond;
constexpr std::size_t kHoldersNamed = 8;

bool holds_resources(shm::SlotState state) {
    return state >= shm::SlotState::kAssigned && state <= shm::SlotState::kEnded;
}

Resources minus(const Resources& a, const Resources& b) {
    Resources out;
    out.cpu_milli = a.cpu_milli > b.cpu_milli ? a.cpu_milli - b.cpu_milli : 0;
    out.gpus = a.gpus > b.gpus ? a.gpus - b.gpus : 0;
    out.memory_bytes = a.memory_bytes > b.memory_bytes ? a.memory_bytes - b.memory_bytes : 0;
    for (std::size_t i = 0; i < NamedCounts::kNamedMax; ++i) {
        out.named.set(i, a.named[i] > b.named[i] ? a.named[i] - b.named[i] : 0);
    }
    return out;
}

bool shares_named(const NamedCounts& missing, const NamedCounts& held) {
    bool any = false;
    for (std::size_t i = 0; i < NamedCounts::kNamedMax; ++i) any |= missing[i] > 0 && held[i] > 0;
    return any;
}

// The holders on a worker that matter: they hold some of what is missing, the sufficient ones
// first.
std::vector<Holder> holders_on(const Picture& picture, const WorkerAnswer& answer,
                               const Resources& request) {
    std::vector<Holder> out;
    for (const auto& task : picture.tasks) {
        if (task.worker_slot != answer.worker->slot || !holds_resources(task.state)) continue;
        if (task.state == shm::SlotState::kEnded) continue;  // its room is about to be free
        const bool helps = (answer.missing.cpu_milli > 0 && task.request.cpu_milli > 0) ||
                           (answer.missing.gpus > 0 && task.request.gpus > 0) ||
                           (answer.missing.memory_bytes > 0 && task.request.memory_bytes > 0) ||
                           shares_named(answer.missing.named, task.request.named);
        if (!helps) continue;
        Resources room = answer.free;
        room += task.request;
        out.push_back({&task, request.fits(room)});
    }
    std::stable_sort(out.begin(), out.end(), [](const Holder& a, const Holder& b) {
        if (a.enough != b.enough) return a.enough;
        return std::pair(a.task->job, a.task->element) < std::pair(b.task->job, b.task->element);
    });
    return out;
}

// What keeps a job off a worker apart from room, in words.
std::string barrier_words(sched::Refusal barrier, const sched::JobRequest& want,
                          const WorkerView& worker) {
    if (barrier == sched::Refusal::kLabel) {
        std::string labels;
        for (const auto& label : sched::labels_missing(want, offer_of(worker))) {
            labels += (labels.empty() ? "" : ", ") + label;
        }
        return "has no label " + labels;
    }
    if (barrier == sched::Refusal::kSpotNotAllowed) {
        return "is a spot worker, and " + std::string(to_string(want.sla)) +
               " work may not run there (--sla flexible may)";
    }
    return "costs " + format_price(worker.price_micro) + " an hour, more than --max-price";
}

WorkerAnswer ask_worker(const Picture& picture, const WorkerView& worker, const ExplainJob& job) {
    WorkerAnswer out;
    out.worker = &worker;
    out.free = minus(worker.capacity, worker.used);
    const auto want = sched::request_for(job.wants, job.request);
    auto offer = offer_of(worker);
    out.refusals = sched::refusals_of(want, offer);
    offer.open = true;
    const auto barrier = sched::barrier_of(want, offer);
    if (!job.wants.node_name.empty() && job.wants.node_name != worker.name) {
        out.code = "wrong-node";
    } else if (worker.state == shm::WorkerState::kDraining || worker.drain_wanted) {
        out.code = "draining";
        out.drained = barrier == sched::Refusal::kNone && job.request.fits(worker.capacity);
    } else if (worker.state != shm::WorkerState::kAlive) {
        out.code = "not-alive";
    } else if (barrier != sched::Refusal::kNone) {
        out.code = sched::to_string(barrier);
        out.barrier = barrier_words(barrier, want, worker);
    } else if (!job.request.fits(worker.capacity)) {
        out.code = "too-small";
        out.missing = minus(job.request, worker.capacity);
    } else if (job.request.fits(out.free)) {
        out.code = "fits";
    } else {
        out.code = "busy";
        out.missing = minus(job.request, out.free);
        out.holders = holders_on(picture, out, job.request);
    }
    return out;
}

void ask_workers(const Picture& picture, const ExplainJob& job, Answer& answer) {
    answer.nodes = job.nodes;
    for (const auto& worker : picture.workers) {
        const auto& one = answer.workers.emplace_back(ask_worker(picture, worker, job));
        answer.nodes_free += one.code == "fits" ? 1U : 0U;
        answer.nodes_able += one.code == "fits" || one.code == "busy" ? 1U : 0U;
    }
}

void add_dependencies(const ExplainJob& job, std::vector<Reason>& reasons) {
    for (const auto& [dependency, status] : job.after) {
        if (status && status->state() == "ended") continue;
        const auto state = status ? job_state(*status) : std::string("unknown");
        std::string text = "waits for job " + std::to_string(dependency.job()) + " (" + state;
        if (status && status->elements() > 1) {
            const auto done = status->succeeded() + status->failed() + status->cancelled();
            text += ", " + std::to_string(done) + " of " + std::to_string(status->elements()) +
                    " tasks ended";
        }
        text += ") by " + dependency_words(dependency);
        reasons.push_back({"dependency", text, {dependency.job()}});
    }
}

void add_own_reasons(const Picture& picture, const ExplainJob& job, std::vector<Reason>& reasons) {
    const auto& status = job.status;
    const auto id = std::to_string(status.job());
    add_dependencies(job, reasons);
    const auto begin_ns = status.spec().not_before_unix_ms() * kMillisecond;
    if (begin_ns > picture.now_ns) {
        reasons.push_back({"begin",
                           "may not start before " + format_time_ns(begin_ns) + " (in " +
                               format_duration_ns(begin_ns - picture.now_ns) + ")",
                           {}});
    }
    const auto waiting = status.queued() + status.backlog();
    if (status.state() == "held" || (status.held() > 0 && waiting == 0)) {
        reasons.push_back({"held", "is held; start it with: reeve release " + id, {}});
    } else if (status.held() > 0) {
        reasons.push_back({"held",
                           std::to_string(status.held()) +
                               " of its tasks are held; start them with: reeve release " + id,
                           {}});
    }
    if (!status.waits_for().empty()) {
        const bool quota = status.waits_for() == "quota";
        const auto known =
            job.gate.empty() ? quota ? "the user's quota" : "a named limit" : job.gate;
        reasons.push_back({status.waits_for(), "waits for " + known, {}});
    }
    const auto at_a_time = status.spec().max_running();
    if (at_a_time > 0 && status.running() >= at_a_time) {
        reasons.push_back(
            {"max-running",
             "runs " + std::to_string(at_a_time) + " tasks at a time, as its array asks",
             {status.job()}});
    }
}

// Others are being stopped so that it can start.
void add_preemption(const Picture& picture, const PictureTask& mine, std::vector<Reason>& reasons) {
    if (picture.pushing_job != mine.job || picture.pushing_element != mine.element) return;
    std::vector<std::uint64_t> jobs;
    for (const auto& task : picture.tasks) {
        if (task.stopping && holds_resources(task.state)) jobs.push_back(task.job);
    }
    std::sort(jobs.begin(), jobs.end());
    jobs.erase(std::unique(jobs.begin(), jobs.end()), jobs.end());
    std::string text = "less important work is being stopped to make room for it";
    for (std::size_t i = 0; i < jobs.size() && i < kHoldersNamed; ++i) {
        text += (i == 0 ? ": job " : ", ") + std::to_string(jobs[i]);
    }
    reasons.push_back({"preemption-pending", text, jobs});
}

sched::SlaClass sla_class(std::uint8_t sla) {
    switch (sla) {
        case v1::SLA_CRITICAL:
            return sched::SlaClass::kCritical;
        case v1::SLA_FLEXIBLE:
            return sched::SlaClass::kFlexible;
        case v1::SLA_SPOT:
            return sched::SlaClass::kSpot;
        default:
            return sched::SlaClass::kStandard;
    }
}

// The terms of its score. What its key is ahead of priority and submission is SLA, fair share and
// length.
sched::OrderTerms order_of(const Picture& picture, const ExplainJob& job, const PictureTask& mine) {
    const auto submit_ns = job.status.submit_ns();
    const auto sla = sla_class(mine.sla);
    const double head_start =
        static_cast<double>(shm::head_start_of(mine.key, job.status.priority(), submit_ns)) /
        sched::kAgeingSeconds;
    const auto waited_ns = picture.now_ns - std::min(picture.now_ns, submit_ns);
    const double length = mine.length_milli / 1000.0;
    return sched::order_terms(job.status.priority(), sla, static_cast<double>(waited_ns) / kSecond,
                              std::max(sched::sla_points(sla) - head_start - length, 0.0), length);
}

// The tasks of the job, or the element asked for, that a worker has.
std::vector<const PictureTask*> on_workers(const Picture& picture, const ExplainJob& job) {
    std::vector<const PictureTask*> out;
    for (const auto& task : picture.tasks) {
        if (task.job != job.status.job() || !shm::has_holder(task.state)) continue;
        if (!job.element || task.element == *job.element) out.push_back(&task);
    }
    return out;
}

// When the last of its running tasks will likely have ended; 0: of one nobody knows.
std::uint64_t likely_end_of(const Picture& picture, const ExplainJob& job) {
    std::uint64_t last = 0;
    for (const auto* task : on_workers(picture, job)) {
        if (task->expected_ns == 0) return 0;
        last = std::max(last, likely_end_ns(*task, picture.now_ns));
    }
    return last;
}

void add_cell_reasons(const Picture& picture, std::vector<Reason>& reasons) {
    if (!picture.scheduler_present) {
        reasons.push_back(
            {"scheduler-down", "the scheduler does not run; start it with: reeve up", {}});
    } else if (picture.scheduler_silent_ns > kSilentNs) {
        reasons.push_back({"scheduler-silent",
                           "the scheduler has done nothing for " +
                               format_duration_ns(picture.scheduler_silent_ns) +
                               "; see reeve status",
                           {}});
    }
    if (!picture.acknowledging) {
        reasons.push_back({"ledger-down",
                           "the ledger cannot be written, so nothing new starts; free disk space",
                           {}});
    }
}

// Nothing of the job is in shared memory, where the scheduler would see it.
void add_outside_reasons(const Picture& picture, const ExplainJob& job,
                         std::vector<Reason>& reasons) {
    const bool alike =
        std::any_of(picture.tasks.begin(), picture.tasks.end(), [&job](const PictureTask& task) {
            return task.state == shm::SlotState::kQueued && task.request == job.request;
        });
    const auto rest = std::to_string(picture.backlog);
    if (picture.full && !alike) {
        reasons.push_back({"turn",
                           "waits for a place in shared memory, which other kinds of tasks fill; "
                           "they take turns, some each second (" +
                               rest + " tasks wait for one)",
                           {}});
    } else {
        reasons.push_back(
            {"backlog",
             "is behind the tasks that fill shared memory (" + rest + " more wait in the backlog)",
             {}});
    }
}

// A gang of which a part is still with its workers.
void add_torn_gang(const Picture& picture, const ExplainJob& job, std::vector<Reason>& reasons) {
    const auto left =
        std::count_if(picture.tasks.begin(), picture.tasks.end(), [&job](const PictureTask& task) {
            return task.job == job.status.job() && shm::has_holder(task.state);
        });
    if (job.nodes == 1 || left == 0) return;
    reasons.push_back({"gang",
                       "starts as a whole; " + std::to_string(left) + " of its " +
                           std::to_string(job.nodes) + " tasks are still with their workers",
                       {job.status.job()}});
}

// The workers that have tasks of the job, or the element asked for: "worker-1, worker-3".
std::string running_on(const Picture& picture, const ExplainJob& job) {
    const auto tasks = on_workers(picture, job);
    std::string out;
    for (const auto& worker : picture.workers) {
        const bool here = std::any_of(tasks.begin(), tasks.end(), [&](const PictureTask* task) {
            return task->worker_slot == worker.slot;
        });
        if (here) out += (out.empty() ? "" : ", ") + worker.name;
    }
    return out;
}

// Something of it is on a worker, and all of that is suspended.
bool all_suspended(const Picture& picture, const ExplainJob& job) {
    const auto tasks = on_workers(picture, job);
    return !tasks.empty() && std::all_of(tasks.begin(), tasks.end(), [](const PictureTask* task) {
        return task->state == shm::SlotState::kSuspended;
    });
}

// The best queued task of the job, or of the element asked for.
const PictureTask* queued_task(const Picture& picture, const ExplainJob& job) {
    const PictureTask* best = nullptr;
    for (const auto& task : picture.tasks) {
        if (task.job != job.status.job() || task.state != shm::SlotState::kQueued) continue;
        if (job.element && task.element != *job.element) continue;
        if (best == nullptr || task.key < best->key) best = &task;
    }
    return best;
}

// Of a job that waits for nothing here.
std::optional<Reason> why_nothing_starts(const Picture& picture, const ExplainJob& job) {
    if (job.status.state() == "ended") {
        const auto when = job.status.end_ns();
        const auto& reason = job.status.reason();
        return Reason{"ended",
                      job_state(job.status) + (when == 0 ? "" : " at " + format_time_ns(when)) +
                          (reason.empty() ? "" : ": " + reason),
                      {}};
    }
    if (!picture.down) return std::nullopt;
    return Reason{"cell-down", "the cell is down and starts nothing; start it with: reeve up", {}};
}

}  // namespace

Picture take_picture(const shm::Segment& segment) {
    Picture out;
    out.workers = segment_workers(segment);
    out.now_ns = wall_ns();
    const auto& header = segment.header();
    out.backlog = header.backlog_tasks.load();
    out.acknowledging = header.acknowledging.load() != 0;
    const auto& scheduler = segment.participant(shm::kParticipantScheduler);
    const auto beat = scheduler.heartbeat_ns.load();
    const auto now = boot_ns();
    const auto scheduler_pid = static_cast<pid_t>(scheduler.pid.load());
    out.scheduler_present =
        scheduler_pid > 0 && process_alive(scheduler_pid, scheduler.start_ticks.load());
    out.scheduler_silent_ns = beat == 0 || beat > now ? 0 : now - beat;
    out.full = true;
    for (std::uint32_t i = 0; i < segment.layout().chunks && out.full; ++i) {
        out.full = segment.chunk_owner(i).load() != shm::kNone32;
    }
    for (std::uint32_t i = 0; i < segment.config().classes; ++i) {
        const auto& entry = segment.task_class(i);
        if (entry.live.load() == 0 || entry.closed.load() != shm::kClosedBudget) continue;
        out.spent_up[entry.uid] = {entry.spent_nano.load(), entry.budget_nano.load()};
    }
    for_each_task(segment, [&](const TaskView& view) {
        PictureTask task;
        task.job = view.result.job();
        task.element = view.result.element();
        task.array = task.element != 0;
        const bool queued = view.ahead || view.word.state() == shm::SlotState::kClaimed;
        task.state = queued ? shm::SlotState::kQueued : view.word.state();
        task.key = view.key;
        task.class_id = view.class_id;
        if (view.claim != 0 && (view.claim & shm::kClaimAhead) == 0) {
            task.worker_slot = view.claim - 1;
        }
        if (view.class_id < segment.config().classes) {
            const auto& entry = segment.task_class(view.class_id);
            task.request = entry.request;
            if (entry.wants_hash != 0 && out.wants.count(view.class_id) == 0) {
                out.wants.emplace(view.class_id, shm::read_wants(entry));
            }
        }
        task.started_ns = view.result.started_ns();
        task.time_limit_ns = view.time_limit_ns;
        task.expected_ns = view.expected_ns;
        task.length_milli = view.length_milli;
        task.sla = shm::TaskPolicy::unpack(view.policy).sla;
        task.stopping = (view.intent & shm::kIntentStop) != 0;
        if (header.pushing_for.load() == view.slot + 1ULL) {
            out.pushing_job = task.job;
            out.pushing_element = task.element;
        }
        out.tasks.push_back(task);
    });
    return out;
}

Answer explain_job(const Picture& picture, const ExplainJob& job) {
    Answer out;
    out.job = job.status.job();
    out.state = job_state(job.status);
    out.deadline_ns = job.status.spec().deadline_unix_ms() * kMillisecond;
    if (auto why = why_nothing_starts(picture, job)) {
        out.reasons.push_back(std::move(*why));
        return out;
    }
    const auto waiting = job.status.queued() + job.status.backlog() + job.status.held();
    const auto where = running_on(picture, job);
    if (job.status.state() == "active" && (waiting == 0 || (job.element && !where.empty()))) {
        if (all_suspended(picture, job)) {
            out.reasons.push_back({"suspended",
                                   "is suspended on " + where +
                                       "; let it go on with: reeve resume " +
                                       std::to_string(job.status.job()),
                                   {}});
            return out;
        }
        out.reasons.push_back(
            {"running", where.empty() ? "is being finished" : "runs on " + where, {}});
        out.likely_end_ns = likely_end_of(picture, job);
        return out;
    }
    ask_workers(picture, job, out);
    const auto* mine = queued_task(picture, job);
    for (const auto& task : picture.tasks) {
        if (mine == nullptr || task.state != shm::SlotState::kQueued || task.key >= mine->key) {
            continue;
        }
        ++out.ahead;
        out.ahead_alike += task.class_id == mine->class_id ? 1U : 0U;
    }
    add_own_reasons(picture, job, out.reasons);
    add_torn_gang(picture, job, out.reasons);
    if (const auto spent = picture.spent_up.find(job.status.uid());
        spent != picture.spent_up.end()) {
        out.reasons.push_back({"budget",
                               user_name(job.status.uid()) + " has spent " +
                                   format_cost(spent->second.spent_nano) + " of a budget of " +
                                   format_cost(spent->second.budget_nano),
                               {}});
    }
    const bool own = std::any_of(out.reasons.begin(), out.reasons.end(), [&](const Reason& reason) {
        return reason.code != "held" || job.status.state() == "held";
    });
    add_cell_reasons(picture, out.reasons);
    if (own) return out;
    if (mine == nullptr && picture.backlog > 0) {
        add_outside_reasons(picture, job, out.reasons);
    }
    if (mine != nullptr) add_preemption(picture, *mine, out.reasons);
    add_placement_reasons(out, job, out.reasons);
    if (mine != nullptr) {
        out.order = order_of(picture, job, *mine);
        out.urgent = mine->sla == v1::SLA_CRITICAL && job.status.spec().sla() != v1::SLA_CRITICAL;
        const ForecastTask task{job.request, job.wants, mine->time_limit_ns, job.nodes, mine->key};
        out.earliest_start_ns = earliest_start_ns(picture, task).value_or(0);
        if (out.earliest_start_ns != 0 && mine->expected_ns != 0) {
            out.likely_end_ns = out.earliest_start_ns + mine->expected_ns;
        }
    }
    return out;
}

}  // namespace reeve::cli
