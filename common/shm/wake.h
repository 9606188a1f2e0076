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

void wake(WakeWord& word);                    // about 4 us if somebody sleeps, else a load
std::uint32_t prepare_sleep(WakeWord& word);  // returns the ticket for sleep()
void cancel_sleep(WakeWord& word);            // work was found after prepare_sleep()
// Sleeps until woken, at most timeout_ns (cut to kSleepMaxNs).
void sleep(WakeWord& word, std::uint32_t ticket, std::uint64_t timeout_ns);

}  // namespace reeve::shm
