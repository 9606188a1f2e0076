#include "common/shm/wake.h"

#include <atomic>

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "tests/support/catch.h"
#include "tests/unit/common/shm/fixture.h"

namespace reeve::shm {
namespace {

// What two processes share besides the wake words.
struct Exchange {
    WakeWord ping;
    WakeWord pong;
    std::atomic<std::uint64_t> sent{0};
    std::atomic<std::uint64_t> answered{0};
    std::atomic<std::uint64_t> slow{0};  // sleeps that ended by their bound although work was there
};

Exchange* share() {
    void* memory = mmap(nullptr, sizeof(Exchange), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return new (memory) Exchange();
}

// Waits until `word` exceeds `seen`; a lost wake costs the whole bound and is counted.
std::uint64_t await(Exchange& exchange, WakeWord& wake_word, std::atomic<std::uint64_t>& word,
                    std::uint64_t seen) {
    for (;;) {
        const auto ticket = prepare_sleep(wake_word);
        if (const auto now = word.load(std::memory_order_acquire); now > seen) {
            cancel_sleep(wake_word);
            return now;
        }
        const auto start = boot_ns();
        sleep(wake_word, ticket, 400 * kMillisecond);
        const bool bound = boot_ns() - start >= 400 * kMillisecond;
        if (bound && word.load(std::memory_order_acquire) > seen) exchange.slow.fetch_add(1);
    }
}

}  // namespace

TEST_CASE("Wake: between two processes no wake is lost in 40,000 exchanges", "[shm]") {
    constexpr std::uint64_t kRounds = 40'000;
    auto& exchange = *share();
    const pid_t child = fork();
    if (child == 0) {
        for (std::uint64_t seen = 0; seen < kRounds;) {
            seen = await(exchange, exchange.ping, exchange.sent, seen);
            exchange.answered.store(seen, std::memory_order_release);
            wake(exchange.pong);
        }
        _exit(0);
    }
    for (std::uint64_t round = 1; round <= kRounds; ++round) {
        exchange.sent.store(round, std::memory_order_release);
        wake(exchange.ping);
        if (round % 7 == 0) continue;  // not in lockstep: publish while it is about to sleep
        await(exchange, exchange.pong, exchange.answered, round - 1);
    }
    int status = -1;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
    CHECK(exchange.slow.load() == 0);
    munmap(&exchange, sizeof exchange);
}

TEST_CASE("Wake: nobody asleep, nothing happens; a stale ticket does not sleep", "[shm]") {
    auto& exchange = *share();
    wake(exchange.ping);
    CHECK(exchange.ping.event.load() == 0);
    const auto ticket = prepare_sleep(exchange.ping);
    wake(exchange.ping);
    CHECK(exchange.ping.event.load() == 1);
    const auto start = boot_ns();
    sleep(exchange.ping, ticket, 400 * kMillisecond);
    CHECK(boot_ns() - start < 300 * kMillisecond);
    CHECK(exchange.ping.waiting.load() == 0);
    munmap(&exchange, sizeof exchange);
}

TEST_CASE("Wake: every sleep is bounded", "[shm]") {
    auto& exchange = *share();
    const auto start = boot_ns();
    sleep(exchange.ping, prepare_sleep(exchange.ping), 20 * kMillisecond);
    CHECK(boot_ns() - start >= 19 * kMillisecond);
    sleep(exchange.ping, prepare_sleep(exchange.ping), ~0ULL);
    CHECK(boot_ns() - start < 3 * kSecond);
    munmap(&exchange, sizeof exchange);
}

}  // namespace reeve::shm
