// SlotWord is the one atomic word that says where a task is: the truth everything else indexes.
//
//   63            40 39        24 23        8 7     0
//   [ generation 24 | attempt 16 | owner 16 | state 8 ]
//
// Every transition is ONE compare-and-swap that names the exact word it leaves; that is the
// fencing: a late report names a word that is gone and fails. generation + 1 when a slot is reused,
// attempt + 1 at claimed -> assigned, owner = who may move it next (kOwner... or a worker slot).
//
// Within one generation words are ordered by rank(): (attempt, stage). It only grows, except inside
// running <-> suspended, so a reader that knows one word can tell an old event from a new one.
#pragma once

#include <cstdint>

namespace reeve::shm {

enum class SlotState : std::uint8_t {
    kFree = 0,
    kInit = 1,       // being filled by the PLM; invisible
    kHeld = 2,       // waits for a person's release
    kQueued = 3,     // in its class heap
    kClaimed = 4,    // the scheduler is placing it
    kAssigned = 5,   // owner = worker; resources are claimed
    kRunning = 6,    // owner = worker
    kSuspended = 7,  // owner = worker
    kEnding = 8,     // owner = worker; the process is gone, its leftovers are being cleared
    kEnded = 9,      // the result is in the slot; the PLM makes it durable and frees the slot
};
inline constexpr int kSlotStates = 10;
const char* to_string(SlotState state);

// Neither placed nor ended: waits in the heaps or for a person.
constexpr bool is_pending(SlotState state) {
    return state == SlotState::kQueued || state == SlotState::kHeld;
}
// A worker has it and could still be told to stop it.
constexpr bool is_placed(SlotState state) {
    return state == SlotState::kAssigned || state == SlotState::kRunning ||
           state == SlotState::kSuspended;
}
// A worker has it, and its resources with it.
constexpr bool has_holder(SlotState state) {
    return is_placed(state) || state == SlotState::kEnding;
}

// Owners. Worker slot i owns with kOwnerFirstWorker + i.
inline constexpr std::uint16_t kOwnerNone = 0;
inline constexpr std::uint16_t kOwnerPlm = 1;
inline constexpr std::uint16_t kOwnerScheduler = 2;
inline constexpr std::uint16_t kOwnerRegister = 3;
inline constexpr std::uint16_t kOwnerOrphan =
    4;  // rebuilt from the ledger, its worker not yet back
inline constexpr std::uint16_t kOwnerCancelled = 5;  // ended by the PLM while queued or held
inline constexpr std::uint16_t kOwnerFirstWorker = 16;

struct SlotWord {
    std::uint64_t raw = 0;

    static constexpr SlotWord make(std::uint32_t generation, std::uint16_t attempt,
                                   std::uint16_t owner, SlotState state) {
        return SlotWord{(static_cast<std::uint64_t>(generation & 0xFFFFFFU) << 40) |
                        (static_cast<std::uint64_t>(attempt) << 24) |
                        (static_cast<std::uint64_t>(owner) << 8) |
                        static_cast<std::uint64_t>(state)};
    }
    constexpr std::uint32_t generation() const { return static_cast<std::uint32_t>(raw >> 40); }
    constexpr std::uint16_t attempt() const { return static_cast<std::uint16_t>(raw >> 24); }
    constexpr std::uint16_t owner() const { return static_cast<std::uint16_t>(raw >> 8); }
    constexpr SlotState state() const { return static_cast<SlotState>(raw & 0xFF); }
    constexpr bool owned_by_worker() const { return owner() >= kOwnerFirstWorker; }
    constexpr std::uint32_t worker_slot() const {
        return static_cast<std::uint32_t>(owner() - kOwnerFirstWorker);
    }
    constexpr bool held_by_worker() const { return owned_by_worker() && has_holder(state()); }
    constexpr bool operator==(const SlotWord&) const = default;

    // The same word moved on; generation stays.
    constexpr SlotWord to(SlotState state, std::uint16_t owner) const {
        return make(generation(), attempt(), owner, state);
    }
    constexpr SlotWord next_attempt(SlotState state, std::uint16_t owner) const {
        return make(generation(), static_cast<std::uint16_t>(attempt() + 1), owner, state);
    }

    // Grows with every transition of one generation but running <-> suspended (equal ranks there).
    // Stages: attempt 0 starts at held/queued/claimed; an attempt k goes assigned, running, ending,
    // ended, and, when the task is queued again, held/queued/claimed with the same k; a queued task
    // that the PLM cancels ends with kOwnerCancelled and comes after all of these.
    constexpr std::uint32_t rank() const {
        std::uint32_t stage = 0;
        switch (state()) {
            case SlotState::kFree:
            case SlotState::kInit:
                stage = 0;
                break;
            case SlotState::kAssigned:
                stage = 1;
                break;
            case SlotState::kRunning:
            case SlotState::kSuspended:
                stage = 2;
                break;
            case SlotState::kEnding:
                stage = 3;
                break;
            case SlotState::kEnded:
                stage = owner() == kOwnerCancelled ? 6 : 4;
                break;
            case SlotState::kHeld:
            case SlotState::kQueued:
            case SlotState::kClaimed:
                stage = 5;
                break;
        }
        return (static_cast<std::uint32_t>(attempt()) << 3) | stage;
    }
};

inline constexpr std::uint16_t kAttemptMax = 65'535;

}  // namespace reeve::shm
