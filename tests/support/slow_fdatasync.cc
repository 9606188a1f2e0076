// A shared object for LD_PRELOAD: every fsync and fdatasync takes $SLOW_FSYNC_MS longer.
//
// Shows from outside that acknowledgements wait for the disk. With $FAIL_FSYNC_AFTER=N the N-th and
// all later calls fail with EIO instead; with $FAIL_FSYNC_FILE=TEXT only files whose path holds
// TEXT count for that. Built as lib/slow_fdatasync.so.
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include <dlfcn.h>
#include <unistd.h>

namespace {

long number_from(const char* name) {
    const char* text = getenv(name);
    return text == nullptr ? 0 : strtol(text, nullptr, 10);
}

void delay() {
    const long ms = number_from("SLOW_FSYNC_MS");
    timespec left{ms / 1000, (ms % 1000) * 1'000'000L};
    while (ms > 0 && nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

bool is_chosen(int fd) {
    const char* wanted = getenv("FAIL_FSYNC_FILE");
    if (wanted == nullptr) return true;
    char link[32] = "/proc/self/fd/";
    char path[4096];
    std::size_t at = strlen(link);
    char digits[12];
    std::size_t count = 0;
    do {
        digits[count++] = static_cast<char>('0' + fd % 10);
        fd /= 10;
    } while (fd > 0);
    while (count > 0) link[at++] = digits[--count];
    link[at] = '\0';
    const ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return false;
    path[size] = '\0';
    return strstr(path, wanted) != nullptr;
}

bool fails(int fd) {
    static std::atomic<long> calls{0};
    const long after = number_from("FAIL_FSYNC_AFTER");
    if (after <= 0 || !is_chosen(fd)) return false;
    return ++calls >= after;
}

int slow(const char* name, int fd) {
    auto* real = reinterpret_cast<int (*)(int)>(dlsym(RTLD_NEXT, name));
    delay();
    if (fails(fd)) {
        errno = EIO;
        return -1;
    }
    return real(fd);
}

}  // namespace

extern "C" int fsync(int fd) {
    return slow("fsync", fd);
}
extern "C" int fdatasync(int fd) {
    return slow("fdatasync", fd);
}
