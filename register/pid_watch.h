// PidWatch holds pidfds of the processes the register cares about and wakes it when one ends.
//
// A small thread sleeps in epoll and pokes the register's wake word, so a death is noticed within
// microseconds though the loop itself sleeps on a futex. Which process it was is asked by the loop
// (gone()), with one poll per descriptor and no shared state with the thread.
//
// Only the loop's thread calls the methods. Out of descriptors: the process counts as alive, and
// the heartbeat's lease remains the judge.
#pragma once

#include <cstdint>
#include <map>
#include <thread>

#include "common/process/pidfd.h"
#include "common/shm/wake.h"

namespace reeve::registry {

// One life of a process: a pid alone may name another one tomorrow.
struct ProcessId {
    pid_t pid = 0;
    std::uint64_t start_ticks = 0;  // 0: not known, then only the pid is compared
    auto operator<=>(const ProcessId&) const = default;
};

class PidWatch {
public:
    explicit PidWatch(shm::WakeWord& wake);
    ~PidWatch();
    PidWatch(const PidWatch&) = delete;
    PidWatch& operator=(const PidWatch&) = delete;

    // Whether this life of the process is provably over. The first question starts the watching.
    bool gone(const ProcessId& id);
    // To exactly this life; nothing when it is over.
    void send(const ProcessId& id, int signal_number);
    // Every watched process that keep() does not want any more is forgotten.
    template <typename Keep>
    void retain(const Keep& keep) {
        std::erase_if(entries_, [&](const auto& item) { return !keep(item.first); });
    }

private:
    struct Entry {
        PidFd process;
        bool gone = false;
    };

    Entry& entry(const ProcessId& id);
    void run();

    shm::WakeWord& wake_;
    int epoll_ = -1;
    int stop_ = -1;
    std::map<ProcessId, Entry> entries_;
    std::thread thread_;
};

}  // namespace reeve::registry
