// logs: what tasks wrote, from their output files; -f follows them to their end.
#pragma once

#include <atomic>
#include <optional>
#include <string>
#include <vector>

#include "cli/context.h"
#include "cli/gather.h"
#include "cli/output_path.h"

namespace reeve::cli {

struct LogsOptions {
    std::vector<std::string> selectors;
    bool follow = false;
    bool error = false;                       // stderr's file instead of stdout's
    bool paths = false;                       // print the files' names only
    std::uint32_t attempt = 0;                // 0: the last one
    std::uint64_t limit = kElementsLookedAt;  // tasks
};
int logs_command(const Context& context, const LogsOptions& options);

// Copies a growing file to a descriptor, from where the last call stopped.
class Follower {
public:
    explicit Follower(std::string path) : path_(std::move(path)) {}
    // Copies what is new; false when the reader of ours is gone. A missing file is no error yet.
    bool pump(int out_fd);
    const std::string& path() const { return path_; }
    bool opened() const { return fd_ >= 0; }
    ~Follower();
    Follower(const Follower&) = delete;
    Follower& operator=(const Follower&) = delete;

private:
    std::string path_;
    int fd_ = -1;
    std::uint64_t offset_ = 0;
};

// The newest attempt of one task as the segment or the history knows it; nothing before its slot.
std::optional<v1::TaskResult> current_attempt(Gatherer& gatherer, std::uint64_t job,
                                              std::uint64_t element, std::uint32_t& slot_hint);

}  // namespace reeve::cli
