// LauncherRig drives a real launcher through its socket, as an agent would.
//
// Every wait has a deadline. The rig's directory, runtime directory and cgroup subtree are its own
// and are gone with it.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/process/cgroup.h"
#include "worker/launcher.h"
#include "tests/support/catch.h"
#include "tests/support/files.h"
#include "worker/launcher_protocol.h"

namespace reeve::worker::test {

// Catch2 3 calls it ContainsSubstring.
inline auto contains(const std::string& text) {
#if __has_include(<catch2/catch_all.hpp>)
    return Catch::Matchers::ContainsSubstring(text);
#else
    return Catch::Matchers::Contains(text);
#endif
}

// Polls until true or the deadline passed.
bool eventually(const std::function<bool()>& condition, int timeout_ms = 10'000);
using reeve::test::read_file;
bool process_exists(int pid);  // and is no zombie

class LauncherRig {
public:
    struct Options {
        bool cgroups = true;
        std::uint64_t lease_ms = 500;
    };
    LauncherRig() : LauncherRig(Options{}) {}
    explicit LauncherRig(Options options);
    ~LauncherRig();

    // A start with sensible fields: cwd = dir(), output = dir()/out, PATH set, our own user.
    StartText text(std::vector<std::string> argv) const;
    std::uint64_t start(StartText text, const std::string& input = "");
    std::uint64_t shell(const std::string& script) {
        return start(text({"/bin/sh", "-c", script}));
    }
    void stop(std::uint64_t id, StopReason reason, bool no_grace = false);
    void freeze(std::uint64_t id, bool frozen);
    void acknowledge(std::uint64_t sequence);
    void shutdown();

    EndedRecord wait_ended(std::uint64_t id, int timeout_ms = 10'000);  // fails the test on timeout
    bool has_ended(std::uint64_t id);
    int pid_of(std::uint64_t id, int timeout_ms = 5'000);
    EndedRecord run(StartText start_text) { return wait_ended(start(std::move(start_text))); }
    EndedRecord run_shell(const std::string& script) { return wait_ended(shell(script)); }

    // As an agent that dies: the connection closes. Then a new one.
    void drop_connection();
    WelcomeRecord connect_again();

    const std::string& dir() const { return dir_; }
    std::string output(const std::string& name = "out") const {
        return read_file(dir_ + "/" + name);
    }
    int launcher_pid() const { return launcher_pid_; }
    const WelcomeRecord& welcome() const { return welcome_; }
    const std::vector<AliveRecord>& alive() const { return alive_; }
    const std::string& socket_path() const { return socket_path_; }
    const std::string& cgroup() const { return cgroup_; }
    const CgroupSupport& support() const { return support_; }
    // Directories in the subtree now, and how many of them somebody lives in.
    std::vector<std::string> cgroup_children() const;
    int cgroups_in_use() const;
    bool wait_launcher_gone(int timeout_ms = 15'000);

private:
    void receive(int timeout_ms);
    void send(const MessageWriter& message);
    WelcomeRecord await_welcome();

    std::string dir_;
    std::string socket_path_;
    std::string cgroup_;
    CgroupSupport support_;
    int fd_ = -1;
    int launcher_pid_ = 0;
    std::uint64_t next_id_ = 1;
    WelcomeRecord welcome_;
    std::vector<AliveRecord> alive_;
    std::map<std::uint64_t, EndedRecord> ended_;
    std::map<std::uint64_t, int> pids_;
};

}  // namespace reeve::worker::test
