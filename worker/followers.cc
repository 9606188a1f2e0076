#include "worker/followers.h"

#include <cstring>

#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/log/log.h"
#include "common/shm/transitions.h"

namespace reeve::worker {

using shm::SlotState;
using shm::SlotWord;

void Followers::attach(const std::string& name) {
    clear();
    guard_.reset();
    segment_.reset();
    if (name.empty()) return;
    auto opened = shm::Segment::open(name, true);
    if (opened) {
        segment_ = std::move(*opened);
        guard_.emplace(segment_->bytes(0), segment_->layout().total_bytes);
    } else {
        log::warn("no task starts ahead of its agent", {{"why", opened.error().message}});
    }
}

bool Followers::add(std::string_view body) {
    Waiting waiting;
    StartRecord start;
    if (body.size() < sizeof waiting.head + sizeof start) return false;
    std::memcpy(&waiting.head, body.data(), sizeof waiting.head);
    waiting.start.assign(body.substr(sizeof waiting.head));
    std::memcpy(&start, waiting.start.data(), sizeof start);
    waiting.id = start.id;
    if (!segment_ || waiting_.contains(waiting.head.after_id)) return true;
    ids_.insert(waiting.id);
    waiting_.emplace(waiting.head.after_id, std::move(waiting));
    return true;
}

void Followers::drop_behind(std::uint64_t after_id) {
    for (auto one = waiting_.extract(after_id); !one.empty(); one = waiting_.extract(after_id)) {
        after_id = one.mapped().id;
        ids_.erase(after_id);
    }
}

std::size_t Followers::line_behind(std::uint64_t id, std::size_t most) const {
    std::size_t count = 0;
    for (auto one = waiting_.find(id); one != waiting_.end() && count < most; ++count) {
        one = waiting_.find(one->second.id);
    }
    return count;
}

void Followers::clear() {
    waiting_.clear();
    ids_.clear();
}

std::optional<std::string> Followers::begin(std::uint64_t after_id) {
    const auto found = waiting_.find(after_id);
    if (found == waiting_.end()) return std::nullopt;
    if (!make_running(found->second.head)) {
        drop_behind(after_id);
        return std::nullopt;
    }
    auto start = std::move(found->second.start);
    ids_.erase(found->second.id);
    waiting_.erase(found);
    return start;
}

bool Followers::make_running(const BehindRecord& head) {
    const SlotWord from{head.from};
    const SlotWord to{head.to};
    if (segment_->retired() || !segment_->valid_slot(head.slot) ||
        from.state() != SlotState::kAssigned || to.state() != SlotState::kRunning ||
        !shm::is_lawful(shm::Role::kWorker, from, to)) {
        return false;
    }
    auto& task = segment_->task(head.slot);
    // An intent is the agent's to obey.
    if (shm::load_word(task) != from || task.intent.load() != 0) return false;
    REEVE_FAILPOINT("launcher.before_begin");
    auto expected = from.raw;
    if (!task.word.compare_exchange_strong(expected, to.raw, std::memory_order_seq_cst)) {
        return false;
    }
    REEVE_FAILPOINT("launcher.after_begin");
    shm::fill_start(task, wall_ns());
    return true;
}

}  // namespace reeve::worker
