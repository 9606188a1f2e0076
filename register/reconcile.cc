// The slow half of Registry: about once a second the slots are held against the members.
#include <algorithm>
#include <iterator>
#include <set>

#include "common/log/log.h"
#include "common/process/proc_info.h"
#include "register/registry.h"

namespace reeve::registry {

using shm::WorkerState;

namespace {
constexpr std::uint32_t kHealChunksPerLook = 512;
}  // namespace

bool Registry::astray(const shm::TaskSlot& task, shm::SlotWord word) const {
    if (!shm::has_holder(word.state())) return false;
    if (word.owner() == shm::kOwnerOrphan) {
        // Its holder is back and alive, and did not adopt it: it does not know it.
        for (std::uint32_t index = 0; index < segment_.config().workers; ++index) {
            const auto& worker = segment_.worker(index);
            const WorkerId id{worker.number.load(), worker.incarnation.load()};
            const auto state = worker.state.load();
            if (id == holder_of(task)) {
                return state == WorkerState::kAlive || state == WorkerState::kDraining;
            }
        }
        return false;
    }
    if (!word.owned_by_worker()) return true;  // no role but a worker holds these states
    if (word.worker_slot() >= segment_.config().workers) return true;
    const auto& worker = segment_.worker(word.worker_slot());
    const auto state = worker.state.load();
    if (state == WorkerState::kFree) return true;
    if (state == WorkerState::kJoining || state == WorkerState::kDead ||
        state == WorkerState::kLeft) {
        return false;  // not filled yet; or its burial takes care of all it holds
    }
    return WorkerId{worker.number.load(), worker.incarnation.load()} != holder_of(task);
}

void Registry::reconcile(std::uint64_t now) {
    std::map<std::uint32_t, std::uint64_t> suspects;
    std::vector<std::uint32_t> strays;
    reaper_.for_each([&](std::uint32_t slot, const shm::TaskSlot& task, shm::SlotWord word) {
        if (word.owner() == shm::kOwnerOrphan && shm::has_holder(word.state())) {
            const auto holder = holder_of(task);
            if (!member(holder)) detector_.orphan_seen(holder, now);
        }
        if (!astray(task, word)) return;
        const auto before = suspects_.find(slot);
        if (before != suspects_.end() && before->second == word.raw) {
            strays.push_back(slot);
        } else {
            suspects.emplace(slot, word.raw);
        }
    });
    suspects_ = std::move(suspects);
    if (!strays.empty()) bury_strays(strays, now);
    pids_.retain([&](const ProcessId& id) {
        const auto names = [&](const shm::Participant& participant) {
            return static_cast<pid_t>(participant.pid.load()) == id.pid;
        };
        for (std::uint32_t index = 0; index < segment_.config().workers; ++index) {
            const auto& worker = segment_.worker(index);
            if (worker.state.load() == WorkerState::kFree) continue;
            if (names(worker.agent)) return true;
            if (static_cast<pid_t>(worker.launcher_pid.load()) == id.pid) return true;
        }
        return names(segment_.participant(shm::kParticipantScheduler));
    });
    heal_heaps();
}

void Registry::bury_strays(const std::vector<std::uint32_t>& slots, std::uint64_t now) {
    std::set<std::pair<WorkerId, std::uint16_t>> holders;
    for (const auto slot : slots) {
        const auto& task = segment_.task(slot);
        holders.emplace(holder_of(task), shm::load_word(task).owner());
    }
    for (const auto& [holder, owner] : holders) {
        if (member(holder)) {
            // Alive, and not running it: no death to declare, the task simply goes back.
            std::vector<std::uint32_t> his;
            std::copy_if(slots.begin(), slots.end(), std::back_inserter(his),
                         [&](auto slot) { return holder_of(segment_.task(slot)) == holder; });
            reaper_.observe(his);
            const auto moved = reaper_.give_back(his, owner, holder);
            log::warn("slots their holder does not know were given back",
                      {{"worker", holder.number}, {"tasks", moved}});
            reaper_.wake_everyone();
            continue;
        }
        log::warn("slots of a worker that is not there", {{"worker", holder.number}});
        Departed departed;
        departed.id = holder;
        departed.owner = owner;
        burials_.emplace_back(std::move(departed), now);
    }
}

void Registry::heal_heaps() {
    std::uint64_t wrong = 0;
    for (const auto index : {shm::kParticipantPlm, shm::kParticipantScheduler}) {
        // What a role was climbing when it died, or while it is stopped.
        const auto slot = segment_.participant(index).intent_slot.load();
        if (segment_.valid_slot(slot)) wrong += heap_.heal_slot(slot);
    }
    std::uint32_t healed = 0;
    const auto chunks = segment_.layout().chunks;
    for (std::uint32_t looked = 0; looked < chunks && healed < kHealChunksPerLook; ++looked) {
        const auto chunk = next_heal_chunk_;
        next_heal_chunk_ = (next_heal_chunk_ + 1) % chunks;
        if (segment_.chunk_owner(chunk).load() == shm::kNone32) continue;
        wrong += heap_.heal_chunk(chunk);
        ++healed;
    }
    if (wrong == 0) return;
    segment_.header().healed_nodes.fetch_add(wrong);
    reaper_.wake_everyone();
}

}  // namespace reeve::registry
