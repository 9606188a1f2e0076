// How a task, or one attempt of it, ended. The numbers are part of the segment and the ledger.
#pragma once

#include <cstdint>
#include <string_view>

namespace reeve {

enum class Outcome : std::uint8_t {
    kNone = 0,
    kSucceeded = 1,
    kFailed = 2,        // exit status != 0, a signal, or the program could not be started
    kCancelled = 3,     // by a person, or because a dependency failed
    kTimedOut = 4,      // time limit
    kOutOfMemory = 5,   // killed by the kernel for its memory limit (told by events, not guessed)
    kLost = 6,          // at most once: the worker died and it is unknown how far the attempt got
    kPoison = 7,        // killed too many workers
    kRequeued = 8,      // this attempt only: stopped so that the task can be queued again
};

inline std::string_view to_string(Outcome outcome) {
    switch (outcome) {
        case Outcome::kNone: return "none";
        case Outcome::kSucceeded: return "succeeded";
        case Outcome::kFailed: return "failed";
        case Outcome::kCancelled: return "cancelled";
        case Outcome::kTimedOut: return "timed-out";
        case Outcome::kOutOfMemory: return "out-of-memory";
        case Outcome::kLost: return "lost";
        case Outcome::kPoison: return "poison";
        case Outcome::kRequeued: return "requeued";
    }
    return "unknown";
}

}  // namespace reeve
