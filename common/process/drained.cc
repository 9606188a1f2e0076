#include "common/process/drained.h"

#include <cerrno>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/sync_directory.h"

namespace reeve {

namespace {

std::string folder_of(const Cell& cell) {
    return cell.dir + "/drained";
}

// What cannot be a worker's name has no file.
bool names_a_file(const std::string& worker) {
    return !worker.empty() && worker.front() != '.' && worker.find('/') == std::string::npos;
}

}  // namespace

bool is_drained(const Cell& cell, const std::string& worker) {
    return names_a_file(worker) && ::access((folder_of(cell) + "/" + worker).c_str(), F_OK) == 0;
}

Result<bool> set_drained(const Cell& cell, const std::string& worker, bool drained) {
    const auto folder = folder_of(cell);
    const auto path = folder + "/" + worker;
    if (!names_a_file(worker) || is_drained(cell, worker) == drained) return false;
    if (drained) {
        if (::mkdir(folder.c_str(), 0700) == 0) {
            REEVE_TRY(sync_directory(cell.dir));
        } else if (errno != EEXIST) {
            return fail_errno("create " + folder, errno);
        }
        const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0) return fail_errno("create " + path, errno);
        ::close(fd);
    } else if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
        return fail_errno("remove " + path, errno);
    }
    REEVE_TRY(sync_directory(folder));
    return true;
}

}  // namespace reeve
