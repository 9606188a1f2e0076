// The task heap's acceptance figures A1 to A5 (docs: SHM.md section 4), against the mutex heap in
// the same run: medians of interleaved repetitions, as ratios. --quick: fewer and shorter
// repetitions; --1p1c (last): one producer and one consumer at 100,000 resident only.

#include <random>
#include <set>

#include "tests/bench/bench_support.h"
#include "tests/bench/queue_under_test.h"

namespace reeve::bench {
namespace {

bool quick = false;
int repetitions() {
    return quick ? 3 : 5;
}
std::uint64_t window_ns() {
    return (quick ? 30 : 60) * kMillisecond;
}

constexpr std::uint32_t kThousand = 1'000;
constexpr std::uint32_t kHundredThousand = 100'000;
constexpr std::uint32_t kMillion = 1'000'000;
const char* size_name(std::uint32_t size) {
    return size == kThousand ? "1k" : size == kHundredThousand ? "100k" : "1M";
}

// Slots on their way between two processes: single producer, single consumer, both with a cached
// view of the other's index and batched hand-over, so that the pipe is not what is measured.
struct SlotPipe {
    static constexpr std::uint32_t kBatch = 16;
    alignas(128) std::atomic<std::uint64_t> tail{0};
    std::uint64_t written = 0;  // producer's; at most kBatch beyond tail
    alignas(128) std::atomic<std::uint64_t> head{0};
    std::uint64_t seen_tail = 0;  // consumer's
    alignas(128) std::uint32_t slots[kBenchSlots];

    void put(std::uint32_t slot) {
        slots[written++ % kBenchSlots] = slot;
        if (written % kBatch == 0) flush();
    }
    void flush() { tail.store(written, std::memory_order_release); }
    std::uint32_t waiting() {
        const auto at = head.load(std::memory_order_relaxed);
        if (seen_tail == at) seen_tail = tail.load(std::memory_order_acquire);
        return static_cast<std::uint32_t>(seen_tail - at);
    }
    std::uint32_t ahead(std::uint32_t by) const {
        return slots[(head.load(std::memory_order_relaxed) + by) % kBenchSlots];
    }
    std::uint32_t take() {
        const auto at = head.load(std::memory_order_relaxed);
        const auto slot = slots[at % kBenchSlots];
        head.store(at + 1, std::memory_order_release);
        return slot;
    }
    void clear() {
        flush();
        head.store(written);
        seen_tail = written;
    }
};

struct Sample {
    std::uint64_t ns;
    std::uint64_t key;
};
inline constexpr std::uint32_t kLogMax = 400'000;

struct Stage {
    std::atomic<bool> stop{false};
    std::atomic<bool> quit{false};
    std::atomic<std::uint32_t> window{0};   // + 1 starts one
    std::atomic<std::uint32_t> running{0};  // on their core, with their priority
    std::atomic<std::uint32_t> done{0};
    std::atomic<std::uint64_t> pops{0};
    std::uint64_t consumer_ns = 0;
    Histogram push;
    Histogram pop;
    SlotPipe free_slots[2];
    SlotPipe requeues;
    bool logging = false;
    std::uint32_t pushed = 0;
    std::uint32_t popped = 0;
    Sample push_log[kLogMax];
    Sample pop_log[kLogMax];
};

// N resident tasks at random slots of twice as many; what is left over lies in the free pipes.
template <typename Queue>
void fill(Queue& queue, const shm::Segment& segment, Stage& stage, std::uint32_t resident,
          std::uint32_t producers) {
    std::mt19937_64 random(resident);
    for (std::uint32_t i = 0; i < kBenchSlots; ++i) free_slot(segment.task(i));
    shm::TaskHeap(segment).heal();
    queue.create();
    for (auto& pipe : stage.free_slots) pipe.clear();
    stage.requeues.clear();
    std::vector<std::uint32_t> slots(std::min(kBenchSlots, std::max(2 * resident, 8'192U)));
    for (std::uint32_t i = 0; i < slots.size(); ++i) slots[i] = i;
    std::shuffle(slots.begin(), slots.end(), random);
    for (std::uint32_t i = 0; i < resident; ++i) queue.push(slots[i], random() >> 1);
    // A hold model: as many in flight as fit, but the backlog stays about `resident`.
    const auto spare = std::min<std::size_t>(slots.size() - resident, 1'000);
    for (std::size_t i = 0; i < spare; ++i) {
        stage.free_slots[i % producers].put(slots[resident + i]);
    }
    for (auto& pipe : stage.free_slots) pipe.flush();
}

template <typename Queue>
void produce(Queue& queue, Stage& stage, std::uint32_t who, bool yield) {
    std::mt19937_64 random(who + 77 + static_cast<std::uint64_t>(getpid()));
    auto& pipe = stage.free_slots[who];
    std::uint64_t last_key = 0;
    for (std::uint32_t turn = 0; !stage.stop.load(std::memory_order_relaxed); ++turn) {
        const auto waiting = pipe.waiting();
        if (waiting == 0) {
            yield ? static_cast<void>(sched_yield()) : relax();
            continue;
        }
        if (waiting > 4) queue.prefetch(pipe.ahead(4));
        const auto slot = pipe.take();
        last_key = random() >> 1;
        const bool timed = turn % 8 == 0 || stage.logging;
        const auto start = timed ? now_ns() : 0;
        queue.push(slot, last_key);
        if (!timed) continue;
        const auto end = now_ns();
        stage.push.add(end - start);
        if (stage.logging && stage.pushed < kLogMax)
            stage.push_log[stage.pushed++] = {end, last_key};
    }
}

template <typename Queue>
void requeue(Queue& queue, Stage& stage) {
    while (!stage.stop.load(std::memory_order_relaxed)) {
        if (stage.requeues.waiting() == 0) {
            sched_yield();
            continue;
        }
        queue.requeue(stage.requeues.take());
    }
}

template <typename Queue>
void consume(Queue& queue, const shm::Segment& segment, Stage& stage, std::uint32_t producers,
             bool requeuer) {
    const auto begin = now_ns();
    const auto end = begin + window_ns() * (requeuer ? 3 : 1);
    std::uint64_t pops = 0;
    for (std::uint32_t turn = 0;; ++turn) {
        if (turn % 32 == 0 && now_ns() >= end) break;  // it ends the window: no parent in between
        const bool timed = turn % 8 == 0 || stage.logging;
        const auto start = timed ? now_ns() : 0;
        const auto entry = queue.pop();
        if (!entry) {
            relax();
            continue;
        }
        if (timed) {
            stage.pop.add(now_ns() - start);
            if (stage.logging && stage.popped < kLogMax) {
                stage.pop_log[stage.popped++] = {start, entry->key};
            }
        }
        ++pops;
        if (requeuer && turn % 8 == 1) {
            stage.requeues.put(entry->slot);
            continue;
        }
        free_slot(segment.task(entry->slot));
        stage.free_slots[turn % producers].put(entry->slot);
    }
    for (auto& pipe : stage.free_slots) pipe.flush();
    stage.requeues.flush();
    stage.consumer_ns = now_ns() - begin;
    stage.stop.store(true);
    stage.pops.store(pops);
}

struct Outcome {
    double pops_per_s = 0;
    double push_p99 = 0;
    double pop_p99 = 0;
};

// The processes of a hold model. They live for all windows, with every page mapped beforehand: a
// new process faults on each page it touches for the first time, and that is what would be
// measured. The consumer has core 1, the others share core 0; two processes get real-time priority.
template <typename Queue>
class Crew {
public:
    Crew(Queue& queue, const shm::Segment& segment, Stage& stage, std::uint32_t producers,
         bool requeuer)
        : queue_(queue),
          segment_(segment),
          stage_(stage),
          crowd_(producers > 1),
          workers_(producers + 1 + (requeuer ? 1 : 0)) {
        stage_.quit = false;
        stage_.window = 0;
        stage_.done = 0;
        queue_.attach_consumer();
        start(1, [=, this] { consume(queue_, segment_, stage_, producers, requeuer); });
        for (std::uint32_t i = 0; i < producers; ++i) {
            start(0, [=, this] { produce(queue_, stage_, i, crowd_); });
        }
        if (requeuer) start(0, [this] { requeue(queue_, stage_); });
        while (stage_.done.load() < workers_) usleep(100);
    }
    ~Crew() {
        stage_.quit = true;
        for (const auto pid : pids_) wait_for(pid);
    }
    Crew(const Crew&) = delete;
    Crew& operator=(const Crew&) = delete;

    Outcome run_window() {
        stage_.stop = false;
        stage_.running = 0;
        stage_.done = 0;
        stage_.push = Histogram{};
        stage_.pop = Histogram{};
        stage_.window.fetch_add(1);
        while (stage_.done.load() < workers_) usleep(200);
        while (stage_.requeues.waiting() != 0) queue_.requeue(stage_.requeues.take());
        return Outcome{
            static_cast<double>(stage_.pops.load()) * 1e9 / static_cast<double>(stage_.consumer_ns),
            stage_.push.quantile(0.99), stage_.pop.quantile(0.99)};
    }

private:
    void start(int cpu, const std::function<void()>& body) {
        pids_.push_back(spawn([&] {
            pin(cpu);
            map_all(segment_.bytes(0), segment_.layout().total_bytes);
            map_all(reinterpret_cast<char*>(&stage_), sizeof(Stage));
            for (std::uint32_t seen = 0;;) {
                stage_.done.fetch_add(1);
                while (stage_.window.load() == seen) {
                    if (stage_.quit.load()) return;
                    usleep(100);
                }
                seen = stage_.window.load();
                crowd_ ? favoured() : real_time();
                stage_.running.fetch_add(1);
                while (stage_.running.load() < workers_) {
                    crowd_ ? static_cast<void>(sched_yield()) : relax();
                }
                body();
                normal_time();
            }
        }));
    }

    Queue& queue_;
    const shm::Segment& segment_;
    Stage& stage_;
    bool crowd_;
    std::uint32_t workers_;
    std::vector<pid_t> pids_;
};

struct Contended {
    std::vector<double> rate[2], push_p99[2], pop_p99[2], ratio, push_ratio, pop_ratio;
    void add(const Outcome& ours, const Outcome& mutex) {
        const Outcome both[2] = {ours, mutex};
        for (int i = 0; i < 2; ++i) {
            rate[i].push_back(both[i].pops_per_s / 1e6);
            push_p99[i].push_back(both[i].push_p99);
            pop_p99[i].push_back(both[i].pop_p99);
        }
        ratio.push_back(ours.pops_per_s / mutex.pops_per_s);
        push_ratio.push_back(ours.push_p99 / mutex.push_p99);
        pop_ratio.push_back(ours.pop_p99 / mutex.pop_p99);
    }
};

Contended measure_contended(const shm::Segment& ours, const shm::Segment& locked, Stage& stage_ours,
                            Stage& stage_locked, std::uint32_t resident, std::uint32_t producers) {
    ChunkQueue chunk_queue(ours);
    LockedQueue locked_queue(locked);
    fill(chunk_queue, ours, stage_ours, resident, producers);
    fill(locked_queue, locked, stage_locked, resident, producers);
    Contended result;
    const bool requeuer = producers > 1;
    Crew chunk_crew(chunk_queue, ours, stage_ours, producers, requeuer);
    Crew locked_crew(locked_queue, locked, stage_locked, producers, requeuer);
    chunk_crew.run_window();  // both once to warm up
    locked_crew.run_window();
    for (int i = 0; i < repetitions(); ++i) {
        const auto a = chunk_crew.run_window();
        const auto b = locked_crew.run_window();
        result.add(a, b);
    }
    const std::string who = requeuer ? "2P+requeuer+1C " : "1P+1C ";
    const auto name = who + size_name(resident);
    print(name + ", chunk heaps", median(result.rate[0]), "M pops/s");
    print(name + ", mutex heap", median(result.rate[1]), "M pops/s");
    print(name + ", chunk heaps push p99", median(result.push_p99[0]), "ns");
    print(name + ", mutex heap push p99", median(result.push_p99[1]), "ns");
    print(name + ", chunk heaps pop p99", median(result.pop_p99[0]), "ns");
    print(name + ", mutex heap pop p99", median(result.pop_p99[1]), "ns");
    return result;
}

void contended(const shm::Segment& ours, const shm::Segment& locked) {
    auto& stage_ours = share<Stage>();
    auto& stage_locked = share<Stage>();
    const double one[] = {1.5, 2.0, 2.5};
    const std::uint32_t sizes[] = {kThousand, kHundredThousand, kMillion};
    for (int i = 0; i < 3; ++i) {
        const auto result = measure_contended(ours, locked, stage_ours, stage_locked, sizes[i], 1);
        print_goal(std::string("A1 1P+1C 16 classes ") + size_name(sizes[i]), median(result.ratio),
                   "x mutex heap", Want::kAtLeast, one[i]);
        if (sizes[i] != kMillion) continue;
        print_goal("A2 push p99 1M", median(result.push_ratio), "x mutex heap", Want::kAtMost, 0.1);
        print_goal("A2 pop p99 1M", median(result.pop_ratio), "x mutex heap", Want::kAtMost,
                   1.0 / 3);
    }
    for (const auto size : {kHundredThousand, kMillion}) {
        const auto result = measure_contended(ours, locked, stage_ours, stage_locked, size, 2);
        print_goal(std::string("A1 2P+requeuer+1C ") + size_name(size), median(result.ratio),
                   "x mutex heap", Want::kAtLeast, 1.5);
    }
    munmap(&stage_ours, sizeof(Stage));
    munmap(&stage_locked, sizeof(Stage));
}

// One process: batches of pushes, then as many pops; the slots are those just popped.
template <typename Queue>
std::pair<double, double> alternate(Queue& queue, const shm::Segment& segment,
                                    std::vector<std::uint32_t>& slots, std::mt19937_64& random) {
    std::vector<std::uint64_t> keys(slots.size());
    std::uint64_t push_ns = 0;
    std::uint64_t pop_ns = 0;
    std::uint64_t done = 0;
    real_time();
    while (push_ns + pop_ns < window_ns()) {
        for (auto& key : keys) key = random() >> 1;
        std::shuffle(slots.begin(), slots.end(), random);
        const auto a = now_ns();
        for (std::size_t i = 0; i < slots.size(); ++i) queue.push(slots[i], keys[i]);
        const auto b = now_ns();
        for (auto& slot : slots) {
            slot = queue.pop()->slot;
            free_slot(segment.task(slot));
        }
        const auto c = now_ns();
        push_ns += b - a;
        pop_ns += c - b;
        done += slots.size();
    }
    normal_time();
    return {static_cast<double>(push_ns) / static_cast<double>(done),
            static_cast<double>(pop_ns) / static_cast<double>(done)};
}

struct Alone {
    std::vector<double> push[2], pop[2], push_ratio, pop_ratio;
};

Alone measure_alone(const shm::Segment& ours, const shm::Segment& locked, Stage& stage,
                    std::uint32_t resident) {
    ChunkQueue chunk_queue(ours);
    LockedQueue locked_queue(locked);
    std::vector<std::uint32_t> slots[2];
    const auto take_spare = [&](int which) {
        while (stage.free_slots[0].waiting() != 0 && slots[which].size() < 500) {
            slots[which].push_back(stage.free_slots[0].take());
        }
    };
    fill(chunk_queue, ours, stage, resident, 1);
    take_spare(0);
    fill(locked_queue, locked, stage, resident, 1);
    take_spare(1);
    chunk_queue.attach_consumer();
    std::mt19937_64 random(3);
    Alone result;
    for (int i = 0; i < repetitions(); ++i) {
        const auto a = alternate(chunk_queue, ours, slots[0], random);
        const auto b = alternate(locked_queue, locked, slots[1], random);
        result.push[0].push_back(a.first);
        result.pop[0].push_back(a.second);
        result.push[1].push_back(b.first);
        result.pop[1].push_back(b.second);
        result.push_ratio.push_back(a.first / b.first);
        result.pop_ratio.push_back(a.second / b.second);
    }
    for (int which = 0; which < 2; ++which) {
        const std::string name = which == 0 ? ChunkQueue::kName : LockedQueue::kName;
        print("push " + std::string(size_name(resident)) + ", " + name, median(result.push[which]),
              "ns");
        print("pop " + std::string(size_name(resident)) + ", " + name, median(result.pop[which]),
              "ns");
    }
    return result;
}

void alone(const shm::Segment& ours, const shm::Segment& locked) {
    pin(1);
    auto& stage = share<Stage>();
    const auto small = measure_alone(ours, locked, stage, kThousand);
    print_goal("A3 push 1k", median(small.push_ratio), "x mutex heap", Want::kAtMost, 2.5);
    measure_alone(ours, locked, stage, kHundredThousand);
    const auto large = measure_alone(ours, locked, stage, kMillion);
    print_goal("A3 push 1M", median(large.push_ratio), "x mutex heap", Want::kAtMost, 4);
    print_goal("A3 pop 1M", median(large.pop_ratio), "x mutex heap", Want::kAtMost, 1.2);
    print_goal("A5 pop 1M / pop 1k", median(large.pop[0]) / median(small.pop[0]), "x",
               Want::kAtMost, 3);
    munmap(&stage, sizeof(Stage));
}

// 64 neighbours, filled before (that is the PLM's work either way), then published with one climb.
void batched(const shm::Segment& segment) {
    shm::TaskHeap heap(segment);
    std::mt19937_64 random(5);
    std::vector<double> per_task;
    real_time();
    for (int round = 0; round < (quick ? 500 : 2'000); ++round) {
        const auto first = static_cast<std::uint32_t>(random() % (kBenchSlots / 64)) * 64;
        shm::SlotWord init[64];
        for (std::uint32_t i = 0; i < 64; ++i) {
            auto& slot = segment.task(first + i);
            init[i] = shm::SlotWord::make(shm::load_word(slot).generation() + 1, 0, shm::kOwnerPlm,
                                          shm::SlotState::kInit);
            slot.word.store(init[i].raw);
            slot.job = random();
            slot.key.store(random() >> 1, std::memory_order_relaxed);
        }
        heap.prefetch_range(first, 64);
        const auto start = now_ns();
        for (std::uint32_t i = 0; i < 64; ++i) {
            auto expected = init[i].raw;
            segment.task(first + i).word.compare_exchange_strong(
                expected, init[i].to(shm::SlotState::kQueued, 0).raw);
        }
        heap.touch_range(first, 64);
        per_task.push_back(static_cast<double>(now_ns() - start) / 64);
    }
    normal_time();
    print_goal("A4 push of 64 neighbours, per task", median(per_task), "ns", Want::kAtMost, 25);
}

// A million parked tasks in class 1, and the one that may run in class 2.
void parked(const shm::Segment& segment) {
    for (std::uint32_t chunk = 0; chunk < segment.layout().chunks; ++chunk) {
        segment.chunk_owner(chunk).store(chunk == 100 ? 2 : 1);
    }
    std::mt19937_64 random(7);
    for (std::uint32_t i = 0; i < kBenchSlots; ++i) {
        auto& slot = segment.task(i);
        const bool in = i / 64 == 100 ? i % 64 == 0 : i < kMillion;
        slot.key.store(i / 64 == 100 ? ~std::uint64_t{0} - 1 : random() >> 1);
        slot.word.store(in ? next_queued(slot).raw
                           : shm::SlotWord::make(1, 0, 0, shm::SlotState::kFree).raw);
    }
    shm::TaskHeap(segment).heal();
    real_time();
    auto start = now_ns();
    shm::ClassIndex index(segment);
    print("attach with 1M queued", static_cast<double>(now_ns() - start) / 1e3, "us");
    index.park(1);
    constexpr int kRounds = 20'000;
    std::vector<double> find;
    std::vector<double> toggle;
    for (int repetition = 0; repetition < repetitions(); ++repetition) {
        start = now_ns();
        std::uint64_t found = 0;
        for (int i = 0; i < kRounds; ++i) found += index.best()->class_id == 2 ? 1 : 0;
        find.push_back(static_cast<double>(now_ns() - start) / kRounds);
        if (found != kRounds) std::printf("wrong task found\n");
        start = now_ns();
        for (int i = 0; i < kRounds; ++i) {
            index.unpark(1);
            index.park(1);
        }
        toggle.push_back(static_cast<double>(now_ns() - start) / kRounds);
    }
    print_goal("A5 the runnable task behind 1M parked", median(find), "ns", Want::kAtMost, 1'000);
    print_goal("A5 park + unpark", median(toggle), "ns", Want::kAtMost, 200);
    start = now_ns();
    index.rescan();
    print("rescan of 1M slots", static_cast<double>(now_ns() - start) / 1e3, "us");
    normal_time();
}

void healing(const shm::Segment& segment) {
    shm::TaskHeap heap(segment);
    std::vector<double> sound;
    std::vector<double> rebuild;
    real_time();
    for (int i = 0; i < repetitions(); ++i) {
        auto start = now_ns();
        heap.heal();
        sound.push_back(static_cast<double>(now_ns() - start) / 1e6);
        const auto& layout = segment.layout();
        for (std::uint32_t at = 0; at < kBenchSlots; ++at) {
            segment.at<shm::HeapNode>(layout.heap_slot_nodes, at) = shm::HeapNode{at, at, at ^ 64};
        }
        for (std::uint32_t at = 0; at < kBenchSlots / 8; ++at) {
            segment.at<shm::HeapNode>(layout.heap_group_nodes, at) = shm::HeapNode{at, at, at};
        }
        start = now_ns();
        heap.heal();
        rebuild.push_back(static_cast<double>(now_ns() - start) / 1e6);
    }
    print_goal("A8 heal 1M slots, nothing wrong", median(sound), "ms", Want::kAtMost, 25);
    print_goal("A8 heal 1M slots, every node wrong", median(rebuild), "ms", Want::kAtMost, 25);
    std::uint64_t owned = 0;
    const auto start = now_ns();
    for (std::uint32_t i = 0; i < kBenchSlots; ++i) {
        owned += shm::load_word(segment.task(i)).owner() == 16 ? 1 : 0;
    }
    print_goal("A8 sweep of 1M slots for one owner", static_cast<double>(now_ns() - start) / 1e6,
               owned == 0 ? "ms" : "ms (wrong)", Want::kAtMost, 10);
    normal_time();
}

// Replays a logged run: a pop that began although a smaller key had been pushed to the end for 1
// us.
void rank_error(const shm::Segment& segment) {
    auto& stage = share<Stage>();
    ChunkQueue queue(segment);
    fill(queue, segment, stage, kHundredThousand, 1);
    std::multiset<std::uint64_t> resident;
    for (std::uint32_t i = 0; i < kBenchSlots; ++i) {
        const auto& slot = segment.task(i);
        if (shm::load_word(slot).state() == shm::SlotState::kQueued)
            resident.insert(slot.key.load());
    }
    stage.logging = true;
    Crew(queue, segment, stage, 1, false).run_window();
    std::uint64_t errors = 0;
    std::uint32_t pushed = 0;
    std::multiset<std::uint64_t> early;  // popped before its push was logged as complete
    for (std::uint32_t i = 0; i < stage.popped; ++i) {
        const auto& pop = stage.pop_log[i];
        for (; pushed < stage.pushed && stage.push_log[pushed].ns + 1'000 <= pop.ns; ++pushed) {
            const auto known = early.find(stage.push_log[pushed].key);
            if (known != early.end()) {
                early.erase(known);
            } else {
                resident.insert(stage.push_log[pushed].key);
            }
        }
        if (!resident.empty() && *resident.begin() < pop.key) ++errors;
        const auto at = resident.find(pop.key);
        if (at != resident.end()) {
            resident.erase(at);
        } else {
            early.insert(pop.key);
        }
    }
    print("pops replayed for order", stage.popped, "pops");
    print_goal("A5 rank errors, one consumer", static_cast<double>(errors), "pops", Want::kAtMost,
               0);
    munmap(&stage, sizeof(Stage));
}

int run(bool one_figure) {
    const auto name = "/reeve-bench-" + std::to_string(getpid());
    const BenchSegment ours(name + "-a", 16);
    const BenchSegment locked(name + "-b", 16);
    if (one_figure) {
        const auto result = measure_contended(*ours, *locked, share<Stage>(), share<Stage>(),
                                              kHundredThousand, 1);
        print("heap_1p1c_ratio", median(result.ratio), "x mutex heap");
        return 0;
    }
    contended(*ours, *locked);
    rank_error(*ours);
    alone(*ours, *locked);
    batched(*ours);
    parked(*ours);
    healing(*ours);
    return 0;
}

}  // namespace
}  // namespace reeve::bench

int main(int argc, char** argv) {
    reeve::bench::quick = reeve::bench::quick_mode(argc, argv);
    const bool one_figure = argc > 1 && std::strcmp(argv[argc - 1], "--1p1c") == 0;
    return reeve::bench::run(one_figure);
}
