// Coroutines lets a test decide, at every shared access, which of several "processes" goes next.
//
// Each process of control is a function on a stack of its own, all in one thread; yield() is what a
// policy's step() calls. run() picks the next one at random until all have returned; a process can
// be killed at a chosen step: it is never resumed, as if it had got SIGKILL between two accesses.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include <ucontext.h>

namespace reeve::shm {

class Coroutines {
public:
    static constexpr std::size_t kStackBytes = 64 << 10;

    Coroutines() { active_ = this; }
    ~Coroutines();
    Coroutines(const Coroutines&) = delete;
    Coroutines& operator=(const Coroutines&) = delete;

    // `killed_at`: the process dies at that many steps of its own; 0: never.
    void add(std::function<void()> body, std::uint64_t killed_at = 0);
    // stickiness / 256: the chance that the running process goes on for another step.
    void run(std::mt19937_64& random, std::uint32_t stickiness);
    bool killed(std::size_t index) const { return processes_[index]->killed; }
    std::uint64_t steps() const { return steps_; }
    // Called by policies. Outside run() it does nothing.
    static void yield() {
        if (active_ != nullptr && active_->current_ != nullptr) active_->switch_out();
    }

private:
    struct Process {
        std::function<void()> body;
        std::unique_ptr<char[]> stack;
        void* stack_pointer = nullptr;  // x86-64: saved by switch_stacks
        ucontext_t context{};           // elsewhere
        std::uint64_t killed_at = 0;
        std::uint64_t steps = 0;
        bool done = false;
        bool killed = false;
    };

    void prepare(Process& process);
    void resume(Process& process);
    void switch_out();
    static void enter();

    static inline Coroutines* active_ = nullptr;
    static inline std::vector<std::unique_ptr<char[]>> spare_stacks_;
    std::vector<std::unique_ptr<Process>> processes_;
    Process* current_ = nullptr;
    void* main_stack_pointer_ = nullptr;
    ucontext_t main_context_{};
    std::uint64_t steps_ = 0;
};

}  // namespace reeve::shm
