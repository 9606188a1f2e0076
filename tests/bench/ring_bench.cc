// Hand-off between two processes, acceptance figures A7: a spinning peer, a sleeping peer against
// an eventfd ping in the same run, and batches of 64 against a wake for every message.

#include <vector>

#include <sys/eventfd.h>

#include "common/shm/ring.h"
#include "common/shm/wake.h"
#include "tests/bench/bench_support.h"

namespace reeve::bench {
namespace {

bool quick = false;
int repetitions() {
    return quick ? 3 : 5;
}
constexpr std::uint64_t kEntries = 1'024;

struct Message {
    std::uint64_t sent_ns;
    std::uint64_t payload[7];
};

struct Stage {
    shm::RingHeader header;
    Message entries[kEntries];
    shm::WakeWord wake_word;
    std::atomic<std::uint32_t> arrived{0};
    std::atomic<bool> asleep_possible{false};
    Histogram latency;
    double rate = 0;
};
using MessageRing = shm::Ring<Message>;
MessageRing ring_of(Stage& stage) {
    return MessageRing(&stage.header, stage.entries, kEntries);
}

enum class Receive { kSpin, kSleep, kSleepWokenAlways, kEventfd };

void receive(Stage& stage, Receive how, int event, std::uint64_t messages) {
    auto ring = ring_of(stage);
    const auto begin = now_ns();
    for (std::uint64_t got = 0; got < messages;) {
        if (const auto message = ring.pop()) {
            stage.latency.add(now_ns() - message->sent_ns);
            ++got;
            continue;
        }
        if (how == Receive::kSpin) {
            relax();
        } else if (how == Receive::kEventfd) {
            std::uint64_t count = 0;
            if (read(event, &count, sizeof count) < 0) return;
        } else {
            const auto ticket = shm::prepare_sleep(stage.wake_word);
            if (ring.size() != 0) {
                shm::cancel_sleep(stage.wake_word);
            } else {
                shm::sleep(stage.wake_word, ticket, 50 * kMillisecond);
            }
        }
    }
    stage.rate = static_cast<double>(messages) * 1e3 / static_cast<double>(now_ns() - begin);
}

// `gap_ns` between batches; waking after each batch.
void send(Stage& stage, Receive how, int event, std::uint64_t messages, std::uint64_t gap_ns,
          std::uint64_t batch) {
    auto ring = ring_of(stage);
    for (std::uint64_t sent = 0; sent < messages;) {
        if (gap_ns != 0) {
            for (const auto until = now_ns() + gap_ns; now_ns() < until;) relax();
        }
        for (std::uint64_t i = 0; i < batch && sent < messages;) {
            Message message{};
            message.sent_ns = gap_ns != 0 ? now_ns() : 0;
            if (!ring.try_push(message)) {
                if (how != Receive::kSpin) shm::wake(stage.wake_word);
                relax();
                continue;
            }
            ++i;
            ++sent;
        }
        if (how == Receive::kSleepWokenAlways) stage.wake_word.waiting.store(1);
        if (how != Receive::kSpin && how != Receive::kEventfd) shm::wake(stage.wake_word);
        if (how == Receive::kEventfd) {
            const std::uint64_t one = 1;
            if (write(event, &one, sizeof one) < 0) return;
        }
    }
}

struct Result {
    double p50_ns;
    double rate;
};

Result exchange(Stage& stage, Receive how, std::uint64_t messages, std::uint64_t gap_ns,
                std::uint64_t batch) {
    stage.latency = Histogram{};
    stage.header.head = stage.header.tail.load();
    stage.arrived = 0;
    const int event = eventfd(0, 0);
    const auto start = [&](int cpu, const std::function<void()>& body) {
        return spawn([&, cpu] {
            pin(cpu);
            map_all(reinterpret_cast<char*>(&stage), sizeof stage);
            real_time();
            stage.arrived.fetch_add(1);
            while (stage.arrived.load() < 2) relax();
            body();
        });
    };
    const auto receiver = start(1, [&] { receive(stage, how, event, messages); });
    const auto sender = start(0, [&] { send(stage, how, event, messages, gap_ns, batch); });
    wait_for(receiver);
    wait_for(sender);
    close(event);
    return Result{stage.latency.quantile(0.5), stage.rate};
}

int run() {
    auto& stage = share<Stage>();
    std::vector<double> spin;
    std::vector<double> asleep;
    std::vector<double> event;
    std::vector<double> sleep_ratio;
    std::vector<double> batch_ratio;
    std::vector<double> batched;
    std::vector<double> unbatched;
    const std::uint64_t pings = quick ? 500 : 2'000;
    const std::uint64_t flood = quick ? 50'000 : 200'000;
    constexpr std::uint64_t kGapNs = 50'000;
    for (int i = 0; i < repetitions(); ++i) {
        spin.push_back(exchange(stage, Receive::kSpin, pings, kGapNs, 1).p50_ns);
        asleep.push_back(exchange(stage, Receive::kSleep, pings, kGapNs, 1).p50_ns);
        event.push_back(exchange(stage, Receive::kEventfd, pings, kGapNs, 1).p50_ns);
        sleep_ratio.push_back(asleep.back() / event.back());
        const auto single = exchange(stage, Receive::kSleepWokenAlways, flood, 0, 1).rate;
        unbatched.push_back(exchange(stage, Receive::kSleep, flood, 0, 1).rate);
        batched.push_back(exchange(stage, Receive::kSleep, flood * 10, 0, 64).rate);
        batch_ratio.push_back(batched.back() / single);
    }
    print("hand-off to a sleeping peer, p50", median(asleep) / 1e3, "us");
    print("hand-off through an eventfd, p50", median(event) / 1e3, "us");
    print("ring, one by one, woken when asleep", median(unbatched), "M messages/s");
    print("ring, batches of 64", median(batched), "M messages/s");
    print_goal("A7 hand-off to a spinning peer, p50", median(spin) / 1e3, "us", Want::kAtMost, 1.5);
    print_goal("A7 hand-off to a sleeping peer", median(sleep_ratio), "x eventfd", Want::kAtMost,
               1.5);
    print_goal("A7 batches of 64", median(batch_ratio), "x a wake per message", Want::kAtLeast, 5);
    return 0;
}

}  // namespace
}  // namespace reeve::bench

int main(int argc, char** argv) {
    reeve::bench::quick = reeve::bench::quick_mode(argc, argv);
    return reeve::bench::run();
}
