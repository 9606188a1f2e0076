#include "worker/output_limit.h"

#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace reeve::worker {
namespace {

constexpr std::uint64_t kBlock = 4096;

bool is_regular(int fd) {
    struct stat info {};
    return ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
}

}  // namespace

OutputLimit::~OutputLimit() {
    if (fd_ >= 0) ::close(fd_);
}

OutputLimit& OutputLimit::operator=(OutputLimit&& other) noexcept {
    std::swap(limit_bytes_, other.limit_bytes_);
    std::swap(fd_, other.fd_);
    std::swap(path_, other.path_);
    return *this;
}

void OutputLimit::trim(pid_t pid) {
    if (!active()) return;
    if (fd_ < 0) {
        const int process = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0U));
        if (process < 0) return;
        const int fd = static_cast<int>(::syscall(SYS_pidfd_getfd, process, 1, 0U));
        ::close(process);
        if (fd < 0) return;
        // Before it opened its files it has ours, which are no regular ones.
        if (!is_regular(fd)) {
            ::close(fd);
            return;
        }
        fd_ = fd;
    }
    cut();
}

void OutputLimit::finish() {
    if (!active()) return;
    if (fd_ < 0 && !path_.empty()) {
        fd_ = ::open(path_.c_str(), O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    }
    if (fd_ >= 0) cut();
}

void OutputLimit::cut() const {
    struct stat info {};
    if (::fstat(fd_, &info) != 0 || !S_ISREG(info.st_mode)) return;
    const auto held = static_cast<std::uint64_t>(info.st_blocks) * 512;
    const auto size = static_cast<std::uint64_t>(info.st_size);
    if (held <= limit_bytes_ + limit_bytes_ / 4 + kBlock || size <= limit_bytes_) return;
    const auto until = (size - limit_bytes_) / kBlock * kBlock;
    if (until == 0) return;
    (void)::fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                      static_cast<off_t>(until));
}

}  // namespace reeve::worker
