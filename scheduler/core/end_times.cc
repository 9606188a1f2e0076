#include "scheduler/core/end_times.h"

#include <algorithm>

#include "common/base/assert.h"

namespace reeve::sched {
namespace {

constexpr std::size_t kRemovedKept = 64;  // of a slot, before it is put in order for them

}  // namespace

// Rounded down, below zero as well.
std::int64_t EndTimes::slot_of(std::int64_t time) {
    return time >= 0 ? time / kSlotSeconds : -((-time + kSlotSeconds - 1) / kSlotSeconds);
}

void EndTimes::add(std::int64_t time, std::uint32_t job) {
    const auto [it, fresh] = slots_.try_emplace(slot_of(time), 0);
    if (fresh) {
        if (unused_.empty()) {
            unused_.push_back(static_cast<std::uint32_t>(pool_.size()));
            pool_.emplace_back();
        }
        it->second = unused_.back();
        unused_.pop_back();
    }
    Slot& slot = pool_[it->second];
    if (job >= end_of_.size()) end_of_.resize(std::size_t{job} + 1, kNever);
    end_of_[job] = time;
    if (slot.entries.size() >= 2 * slot.known + kRemovedKept) put_in_order(slot);
    const Entry entry{time, job};
    slot.in_order = slot.in_order && (slot.entries.empty() || slot.entries.back() < entry);
    slot.entries.push_back(entry);
    ++slot.known;
}

void EndTimes::remove(std::int64_t time, std::uint32_t job) {
    const auto it = slots_.find(slot_of(time));
    REEVE_ASSERT(it != slots_.end());
    end_of_[job] = kNever;
    Slot& slot = pool_[it->second];
    slot.in_order = false;
    if (--slot.known > 0) return;
    slot.entries.clear();
    slot.in_order = true;
    unused_.push_back(it->second);
    slots_.erase(it);
}

// One that was removed and added again with the same end lies there twice.
void EndTimes::put_in_order(Slot& slot) {
    if (slot.in_order) return;
    std::erase_if(slot.entries, [this](const Entry& e) { return end_of_[e.job] != e.time; });
    std::sort(slot.entries.begin(), slot.entries.end());
    slot.entries.erase(std::unique(slot.entries.begin(), slot.entries.end()), slot.entries.end());
    REEVE_ASSERT(slot.entries.size() == slot.known);
    slot.in_order = true;
}

void EndTimes::Walk::open() {
    next_ = 0;
    if (at_ != times_.slots_.end()) times_.put_in_order(times_.pool_[at_->second]);
}

EndTimes::Walk::Walk(EndTimes& times, std::int64_t from)
    : times_(times), at_(times.slots_.lower_bound(slot_of(from))) {
    open();
    if (at_ == times_.slots_.end()) return;
    const auto& entries = times_.pool_[at_->second].entries;
    const auto first = std::lower_bound(entries.begin(), entries.end(), Entry{from, 0});
    next_ = static_cast<std::size_t>(first - entries.begin());
    if (first == entries.end()) next_slot();
}

void EndTimes::Walk::next_slot() {
    ++at_;
    open();
}

std::uint32_t EndTimes::Walk::take() {
    const std::uint32_t job = entry().job;
    if (++next_ == times_.pool_[at_->second].entries.size()) next_slot();
    return job;
}

}  // namespace reeve::sched
