#include "cli/look.h"
#include "cli/render.h"

#include <algorithm>
#include <cstring>

#include <unistd.h>

#include "common/base/clock.h"
#include "common/shm/resource_names.h"
#include "common/shm/run_code.h"
#include "common/shm/class_wants.h"
#include "common/shm/function_block.h"
#include "common/shm/job_table.h"

namespace reeve::cli {

namespace {

constexpr int kCopyTriesMax = 16;
// Later than this no end is told while the scheduler lives.
constexpr std::uint64_t kEndUntoldNs = 100 * kMillisecond;

const char* job_state_word(shm::JobState state) {
    switch (state) {
        case shm::JobState::kFree:
            return "free";
        case shm::JobState::kWaiting:
            return "waiting";
        case shm::JobState::kHeld:
            return "held";
        case shm::JobState::kActive:
            return "active";
        case shm::JobState::kEnded:
            return "ended";
    }
    return "unknown";
}

v1::JobStatus to_status(const shm::JobRecord& record) {
    v1::JobStatus out;
    out.set_job(record.job);
    out.set_name(fixed_text(record.name, sizeof record.name));
    out.set_state(job_state_word(record.state));
    out.set_priority(record.priority);
    out.set_cost_nano(record.cost_nano);
    out.set_elements(record.elements);
    out.set_backlog(record.backlog);
    out.set_held(record.held);
    out.set_queued(record.queued);
    out.set_running(record.running);
    out.set_succeeded(record.succeeded);
    out.set_failed(record.failed);
    out.set_cancelled(record.cancelled);
    out.set_submit_ns(record.submit_wall_ns);
    out.set_start_ns(record.start_wall_ns);
    out.set_end_ns(record.end_wall_ns);
    out.set_uid(record.uid);
    out.set_exit_code(record.exit_code);
    out.set_waits_for(shm::to_string(record.waits_for));
    const auto shown = std::min(record.dependency_count, shm::kJobDependenciesShown);
    for (std::uint32_t i = 0; i < shown; ++i) out.add_after()->set_job(record.dependencies[i]);
    auto* spec = out.mutable_spec();
    spec->set_priority(record.priority);
    spec->set_not_before_unix_ms(record.not_before_wall_ns / kMillisecond);
    spec->mutable_task()->set_time_limit_ms(record.time_limit_ns / kMillisecond);
    auto* resources = spec->mutable_task()->mutable_resources();
    resources->set_cpu_milli(record.request.cpu_milli);
    resources->set_memory_bytes(record.request.memory_bytes);
    resources->set_gpus(record.request.gpus);
    return out;
}

// What a person calls the slot's state; `init` slots are invisible.
const char* state_word(shm::SlotState state) {
    switch (state) {
        case shm::SlotState::kHeld:
            return "held";
        case shm::SlotState::kQueued:
        case shm::SlotState::kClaimed:
            return "queued";
        case shm::SlotState::kAssigned:
            return "assigned";
        case shm::SlotState::kRunning:
        case shm::SlotState::kEnding:
            return "running";
        case shm::SlotState::kSuspended:
            return "suspended";
        case shm::SlotState::kEnded:
            return "ended";
        case shm::SlotState::kFree:
        case shm::SlotState::kInit:
            break;
    }
    return "free";
}

bool visible(shm::SlotWord word) {
    return word.state() >= shm::SlotState::kHeld && word.state() <= shm::SlotState::kEnded;
}

void copy_result(const shm::TaskSlot& slot, shm::SlotWord word, bool ahead, v1::TaskResult& out) {
    out.set_job(slot.job);
    out.set_element(slot.element);
    out.set_state(state_word(ahead ? shm::SlotState::kQueued : word.state()));
    out.set_attempt(word.attempt());
    out.set_submit_ns(slot.submit_wall_ns);
    out.set_deaths(slot.deaths.load(std::memory_order_relaxed));
    // Of one that succeeded it may hold the digest of its output.
    if (slot.has_digest.load(std::memory_order_relaxed) == 0) {
        out.set_detail(fixed_text(slot.detail, sizeof slot.detail));
    }
    const bool held_by_worker = word.state() >= shm::SlotState::kAssigned;
    if (!held_by_worker || ahead) return;
    out.set_assigned_ns(slot.assigned_wall_ns.load(std::memory_order_relaxed));
    out.set_worker_number(slot.holder_number.load(std::memory_order_relaxed));
    out.set_worker_incarnation(slot.holder_incarnation.load(std::memory_order_relaxed));
    if (word.state() == shm::SlotState::kAssigned) return;
    out.set_started_ns(slot.started_wall_ns.load(std::memory_order_relaxed));
    out.set_pid(slot.pid.load(std::memory_order_relaxed));
    if (word.state() != shm::SlotState::kEnded) return;
    auto outcome = static_cast<Outcome>(slot.outcome.load(std::memory_order_relaxed));
    // Cancelled where it waited, no worker wrote one.
    if (word.owner() == shm::kOwnerCancelled) outcome = Outcome::kCancelled;
    out.set_outcome(std::string(to_string(outcome)));
    out.set_exit_code(slot.exit_code.load(std::memory_order_relaxed));
    out.set_core_dumped(slot.core_dumped.load(std::memory_order_relaxed) != 0);
    out.set_ended_ns(slot.ended_wall_ns.load(std::memory_order_relaxed));
    out.set_user_us(slot.user_us.load(std::memory_order_relaxed));
    out.set_system_us(slot.system_us.load(std::memory_order_relaxed));
    out.set_max_rss_bytes(slot.max_rss_bytes.load(std::memory_order_relaxed));
}

WorkerView to_view(const shm::Segment& segment, std::uint32_t index) {
    const auto& worker = segment.worker(index);
    WorkerView out;
    out.slot = index;
    out.state = worker.state.load();
    out.number = worker.number.load();
    out.incarnation = worker.incarnation.load();
    out.name = fixed_text(worker.name, sizeof worker.name);
    out.host = fixed_text(worker.host, sizeof worker.host);
    out.cgroup = fixed_text(worker.cgroup_root, sizeof worker.cgroup_root);
    out.capacity = worker.capacity;
    out.used = worker.used;
    out.gpu_used_mask = worker.gpu_used_mask.load();
    out.gpus = worker.gpu_count.load();
    for (std::uint32_t i = 0; i < std::min(out.gpus, shm::kGpusShown); ++i) {
        const auto& gpu = worker.gpus[i];
        out.gpu_loads.push_back({fixed_text(gpu.uuid, sizeof gpu.uuid), gpu.known.load() == 1,
                                 gpu.busy_percent.load(),
                                 std::uint64_t{gpu.memory_used_mib.load()} << 20,
                                 std::uint64_t{gpu.memory_total_mib.load()} << 20});
    }
    out.agent_pid = worker.agent.pid.load();
    out.agent_start_ticks = worker.agent.start_ticks.load();
    out.launcher_pid = worker.launcher_pid.load();
    const auto beat = worker.agent.heartbeat_ns.load();
    const auto now = boot_ns();
    out.heartbeat_age_ns = beat == 0 || beat > now ? 0 : now - beat;
    out.lease_ns = worker.lease_ns.load();
    out.joined_ns = worker.joined_wall_ns.load();
    out.drain_wanted = worker.drain_wanted.load() != 0;
    out.labels = shm::read_labels(worker.labels);
    out.price_micro = worker.price_micro.load();
    out.on_demand_micro = worker.on_demand_micro;
    out.spot = worker.spot != 0;
    out.notice_ns = worker.notice_wall_ns.load();
    return out;
}

}  // namespace

sched::NodeOffer offer_of(const WorkerView& worker) {
    sched::NodeOffer offer;
    offer.name = worker.name;
    offer.capacity = worker.capacity;
    offer.used = worker.used.fits(worker.capacity) ? worker.used : worker.capacity;
    offer.price_per_hour = sched::price_of(worker.on_demand_micro);
    offer.spot_price_per_hour = sched::price_of(worker.price_micro);
    offer.spot = worker.spot;
    offer.open = worker.state == shm::WorkerState::kAlive && !worker.drain_wanted;
    offer.labels = worker.labels;
    offer.labels.push_back(std::string(kNodeLabel) + worker.name);
    return offer;
}

bool waits_ahead(const shm::TaskSlot& slot, shm::SlotWord word, std::uint64_t now_ns) {
    if ((slot.claim.load(std::memory_order_relaxed) & shm::kClaimAhead) == 0) return false;
    if (word.state() == shm::SlotState::kAssigned) return true;
    const auto begun = slot.started_wall_ns.load(std::memory_order_relaxed);
    return word.state() == shm::SlotState::kRunning && now_ns < begun + kEndUntoldNs;
}

std::string fixed_text(const char* text, std::size_t size) {
    return std::string(text, strnlen(text, size));
}

Error cell_is_down(const Cell& cell) {
    const bool known = access(cell.ledger.c_str(), F_OK) == 0;
    return {ErrorCode::kUnavailable,
            (known ? "the cell in " + cell.dir + " is down; start it with"
                   : "there is no cell in " + cell.dir + "; start one with") +
                ": reeve up --state-dir " + cell.dir};
}

Result<std::unique_ptr<shm::Segment>> open_segment(const Cell& cell) {
    auto name = read_segment_name(cell);
    if (!name) {
        if (name.error().code != ErrorCode::kNotFound) return fail(std::move(name).error());
        return fail(cell_is_down(cell));
    }
    auto segment = shm::Segment::open(*name, false);
    if (!segment && segment.error().code == ErrorCode::kNotFound) {
        return fail(ErrorCode::kUnavailable, "the shared memory of the cell in " + cell.dir +
                                                 " is gone; reeve up --state-dir " + cell.dir +
                                                 " rebuilds it from the ledger");
    }
    if (segment) know_resource_names(shm::resource_names(**segment));
    return segment;
}

std::vector<v1::JobStatus> segment_jobs(const shm::Segment& segment) {
    std::vector<v1::JobStatus> out;
    for (std::uint32_t i = 0; i < segment.config().jobs; ++i) {
        const auto record = shm::read_job(segment.job(i));
        if (!record || record->state == shm::JobState::kFree || record->job == 0) continue;
        out.push_back(to_status(*record));
    }
    std::sort(out.begin(), out.end(),
              [](const auto& a, const auto& b) { return a.job() < b.job(); });
    return out;
}

std::optional<v1::JobStatus> segment_job(const shm::Segment& segment, std::uint64_t job) {
    for (std::uint32_t i = 0; i < segment.config().jobs; ++i) {
        const auto record = shm::read_job(segment.job(i));
        if (record && record->job == job && record->state != shm::JobState::kFree) {
            return to_status(*record);
        }
    }
    return std::nullopt;
}

std::optional<TaskView> view_task(const shm::Segment& segment, std::uint32_t index) {
    if (!segment.valid_slot(index)) return std::nullopt;
    const auto& slot = segment.task(index);
    for (int i = 0; i < kCopyTriesMax; ++i) {
        const auto word = shm::load_word(slot);
        if (!visible(word)) return std::nullopt;
        TaskView out;
        out.slot = index;
        out.word = word;
        out.key = slot.key.load(std::memory_order_relaxed);
        out.class_id = slot.class_id;
        out.flags = slot.flags;
        out.intent = slot.intent.load(std::memory_order_relaxed);
        out.policy = slot.policy.load(std::memory_order_relaxed);
        out.claim = slot.claim.load(std::memory_order_relaxed);
        out.gpu_mask = slot.gpu_mask.load(std::memory_order_relaxed);
        out.time_limit_ns = slot.time_limit_ns;
        out.expected_ns = shm::run_ns_of(slot.expected);
        out.length_milli = slot.length_milli;
        out.not_before_ns = slot.not_before_wall_ns;
        out.priority = slot.priority;
        out.uid = slot.uid;
        out.retries_max = slot.retries_max;
        out.payload_bytes = slot.payload_bytes;
        out.ahead = waits_ahead(slot, word, wall_ns());
        copy_result(slot, word, out.ahead, out.result);
#ifndef __SANITIZE_THREAD__  // does not know fences, and sees the writers' process no more than
                             // them
        std::atomic_thread_fence(std::memory_order_acquire);
#endif
        if (shm::load_word(slot) == word) return out;
    }
    return std::nullopt;
}

void for_each_task(const shm::Segment& segment, const std::function<void(const TaskView&)>& visit) {
    for (std::uint32_t i = 0; i < segment.config().task_slots; ++i) {
        if (auto view = view_task(segment, i)) visit(*view);
    }
}

std::vector<TaskView> tasks_of_job(const shm::Segment& segment, std::uint64_t job) {
    std::vector<TaskView> out;
    for (std::uint32_t i = 0; i < segment.config().task_slots; ++i) {
        if (segment.task(i).job != job) continue;
        auto view = view_task(segment, i);
        if (view && view->result.job() == job) out.push_back(std::move(*view));
    }
    std::sort(out.begin(), out.end(), [](const TaskView& a, const TaskView& b) {
        return a.result.element() < b.result.element();
    });
    return out;
}

std::optional<v1::TaskSpec> task_spec(const shm::Segment& segment, std::uint32_t slot) {
    const auto before = shm::load_word(segment.task(slot));
    const std::string bytes(segment.payload(segment.task(slot)));
    if (bytes.empty() || shm::load_word(segment.task(slot)).generation() != before.generation()) {
        return std::nullopt;
    }
    v1::TaskSpec spec;
    if (const auto function = shm::view_function(segment, segment.task(slot))) {
        spec.set_function(std::string(function->handler));
        spec.set_data(std::string(function->data));
        return spec;
    }
    if (!spec.ParseFromString(bytes)) return std::nullopt;
    return spec;
}

std::vector<WorkerView> segment_workers(const shm::Segment& segment) {
    std::vector<WorkerView> out;
    std::vector<std::size_t> place(segment.config().workers, out.max_size());
    for (std::uint32_t i = 0; i < segment.config().workers; ++i) {
        if (segment.worker(i).state.load() == shm::WorkerState::kFree) continue;
        place[i] = out.size();
        out.push_back(to_view(segment, i));
    }
    const auto now = wall_ns();
    for (std::uint32_t i = 0; i < segment.config().task_slots; ++i) {
        const auto word = shm::load_word(segment.task(i));
        if (!word.owned_by_worker() || !visible(word)) continue;
        if (waits_ahead(segment.task(i), word, now)) continue;
        const auto worker = word.worker_slot();
        if (worker >= place.size() || place[worker] >= out.size()) continue;
        if (word.state() != shm::SlotState::kEnded) ++out[place[worker]].tasks;
    }
    return out;
}

}  // namespace reeve::cli
