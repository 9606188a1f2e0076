// How an agent becomes a worker of the segment: joins, takes its slot back, or joins anew after a
// rebuild, and finds its attempts again.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <iterator>

#include <sched.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/log/log.h"
#include "common/process/drained.h"
#include "common/process/proc_info.h"
#include "common/role/role.h"
#include "common/shm/class_wants.h"
#include "common/shm/resource_names.h"
#include "common/shm/transitions.h"
#include "common/shm/wake.h"
#include "worker/agent.h"

namespace reeve::worker {
namespace {

using shm::SlotState;
using shm::SlotWord;
using shm::WorkerState;

constexpr std::uint64_t kEndingWaitNs = 10 * kSecond;  // then the launcher says that it is stuck

template <std::size_t kSize>
void copy_text(char (&out)[kSize], const std::string& text) {
    std::memset(out, 0, kSize);
    std::memcpy(out, text.data(), std::min(text.size(), kSize - 1));
}

bool same_attempt(const AttemptName& name, const shm::TaskSlot& task, SlotWord word) {
    return name.job == task.job && name.element == task.element && name.attempt == word.attempt();
}

}  // namespace

bool Agent::attach(std::unique_ptr<shm::Segment> segment) {
    const std::lock_guard lock(mutex_);
    segment_ = std::move(segment);
    hold_.emplace(cell_, *segment_);
    const auto named = shm::number_counts(*segment_, options_.resources);
    crowded_ = !named;
    if (crowded_) {
        segment_.reset();
        return false;
    }
    named_ = *named;
    const bool back = !id_.none() && take_slot_back();
    if (!back && !claim_slot()) {
        segment_.reset();
        return false;
    }
    self_ = &segment_->worker(worker_index_);
    dispatch_ = shm::dispatch_ring(*segment_, worker_index_);
    completion_ = shm::completion_ring(*segment_, worker_index_);
    events_ = shm::event_ring(*segment_, shm::kEventRingFirstWorker + worker_index_);
    owner_ = static_cast<std::uint16_t>(shm::kOwnerFirstWorker + worker_index_);
    next_sweep_ns_ = 0;
    configure_launcher();
    tell_segment(segment_->name());
    if (!back) fill_slot();
    // The last agent may have died between a CAS and its event.
    if (back) segment_->header().sweep_requested.fetch_add(1);
    adopt();
    const bool warm = !options_.plugins.empty() || !options_.runner_program.empty();
    if (warm) functions_.start_all(context_.uid);
    // Last: with a heartbeat the register takes the slot for filled.
    announce(*segment_, self_->agent);
    shm::wake(segment_->participant(shm::kParticipantRegister).wake);
    for (auto& record : std::exchange(unhandled_, {})) {
        const auto digest = look_after(record, files_of_running(record.id));
        on_ended(record, digest);
        handled_sequence_ = std::max(handled_sequence_, record.sequence);
    }
    log::info(back ? "worker slot taken back" : "joining", {{"worker", id_.number},
                                                            {"incarnation", id_.incarnation},
                                                            {"slot", worker_index_},
                                                            {"running", running_.size()}});
    return true;
}

bool Agent::take_slot_back() {
    for (std::uint32_t i = 0; i < segment_->config().workers; ++i) {
        const auto& worker = segment_->worker(i);
        const auto state = worker.state.load();
        const bool member = state == WorkerState::kJoining || state == WorkerState::kAlive ||
                            state == WorkerState::kDraining;
        if (!member || worker.number.load() != id_.number ||
            worker.incarnation.load() != id_.incarnation ||
            worker.launcher_pid.load() != static_cast<std::uint32_t>(launcher_pid_)) {
            continue;
        }
        worker_index_ = i;
        return true;
    }
    return false;
}

bool Agent::claim_slot() {
    for (std::uint32_t i = 0; i < segment_->config().workers; ++i) {
        auto expected = WorkerState::kFree;
        if (!segment_->worker(i).state.compare_exchange_strong(expected, WorkerState::kJoining)) {
            continue;
        }
        worker_index_ = i;
        if (id_.none()) {
            id_.number = segment_->header().next_worker_number.fetch_add(1);
            id_.incarnation = segment_->header().next_worker_incarnation.fetch_add(1);
        }
        return true;
    }
    return false;
}

void Agent::fill_slot() {
    auto& worker = *self_;
    worker.joined_wall_ns.store(wall_ns());
    worker.launcher_pid.store(static_cast<std::uint32_t>(launcher_pid_));
    worker.launcher_start_ticks.store(launcher_ticks_);
    worker.lease_ns.store(options_.lease_ms * kMillisecond);
    worker.gpu_count.store(options_.gpus);
    worker.capacity.cpu_milli = options_.cpu_milli != 0 ? options_.cpu_milli : host_.cpu_milli;
    worker.capacity.memory_bytes = memory_bytes_;
    worker.capacity.gpus = options_.gpus;
    worker.capacity.named = named_;
    for (std::uint32_t i = 0; i < shm::kGpusShown; ++i) {
        auto& gpu = worker.gpus[i];
        gpu.known.store(0);
        copy_text(gpu.uuid, i < options_.gpu_ids.size() ? options_.gpu_ids[i] : std::string());
    }
    worker.price_micro.store(options_.price_micro);
    worker.on_demand_micro = options_.on_demand_micro;
    worker.spot = options_.spot ? 1 : 0;
    worker.notice_wall_ns.store(0);
    worker.drain_wanted.store(is_drained(cell_, options_.name) ? 1 : 0);
    if (!shm::write_labels(worker.labels, options_.labels)) {
        log::warn("the labels do not fit and are left out", {});
    }
    if (!shm::write_resources(worker.resources, options_.resources)) {
        log::warn("the names of the resources do not fit and are left out", {});
    }
    worker.tasks_running.store(0);
    copy_text(worker.name, options_.name);
    copy_text(worker.host, host_name());
    copy_text(worker.cgroup_root, cgroup_);
    worker.number.store(id_.number);
    worker.incarnation.store(id_.incarnation);
}

// What a launcher left that died together with everybody who could have cleaned up after it. Its
// pid and start time are in the name, so a living one is never touched.
void Agent::end_stale_cgroups() {
    const auto parent = "reeve." + cell_.hash;
    for (const auto& name : list_cgroups(cgroups_, parent)) {
        unsigned long long incarnation = 0;
        unsigned long long ticks = 0;
        int pid = 0;
        if (std::sscanf(name.c_str(), "w%llu.%d.%llu", &incarnation, &pid, &ticks) != 3) continue;
        if (process_alive(pid, ticks)) continue;
        log::warn("ending what an earlier worker left behind", {{"cgroup", parent + "/" + name}});
        const auto ended = end_cgroup(cgroups_, parent + "/" + name, boot_ns() + kSecond);
        if (!ended) log::warn("something stays", {{"why", ended.error().message}});
    }
}

// The launcher's pid and start time in the subtree's name make it unique for good: cell, worker and
// incarnation numbers may come again when a state directory is made anew.
void Agent::configure_launcher() {
    context_.output_root = cell_.output;
    context_.state_dir = cell_.dir;
    context_.node_name = options_.name;
    context_.instance =
        cell_.hash + "." + std::to_string(id_.number) + "." + std::to_string(id_.incarnation);
    context_.uid = ::geteuid();
    context_.gid = ::getegid();
    context_.grace_ns = options_.grace_ms * kMillisecond;
    context_.pids_max = options_.pids_max;
    context_.limit_cpu = options_.limit_cpu;
    context_.has_gpus = options_.gpus > 0;
    make_spaces();
    if (launcher_configured_) return;
    if (cgroups_.usable()) {
        cgroup_ = "reeve." + cell_.hash + "/w" + std::to_string(id_.incarnation) + "." +
                  std::to_string(launcher_pid_) + "." + std::to_string(launcher_ticks_);
    }
    ConfigureRecord record;
    record.number = id_.number;
    record.incarnation = id_.incarnation;
    record.lease_ns = options_.lease_ms * kMillisecond;
    copy_text(record.cgroup, cgroup_);
    copy_text(record.instance, context_.instance);
    copy_text(record.output_root, context_.output_root);
    MessageWriter message;
    message.add(RecordKind::kConfigure, record);
    send(message.text());
    launcher_configured_ = true;
}

// The launcher knows best what lives; the slots say what is ours. Both are brought together.
void Agent::adopt() {
    running_.clear();
    waiting_.clear();
    followers_.clear();
    before_ = {};
    starts_.clear();
    untold_.assign(segment_->config().task_slots, {});
    free_cpus_ = host_.cpus;
    auto known = std::exchange(launcher_alive_, {});
    adopt_runners(known);
    for (std::uint32_t slot = 0; slot < segment_->config().task_slots; ++slot) {
        const auto word = shm::load_word(segment_->task(slot));
        const bool begun =
            word.state() == SlotState::kRunning || word.state() == SlotState::kSuspended;
        if (!begun) continue;
        const auto& task = segment_->task(slot);
        const bool orphan = word.owner() == shm::kOwnerOrphan &&
                            task.holder_number.load() == id_.number &&
                            task.holder_incarnation.load() == id_.incarnation;
        if (orphan || is_mine(word)) adopt_slot(slot, word, known);
    }
    pinned_.clear();
    functions_.resume();
    for (const auto& [id, alive] : known) {
        log::warn("ending an attempt that no slot knows", {{"job", alive.name.job},
                                                           {"element", alive.name.element},
                                                           {"attempt", alive.name.attempt}});
        MessageWriter message;
        message.add(RecordKind::kStop, StopRecord{id, StopReason::kFenced, 1});
        send(message.text());
        ending_.insert(id);
        ending_until_ns_ = boot_ns() + kEndingWaitNs;
    }
    self_->tasks_running.store(static_cast<std::uint32_t>(running_.size()));
}

// Nothing: the launcher has not heard of it.
Agent::BegunBefore Agent::begun_before(
    const shm::TaskSlot& task, SlotWord word,
    const std::unordered_map<std::uint64_t, AliveRecord>& known) const {
    BegunBefore out;
    for (const auto& [id, alive] : known) {
        if (!same_attempt(alive.name, task, word)) continue;
        out = {id, static_cast<pid_t>(alive.pid), alive.name.gpu_mask};
    }
    for (const auto& record : unhandled_) {
        if (same_attempt(record.name, task, word)) out = {record.id, 0, record.name.gpu_mask};
    }
    return out;
}

void Agent::adopt_slot(std::uint32_t slot, SlotWord word,
                       std::unordered_map<std::uint64_t, AliveRecord>& known) {
    auto& task = segment_->task(slot);
    if ((task.flags & shm::kTaskFunction) != 0) {
        adopt_function(slot, word);
        return;
    }
    const auto [id, pid, gpus] = begun_before(task, word, known);
    const bool orphan = word.owner() == shm::kOwnerOrphan;
    if (id == 0) {
        if (orphan) return;  // not ours to judge: the register gives it back
        // The last agent died before the launcher heard of it: it never ran. The PLM may or may not
        // know the start; telling it twice does no harm.
        const auto before = word.to(SlotState::kAssigned, owner_);
        const bool told = push_moved(slot, before, word, Outcome::kNone, 0);
        const bool once = (task.flags & shm::kTaskAtMostOnce) != 0;
        if (!once || told) {
            launch(slot, word, once);
            return;
        }
        // No room to make its start durable, and it may not run without.
        EndedRecord record;
        record.started_wall_ns = task.started_wall_ns.load();
        record.ended_wall_ns = wall_ns();
        record.outcome = Outcome::kRequeued;
        finish(slot, word, record);
        return;
    }
    if (orphan) {
        const auto ours = word.to(word.state(), owner_);
        auto expected = word.raw;
        if (!task.word.compare_exchange_strong(expected, ours.raw)) return;
        (void)push_moved(slot, word, ours, Outcome::kNone, 0);
        word = ours;
    }
    // The scheduler counts what we hold once we are alive.
    if (task.gpu_mask.load() != gpus) task.gpu_mask.store(gpus);
    RenameRecord rename{id, {word.raw, task.job, task.element, slot, word.attempt(), gpus}};
    MessageWriter message;
    message.add(RecordKind::kRename, rename);
    // Our predecessor may have died between telling the launcher and the word.
    message.add(RecordKind::kFreeze,
                FreezeRecord{id, word.state() == SlotState::kSuspended ? 1U : 0U, 0});
    send(message.text());
    Running running;
    running.id = id;
    running.slot = slot;
    running.word = word;
    running.task = {task.job, task.element};
    running.gpu_mask = gpus;
    if (const auto spec = payload_of(task)) {
        running.cpus = pinned_before(id, pid, **spec);
        if (const auto start = text_for(slot, word, **spec)) {
            running.files = files_of(*start, **spec);
        }
    }
    remember(std::move(running));
    known.erase(id);
}

// The cores that an attempt is bound to which began before we attached; they are not free.
std::vector<int> Agent::pinned_before(std::uint64_t id, pid_t pid, const v1::TaskSpec& spec) {
    std::vector<int> cpus;
    if (!spec.pin_cpus()) return cpus;
    if (const auto kept = pinned_.find(id); kept != pinned_.end()) {
        cpus = kept->second;
    } else if (cpu_set_t set; pid != 0 && ::sched_getaffinity(pid, sizeof set, &set) == 0) {
        std::ranges::copy_if(host_.cpus, std::back_inserter(cpus),
                             [&](int cpu) { return CPU_ISSET(cpu, &set); });
        if (cpus.size() != whole_cpus(spec) || cpus.size() == host_.cpus.size()) cpus.clear();
    }
    std::erase_if(free_cpus_, [&](int cpu) { return std::ranges::count(cpus, cpu) != 0; });
    return cpus;
}

// The segment was retired: what runs goes on, and is looked for in the next one.
void Agent::detach() {
    const std::lock_guard lock(mutex_);
    functions_.pause();
    for (const auto& waiting : waiting_) running_.erase(waiting.id);
    waiting_.clear();
    followers_.clear();
    before_ = {};
    tell_segment("");
    launcher_alive_.clear();
    for (const auto& [id, running] : running_) {
        if (running.function) continue;
        AliveRecord alive;
        alive.id = id;
        alive.name = {running.word.raw, running.task.job,       running.task.element,
                      running.slot,     running.word.attempt(), running.gpu_mask};
        if (!running.cpus.empty()) pinned_[id] = running.cpus;
        launcher_alive_.emplace(id, alive);
    }
    running_.clear();
    parsed_.clear();
    self_ = nullptr;
    segment_.reset();
}

}  // namespace reeve::worker
