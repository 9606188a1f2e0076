#include "register/burial.h"

#include <algorithm>
#include <csignal>
#include <cstring>

#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/log/log.h"
#include "common/process/proc_info.h"
#include "common/shm/wake.h"

namespace reeve::registry {
namespace {

constexpr std::uint64_t kLeaveGraceNs = 5 * kSecond;      // a worker that left ends by itself
constexpr std::uint64_t kComplainAfterNs = 60 * kSecond;  // uninterruptible processes

// Ready for the next worker. `used` and the rank key are the scheduler's; no claim is left, so they
// are zero and empty already, or will be with its next loop.
void wipe(shm::WorkerSlot& worker) {
    worker.agent.pid.store(0);
    worker.agent.start_ticks.store(0);
    worker.agent.heartbeat_ns.store(0);
    worker.agent.epoch.store(0);
    worker.agent.intent_slot.store(shm::kNone32);
    worker.launcher_pid.store(0);
    worker.launcher_start_ticks.store(0);
    worker.lease_ns.store(0);
    worker.tasks_running.store(0);
    worker.drain_wanted.store(0);
    worker.joined_wall_ns.store(0);
    worker.number.store(0);
    worker.incarnation.store(0);
    std::memset(worker.name, 0, sizeof worker.name);
    std::memset(worker.host, 0, sizeof worker.host);
    std::memset(worker.cgroup_root, 0, sizeof worker.cgroup_root);
}

}  // namespace

Burial::Burial(Departed departed, std::uint64_t now)
    : departed_(std::move(departed)), begun_ns_(now), stage_since_(now) {}

void Burial::next(Stage stage, std::uint64_t now) {
    stage_ = stage;
    stage_since_ = now;
}

std::uint64_t Burial::patience_ns(std::uint64_t now) const {
    const auto waited = now - std::min(now, stage_since_);
    if (stage_ == Stage::kKilling) return departed_.left ? 100 * kMillisecond : 20 * kMillisecond;
    // Short at first, when the answer is near; a quarter of the wait so far later on.
    return std::clamp(waited / 4, kMillisecond / 2, 200 * kMillisecond);
}

void Burial::complain(std::uint64_t now) {
    if (complained_ || now < begun_ns_ + kComplainAfterNs || stage_ > Stage::kEmptying) return;
    complained_ = true;
    log::error("a dead worker's processes do not end; its tasks wait for them",
               {{"worker", departed_.id.number}, {"cgroup", departed_.cgroup_root}});
}

bool Burial::advance(const Tools& tools, std::uint64_t now) {
    complain(now);
    // The negative control of the kill tests: without these steps two attempts of a task overlap.
    if (stage_ == Stage::kKilling && REEVE_FAILPOINT_SKIPS("register.fencing")) {
        next(Stage::kGiveBack, now);
    }
    if (stage_ == Stage::kKilling) {
        if (!killed(tools, now)) return false;
        next(Stage::kEmptying, now);
    }
    if (stage_ == Stage::kEmptying) {
        if (!tools.leftovers.clear(departed_.id, departed_.cgroup_root)) return false;
        // A fresh clock, after the worker's state was set: see scheduler_knows().
        next(Stage::kScheduler, boot_ns());
        shm::wake(tools.segment.participant(shm::kParticipantScheduler).wake);
    }
    if (stage_ == Stage::kScheduler) {
        if (!scheduler_knows(tools)) return false;
        next(Stage::kGiveBack, now);
    }
    if (stage_ == Stage::kGiveBack) {
        give_back(tools);
        if (!departed_.id.none()) tools.leftovers.remove_spaces(departed_.id);
        next(Stage::kFreeing, now);
    }
    if (stage_ == Stage::kFreeing) {
        if (!freed(tools)) return false;
        next(Stage::kOver, now);
    }
    return true;
}

bool Burial::killed(const Tools& tools, std::uint64_t now) {
    const bool patient = departed_.left && now < begun_ns_ + kLeaveGraceNs;
    bool all_gone = true;
    for (const auto& process : {departed_.agent, departed_.launcher}) {
        if (process.pid <= 0 || tools.pids.gone(process)) continue;
        if (!patient) tools.pids.send(process, SIGKILL);
        all_gone = all_gone && tools.pids.gone(process);
    }
    return all_gone;
}

// The scheduler stamps its heartbeat, then looks at the workers, then places: a stamp younger than
// the dead state means that no assignment to this worker can follow.
bool Burial::scheduler_knows(const Tools& tools) const {
    const auto& scheduler = tools.segment.participant(shm::kParticipantScheduler);
    if (scheduler.heartbeat_ns.load() > stage_since_) return true;
    const ProcessId id{static_cast<pid_t>(scheduler.pid.load()), scheduler.start_ticks.load()};
    return id.pid <= 0 || tools.pids.gone(id);
}

std::vector<std::uint32_t> Burial::slots(const Tools& tools) const {
    if (departed_.index == shm::kNone32) {
        return tools.reaper.held_under(departed_.owner, departed_.id);
    }
    auto held = tools.reaper.held_under(departed_.owner);
    if (departed_.id.none()) return held;
    // Orphans of its own that it did not adopt: nothing may be heard of them after its death.
    const auto orphans = tools.reaper.held_under(shm::kOwnerOrphan, departed_.id);
    held.insert(held.end(), orphans.begin(), orphans.end());
    return held;
}

void Burial::give_back(const Tools& tools) {
    const auto held = slots(tools);
    const auto& segment = tools.segment;
    if (!told_) {
        tools.reaper.observe_ended_of(departed_.id);
        tools.reaper.observe(held);
        if (departed_.unlogged) {
            tools.events.push_worker(shm::EventKind::kWorkerJoined, departed_.id, departed_.index);
        }
    }
    if (!departed_.left && !departed_.id.none()) {
        const auto sealed =
            departed_.index < segment.config().workers
                ? shm::event_ring(segment, shm::kEventRingFirstWorker + departed_.index).produced()
                : 0;
        REEVE_FAILPOINT("register.verdict_logged");
        tools.events.push_worker(shm::EventKind::kWorkerDead, departed_.id, departed_.index, 0,
                                 sealed);
    }
    auto moved = tools.reaper.give_back(held, departed_.owner, departed_.id);
    if (departed_.owner != shm::kOwnerOrphan) {
        moved += tools.reaper.give_back(held, shm::kOwnerOrphan, departed_.id);
    }
    if (departed_.left && !told_ && !departed_.id.none()) {
        tools.events.push_worker(shm::EventKind::kWorkerLeft, departed_.id, departed_.index);
    }
    told_ = true;
    tools.reaper.wake_everyone();
    REEVE_FAILPOINT("register.requeued");
    log::info("tasks given back", {{"worker", departed_.id.number},
                                   {"incarnation", departed_.id.incarnation},
                                   {"tasks", moved}});
}

bool Burial::freed(const Tools& tools) {
    if (departed_.index == shm::kNone32) return true;
    if (!slots(tools).empty()) give_back(tools);
    if (tools.reaper.still_mentioned(departed_.index)) return false;
    auto& worker = tools.segment.worker(departed_.index);
    wipe(worker);
    auto expected = departed_.left ? shm::WorkerState::kLeft : shm::WorkerState::kDead;
    worker.state.compare_exchange_strong(expected, shm::WorkerState::kFree);
    return true;
}

}  // namespace reeve::registry
