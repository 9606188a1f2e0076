// OutputLimit keeps a task's stdout below a size on disk: its oldest part is punched out.
//
// Size and offsets of the file stay, so followers are not disturbed. While the task runs it works
// on the task's own descriptor (pidfd_getfd), so with the task's rights: what it cannot write, we
// do not touch. A task that ended before that could be had is cut through the path of its output,
// but only where the launcher runs as the task's user anyway.
#pragma once

#include <cstdint>
#include <string>

#include <sys/types.h>

namespace reeve::worker {

class OutputLimit {
public:
    OutputLimit() = default;
    OutputLimit(std::uint64_t limit_bytes, std::string path)
        : limit_bytes_(limit_bytes), path_(std::move(path)) {}
    ~OutputLimit();
    OutputLimit(OutputLimit&& other) noexcept { *this = std::move(other); }
    OutputLimit& operator=(OutputLimit&& other) noexcept;
    OutputLimit(const OutputLimit&) = delete;
    OutputLimit& operator=(const OutputLimit&) = delete;

    bool active() const { return limit_bytes_ != 0; }
    bool found() const { return fd_ >= 0; }
    // Finds the stdout of the running process, if it is in place already, and cuts it.
    void trim(pid_t pid);
    // The last cut, once the process is gone.
    void finish();

private:
    void cut() const;

    std::uint64_t limit_bytes_ = 0;
    int fd_ = -1;
    std::string path_;  // "": not ours to open
};

}  // namespace reeve::worker
