// Role is one process of the group as the supervisor and `down` see it: started or adopted, watched
// through a pidfd, told to stop.
//
// DIR/run/<name>.pid ("pid start_ticks\n") is written by the child itself before it executes, so a
// role is known even if its supervisor dies at that moment. Its output goes to DIR/logs/<name>.log.
// Every process of a cell carries REEVE_CELL=<hash> in its environment; what is left of a group is
// found by that. Not thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/process/cell.h"
#include "common/process/pidfd.h"

namespace reeve::cli {

inline constexpr std::uint64_t kLogBytesMax = 16ULL << 20;  // then <name>.log becomes <name>.log.1

struct RoleEnd {
    bool known = false;  // false: an adopted process, whose status its real parent got
    int code = 0;        // exit status, or
    int signal = 0;      // what killed it
    std::string text() const;
};

struct PidFile {
    pid_t pid = 0;
    std::uint64_t start_ticks = 0;
};
std::string pid_file_path(const Cell& cell, const std::string& name);
std::optional<PidFile> read_pid_file(const Cell& cell, const std::string& name);
// Async-signal-safe enough for a fresh child: no allocation after the path is made.
bool write_pid_file(const std::string& path, pid_t pid, std::uint64_t start_ticks);
// Names of all pid files: "plm", "worker-1", ...
std::vector<std::string> pid_file_names(const Cell& cell);

// What to execute to get another process of ours: our own file's path, so that it keeps its name in
// `ps`; after an upgrade replaced the file, the running one.
std::string own_executable();

// The last line of a role's log, for the message that says why it did not start.
std::string last_log_line(const Cell& cell, const std::string& name);

class Role {
public:
    // arguments: what follows `reeve --state-dir DIR`, the subcommand first.
    Role(std::string name, std::vector<std::string> arguments)
        : name_(std::move(name)), arguments_(std::move(arguments)) {}

    const std::string& name() const { return name_; }
    const std::string& subcommand() const { return arguments_.front(); }
    bool is_worker() const { return subcommand() == "worker"; }
    bool running() const { return process_.valid(); }
    pid_t pid() const { return process_.pid(); }
    std::uint64_t start_ticks() const { return start_ticks_; }
    int pidfd() const { return process_.fd(); }
    std::uint64_t started_ns() const { return started_ns_; }

    Status spawn(const Cell& cell);
    // Takes over the process of the pid file (or of `known`) when it still lives.
    bool adopt(const Cell& cell, std::optional<PidFile> known = std::nullopt);
    // The end of the running process, once; reaps it if it is our child.
    std::optional<RoleEnd> poll_end();
    void signal(int number) const;
    bool wait(int timeout_ms) const { return !running() || process_.wait(timeout_ms); }

private:
    std::string name_;
    std::vector<std::string> arguments_;
    PidFd process_;
    std::uint64_t start_ticks_ = 0;
    std::uint64_t started_ns_ = 0;
    bool child_ = false;
};

}  // namespace reeve::cli
