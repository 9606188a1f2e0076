// Waking and sleeping on a WakeWord: an eventcount over a shared (non-private) futex.
//
// Producer: publish, then wake(). Consumer: prepare(), look once more for work, then sleep().
//
// Order   both sides put a seq_cst fence between their store (publish; waiting = 1) and their load
//         (waiting; the re-check), so at least one of them sees the other (Dekker).
// Death   a producer killed between publishing and waking leaves a sleeper asleep for at most the
//         bound every sleep has (kSleepMaxNs). A consumer killed while waiting costs one needless
//         wake.
#pragma once

#include <cstdint>

#include "common/shm/layout.h"

namespace reeve::shm {

inline constexpr std::uint64_t kSleepMaxNs = 500'000'000;

// A consumer that has just worked may sleep for a short while deaf to what is not urgent, so that
// it finds many things at once instead of being woken for each.
enum class Urgency : std::uint8_t {
    kSoon,  // wakes a sleeper; one that gathers finds it when its short sleep ends
    kNow,   // wakes every sleeper
};

// About 4 us if somebody sleeps who is to be woken, else a load.
void wake(WakeWord& word, Urgency urgency = Urgency::kNow);
// Returns the ticket for sleep(), which only wakes of at least `least` will end before its time.
std::uint32_t prepare_sleep(WakeWord& word, Urgency least = Urgency::kSoon);
void cancel_sleep(WakeWord& word);  // work was found after prepare_sleep()
// Sleeps until woken, at most timeout_ns (cut to kSleepMaxNs).
void sleep(WakeWord& word, std::uint32_t ticket, std::uint64_t timeout_ns);

}  // namespace reeve::shm
