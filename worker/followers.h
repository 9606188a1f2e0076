// Followers are the starts that wait in the launcher for another attempt to be over.
//
// Their tasks are ASSIGNED and hold nothing (kClaimAhead); whoever moves such a word on decides
// what becomes of the task. So the launcher makes it RUNNING itself, by the one compare-and-swap
// everybody uses, before it starts anything: where the task was cancelled, taken back or given to
// another worker meanwhile, the swap fails and the record is dropped. The agent needs no answer to
// take one back.
//
// Death   of the agent: the launcher goes on, and tells its next agent (kBegan, or kAlive).
//         Of the launcher: between the swap and the clone the task is RUNNING and never ran; the
//         register gives it back with all the others.
// Used by the launcher's one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "common/shm/bus_guard.h"
#include "common/shm/segment.h"
#include "worker/launcher_protocol.h"

namespace reeve::worker {

class Followers {
public:
    // The segment the words are in; "": none. Those that wait are dropped.
    void attach(const std::string& name);

    // `body` is that of a kStartBehind record. False: damaged.
    bool add(std::string_view body);
    bool waits(std::uint64_t id) const { return ids_.contains(id); }
    // How many wait behind this one, each behind the one before; `most` at most.
    std::size_t line_behind(std::uint64_t id, std::size_t most) const;

    // The one that waits for this attempt, made RUNNING: its kStart record. Nothing when none
    // waits, or somebody else moved it.
    std::optional<std::string> begin(std::uint64_t after_id);
    // Whoever waits for this one, directly or not, waits in vain.
    void drop_behind(std::uint64_t after_id);
    void clear();

private:
    struct Waiting {
        BehindRecord head;
        std::uint64_t id = 0;
        std::string start;
    };

    bool make_running(const BehindRecord& head);

    std::unique_ptr<shm::Segment> segment_;
    std::optional<shm::BusGuard> guard_;  // of it: cut short, nobody begins, and what runs goes on
    std::unordered_map<std::uint64_t, Waiting> waiting_;  // by whom they wait for
    std::unordered_set<std::uint64_t> ids_;               // their own
};

}  // namespace reeve::worker
