#include "worker/output_digest.h"

#include <cerrno>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace reeve::worker {
namespace {

bool append_file(const std::string& path, std::uint32_t uid, std::string& out) {
    if (path.empty()) return true;
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return false;
    struct stat info {};
    bool fine = ::fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_uid == uid &&
                static_cast<std::uint64_t>(info.st_size) + out.size() <= kDigestBytesMax;
    const auto start = out.size();
    if (fine) out.resize(start + static_cast<std::size_t>(info.st_size));
    std::size_t done = start;
    while (fine && done < out.size()) {
        const auto got = ::read(fd, out.data() + done, out.size() - done);
        if (got < 0 && errno == EINTR) continue;
        fine = got > 0;  // shorter than it was: somebody still writes
        if (fine) done += static_cast<std::size_t>(got);
    }
    ::close(fd);
    return fine;
}

}  // namespace

std::optional<merkle::Hash> digest_output(const std::string& output, const std::string& error,
                                          std::uint32_t uid) {
    std::string bytes;
    if (output.empty() && error.empty()) return std::nullopt;
    if (!append_file(output, uid, bytes) || !append_file(error, uid, bytes)) return std::nullopt;
    return merkle::sha256(bytes);
}

}  // namespace reeve::worker
