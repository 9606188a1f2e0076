// The agent's part about followers: tasks assigned ahead of their room, each behind another one.
// The launcher starts them (followers.h); one that it does not start in time is found in the
// dispatch ring once more, as any other. Everything here runs under the agent's mutex.
#include <algorithm>
#include <cstring>

#include "worker/agent.h"

namespace reeve::worker {

using shm::SlotState;
using shm::SlotWord;

// Where the followers' words are; "": nowhere.
void Agent::tell_segment(const std::string& name) {
    SegmentRecord record;
    if (name.size() >= sizeof record.name) return;
    std::memcpy(record.name, name.data(), name.size());
    MessageWriter message;
    message.add(RecordKind::kSegment, record);
    send(message.text());
}

void Agent::take_follower(std::uint32_t slot, SlotWord word, const shm::SlotHint& before) {
    const auto& task = segment_->task(slot);
    const auto not_ours = shm::kTaskFunction | shm::kTaskAtMostOnce;
    if (before.kind != shm::HintKind::kBehind || (task.flags & not_ours) != 0) return;
    Follower follower;
    follower.before = before;
    follower.word = word;
    follower.running.id = next_id_++;
    follower.running.slot = slot;
    follower.running.word = word.to(SlotState::kRunning, owner_);
    follower.running.task = {task.job, task.element};
    if (const auto first = id_of(before); first != 0) send_behind(follower, first);
    followers_.push_back(std::move(follower));
}

bool Agent::names(const shm::SlotHint& hint, const Running& one) {
    const SlotWord word{hint.word};
    return one.slot == hint.slot && !one.function && one.word.generation() == word.generation() &&
           one.word.attempt() == word.attempt();
}

// Of one that runs, or waits. 0: it does neither.
std::uint64_t Agent::id_of(const shm::SlotHint& hint) const {
    for (const auto& one : followers_) {
        if (names(hint, one.running)) return one.running.id;
    }
    for (const auto& [id, one] : running_) {
        if (names(hint, one)) return id;
    }
    return 0;
}

// It begins in the usual way, under an id that nobody waits for: those behind it are told of once
// more. They came too late for the one before it, or behind one that did.
void Agent::send_line(const Running& first) {
    for (auto& one : followers_) {
        if (!names(one.before, first)) continue;
        send_behind(one, first.id);
        send_line(one.running);
    }
}

// What cannot be told in one record, or is not the launcher's to decide, begins in the usual way.
void Agent::send_behind(Follower& follower, std::uint64_t after_id) {
    auto& running = follower.running;
    const auto spec = payload_of(segment_->task(running.slot));
    if (!spec || !(*spec)->stdin_data().empty() || (*spec)->pin_cpus()) return;
    auto start = text_for(running.slot, running.word, **spec);
    if (!start) return;
    start->head.id = running.id;
    running.files = files_of(*start, **spec);
    const BehindRecord head{after_id, follower.word.raw, running.word.raw, running.slot, 0};
    std::string body(reinterpret_cast<const char*>(&head), sizeof head);
    body += encode_start(*start);
    if (!MessageWriter().room_for(body.size())) return;
    if (!batch_.room_for(body.size())) queue_batch();
    batch_.add_bytes(RecordKind::kStartBehind, body);
}

// The launcher made it RUNNING, and told nobody but us.
void Agent::on_began(const BeganRecord& record) {
    if (!segment_) {  // looked for in the next one
        launcher_alive_.emplace(record.id, AliveRecord{record.id, record.name, 0, 0, 0});
        return;
    }
    if (running_.contains(record.id)) return;  // told again
    const SlotWord word{record.name.word};
    Running running;
    running.id = record.id;
    const auto known = std::find_if(followers_.begin(), followers_.end(), [&](const Follower& one) {
        return one.running.id == record.id;
    });
    if (known != followers_.end()) {
        running = std::move(known->running);
        followers_.erase(known);
    }
    const bool ours = running.word == word && segment_->valid_slot(running.slot) &&
                      shm::load_word(segment_->task(running.slot)) == word;
    if (!ours) {  // of a segment that is gone, or of one who was fenced off
        stop_attempt(running, StopReason::kFenced, true);
        return;
    }
    (void)push_moved(running.slot, word.to(SlotState::kAssigned, owner_), word, Outcome::kNone, 0);
    // Those we knew of were told when we were asked to stop.
    if (stopping_) stop_attempt(running, StopReason::kShutdown, false);
    remember(std::move(running));
    self_->tasks_running.store(static_cast<std::uint32_t>(running_.size()));
}

// Those that somebody moved or stops.
bool Agent::look_at_followers() {
    std::vector<std::pair<std::uint32_t, SlotWord>> stopped;
    std::erase_if(followers_, [&](const Follower& one) {
        const auto& task = segment_->task(one.running.slot);
        const auto word = shm::load_word(task);
        if (word == one.running.word) return false;  // it began, and we are about to hear of it
        if (word != one.word) return true;
        const bool stop = stopping_ || (task.intent.load() & shm::kIntentStop) != 0;
        if (stop) stopped.emplace_back(one.running.slot, word);
        return stop;
    });
    for (const auto& [slot, word] : stopped) (void)start_task(slot, word);  // ends it
    return !stopped.empty();
}

void Agent::forget_follower(std::uint32_t slot) {
    std::erase_if(followers_, [slot](const Follower& one) { return one.running.slot == slot; });
}

}  // namespace reeve::worker
