#include "common/audit/files.h"

#include <cerrno>

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/failpoint.h"
#include "common/base/sync_directory.h"

namespace reeve::audit {
namespace {

class Descriptor {
public:
    explicit Descriptor(int fd) : fd_(fd) {}
    ~Descriptor() {
        if (fd_ >= 0) close(fd_);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    int get() const { return fd_; }
    bool good() const { return fd_ >= 0; }

private:
    int fd_;
};

constexpr long kTopDirectory = 0x20000;  // FS_TOPDIR_FL: its directories have little in common

// A hint: where it is not understood, nothing is lost.
void spread_children_of(const std::string& path) {
    const Descriptor directory(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    long flags = 0;
    if (!directory.good() || ioctl(directory.get(), FS_IOC_GETFLAGS, &flags) != 0) return;
    if ((flags & kTopDirectory) != 0) return;
    flags |= kTopDirectory;
    (void)ioctl(directory.get(), FS_IOC_SETFLAGS, &flags);
}

Status write_all(int fd, std::string_view bytes, const std::string& path) {
    while (!bytes.empty()) {
        const ssize_t count = write(fd, bytes.data(), bytes.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return fail_errno("write " + path, errno);
        bytes.remove_prefix(static_cast<std::size_t>(count));
    }
    return {};
}

Status write_temporary(const std::string& path, std::string_view bytes, Durable durable,
                       mode_t mode) {
    Descriptor file(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
    if (!file.good()) return fail_errno("create " + path, errno);
    REEVE_TRY(write_all(file.get(), bytes, path));
    REEVE_FAILPOINT("audit.file_written");
    if (durable == Durable::kYes && fsync(file.get()) != 0) {
        return fail_errno("fsync " + path, errno);
    }
    return {};
}

}  // namespace

std::string parent_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    if (slash == std::string::npos) return ".";
    return slash == 0 ? "/" : path.substr(0, slash);
}

Result<std::string> read_file(const std::string& path, std::size_t size_max) {
    Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!file.good()) return fail_errno("open " + path, errno);
    struct stat info {};
    if (fstat(file.get(), &info) != 0) return fail_errno("stat " + path, errno);
    if (!S_ISREG(info.st_mode)) return fail(ErrorCode::kDataLoss, path + ": not a regular file");
    std::string bytes;
    bytes.resize(std::min(static_cast<std::size_t>(info.st_size), size_max) + 1);
    std::size_t filled = 0;
    while (true) {
        const ssize_t count = read(file.get(), bytes.data() + filled, bytes.size() - filled);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return fail_errno("read " + path, errno);
        if (count == 0) break;
        filled += static_cast<std::size_t>(count);
        if (filled > size_max) {
            return fail(ErrorCode::kDataLoss,
                        path + ": longer than " + std::to_string(size_max) + " bytes");
        }
        if (filled == bytes.size()) bytes.resize(std::min(2 * filled, size_max + 1));
    }
    bytes.resize(filled);
    return bytes;
}

Status make_directories(const std::string& path) {
    if (mkdir(path.c_str(), 0755) == 0 || errno == EEXIST) return {};
    if (errno != ENOENT || path == "/" || path == ".") return fail_errno("mkdir " + path, errno);
    REEVE_TRY(make_directories(parent_of(path)));
    if (mkdir(path.c_str(), 0755) == 0 || errno == EEXIST) return {};
    return fail_errno("mkdir " + path, errno);
}

Status make_spread(const std::string& root, const std::string& path) {
    REEVE_TRY(make_directories(root));
    REEVE_TRY(make_directories(parent_of(path)));
    spread_children_of(root);
    // ext4 chooses the place when the directory is made, by its parent and by its name.
    const std::string fresh = root + "/.new-" + std::to_string(getpid());
    if (mkdir(fresh.c_str(), 0755) != 0 && errno != EEXIST) {
        return fail_errno("mkdir " + fresh, errno);
    }
    REEVE_FAILPOINT("audit.directory_made");
    if (rename(fresh.c_str(), path.c_str()) == 0) return {};
    const int error = errno;
    rmdir(fresh.c_str());
    if (error == EEXIST || error == ENOTEMPTY) return {};
    return fail_errno("mkdir " + path, error);
}

Status sync_file_system(const std::string& path) {
    Descriptor directory(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory.good()) return fail_errno("open " + path, errno);
    if (syncfs(directory.get()) != 0) return fail_errno("syncfs " + path, errno);
    return {};
}

void drop_from_cache(const std::string& path) {
    const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.good()) (void)posix_fadvise(file.get(), 0, 0, POSIX_FADV_DONTNEED);
}

Status replace_file(const std::string& path, std::string_view bytes, Durable durable, mode_t mode) {
    const std::string temporary = path + ".tmp";
    auto written = write_temporary(temporary, bytes, durable, mode);
    if (!written && written.error().code == ErrorCode::kNotFound) {
        REEVE_TRY(make_directories(parent_of(path)));
        written = write_temporary(temporary, bytes, durable, mode);
    }
    if (!written) {
        unlink(temporary.c_str());
        return written;
    }
    REEVE_FAILPOINT("audit.before_rename");
    if (rename(temporary.c_str(), path.c_str()) != 0) return fail_errno("rename " + path, errno);
    REEVE_FAILPOINT("audit.after_rename");
    if (durable == Durable::kYes) REEVE_TRY(sync_directory(parent_of(path)));
    return {};
}

Status write_unread_file(const std::string& path, std::string_view bytes, mode_t mode) {
    return write_temporary(path, bytes, Durable::kNo, mode);
}

Status write_new_file(const std::string& path, std::string_view bytes, mode_t mode) {
    // The bytes are complete before the name exists, so a crash leaves no half key behind.
    const std::string temporary = path + ".tmp";
    unlink(temporary.c_str());
    REEVE_TRY(write_temporary(temporary, bytes, Durable::kYes, mode));
    if (link(temporary.c_str(), path.c_str()) != 0) {
        const int error = errno;
        unlink(temporary.c_str());
        return fail_errno("create " + path, error);
    }
    unlink(temporary.c_str());
    return sync_directory(parent_of(path));
}

}  // namespace reeve::audit
