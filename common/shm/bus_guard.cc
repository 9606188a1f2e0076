#include "common/shm/bus_guard.h"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <mutex>

#include <sys/mman.h>

namespace reeve::shm {
namespace {

struct Guarded {
    std::atomic<bool> taken{false};
    std::atomic<std::uintptr_t> base{0};  // 0: none
    std::atomic<std::size_t> bytes{0};
};

Guarded guarded[kGuardsMax];
struct sigaction before {};
std::once_flag installed;

void on_bus_error(int number, siginfo_t* info, void* /*context*/) {
    const int saved_errno = errno;
    const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
    for (const auto& one : guarded) {
        const auto base = one.base.load();
        if (base == 0 || address < base || address - base >= one.bytes.load()) continue;
        void* made = mmap(reinterpret_cast<void*>(base), one.bytes.load(), PROT_READ,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (made == MAP_FAILED) break;
        errno = saved_errno;
        return;  // the same instruction again, and it reads zeros
    }
    sigaction(number, &before, nullptr);  // not ours: it faults again, as if we were not here
}

void install() {
    struct sigaction action {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, &before);
}

}  // namespace

BusGuard::BusGuard(void* base, std::size_t bytes) {
    std::call_once(installed, install);
    for (std::size_t i = 0; i < kGuardsMax; ++i) {
        if (guarded[i].taken.exchange(true)) continue;
        guarded[i].bytes.store(bytes);
        guarded[i].base.store(reinterpret_cast<std::uintptr_t>(base));
        place_ = i;
        return;
    }
}

BusGuard::~BusGuard() {
    if (place_ == kGuardsMax) return;
    guarded[place_].base.store(0);
    guarded[place_].taken.store(false);
}

}  // namespace reeve::shm
