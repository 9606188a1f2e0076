#include "tests/unit/plm/flush_fault.h"

#include <cerrno>

#include <sys/syscall.h>
#include <unistd.h>

namespace reeve::test {

std::atomic<int> flushes_left{-1};
std::atomic<long> flush_count{0};
std::atomic<bool> flushes_free{false};

static bool may_flush() {
    ++flush_count;
    int left = flushes_left;
    while (left >= 0) {
        if (left == 0) return false;
        if (flushes_left.compare_exchange_weak(left, left - 1)) return true;
    }
    return true;
}

static int flush(long number, int fd) {
    if (!may_flush()) {
        errno = EIO;
        return -1;
    }
    if (flushes_free) return 0;
    return static_cast<int>(syscall(number, fd));
}

}  // namespace reeve::test

extern "C" int fsync(int fd) {
    return reeve::test::flush(SYS_fsync, fd);
}
extern "C" int fdatasync(int fd) {
    return reeve::test::flush(SYS_fdatasync, fd);
}
