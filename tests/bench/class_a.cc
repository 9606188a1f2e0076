// Class A: how many tasks a second the segment itself carries, with nothing executed, no disk and
// no audit log: queued -> claimed -> assigned -> running -> ended -> queued again.
//
// Three real processes over a real segment: the scheduler as it is (scheduler_main), a worker that
// takes its dispatch ring, moves each slot to running and to ended, and reports both events and the
// completion, and a PLM that discards the events and queues every ended slot anew, 64 at a time.
//
//   class_a [--seconds 3] [--slots 4096]
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <signal.h>

#include "common/process/cell.h"
#include "common/shm/ring.h"
#include "common/shm/task_heap.h"
#include "common/shm/transitions.h"
#include "common/shm/wake.h"
#include "scheduler/scheduler.h"
#include "tests/bench/bench_support.h"

namespace reeve::bench {
namespace {

using shm::SlotState;
using shm::SlotWord;

constexpr std::uint32_t kWorker = 0;
constexpr auto kOwner = static_cast<std::uint16_t>(shm::kOwnerFirstWorker + kWorker);
constexpr std::uint32_t kInFlight = 512;

// Asleep on `wake` until woken, but not when work() sees some at the last moment.
template <typename Work>
void rest(shm::WakeWord& wake, Work work) {
    const auto ticket = shm::prepare_sleep(wake);
    if (work()) {
        shm::cancel_sleep(wake);
    } else {
        shm::sleep(wake, ticket, 10 * kMillisecond);
    }
}

bool move(shm::TaskSlot& slot, SlotWord from, SlotWord to) {
    return slot.word.compare_exchange_strong(from.raw, to.raw);
}

class Worker {
public:
    explicit Worker(const shm::Segment& segment)
        : segment_(segment),
          dispatch_(shm::dispatch_ring(segment, kWorker)),
          completion_(shm::completion_ring(segment, kWorker)),
          events_(shm::event_ring(segment, shm::kEventRingFirstWorker + kWorker)) {}

    [[noreturn]] void run() {
        auto& self = segment_.worker(kWorker);
        while (true) {
            self.agent.heartbeat_ns.store(boot_ns(), std::memory_order_relaxed);
            std::uint32_t count = 0;
            while (const auto hint = dispatch_.pop()) {
                run_one(hint->slot);
                if (++count == 64) break;
            }
            if (count == 0) {
                rest(self.agent.wake, [this] { return dispatch_.size() != 0; });
                continue;
            }
            shm::wake(segment_.participant(shm::kParticipantScheduler).wake);
            shm::wake(segment_.participant(shm::kParticipantPlm).wake, shm::Urgency::kSoon);
        }
    }

private:
    void run_one(std::uint32_t index) {
        auto& slot = segment_.task(index);
        const auto assigned = shm::load_word(slot);
        const auto running = assigned.to(SlotState::kRunning, kOwner);
        const auto ended = running.to(SlotState::kEnded, shm::kOwnerPlm);
        if (assigned.state() != SlotState::kAssigned || !move(slot, assigned, running)) return;
        report(index, assigned, running);
        slot.outcome.store(1);
        if (!move(slot, running, ended)) return;
        report(index, running, ended);
        while (!completion_.try_push({ended.raw, index})) __builtin_ia32_pause();
    }

    void report(std::uint32_t index, SlotWord from, SlotWord to) {
        shm::Event event;
        event.kind = shm::EventKind::kMoved;
        event.slot = index;
        event.old_word = from.raw;
        event.new_word = to.raw;
        event.job = segment_.task(index).job;
        event.wall_ns = now_ns();
        while (!events_.try_push(event)) __builtin_ia32_pause();
    }

    const shm::Segment& segment_;
    shm::HintRing dispatch_;
    shm::HintRing completion_;
    shm::EventRing events_;
};

class Driver {
public:
    Driver(const shm::Segment& segment, std::uint32_t slots)
        : segment_(segment), slots_(slots), heap_(segment) {
        auto& task_class = segment.task_class(0);
        task_class.request = Resources{1, 0, 0};
        task_class.live.store(1);
        for (std::uint32_t chunk = 0; chunk * shm::kChunkSlots < slots; ++chunk) {
            segment.chunk_owner(chunk).store(0);
        }
        for (std::uint32_t i = 0; i < shm::event_ring_count(segment); ++i) {
            events_.push_back(shm::event_ring(segment, i));
        }
    }

    // Ended tasks a second.
    double run(double seconds) {
        for (std::uint32_t at = 0; at < slots_; at += shm::kChunkSlots) (void)queue_chunk(at);
        const auto begun = now_ns();
        const auto from = begun + static_cast<std::uint64_t>(seconds * 0.2e9);
        const auto until = begun + static_cast<std::uint64_t>(seconds * 1e9);
        std::uint64_t counted_from = 0;
        std::uint64_t first_ns = 0;
        while (true) {
            const auto now = now_ns();
            if (first_ns == 0 && now >= from) {
                first_ns = now;
                counted_from = queued_;
            }
            if (now >= until) {
                return static_cast<double>(queued_ - counted_from) * 1e9 /
                       static_cast<double>(now - first_ns);
            }
            for (auto& ring : events_) ring.advance(ring.tail());
            std::uint32_t count = 0;
            for (std::uint32_t at = 0; at < slots_; at += shm::kChunkSlots) {
                count += queue_chunk(at);
            }
            auto& self = segment_.participant(shm::kParticipantPlm);
            if (count < slots_ / 8) {
                const auto ticket = shm::prepare_sleep(self.wake, shm::Urgency::kNow);
                shm::sleep(self.wake, ticket, 50'000);
            }
        }
    }

private:
    // Queues what is free or done of a chunk's slots; one climb and one wake for all of them.
    std::uint32_t queue_chunk(std::uint32_t first) {
        std::uint32_t count = 0;
        for (auto index = first; index < first + shm::kChunkSlots; ++index) {
            auto& slot = segment_.task(index);
            const auto word = shm::load_word(slot);
            const bool done = word.state() == SlotState::kFree ||
                              (word.state() == SlotState::kEnded && slot.claim.load() == 0);
            if (!done) continue;
            slot.class_id = 0;
            slot.job = 1;
            slot.key.store(++queued_);
            slot.word.store(
                SlotWord::make(word.generation() + 1, 0, shm::kOwnerNone, SlotState::kQueued).raw);
            ++count;
        }
        if (count == 0) return 0;
        heap_.touch_range(first, shm::kChunkSlots);
        shm::wake(segment_.participant(shm::kParticipantScheduler).wake);
        return count;
    }

    const shm::Segment& segment_;
    std::uint32_t slots_;
    shm::TaskHeap heap_;
    std::vector<shm::EventRing> events_;
    std::uint64_t queued_ = 0;
};

int run(double seconds, std::uint32_t slots) {
    char directory[] = "/tmp/reeve-class-a-XXXXXX";
    if (mkdtemp(directory) == nullptr) return 1;
    const auto cell = find_cell(directory);
    const auto name = "/reeve-class-a-" + std::to_string(getpid());
    shm::SegmentConfig config;
    config.task_slots = slots;
    config.classes = 64;
    config.workers = 4;
    config.jobs = 64;
    config.arena_bytes = 1 << 20;
    auto segment = shm::Segment::create(name, config, 1, 1);
    if (!cell || !create_cell_directories(*cell) || !segment) return 1;
    auto& worker = (*segment)->worker(kWorker);
    worker.number.store(1);
    worker.incarnation.store(1);
    worker.capacity = Resources{kInFlight, 0, 1ULL << 40};
    worker.state.store(shm::WorkerState::kAlive);
    (*segment)->header().epoch.store(1);
    (*segment)->header().phase.store(shm::Phase::kReady);
    (void)write_segment_name(*cell, name);
    const auto scheduler = spawn([&] { _exit(scheduler_main(*cell, {})); });
    const auto runner = spawn([&] { Worker(**segment).run(); });
    const auto rate = Driver(**segment, slots).run(seconds);
    for (const auto child : {scheduler, runner}) {
        kill(child, SIGKILL);
        waitpid(child, nullptr, 0);
    }
    (*segment)->header().phase.store(shm::Phase::kRetired);
    shm::Segment::remove(name);
    [[maybe_unused]] const int removed =
        std::system(("rm -rf '" + std::string(directory) + "'").c_str());
    std::printf("{\"name\":\"class_a\",\"value\":%.0f,\"unit\":\"tasks/s\"}\n", rate);
    return 0;
}

}  // namespace
}  // namespace reeve::bench

int main(int argc, char** argv) {
    double seconds = 3;
    std::uint32_t slots = 4096;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (std::string(argv[i]) == "--seconds") seconds = std::atof(argv[i + 1]);
        if (std::string(argv[i]) == "--slots") {
            slots = static_cast<std::uint32_t>(std::atol(argv[i + 1])) / 64 * 64;
        }
    }
    return reeve::bench::run(seconds, slots);
}
