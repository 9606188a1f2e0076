#include "register/registry.h"

#include <algorithm>
#include <cstring>

#include "common/base/failpoint.h"
#include "common/log/log.h"
#include "common/shm/wake.h"

namespace reeve::registry {
namespace {

using shm::WorkerState;

constexpr std::uint64_t kReconcileEveryNs = kSecond;

template <std::size_t N>
std::string text_of(const char (&bytes)[N]) {
    return std::string(bytes, strnlen(bytes, N));
}

WorkerId id_of(const shm::WorkerSlot& worker) {
    return WorkerId{worker.number.load(), worker.incarnation.load()};
}

bool is_member_state(WorkerState state) {
    return state == WorkerState::kJoining || state == WorkerState::kAlive ||
           state == WorkerState::kDraining;
}

}  // namespace

Registry::Registry(const shm::Segment& segment, const Cell& cell, const RegisterOptions& options)
    : segment_(segment),
      options_(options),
      detector_(DetectorOptions{options.lease_default_ns, options.margin_ns}),
      leftovers_(cell),
      pids_(segment.participant(shm::kParticipantRegister).wake),
      events_(segment),
      reaper_(segment, events_, options.deaths_max),
      tools_{segment, leftovers_, pids_, events_, reaper_},
      heap_(segment) {}

std::uint64_t Registry::step(std::uint64_t now) {
    for (std::uint32_t index = 0; index < segment_.config().workers; ++index) watch(index, now);
    for (const auto& death : detector_.tick(now)) {
        if (death.reason == DeathReason::kNeverReturned) {
            bury_orphans_of(death, now);
        } else {
            declare_dead(death);
        }
    }
    std::erase_if(burials_, [&](Burial& burial) {
        if (!burial.advance(tools_, now)) return false;
        detector_.forget(burial.departed().index);
        buried_.insert(burial.departed().id);
        return true;
    });
    if (now >= next_reconcile_) {
        reconcile(now);
        next_reconcile_ = now + kReconcileEveryNs;
    }
    auto patience = std::min(shm::kSleepMaxNs, detector_.ns_to_next_deadline());
    for (const auto& burial : burials_) patience = std::min(patience, burial.patience_ns(now));
    return patience;
}

void Registry::watch(std::uint32_t index, std::uint64_t now) {
    const auto& worker = segment_.worker(index);
    const auto state = worker.state.load();
    if (state == WorkerState::kFree) {
        detector_.forget(index);
    } else if (is_member_state(state)) {
        watch_member(index, state, now);
    } else if (!being_buried(index)) {
        begin_burial(index, state, false, now);  // it left, or an earlier register was killed here
    }
}

void Registry::watch_member(std::uint32_t index, WorkerState state, std::uint64_t now) {
    const auto& worker = segment_.worker(index);
    const auto id = id_of(worker);
    const auto pid = static_cast<pid_t>(worker.agent.pid.load());
    const auto launcher = static_cast<pid_t>(worker.launcher_pid.load());
    const auto heartbeat = worker.agent.heartbeat_ns.load();

    detector_.worker_seen(index, id, worker.lease_ns.load(), now);
    detector_.heartbeat(index, heartbeat, now);
    if (pid != 0) {
        const ProcessId process{pid, worker.agent.start_ticks.load()};
        detector_.agent_gone(index, pids_.gone(process), now);
    }
    // An agent that has no launcher yet cannot leave one behind.
    const bool launcher_gone =
        launcher == 0 || pids_.gone(ProcessId{launcher, worker.launcher_start_ticks.load()});
    detector_.launcher_gone(index, launcher_gone, now);

    const bool filled = !id.none() && id.incarnation != 0 && pid != 0 && heartbeat != 0;
    if (state == WorkerState::kJoining && filled) {
        // Its agent joined late: who judged it dead may be a register before us, but no launcher
        // outlives a burial.
        if (launcher_gone) return;
        if (judged(index, id)) {
            // It was away so long that its tasks are elsewhere: it has to start as a new worker.
            declare_dead(Death{index, id, DeathReason::kNeverReturned, 0});
            return;
        }
        welcome(index, id);
    }
    if (!id.none()) detector_.orphan_returned(id);
    if (state != WorkerState::kJoining) obey_drain(index, state, id);
}

void Registry::welcome(std::uint32_t index, WorkerId id) {
    auto& worker = segment_.worker(index);
    // The record first: nothing is placed on a worker whose WORKER_JOINED is not on its way.
    events_.push_worker(shm::EventKind::kWorkerJoined, id, index);
    auto expected = WorkerState::kJoining;
    // One that was drained under this name gets nothing from its first moment on.
    const bool drained = worker.drain_wanted.load() != 0;
    if (drained) events_.push_worker(shm::EventKind::kWorkerDrained, id, index);
    const auto next = drained ? WorkerState::kDraining : WorkerState::kAlive;
    if (!worker.state.compare_exchange_strong(expected, next)) return;
    log::info("worker joined", {{"worker", id.number},
                                {"incarnation", id.incarnation},
                                {"name", text_of(worker.name)},
                                {"agent", worker.agent.pid.load()},
                                {"drained", drained}});
    reaper_.wake_everyone();
    shm::wake(worker.agent.wake);
}

void Registry::obey_drain(std::uint32_t index, WorkerState state, WorkerId id) {
    auto& worker = segment_.worker(index);
    const bool wanted = worker.drain_wanted.load() != 0;
    if (wanted == (state == WorkerState::kDraining)) return;
    auto expected = state;
    const auto next = wanted ? WorkerState::kDraining : WorkerState::kAlive;
    if (!worker.state.compare_exchange_strong(expected, next)) return;
    events_.push_worker(wanted ? shm::EventKind::kWorkerDrained : shm::EventKind::kWorkerUndrained,
                        id, index);
    log::info(wanted ? "worker drains" : "worker takes work again", {{"worker", id.number}});
    reaper_.wake_everyone();
}

void Registry::bury_orphans_of(const Death& death, std::uint64_t now) {
    log::warn("a worker did not return after the rebuild",
              {{"worker", death.id.number}, {"incarnation", death.id.incarnation}});
    Departed departed;
    departed.id = death.id;
    departed.owner = shm::kOwnerOrphan;
    burials_.emplace_back(std::move(departed), now);
}

void Registry::declare_dead(const Death& death) {
    REEVE_FAILPOINT("register.verdict");
    auto& worker = segment_.worker(death.index);
    auto state = worker.state.load();
    do {
        if (!is_member_state(state)) return;  // it left at the last moment
    } while (!worker.state.compare_exchange_strong(state, WorkerState::kDead));
    log::warn("worker declared dead", {{"worker", death.id.number},
                                       {"incarnation", death.id.incarnation},
                                       {"reason", to_string(death.reason)},
                                       {"silence_ms", death.silence_ns / kMillisecond}});
    // The time after the swap: what the scheduler begins later than this sees the worker dead.
    const bool unlogged = state == WorkerState::kJoining && !judged(death.index, death.id);
    begin_burial(death.index, WorkerState::kDead, unlogged, boot_ns());
}

void Registry::begin_burial(std::uint32_t index, WorkerState state, bool unlogged,
                            std::uint64_t now) {
    const auto& worker = segment_.worker(index);
    Departed departed;
    departed.id = id_of(worker);
    departed.index = index;
    departed.owner = static_cast<std::uint16_t>(shm::kOwnerFirstWorker + index);
    departed.agent = {static_cast<pid_t>(worker.agent.pid.load()), worker.agent.start_ticks.load()};
    departed.launcher = {static_cast<pid_t>(worker.launcher_pid.load()),
                         worker.launcher_start_ticks.load()};
    departed.cgroup_root = text_of(worker.cgroup_root);
    departed.left = state == WorkerState::kLeft;
    departed.unlogged = unlogged && !departed.id.none();
    if (departed.left) log::info("worker left", {{"worker", departed.id.number}});
    burials_.emplace_back(std::move(departed), now);
}

bool Registry::being_buried(std::uint32_t index) const {
    return std::any_of(burials_.begin(), burials_.end(),
                       [&](const Burial& burial) { return burial.departed().index == index; });
}

// In another slot it waits for the end of its burial, or is a member there.
bool Registry::judged(std::uint32_t index, WorkerId id) const {
    return buried_.contains(id) || member(id, index);
}

bool Registry::member(WorkerId id, std::uint32_t except) const {
    for (std::uint32_t index = 0; index < segment_.config().workers; ++index) {
        const auto& worker = segment_.worker(index);
        if (index == except || worker.state.load() == WorkerState::kFree) continue;
        if (id_of(worker) == id) return true;
    }
    return false;
}

}  // namespace reeve::registry
