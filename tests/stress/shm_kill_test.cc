// Four processes share one queue and are killed at random: two producers, a scheduler, a register.
//
// The supervisor (this process, never killed) kills one about every 10 ms, does what the survivors
// of that role would do, starts it again, and takes the ended tasks out. At the end every accepted
// task has ended exactly once. A second test stops each role in turn: the others must go on. The
// seeded bug is a scheduler that forgets what its dead predecessor had claimed: every run finds the
// tasks missing.

#include <atomic>
#include <cstdio>
#include <random>

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/shm/class_index.h"
#include "tests/support/catch.h"
#include "tests/unit/common/shm/fixture.h"

namespace reeve::shm {
namespace {

constexpr std::uint32_t kSlots = 4'096;
constexpr std::uint32_t kClasses = 16;
constexpr std::uint64_t kTasksMax = 32ULL << 20;
constexpr std::uint64_t kDeadlineNs = 100 * kSecond;

enum RoleIndex : std::uint32_t { kProducerA, kProducerB, kScheduler, kRegister, kRoles };
const char* const kRoleNames[] = {"producer a", "producer b", "scheduler", "register"};

// Shared by all, beside the segment.
struct Ledger {
    std::atomic<std::uint64_t> next_task{1};
    std::atomic<bool> stop_producing{false};
    std::atomic<std::uint64_t> progress[kRoles]{};
    std::atomic<std::uint8_t> accepted[kTasksMax]{};
    std::uint8_t ended[kTasksMax]{};  // supervisor only
};

std::mt19937_64 own_random(std::uint64_t seed) {
    return std::mt19937_64(seed ^ static_cast<std::uint64_t>(getpid()) * 0x9E3779B97F4A7C15ULL);
}

bool move(TaskSlot& slot, SlotWord from, SlotWord to) {
    auto expected = from.raw;
    return slot.word.compare_exchange_strong(expected, to.raw);
}

// Half of the slots are each producer's: it fills, publishes and sometimes cancels them.
class Producer {
public:
    Producer(const Segment& segment, Ledger& ledger, std::uint32_t role, std::uint64_t seed)
        : segment_(segment),
          ledger_(ledger),
          role_(role),
          random_(own_random(seed)),
          first_(role * (kSlots / 2)) {}

    void run() {
        while (!ledger_.stop_producing.load()) {
            const auto at = first_ + static_cast<std::uint32_t>(random_() % (kSlots / 2));
            switch (random_() % 8) {
                case 0:
                    cancel(at);
                    break;
                case 1:
                    give_chunk_away(at / kChunkSlots);
                    break;
                case 2:
                    push(at / 8 * 8, 8);
                    break;
                default:
                    push(at, 1);
                    break;
            }
            ledger_.progress[role_].fetch_add(1, std::memory_order_relaxed);
        }
    }

private:
    // Publishes up to `count` free slots from `first` on, with one climb; then they are accepted.
    void push(std::uint32_t first, std::uint32_t count) {
        std::uint64_t tasks[8]{};
        for (std::uint32_t i = 0; i < count; ++i) {
            auto& slot = segment_.task(first + i);
            const auto free = load_word(slot);
            const auto init = SlotWord::make(free.generation() + 1, 0, kOwnerPlm, SlotState::kInit);
            if (free.state() != SlotState::kFree || !move(slot, free, init)) continue;
            const auto task = ledger_.next_task.fetch_add(1);
            if (task >= kTasksMax) return;
            slot.job = task;
            slot.key.store((random_() % 32) << 44 | task);
            move(slot, init, init.to(SlotState::kQueued, kOwnerNone));
            tasks[i] = task;
        }
        if (count == 1) {
            heap_.touch(first);
        } else {
            heap_.touch_range(first, count);
        }
        for (const auto task : tasks) {
            if (task != 0) ledger_.accepted[task].store(1, std::memory_order_relaxed);
        }
    }
    void cancel(std::uint32_t at) {
        auto& slot = segment_.task(at);
        const auto word = load_word(slot);
        if (word.state() != SlotState::kQueued) return;
        if (move(slot, word, word.to(SlotState::kEnded, kOwnerNone))) heap_.touch(at);
    }
    // A chunk all of whose slots are free goes to another class; nobody else takes free slots of
    // ours.
    void give_chunk_away(std::uint32_t chunk) {
        for (std::uint32_t i = 0; i < kChunkSlots; ++i) {
            const auto word = load_word(segment_.task(chunk * kChunkSlots + i));
            if (word.state() != SlotState::kFree) return;
        }
        segment_.chunk_owner(chunk).store(static_cast<std::uint32_t>(random_() % kClasses));
        heap_.mark_chunk(chunk);
    }

    const Segment& segment_;
    Ledger& ledger_;
    std::uint32_t role_;
    std::mt19937_64 random_;
    std::uint32_t first_;
    TaskHeap heap_{segment_};
};

// Claims, and ends most at once; the rest goes to the register as assigned.
void run_scheduler(const Segment& segment, Ledger& ledger, std::uint64_t seed, bool forgetful) {
    auto random = own_random(seed);
    TaskHeap heap(segment);
    for (std::uint32_t i = 0; i < kSlots && !forgetful; ++i) {  // what a dead predecessor held
        const auto word = load_word(segment.task(i));
        if (word.state() != SlotState::kClaimed) continue;
        if (move(segment.task(i), word, word.to(SlotState::kQueued, kOwnerNone))) heap.touch(i);
    }
    heap.heal();
    ClassIndex index(segment);
    auto next_rescan = boot_ns();
    for (;;) {
        if (boot_ns() >= next_rescan) {
            index.rescan();
            next_rescan = boot_ns() + 50 * kMillisecond;
        }
        const auto dice = random();
        const auto class_id = static_cast<std::uint32_t>(dice % kClasses);
        if (index.parked(class_id)) {
            index.unpark(class_id);
        } else if (dice / kClasses % 64 == 0 && !ledger.stop_producing.load()) {
            index.park(class_id);
        }
        const auto claimed = dice / 1'024 % 4 == 0 ? index.claim(class_id) : index.claim_best();
        ledger.progress[kScheduler].fetch_add(1, std::memory_order_relaxed);
        if (!claimed) continue;
        auto& slot = segment.task(claimed->slot);
        switch (dice / 65'536 % 16) {
            case 0:
                index.give_back(*claimed);
                break;
            case 1:
                move(slot, claimed->claimed,
                     claimed->claimed.next_attempt(SlotState::kAssigned, kOwnerRegister));
                break;
            default:
                move(slot, claimed->claimed, claimed->claimed.to(SlotState::kEnded, kOwnerNone));
        }
    }
}

void run_register(const Segment& segment, Ledger& ledger) {
    TaskHeap heap(segment);
    for (std::uint32_t i = 0;; i = (i + 1) % kSlots) {
        const auto word = load_word(segment.task(i));
        if (word.state() == SlotState::kAssigned &&
            move(segment.task(i), word, word.to(SlotState::kQueued, kOwnerNone))) {
            heap.touch(i);
        }
        ledger.progress[kRegister].fetch_add(1, std::memory_order_relaxed);
    }
}

class Supervisor {
public:
    explicit Supervisor(const char* test, bool forgetful = false)
        : random_(test_seed(test)), forgetful_(forgetful) {
        void* memory = mmap(nullptr, sizeof(Ledger), PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        ledger_ = static_cast<Ledger*>(memory);  // zero is right but for the first task
        ledger_->next_task = 1;
        for (std::uint32_t chunk = 0; chunk < kSlots / kChunkSlots; ++chunk) {
            made_->chunk_owner(chunk).store(chunk % kClasses);
        }
        for (std::uint32_t role = 0; role < kRoles; ++role) start(role);
    }
    ~Supervisor() {
        for (std::uint32_t role = 0; role < kRoles; ++role) end(role);
        munmap(ledger_, sizeof(Ledger));
    }

    std::mt19937_64& random() { return random_; }
    void signal(std::uint32_t role, int number) { kill(pids_[role], number); }
    void kill_and_recover(std::uint32_t role) {
        end(role);
        ++kills_[role];
        if (role == kProducerA || role == kProducerB) {
            for (auto i = role * (kSlots / 2); i < (role + 1) * (kSlots / 2); ++i) {
                const auto word = load_word(made_->task(i));
                if (word.state() != SlotState::kInit) continue;
                move(made_->task(i), word, word.to(SlotState::kFree, kOwnerNone));
                ++init_found_;
            }
        } else if (role == kScheduler) {
            for (std::uint32_t i = 0; i < kSlots; ++i) {
                claimed_found_ += load_word(made_->task(i)).state() == SlotState::kClaimed ? 1 : 0;
            }
        }
        healed_ += heap_.heal();
        start(role);
    }
    // Takes ended tasks out of their slots.
    void reap() {
        for (std::uint32_t i = 0; i < kSlots; ++i) {
            const auto word = load_word(made_->task(i));
            if (word.state() != SlotState::kEnded) continue;
            const auto task = made_->task(i).job;
            REQUIRE(task < kTasksMax);
            ++ledger_->ended[task];
            REQUIRE(move(made_->task(i), word, word.to(SlotState::kFree, kOwnerNone)));
        }
    }
    std::uint64_t progress(std::uint32_t role) const { return ledger_->progress[role].load(); }

    // Lets the living finish; false when tasks are still there at the deadline.
    bool drain(std::uint64_t patience_ns = kDeadlineNs) {
        ledger_->stop_producing = true;
        for (const auto role : {kProducerA, kProducerB}) waitpid(pids_[role], nullptr, 0);
        pids_[kProducerA] = pids_[kProducerB] = 0;
        for (const auto deadline = boot_ns() + patience_ns; boot_ns() < deadline; usleep(1'000)) {
            reap();
            bool empty = true;
            for (std::uint32_t i = 0; i < kSlots && empty; ++i) {
                empty = load_word(made_->task(i)).state() == SlotState::kFree;
            }
            if (empty) return true;
        }
        return false;
    }
    void judge() {
        std::uint64_t lost = 0;
        std::uint64_t doubled = 0;
        std::uint64_t unacknowledged = 0;
        const auto tasks = ledger_->next_task.load();
        REQUIRE(tasks < kTasksMax);
        for (std::uint64_t task = 1; task < tasks; ++task) {
            const bool accepted = ledger_->accepted[task].load() != 0;
            lost += accepted && ledger_->ended[task] == 0 ? 1 : 0;
            doubled += ledger_->ended[task] > 1 ? 1 : 0;
            unacknowledged += !accepted && ledger_->ended[task] != 0 ? 1 : 0;
        }
        std::printf("%llu tasks, kills", static_cast<unsigned long long>(tasks - 1));
        for (std::uint32_t role = 0; role < kRoles; ++role) {
            std::printf(" %s %u", kRoleNames[role], kills_[role]);
        }
        std::printf(
            "; found init %u, claimed %u, healed nodes %llu; LOST=%llu DUP=%llu, not "
            "acknowledged but ended %llu\n",
            init_found_, claimed_found_, static_cast<unsigned long long>(healed_),
            static_cast<unsigned long long>(lost), static_cast<unsigned long long>(doubled),
            static_cast<unsigned long long>(unacknowledged));
        CHECK(lost == 0);
        CHECK(doubled == 0);
        CHECK(heap_.heal() == 0);
    }
    std::uint32_t claimed_found() const { return claimed_found_; }

private:
    void start(std::uint32_t role) {
        const auto seed = random_();
        const pid_t pid = fork();
        if (pid != 0) {
            pids_[role] = pid;
            return;
        }
        // Its own mapping, as a real role has.
        auto segment = Segment::open(made_.name(), true);
        if (!segment) _exit(1);
        if (role == kScheduler) run_scheduler(**segment, *ledger_, seed, forgetful_);
        if (role == kRegister) run_register(**segment, *ledger_);
        Producer(**segment, *ledger_, role, seed).run();
        _exit(0);
    }
    void end(std::uint32_t role) {
        if (pids_[role] <= 0) return;
        kill(pids_[role], SIGKILL);
        waitpid(pids_[role], nullptr, 0);
        pids_[role] = 0;
    }

    std::mt19937_64 random_;
    bool forgetful_;
    TestSegment made_{small_config(kSlots, kClasses)};
    TaskHeap heap_{*made_};
    Ledger* ledger_ = nullptr;
    pid_t pids_[kRoles]{};
    std::uint32_t kills_[kRoles]{};
    std::uint32_t init_found_ = 0;
    std::uint32_t claimed_found_ = 0;
    std::uint64_t healed_ = 0;
};

}  // namespace

TEST_CASE("Task heap: 400 random kills lose nothing and double nothing", "[shm][kill]") {
    Supervisor supervisor("shm_kill");
    for (int kills = 0; kills < 400; ++kills) {
        const auto until =
            boot_ns() + 5 * kMillisecond + supervisor.random()() % (8 * kMillisecond);
        while (boot_ns() < until) {
            supervisor.reap();
            usleep(500);
        }
        supervisor.kill_and_recover(static_cast<std::uint32_t>(supervisor.random()() % kRoles));
    }
    REQUIRE(supervisor.drain());
    supervisor.judge();
    CHECK(supervisor.claimed_found() > 0);  // the kills landed where it hurts
}

TEST_CASE("Task heap: a scheduler that forgets its predecessor's claims is noticed",
          "[shm][kill]") {
    Supervisor supervisor("shm_forgetful", true);
    const auto deadline = boot_ns() + kDeadlineNs;
    while (supervisor.claimed_found() == 0 && boot_ns() < deadline) {
        const auto before = supervisor.progress(kScheduler);
        while (supervisor.progress(kScheduler) < before + 100) supervisor.reap();
        supervisor.kill_and_recover(kScheduler);
    }
    CHECK_FALSE(supervisor.drain(kSecond));
}

TEST_CASE("Task heap: whoever is stopped, the others go on", "[shm][kill]") {
    Supervisor supervisor("shm_stop");
    for (int window = 0; window < 40; ++window) {
        const auto stopped = static_cast<std::uint32_t>(window) % kRoles;
        supervisor.signal(stopped, SIGSTOP);
        std::uint64_t before[kRoles];
        for (std::uint32_t role = 0; role < kRoles; ++role)
            before[role] = supervisor.progress(role);
        const auto deadline = boot_ns() + kDeadlineNs;
        for (std::uint32_t role = 0; role < kRoles; ++role) {
            if (role == stopped) continue;
            while (supervisor.progress(role) < before[role] + 2'000 && boot_ns() < deadline) {
                supervisor.reap();
                usleep(200);
            }
            INFO(kRoleNames[stopped] << " stopped, " << kRoleNames[role] << " waits");
            CHECK(supervisor.progress(role) >= before[role] + 2'000);
        }
        supervisor.signal(stopped, SIGCONT);
    }
    REQUIRE(supervisor.drain());
    supervisor.judge();
}

}  // namespace reeve::shm
