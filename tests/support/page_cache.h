// How many bytes of a file the system keeps in memory, and whether it gives them back when asked.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace reeve::test {

inline std::uint64_t cached_bytes(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat info {};
    if (fd < 0 || ::fstat(fd, &info) != 0 || info.st_size == 0) return 0;
    const auto size = static_cast<std::size_t>(info.st_size);
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    void* const mapped = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
    ::close(fd);
    if (mapped == MAP_FAILED) return 0;
    std::vector<unsigned char> resident((size + page - 1) / page);
    const int rc = ::mincore(mapped, size, resident.data());
    ::munmap(mapped, size);
    std::uint64_t pages = 0;
    for (const auto one : resident) pages += one & 1U;
    return rc == 0 ? pages * page : 0;
}

// Not in memory-backed file systems, and not in every overlay.
inline bool can_drop_cache(const std::string& directory) {
    const auto path = directory + "/drop-me";
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return false;
    const std::string bytes(1 << 20, 'x');
    const bool written =
        ::write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size());
    const bool flushed = written && ::fsync(fd) == 0;
    (void)::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    ::close(fd);
    const auto left = cached_bytes(path);
    ::unlink(path.c_str());
    return flushed && left == 0;
}

}  // namespace reeve::test
