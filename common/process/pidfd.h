// PidFd holds one process by file descriptor: it cannot be confused with a later one of that pid.
//
// open() checks the start time after opening, so that the fd is the process meant. Readable means
// the process has ended (also when it is somebody else's zombie). Move-only; not thread-safe.
#pragma once

#include <cstdint>

#include <sys/types.h>

#include "common/base/result.h"

namespace reeve {

class PidFd {
public:
    PidFd() = default;
    // kNotFound when it is gone or the pid belongs to another process by now. ticks 0: not checked.
    static Result<PidFd> open(pid_t pid, std::uint64_t ticks);

    ~PidFd();
    PidFd(PidFd&& other) noexcept;
    PidFd& operator=(PidFd&& other) noexcept;
    PidFd(const PidFd&) = delete;
    PidFd& operator=(const PidFd&) = delete;

    bool valid() const { return fd_ >= 0; }
    int fd() const { return fd_; }  // for epoll: readable when the process ended
    pid_t pid() const { return pid_; }

    bool ended() const { return wait(0); }
    // True once it ended; false when the timeout ran out. timeout_ms < 0: for ever.
    bool wait(int timeout_ms) const;
    // Sends a signal; kNotFound when it ended.
    Status signal(int number) const;
    // SIGKILL, then waits for the end. kDeadlineExceeded: uninterruptible.
    Status kill_and_wait(int timeout_ms) const;

private:
    int fd_ = -1;
    pid_t pid_ = 0;
};

}  // namespace reeve
