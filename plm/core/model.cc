#include "plm/core/model.h"

#include <algorithm>
#include <cmath>

#include "common/base/assert.h"
#include "common/shm/layout.h"
#include "common/rpc/wants.h"
#include "reeve/v1/reeve.pb.h"

namespace reeve::plm {
namespace {

constexpr std::uint32_t kNoSlot = 0xFFFFFFFFU;

auto damaged(const char* what, JobId job, std::uint64_t ordinal = 0) {
    return fail(ErrorCode::kDataLoss, std::string("ledger record does not fit: ") + what +
                                          " (job " + std::to_string(job) + ", ordinal " +
                                          std::to_string(ordinal) + ")");
}

}  // namespace

Element Job::element_of(std::uint64_t ordinal) const {
    if (!array) return 0;
    for (const auto& span : extras->spans) {
        const auto size = span.last - span.first + 1;
        if (ordinal < size) return span.first + ordinal;
        ordinal -= size;
    }
    return kHeaderElement;
}

std::uint64_t Job::ordinal_of(Element element) const {
    if (!array) return element == 0 ? 0 : count;
    std::uint64_t before = 0;
    for (const auto& span : extras->spans) {
        if (element >= span.first && element <= span.last) return before + element - span.first;
        before += span.last - span.first + 1;
    }
    return count;
}

std::uint64_t Job::next_in_run() const {
    if (!passed.empty()) return passed.next_first(0);
    auto at = cursor;
    while (at < count) {
        auto next = held_elements.next_gap(at);
        next = cancelled.next_gap(next);
        if (next == at) break;
        at = next;
    }
    return std::min(at, count);
}

std::uint64_t Job::stretch_in_run(std::uint64_t next, std::uint64_t most) const {
    const auto end =
        next < cursor
            ? passed.next_gap(next)
            : std::min({count, held_elements.next_first(next), cancelled.next_first(next)});
    return std::min(most, end - next);
}

void Job::release_elements(std::uint64_t first, std::uint64_t last) {
    for (auto at = first; cursor != 0 && at <= last;) {
        if (!held_elements.contains(at)) at = held_elements.next_first(at);
        if (at > last || at >= cursor) break;
        const auto end = std::min({held_elements.next_gap(at) - 1, last, cursor - 1});
        passed.add(at, end);
        at = end + 1;
    }
    held_elements.remove(first, last);
}

void Job::settle_passed() {
    if (!array || ended || cursor == 0) return;
    passed.add(0, cursor - 1);
    for (const auto* set : {&ok, &failed, &cancelled, &held_elements}) {
        for (const auto& [first, last] : set->ranges()) passed.remove(first, last);
    }
    tasks->for_each([this](std::uint64_t ordinal, const Task&) { passed.remove(ordinal); });
}

merkle::Hash Job::spec_digest() const {
    return array ? extras->spec_digest : merkle::sha256(spec.view());
}

namespace {

JobPolicy policy_of(const v1::JobSpec& spec) {
    constexpr sched::SlaClass kClasses[] = {sched::SlaClass::kStandard, sched::SlaClass::kCritical,
                                            sched::SlaClass::kFlexible, sched::SlaClass::kSpot};
    constexpr sched::PreemptMode kModes[] = {
        sched::PreemptMode::kRequeue, sched::PreemptMode::kCancel, sched::PreemptMode::kNever};
    JobPolicy policy;
    if (v1::SlaClass_IsValid(spec.sla())) policy.sla = kClasses[spec.sla()];
    if (v1::PreemptMode_IsValid(spec.preempt())) policy.preempt = kModes[spec.preempt()];
    policy.deadline_ns = spec.deadline_unix_ms() * 1'000'000ULL;
    if (spec.has_minimum_run_ms()) {
        const auto seconds = (spec.minimum_run_ms() + 999) / 1000;
        policy.minimum_run_s =
            static_cast<std::uint32_t>(std::min<std::uint64_t>(seconds, kMinimumRunUnset - 1));
    }
    for (const auto& limit : spec.limits()) {
        policy.limits.push_back({limit.name(), std::max(limit.count(), 1U)});
    }
    return policy;
}

}  // namespace

Status parse_spec(Job& job) {
    v1::JobSpec spec;
    if (!job.spec.parse(spec)) return damaged("unreadable job spec", job.id);
    return take_spec(job, spec);
}

TaskMoved record_of(JobId job, std::uint64_t ordinal, const Task& task, std::uint64_t wall_ns) {
    return {job,     ordinal,     task.state,        task.attempt, task.worker,
            wall_ns, task.deaths, task.retries_used, task.intent};
}

Status take_spec(Job& job, const v1::JobSpec& spec) {
    job.priority = spec.priority();
    job.array = spec.elements_size() > 0;
    job.held = spec.hold();
    job.values_per_element = spec.element_values_size() > 0;
    job.function = !spec.task().function().empty();
    job.at_most_once = spec.task().retry_mode() == v1::RETRY_NEVER;
    job.retries_max = spec.retries();
    job.time_limit_ns = spec.task().time_limit_ms() * 1'000'000ULL;
    const auto& name = spec.task().name();
    // Wherever these bytes stand, they are the name.
    if (!name.empty()) {
        job.name_in_spec = {static_cast<std::uint32_t>(job.spec.view().find(name)),
                            static_cast<std::uint32_t>(name.size())};
    }
    const auto& wanted = spec.task().resources();
    job.request = Resources{wanted.cpu_milli(), wanted.gpus(), wanted.memory_bytes()};
    job.count = job.array ? 0 : 1;
    const auto wants = rpc::wants_of(spec);
    const bool plain = !job.array && spec.max_running() == 0 && spec.max_failures() == 0 &&
                       spec.not_before_unix_ms() == 0 && spec.key().empty() && wants.empty() &&
                       spec.after_size() == 0;
    auto policy = policy_of(spec);
    if (plain && policy.empty()) return {};
    auto& extras = job.extras.edit();
    extras.policy = std::move(policy);
    extras.max_running = spec.max_running();
    extras.max_failures = spec.max_failures();
    extras.not_before_ns = spec.not_before_unix_ms() * 1'000'000ULL;
    extras.nodes = spec.nodes();
    extras.key = spec.key();
    extras.wants = wants;
    if (job.array) extras.spec_digest = merkle::sha256(job.spec.view());
    for (const auto& range : spec.elements()) {
        if (range.last() < range.first()) return damaged("reversed element range", job.id);
        extras.spans.push_back({range.first(), range.last()});
        job.count += range.last() - range.first() + 1;
    }
    for (const auto& dependency : spec.after()) {
        extras.after.push_back({dependency.job(), static_cast<DependencyKind>(dependency.kind())});
    }
    return {};
}

// What happens comes in rows of one job: the last one found is remembered.
Job* Model::find(JobId id) {
    if (last_found_ != nullptr && last_found_->id == id) return last_found_;
    const auto found = jobs_.find(id);
    if (found == jobs_.end()) return nullptr;
    last_found_ = &found->second;
    return last_found_;
}

Task* Model::find_task(JobId id, std::uint64_t ordinal) {
    Job* job = find(id);
    return job == nullptr ? nullptr : job->tasks->find(ordinal);
}

Chain* Model::placed_chain(TaskId id) {
    Job* job = find(id.job);
    if (job == nullptr) return nullptr;
    if (!job->array || id.element == kHeaderElement) return &job->chain;
    const auto ordinal = job->ordinal_of(id.element);
    if (Task* task = job->tasks->find(ordinal)) return &task->chain;
    const auto failed = job->failed_attempts->find(ordinal);
    return failed == job->failed_attempts->end() ? nullptr : &failed->second.chain;
}

Chain& Model::chain_of(TaskId id) {
    Chain* placed = placed_chain(id);
    return placed != nullptr ? *placed : unplaced_chains_[id];
}

void Model::settle_chains() {
    for (const auto& [id, chain] : unplaced_chains_) {
        if (Chain* placed = placed_chain(id)) *placed = chain;
    }
    unplaced_chains_.clear();
}

JobId Model::by_key(std::uint32_t uid, const std::string& key) const {
    const auto found = keys_.find({uid, key});
    return found == keys_.end() ? 0 : found->second;
}

void Model::mark(Job& job) {
    if (job.dirty) return;
    job.dirty = true;
    dirty_.push_back(&job);
}

void Model::leave_state(Job& job, std::uint64_t ordinal, const Task& task) {
    if (task.state == SlotState::kHeld) --job.held_tasks;
    if (shm::is_placed(task.state)) --job.running;
    if (task.ahead) --job.ahead;
    if (task.state != SlotState::kQueued) return;
    if (task.slot == kNoSlot) {
        job.tasks->set_loose(ordinal, false);
    } else {
        --job.queued_in_slots;
    }
}

void Model::enter_state(Job& job, std::uint64_t ordinal, const Task& task) {
    if (task.state == SlotState::kHeld) ++job.held_tasks;
    if (shm::is_placed(task.state)) ++job.running;
    if (task.ahead) ++job.ahead;
    if (task.state != SlotState::kQueued) return;
    if (task.slot == kNoSlot) {
        job.tasks->set_loose(ordinal, true);
    } else {
        ++job.queued_in_slots;
    }
}

void Model::note_ahead(Job& job, Task& task) {
    if (task.ahead || task.state != SlotState::kAssigned) return;
    task.ahead = true;
    ++job.ahead;
}

void Model::bind_slot(Job& job, std::uint64_t ordinal, Task& task, std::uint32_t slot) {
    leave_state(job, ordinal, task);
    task.slot = slot;
    enter_state(job, ordinal, task);
}

Status Model::apply(const Record& record) {
    return std::visit(
        [this](const auto& r) -> Status {
            using T = std::decay_t<decltype(r)>;
            if constexpr (std::is_same_v<T, JobSubmitted>) return apply_submitted(r);
            if constexpr (std::is_same_v<T, Admitted>) return apply_admitted(r);
            if constexpr (std::is_same_v<T, TaskMoved>) return apply_moved(r);
            if constexpr (std::is_same_v<T, TaskEnded>) return apply_ended(r);
            if constexpr (std::is_same_v<T, JobChanged>) return apply_job_changed(r);
            if constexpr (std::is_same_v<T, RunCancelled>) return apply_run_cancelled(r);
            if constexpr (std::is_same_v<T, TaskRetried>) return apply_retried(r);
            if constexpr (std::is_same_v<T, WorkerChanged>) apply_worker(r);
            if constexpr (std::is_same_v<T, EpochOpened>) {
                epoch = r.epoch;
                segment_generation = r.segment_generation;
            }
            return {};
        },
        record);
}

void Model::index_job(Job& job) {
    if (!job.extras->key.empty()) keys_[{job.uid, job.extras->key}] = job.id;
    if (job.ended) return;
    for (const auto& edge : job.extras->after) {
        if (!jobs_ok_.contains(edge.job) && !jobs_not_ok_.contains(edge.job)) {
            dependents_[edge.job].push_back(job.id);
        }
    }
}

Status Model::apply_submitted(const JobSubmitted& record) {
    const auto [at, fresh] = jobs_.try_emplace(record.job);
    if (!fresh) return damaged("job submitted twice", record.job);
    Job& job = at->second;
    job.id = record.job;
    job.uid = record.uid;
    job.gid = record.gid;
    job.submit_ns = record.submit_ns;
    job.first_sequence = record.first_sequence;
    job.fair_milli = record.fair_milli;
    job.spec = SpecBytes(record.spec);
    REEVE_TRY(record.parsed != nullptr ? take_spec(job, *record.parsed) : parse_spec(job));
    if (!job.function) {
        const auto expected = run_times.expected_s(job.kind(), job.time_limit_ns);
        job.length_milli =
            static_cast<std::uint16_t>(std::lround(sched::length_points(expected) * 1000));
    }
    next_job = std::max(next_job, record.job + 1);
    next_sequence = std::max(next_sequence, record.first_sequence + job.count);
    index_job(job);
    mark(job);
    return {};
}

Status Model::apply_admitted(const Admitted& record) {
    Job* job = find(record.job);
    if (job == nullptr || record.first + record.count > job->count) {
        return damaged("admission", record.job, record.first);
    }
    for (std::uint64_t i = 0; i < record.count; ++i) {
        Task* task = job->tasks.edit().add(record.first + i, job->count);
        if (task == nullptr) return damaged("element admitted twice", record.job, record.first + i);
        task->state = record.held ? SlotState::kHeld : SlotState::kQueued;
        enter_state(*job, record.first + i, *task);
    }
    job->cursor = std::max(job->cursor, record.first + record.count);
    job->held_elements.remove(record.first, record.first + record.count - 1);
    job->passed.remove(record.first, record.first + record.count - 1);
    mark(*job);
    return {};
}

Status Model::apply_moved(const TaskMoved& record) {
    Job* job = find(record.job);
    Task* task = find_task(record.job, record.ordinal);
    if (task == nullptr) return damaged("task moved", record.job, record.ordinal);
    leave_state(*job, record.ordinal, *task);
    // What is asked of it moves it nowhere.
    task->ahead =
        task->ahead && record.state == SlotState::kAssigned && record.attempt == task->attempt;
    task->state = record.state;
    task->attempt = record.attempt;
    task->deaths = record.deaths;
    task->retries_used = record.retries_used;
    task->intent = record.intent;
    task->worker = record.worker;
    if (record.state == SlotState::kAssigned) {
        task->assigned_ns = record.wall_ns;
        task->started_ns = 0;
    } else if (record.state == SlotState::kRunning && task->started_ns == 0) {
        task->started_ns = record.wall_ns;
        if (job->start_ns == 0) job->start_ns = record.wall_ns;
    }
    enter_state(*job, record.ordinal, *task);
    mark(*job);
    return {};
}

Status Model::apply_ended(const TaskEnded& record) {
    Job* job = find(record.job);
    Task* task = find_task(record.job, record.ordinal);
    if (task == nullptr) return damaged("task ended", record.job, record.ordinal);
    if (job->start_ns == 0) job->start_ns = record.started_ns;
    spend.note_attempt(job->uid, record);
    mark(*job);
    usage.charge(job->uid, job->gid, job->request, record.started_ns, record.ended_ns);
    if (!job->function) {
        run_times.learn(job->kind(), record.outcome, record.started_ns, record.ended_ns);
    }
    if (!record.final) {
        const bool pushed =
            record.outcome == Outcome::kRequeued && (task->intent & shm::kIntentPreempt) != 0;
        task->pushed += pushed ? 1U : 0U;
        return {};
    }
    leave_state(*job, record.ordinal, *task);
    const Chain chain = task->chain;
    job->tasks->erase(record.ordinal);
    job->tasks.settle();
    if (record.outcome == Outcome::kSucceeded) {
        job->ok.add(record.ordinal);
    } else if (record.outcome == Outcome::kCancelled) {
        job->cancelled.add(record.ordinal);
    } else {
        if (job->failed.empty()) {
            job->exit_code = record.exit_code;
            if (job->reason->empty()) job->reason = record.detail;
        }
        job->failed.add(record.ordinal);
        job->failed_attempts.edit()[record.ordinal] = {record.attempt, record.worker, chain};
        const bool closed = record.outcome == Outcome::kLost || record.outcome == Outcome::kPoison;
        if (closed) job->closed.add(record.ordinal);
    }
    check_ended(*job, record.ended_ns);
    return {};
}

Status Model::apply_retried(const TaskRetried& record) {
    Job* job = find(record.job);
    if (job == nullptr || job->tasks->contains(record.ordinal)) {
        return damaged("retry", record.job, record.ordinal);
    }
    auto& task = *job->tasks.edit().add(record.ordinal, job->count);
    task.attempt = record.attempt;
    task.state = SlotState::kQueued;
    if (const auto failed = job->failed_attempts->find(record.ordinal);
        failed != job->failed_attempts->end()) {
        task.chain = failed->second.chain;
        job->failed_attempts->erase(failed);
        job->failed_attempts.settle();
    }
    job->failed.remove(record.ordinal);
    enter_state(*job, record.ordinal, task);
    if (job->ended) {
        job->ended = false;
        job->end_ns = 0;
        jobs_ok_.remove(job->id);
        jobs_not_ok_.remove(job->id);
        std::erase(ended_order_, job->id);
        ended_bytes_ -= job->spec.view().size();
    }
    mark(*job);
    return {};
}

Status Model::apply_job_changed(const JobChanged& record) {
    Job* job = find(record.job);
    if (job == nullptr) return damaged("job changed", record.job);
    const auto value = static_cast<std::uint64_t>(record.value);
    const auto other = static_cast<std::uint64_t>(record.other);
    switch (record.change) {
        case JobChange::kHold:
            job->held = true;
            break;
        case JobChange::kRelease:
            job->held = false;
            break;
        case JobChange::kPriority:
            job->priority = static_cast<std::int32_t>(record.value);
            break;
        case JobChange::kTimeLimit:
            job->time_limit_ns = value * 1'000'000ULL;
            break;
        case JobChange::kHoldElements:
            job->held_elements.add(value, other);
            job->passed.remove(value, other);
            break;
        case JobChange::kReleaseElements:
            job->release_elements(value, other);
            break;
        case JobChange::kReason:
            job->reason = record.text;
            break;
    }
    mark(*job);
    return {};
}

Status Model::apply_run_cancelled(const RunCancelled& record) {
    Job* job = find(record.job);
    if (job == nullptr || record.last >= job->count || record.first > record.last) {
        return damaged("run cancelled", record.job, record.first);
    }
    job->cancelled.add(record.first, record.last);
    job->held_elements.remove(record.first, record.last);
    job->passed.remove(record.first, record.last);
    if (record.rest) {
        job->rest_cancelled = true;
        job->cursor = job->count;
    }
    mark(*job);
    check_ended(*job, record.wall_ns);
    return {};
}

void Model::apply_worker(const WorkerChanged& record) {
    auto& worker = workers_[record.worker.incarnation];
    worker.id = record.worker;
    spend.note_worker(record.worker, record.price_micro);
    if (!record.name.empty()) worker.name = record.name;
    worker.alive = record.change == WorkerChange::kJoined;
    worker.dead = record.change == WorkerChange::kDead;
    if (record.change != WorkerChange::kJoined) worker.death_leaf = record.leaf;
    next_worker_number = std::max(next_worker_number, record.worker.number + 1);
    next_worker_incarnation = std::max(next_worker_incarnation, record.worker.incarnation + 1);
}

void Model::check_ended(Job& job, std::uint64_t wall_ns) {
    if (job.ended || !job.tasks->empty() || job.ended_count() < job.count) return;
    job.ended = true;
    job.end_ns = wall_ns;
    (job.ok.count() == job.count ? jobs_ok_ : jobs_not_ok_).add(job.id);
    just_ended_.push_back(job.id);
    ended_order_.push_back(job.id);
    ended_bytes_ += job.spec.view().size();
}

// A key stands for its job longer than the job is remembered: who asks again is told its id.
void Model::keep_key(Key key) {
    old_keys_.push_back(std::move(key));
    if (old_keys_.size() <= kKeysKept) return;
    keys_.erase(old_keys_.front());
    old_keys_.pop_front();
}

std::vector<std::map<JobId, Job>::node_type> Model::evict_ended(std::size_t times) {
    std::vector<std::map<JobId, Job>::node_type> dropped;
    while (ended_order_.size() > times * kEndedJobsKept ||
           (ended_bytes_ > times * kEndedBytesKept &&
            ended_order_.size() > times * kEndedJobsKeptMin)) {
        const JobId id = ended_order_.front();
        ended_order_.pop_front();
        const auto at = jobs_.find(id);
        if (at == jobs_.end()) continue;
        Job& job = at->second;
        // A slot still names its payload, or there is something to tell of it.
        if (job.payload_slots != 0 || job.dirty) {
            ended_order_.push_front(id);
            break;
        }
        if (!job.extras->key.empty()) keep_key({job.uid, job.extras->key});
        last_found_ = nullptr;
        ended_bytes_ -= job.spec.view().size();
        spend.forget_job(id);
        dropped.push_back(jobs_.extract(at));
    }
    return dropped;
}

}  // namespace reeve::plm
