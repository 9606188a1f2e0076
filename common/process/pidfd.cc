#include "common/process/pidfd.h"

#include <cerrno>
#include <string>
#include <utility>

#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/process/proc_info.h"

namespace reeve {

Result<PidFd> PidFd::open(pid_t pid, std::uint64_t ticks) {
    const auto fd = ::syscall(SYS_pidfd_open, pid, 0U);
    if (fd < 0) {
        const int error = errno;
        if (error == ESRCH || error == EINVAL) {
            return fail(ErrorCode::kNotFound, "no process " + std::to_string(pid));
        }
        return fail_errno("pidfd_open " + std::to_string(pid), error);
    }
    PidFd result;
    result.fd_ = static_cast<int>(fd);
    result.pid_ = pid;
    if (ticks != 0 && !process_alive(pid, ticks)) {
        return fail(ErrorCode::kNotFound, "process " + std::to_string(pid) + " is another one now");
    }
    return result;
}

PidFd::~PidFd() {
    if (fd_ >= 0) ::close(fd_);
}

PidFd::PidFd(PidFd&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), pid_(std::exchange(other.pid_, 0)) {}

PidFd& PidFd::operator=(PidFd&& other) noexcept {
    if (this != &other) {
        if (fd_ >= 0) ::close(fd_);
        fd_ = std::exchange(other.fd_, -1);
        pid_ = std::exchange(other.pid_, 0);
    }
    return *this;
}

bool PidFd::wait(int timeout_ms) const {
    if (fd_ < 0) return true;
    const auto deadline =
        boot_ns() + static_cast<std::uint64_t>(timeout_ms < 0 ? 0 : timeout_ms) * kMillisecond;
    while (true) {
        pollfd entry{fd_, POLLIN, 0};
        int left = timeout_ms;
        if (timeout_ms > 0) {
            const auto now = boot_ns();
            left = now >= deadline ? 0 : static_cast<int>((deadline - now) / kMillisecond + 1);
        }
        const int ready = ::poll(&entry, 1, left);
        if (ready > 0) return true;
        if (ready == 0) return false;
        if (errno != EINTR) return false;
    }
}

Status PidFd::signal(int number) const {
    if (fd_ < 0) return fail(ErrorCode::kNotFound, "no process");
    if (::syscall(SYS_pidfd_send_signal, fd_, number, nullptr, 0U) == 0) return {};
    const int error = errno;
    if (error == ESRCH) return fail(ErrorCode::kNotFound, "process ended");
    return fail_errno("signal " + std::to_string(pid_), error);
}

Status PidFd::kill_and_wait(int timeout_ms) const {
    const auto sent = signal(SIGKILL);
    if (!sent && sent.error().code != ErrorCode::kNotFound) return sent;
    if (wait(timeout_ms)) return {};
    return fail(ErrorCode::kDeadlineExceeded,
                "process " + std::to_string(pid_) + " does not end after SIGKILL");
}

}  // namespace reeve
