#include "register/core/failure_detector.h"

#include <algorithm>

#include "common/base/assert.h"

namespace reeve::registry {

std::string_view to_string(DeathReason reason) {
    switch (reason) {
        case DeathReason::kProcessesGone: return "processes-gone";
        case DeathReason::kLeaseRanOut: return "lease-ran-out";
        case DeathReason::kNeverReturned: return "never-returned";
    }
    return "unknown";
}

void FailureDetector::advance(std::uint64_t now) {
    if (last_now_ == 0) last_now_ = now;
    if (now <= last_now_) return;  // a clock that stands still or steps back adds nothing
    counted_ += std::min(now - last_now_, kGapCountedMaxNs);
    last_now_ = now;
    REEVE_ASSERT(counted_ <= last_now_);  // INVARIANT 3
}

std::uint64_t FailureDetector::clamp_lease(std::uint64_t lease_ns) const {
    if (lease_ns == 0) return options_.lease_default_ns;
    return std::clamp(lease_ns, kLeaseMinNs, kLeaseMaxNs);
}

void FailureDetector::worker_seen(std::uint32_t index, WorkerId id, std::uint64_t lease_ns,
                                  std::uint64_t now) {
    advance(now);
    auto& worker = workers_[index];
    if (worker.id != id || worker.lease_ns == 0) {
        worker = Watched{};
        worker.id = id;
        worker.changed_at = counted_;
    }
    worker.lease_ns = clamp_lease(lease_ns);
}

void FailureDetector::heartbeat(std::uint32_t index, std::uint64_t value, std::uint64_t now) {
    advance(now);
    const auto found = workers_.find(index);
    if (found == workers_.end() || found->second.heartbeat == value) return;
    found->second.heartbeat = value;
    found->second.changed_at = counted_;
}

void FailureDetector::agent_gone(std::uint32_t index, bool gone, std::uint64_t now) {
    advance(now);
    const auto found = workers_.find(index);
    if (found != workers_.end()) found->second.agent_gone = gone;
}

void FailureDetector::launcher_gone(std::uint32_t index, bool gone, std::uint64_t now) {
    advance(now);
    const auto found = workers_.find(index);
    if (found != workers_.end()) found->second.launcher_gone = gone;
}

void FailureDetector::forget(std::uint32_t index) { workers_.erase(index); }

void FailureDetector::orphan_seen(WorkerId holder, std::uint64_t now) {
    advance(now);
    orphans_.try_emplace(holder, Orphan{counted_, false});
}

void FailureDetector::orphan_returned(WorkerId holder) { orphans_.erase(holder); }

std::vector<Death> FailureDetector::tick(std::uint64_t now) {
    advance(now);
    std::vector<Death> deaths;
    for (auto& [index, worker] : workers_) {
        if (worker.named) continue;
        REEVE_ASSERT(worker.changed_at <= counted_);
        const auto silence = counted_ - worker.changed_at;
        if (worker.agent_gone && worker.launcher_gone) {
            deaths.push_back({index, worker.id, DeathReason::kProcessesGone, silence});
        } else if (silence >= worker.lease_ns) {
            deaths.push_back({index, worker.id, DeathReason::kLeaseRanOut, silence});
        } else {
            continue;
        }
        worker.named = true;  // INVARIANT 1
    }
    for (auto& [holder, orphan] : orphans_) {
        if (orphan.named || counted_ < orphan_deadline(orphan)) continue;
        deaths.push_back({0, holder, DeathReason::kNeverReturned, counted_ - orphan.seen_at});
        orphan.named = true;
    }
    return deaths;
}

std::uint64_t FailureDetector::ns_to_next_deadline() const {
    std::uint64_t nearest = ~std::uint64_t{0};
    for (const auto& [index, worker] : workers_) {
        if (!worker.named) nearest = std::min(nearest, worker.changed_at + worker.lease_ns);
    }
    for (const auto& [holder, orphan] : orphans_) {
        if (!orphan.named) nearest = std::min(nearest, orphan_deadline(orphan));
    }
    if (nearest == ~std::uint64_t{0}) return nearest;
    return nearest > counted_ ? nearest - counted_ : 0;
}

}  // namespace reeve::registry
