#include "tests/unit/common/shm/coroutines.h"

#include <cstdlib>
#include <utility>

// glibc's swapcontext makes two system calls per switch; this one saves what the ABI asks for and
// is a hundred times faster. Sanitizers follow stacks themselves and get the portable one.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define REEVE_FAST_SWITCH 1
extern "C" void reeve_switch_stacks(void** save, void* load);
asm(R"(
.text
.globl reeve_switch_stacks
.type reeve_switch_stacks, @function
reeve_switch_stacks:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size reeve_switch_stacks, .-reeve_switch_stacks
.section .note.GNU-stack,"",@progbits
.text
)");
#endif

namespace reeve::shm {

void Coroutines::add(std::function<void()> body, std::uint64_t killed_at) {
    auto process = std::make_unique<Process>();
    process->body = std::move(body);
    if (spare_stacks_.empty()) spare_stacks_.push_back(std::make_unique<char[]>(kStackBytes));
    process->stack = std::move(spare_stacks_.back());
    spare_stacks_.pop_back();
    process->killed_at = killed_at;
    prepare(*process);
    processes_.push_back(std::move(process));
}

Coroutines::~Coroutines() {
    for (auto& process : processes_) spare_stacks_.push_back(std::move(process->stack));
    active_ = nullptr;
}

void Coroutines::enter() {
    Process* self = active_->current_;
    self->body();
    self->done = true;
    for (;;) active_->switch_out();
}

#ifdef REEVE_FAST_SWITCH
void Coroutines::prepare(Process& process) {
    auto top = reinterpret_cast<std::uintptr_t>(process.stack.get() + kStackBytes);
    top &= ~std::uintptr_t{15};
    auto** stack = reinterpret_cast<void**>(top);
    *--stack = nullptr;  // enter() believes it was called: aligned to 16 less its return address
    *--stack = reinterpret_cast<void*>(&Coroutines::enter);
    for (int i = 0; i < 6; ++i) *--stack = nullptr;
    process.stack_pointer = stack;
}
void Coroutines::resume(Process& process) {
    current_ = &process;
    reeve_switch_stacks(&main_stack_pointer_, process.stack_pointer);
    current_ = nullptr;
}
void Coroutines::switch_out() {
    reeve_switch_stacks(&current_->stack_pointer, main_stack_pointer_);
}
#else
void Coroutines::prepare(Process& process) {
    getcontext(&process.context);
    process.context.uc_stack.ss_sp = process.stack.get();
    process.context.uc_stack.ss_size = kStackBytes;
    process.context.uc_link = nullptr;
    makecontext(&process.context, &Coroutines::enter, 0);
}
void Coroutines::resume(Process& process) {
    current_ = &process;
    swapcontext(&main_context_, &process.context);
    current_ = nullptr;
}
void Coroutines::switch_out() {
    swapcontext(&current_->context, &main_context_);
}
#endif

void Coroutines::run(std::mt19937_64& random, std::uint32_t stickiness) {
    std::vector<Process*> runnable;
    for (const auto& process : processes_) {
        if (!process->done && !process->killed) runnable.push_back(process.get());
    }
    std::size_t at = 0;
    while (!runnable.empty()) {
        const auto dice = random();
        if ((dice & 255) >= stickiness || at >= runnable.size()) at = (dice >> 8) % runnable.size();
        Process* next = runnable[at];
        resume(*next);
        ++steps_;
        if (++next->steps == next->killed_at) next->killed = !next->done;
        if (next->done || next->killed) {
            runnable.erase(runnable.begin() + static_cast<std::ptrdiff_t>(at));
        }
    }
}

}  // namespace reeve::shm
