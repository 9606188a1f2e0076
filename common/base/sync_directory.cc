#include "common/base/sync_directory.h"

#include <cerrno>

#include <fcntl.h>
#include <unistd.h>

namespace reeve {

Status sync_directory(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return fail_errno("open " + path, errno);
    const int error = ::fsync(fd) == 0 ? 0 : errno;
    ::close(fd);
    if (error != 0) return fail_errno("fsync " + path, error);
    return {};
}

}  // namespace reeve
