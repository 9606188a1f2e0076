// System calls that touch no errno, for code that runs between clone and exec.
//
// Such a child may share its memory, and so the thread-local errno, with its running parent. A
// negative result is -errno.
#pragma once

#include <cerrno>

#include <sys/syscall.h>
#include <unistd.h>

namespace reeve {

#if defined(__x86_64__)
inline long raw_syscall(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0) {
    long result = 0;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}
#else
inline long raw_syscall(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0) {
    const long result = ::syscall(number, a, b, c, d, e);
    return result < 0 ? -errno : result;
}
#endif

inline long raw(const void* pointer) {
    return reinterpret_cast<long>(pointer);
}

}  // namespace reeve
