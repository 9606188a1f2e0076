#include "common/process/small_file.h"

#include <cerrno>

#include <fcntl.h>
#include <unistd.h>

namespace reeve {

Result<std::string> read_whole(const std::string& path, std::size_t limit) {
    return read_whole_at(AT_FDCWD, path.c_str(), limit);
}

Result<std::string> read_whole_at(int dir_fd, const char* path, std::size_t limit) {
    const int fd = ::openat(dir_fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return fail_errno(std::string("open ") + path, errno);
    std::string text;
    char buffer[4096];
    while (text.size() < limit) {
        const auto got = ::read(fd, buffer, sizeof buffer);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            const int error = errno;
            ::close(fd);
            return fail_errno(std::string("read ") + path, error);
        }
        if (got == 0) break;
        text.append(buffer, static_cast<std::size_t>(got));
    }
    ::close(fd);
    if (text.size() > limit) text.resize(limit);
    return text;
}

int write_text_at(int dir_fd, const char* path, std::string_view text) {
    const int fd = ::openat(dir_fd, path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return errno;
    ssize_t wrote = 0;
    do {
        wrote = ::write(fd, text.data(), text.size());
    } while (wrote < 0 && errno == EINTR);
    const int error = wrote < 0 ? errno : 0;
    ::close(fd);
    return error;
}

}  // namespace reeve
