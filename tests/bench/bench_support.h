// What the shared-memory benchmarks have in common: pinning, forked workers, medians, latency
// histograms, and one JSON line per figure.
//
// A figure with a target is printed as {"name","value","unit","target","met"}; nothing is asserted:
// a time on a shared machine is a fact about that machine.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"

namespace reeve::bench {

inline std::uint64_t now_ns() {
    return read_clock_ns(CLOCK_MONOTONIC);
}

inline void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu % static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)), &set);
    sched_setaffinity(0, sizeof set, &set);
}
// Ahead of whatever else runs here, where we may; only for short windows.
inline void real_time() {
    sched_param parameters{};
    parameters.sched_priority = 10;
    sched_setscheduler(0, SCHED_FIFO, &parameters);
}
inline void normal_time() {
    sched_param parameters{};
    sched_setscheduler(0, SCHED_OTHER, &parameters);
}
inline void favoured() {
    setpriority(PRIO_PROCESS, 0, -20);
}
inline void relax() {
    __builtin_ia32_pause();
}

// Gives this process its page table entries for shared memory it inherited.
inline void map_all(char* memory, std::size_t bytes) {
    constexpr std::size_t kPage = 4'096;
    auto* first = memory - reinterpret_cast<std::uintptr_t>(memory) % kPage;
    const auto length = static_cast<std::size_t>(memory + bytes - first);
    if (madvise(first, length, 23 /* MADV_POPULATE_WRITE */) == 0) return;
    for (std::size_t at = 0; at < length; at += kPage) {
        __atomic_fetch_add(first + at, 0, __ATOMIC_RELAXED);
    }
}

inline double median(std::vector<double> values) {
    if (values.empty()) return 0;
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

template <typename T>
T& share() {
    void* memory =
        mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return *new (memory) T();
}

// Nanoseconds in buckets of about 6 %, one writer.
struct Histogram {
    static constexpr std::uint32_t kBuckets = 48 * 16;
    std::uint32_t counts[kBuckets]{};

    void add(std::uint64_t ns) {
        const auto value = ns + 16;
        const auto power = 63U - static_cast<std::uint32_t>(__builtin_clzll(value));
        const auto part = static_cast<std::uint32_t>(value >> (power - 4)) & 15U;
        ++counts[std::min((power - 4) * 16 + part, kBuckets - 1)];
    }
    double quantile(double share) const {
        std::uint64_t total = 0;
        for (const auto count : counts) total += count;
        auto left = static_cast<std::uint64_t>(static_cast<double>(total) * share);
        for (std::uint32_t i = 0; i < kBuckets; ++i) {
            if (left < counts[i]) {
                const auto power = i / 16;
                return static_cast<double>(((std::uint64_t{16} + i % 16) << power) - 16);
            }
            left -= counts[i];
        }
        return 0;
    }
};

// Forks body(); the child ends with it, with its parent, or after two minutes.
inline pid_t spawn(const std::function<void()>& body) {
    std::fflush(stdout);
    const pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(120);
        body();
        _exit(0);
    }
    return pid;
}
inline void wait_for(pid_t pid) {
    waitpid(pid, nullptr, 0);
}

inline void print(const std::string& name, double value, const char* unit) {
    std::printf("{\"name\":\"%s\",\"value\":%.3g,\"unit\":\"%s\"}\n", name.c_str(), value, unit);
    std::fflush(stdout);
}
enum class Want { kAtMost, kAtLeast };
inline void print_goal(const std::string& name, double value, const char* unit, Want want,
                       double target) {
    const bool met = want == Want::kAtMost ? value <= target : value >= target;
    std::printf(
        "{\"name\":\"%s\",\"value\":%.3g,\"unit\":\"%s\",\"target\":\"%s %g\",\"met\":%s}\n",
        name.c_str(), value, unit, want == Want::kAtMost ? "<=" : ">=", target,
        met ? "true" : "false");
    std::fflush(stdout);
}

inline bool quick_mode(int argc, char** argv) {
    for (int i = 1; i < argc; ++i) {
        if (std::strcmp(argv[i], "--quick") == 0) return true;
    }
    return false;
}

}  // namespace reeve::bench
