#include "common/shm/wake.h"

#include <algorithm>
#include <climits>
#include <ctime>

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace reeve::shm {
namespace {

// Values of WakeWord::waiting.
constexpr std::uint32_t kAwake = 0;
constexpr std::uint32_t kAsleep = 1;
constexpr std::uint32_t kGathering = 2;  // asleep, and deaf to what is not urgent

// The store before it is visible to everybody before the load after it is done. ThreadSanitizer
// does not know fences; under it a read-modify-write of the word both sides look at does the same.
void order_store_before_load([[maybe_unused]] WakeWord& word) {
#ifdef __SANITIZE_THREAD__
    word.waiting.fetch_add(0, std::memory_order_seq_cst);
#else
    std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

// Not FUTEX_PRIVATE: the sleeper is another process.
long futex(std::atomic<std::uint32_t>& word, int operation, std::uint32_t value,
           const timespec* timeout) {
    return syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), operation, value, timeout,
                   nullptr, 0);
}

}  // namespace

void wake(WakeWord& word, Urgency urgency) {
    order_store_before_load(word);  // (1) our publication before the load of waiting
    const auto waiting = word.waiting.load(std::memory_order_seq_cst);
    if (waiting == kAwake || (waiting == kGathering && urgency == Urgency::kSoon)) return;
    const auto before = word.waiting.exchange(kAwake, std::memory_order_seq_cst);
    if (before == kAwake) return;                        // somebody else wakes
    word.event.fetch_add(1, std::memory_order_seq_cst);  // (3) a sleeper not yet asleep sees it
    futex(word.event, FUTEX_WAKE, INT_MAX, nullptr);
}

std::uint32_t prepare_sleep(WakeWord& word, Urgency least) {
    const auto ticket = word.event.load(std::memory_order_seq_cst);
    word.waiting.store(least == Urgency::kNow ? kGathering : kAsleep, std::memory_order_seq_cst);
    order_store_before_load(word);  // (2) pairs with (1): waiting before the caller's re-check
    return ticket;
}

void cancel_sleep(WakeWord& word) {
    word.waiting.store(kAwake, std::memory_order_relaxed);
}

void sleep(WakeWord& word, std::uint32_t ticket, std::uint64_t timeout_ns) {
    const auto bounded = std::min(timeout_ns, kSleepMaxNs);
    timespec timeout{};
    timeout.tv_sec = static_cast<time_t>(bounded / 1'000'000'000ULL);
    timeout.tv_nsec = static_cast<long>(bounded % 1'000'000'000ULL);
    futex(word.event, FUTEX_WAIT, ticket, &timeout);  // returns at once when (3) came before
    word.waiting.store(kAwake, std::memory_order_relaxed);
}

}  // namespace reeve::shm
