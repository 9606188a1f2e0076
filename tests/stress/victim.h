// Victim is a child that executes an operation on shared memory and is stopped before a chosen
// instruction of it, there to be killed, or let go on later. each_instruction() visits them all.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/shm/layout.h"

namespace reeve::shm {

enum class Fate { kKilled, kStopped };

// Written by the victim, read by its tracer.
struct Report {
    std::atomic<std::uint32_t> phase{0};  // 1: in the operation, 2: out again
    std::atomic<std::uint32_t> claimed{kNone32};
};

inline Report& share_report() {
    void* memory = mmap(nullptr, 4'096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return *new (memory) Report();
}

// A child that runs `operation` under ptrace. It stops before the first instruction (1).
class Victim {
public:
    // One copy of this code: an address traced in one victim is looked for in the next.
    [[gnu::noinline]] Victim(Report& report, const std::function<void()>& operation)
        : report_(report) {
        report_.phase = 0;
        report_.claimed = kNone32;
        pid_ = fork();
        if (pid_ == 0) {
            ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
            report_.phase.store(1);
            asm volatile("int3");  // (1)
            operation();
            report_.phase.store(2);
            _exit(0);
        }
        waitpid(pid_, nullptr, 0);
        ptrace(PTRACE_SETOPTIONS, pid_, nullptr, PTRACE_O_EXITKILL);
    }
    ~Victim() { kill_now(); }
    Victim(const Victim&) = delete;
    Victim& operator=(const Victim&) = delete;

    // The address of each instruction the operation executes, by single steps.
    std::vector<std::uint64_t> trace() {
        std::vector<std::uint64_t> addresses;
        while (report_.phase.load() == 1) {
            addresses.push_back(instruction());
            ptrace(PTRACE_SINGLESTEP, pid_, nullptr, nullptr);
            waitpid(pid_, nullptr, 0);
        }
        return addresses;
    }
    // Runs to just before the instruction at `address` for the `occurrence`th time. False when it
    // does not come there: an instruction that repeats itself is one occurrence here and many in
    // trace().
    bool run_to(std::uint64_t address, std::uint64_t occurrence) {
        for (std::uint64_t met = instruction() == address ? 1 : 0; met < occurrence; ++met) {
            const bool there = instruction() == address;
            if (there) ptrace(PTRACE_SINGLESTEP, pid_, nullptr, nullptr);
            if (there && !stopped()) return false;
            const auto code = static_cast<std::uint64_t>(
                ptrace(PTRACE_PEEKTEXT, pid_, reinterpret_cast<void*>(address), nullptr));
            poke(address, (code & ~std::uint64_t{0xFF}) | 0xCC);
            ptrace(PTRACE_CONT, pid_, nullptr, nullptr);
            if (!stopped()) return false;
            poke(address, code);
            set_instruction(address);
        }
        return true;
    }
    void kill_now() {
        if (pid_ <= 0) return;
        kill(pid_, SIGKILL);
        waitpid(pid_, nullptr, 0);
        pid_ = -1;
    }
    void let_finish() {
        ptrace(PTRACE_DETACH, pid_, nullptr, nullptr);
        waitpid(pid_, nullptr, 0);
        pid_ = -1;
    }

private:
    bool stopped() {
        int status = 0;
        waitpid(pid_, &status, 0);
        if (!WIFSTOPPED(status)) pid_ = -1;
        return pid_ > 0;
    }
    std::uint64_t instruction() {
        user_regs_struct registers{};
        ptrace(PTRACE_GETREGS, pid_, nullptr, &registers);
        return registers.rip;
    }
    void set_instruction(std::uint64_t address) {
        user_regs_struct registers{};
        ptrace(PTRACE_GETREGS, pid_, nullptr, &registers);
        registers.rip = address;
        ptrace(PTRACE_SETREGS, pid_, nullptr, &registers);
    }
    void poke(std::uint64_t address, std::uint64_t code) {
        ptrace(PTRACE_POKETEXT, pid_, reinterpret_cast<void*>(address),
               reinterpret_cast<void*>(code));
    }

    Report& report_;
    pid_t pid_ = -1;
};

// Calls visit(victim) with a new victim before each instruction of `operation`.
template <typename Prepare, typename Visit>
std::uint64_t each_instruction(Report& report, Prepare prepare,
                               const std::function<void()>& operation, Visit visit) {
    prepare();
    const auto addresses = Victim(report, operation).trace();
    std::map<std::uint64_t, std::uint64_t> met;
    std::uint64_t skipped = 0;
    for (const auto address : addresses) {
        const auto occurrence = ++met[address];
        prepare();
        Victim victim(report, operation);
        if (victim.run_to(address, occurrence)) {
            alarm(20);  // whoever is blocked now ends the test
            visit(victim);
            alarm(0);
        } else {
            ++skipped;
        }
    }
    return skipped;
}

}  // namespace reeve::shm
