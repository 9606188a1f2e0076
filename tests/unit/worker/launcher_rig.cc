#include "tests/unit/worker/launcher_rig.h"

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <thread>

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/process/proc_info.h"
#include "tests/support/catch.h"

namespace reeve::worker::test {
namespace {

std::string make_directory() {
    char name[] = "/tmp/reeve-test-XXXXXX";
    return ::mkdtemp(name);
}

int memory_file(const std::string& bytes) {
    const int fd = ::memfd_create("test", MFD_CLOEXEC);
    REQUIRE(::write(fd, bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
    ::lseek(fd, 0, SEEK_SET);
    return fd;
}

}  // namespace

bool eventually(const std::function<bool()>& condition, int timeout_ms) {
    const auto deadline = boot_ns() + static_cast<std::uint64_t>(timeout_ms) * kMillisecond;
    while (!condition()) {
        if (boot_ns() > deadline) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return true;
}

bool process_exists(int pid) {
    return process_alive(pid, 0);
}

LauncherRig::LauncherRig(Options options) {
    dir_ = make_directory();
    ::chmod(dir_.c_str(), 0755);
    socket_path_ = launcher_socket_path(dir_, "t");
    auto forked = fork_launcher(socket_path_);
    REQUIRE(forked);
    fd_ = forked->socket_fd;
    launcher_pid_ = forked->pid;
    (void)await_welcome();
    support_ = probe_cgroups();
    ConfigureRecord record;
    record.number = 1;
    record.incarnation = 1;
    record.lease_ns = options.lease_ms * kMillisecond;
    if (options.cgroups && support_.usable()) {
        cgroup_ = "reeve.test" + std::to_string(::getpid()) + "/w" + std::to_string(boot_ns());
    }
    std::snprintf(record.cgroup, sizeof record.cgroup, "%s", cgroup_.c_str());
    std::snprintf(record.instance, sizeof record.instance, "test.%d.1", launcher_pid_);
    MessageWriter message;
    message.add(RecordKind::kHello, HelloRecord{});
    message.add(RecordKind::kConfigure, record);
    send(message);
}

LauncherRig::~LauncherRig() {
    if (process_exists(launcher_pid_)) {
        if (fd_ >= 0) shutdown();
        if (!wait_launcher_gone()) ::kill(launcher_pid_, SIGKILL);
    }
    if (fd_ >= 0) ::close(fd_);
    int status = 0;
    ::waitpid(launcher_pid_, &status, 0);
    if (!cgroup_.empty()) (void)end_cgroup(support_, cgroup_, boot_ns() + 5 * kSecond);
    std::filesystem::remove_all(dir_);
}

StartText LauncherRig::text(std::vector<std::string> argv) const {
    StartText start;
    start.head.uid = ::geteuid();
    start.head.gid = ::getegid();
    start.head.grace_ns = 5 * kSecond;
    start.head.flags = kStartErrorIsOutput;
    start.head.name.job = 1;
    start.head.name.attempt = 1;
    start.arguments = std::move(argv);
    start.environment = {"PATH=/usr/local/bin:/usr/bin:/bin"};
    start.path = "/usr/local/bin:/usr/bin:/bin";
    start.directory = dir_;
    start.output = dir_ + "/out";
    return start;
}

void LauncherRig::send(const MessageWriter& message) {
    REQUIRE(send_message(fd_, message.text(), true) == 0);
}

std::uint64_t LauncherRig::start(StartText start_text, const std::string& input) {
    const auto id = next_id_++;
    start_text.head.id = id;
    start_text.head.name.element = id;
    start_text.environment.push_back("REEVE_INSTANCE=test." + std::to_string(launcher_pid_) + ".1");
    start_text.environment.push_back("REEVE_JOB_ID=1");
    start_text.environment.push_back("REEVE_TASK_ID=" + std::to_string(id));
    start_text.environment.push_back("REEVE_ATTEMPT=1");
    std::vector<int> fds;
    if (!input.empty()) {
        start_text.head.flags |= kStartInputFd;
        fds.push_back(memory_file(input));
    }
    const auto record = encode_start(start_text);
    MessageWriter message;
    if (message.room_for(record.size())) {
        message.add_bytes(RecordKind::kStart, record);
    } else {
        fds.insert(fds.begin(), memory_file(record));
        message.add_bytes(RecordKind::kStartByFd, {});
    }
    REQUIRE(send_message(fd_, message.text(), true, fds.data(), static_cast<int>(fds.size())) == 0);
    for (const int fd : fds) ::close(fd);
    return id;
}

void LauncherRig::stop(std::uint64_t id, StopReason reason, bool no_grace) {
    MessageWriter message;
    message.add(RecordKind::kStop, StopRecord{id, reason, no_grace ? 1U : 0U});
    send(message);
}

void LauncherRig::freeze(std::uint64_t id, bool frozen) {
    MessageWriter message;
    message.add(RecordKind::kFreeze, FreezeRecord{id, frozen ? 1U : 0U, 0});
    send(message);
}

void LauncherRig::acknowledge(std::uint64_t sequence) {
    MessageWriter message;
    message.add(RecordKind::kAcknowledge, AcknowledgeRecord{sequence});
    send(message);
}

void LauncherRig::shutdown() {
    MessageWriter message;
    message.add(RecordKind::kShutdown, ShutdownRecord{});
    (void)send_message(fd_, message.text(), true);
}

void LauncherRig::receive(int timeout_ms) {
    pollfd entry{fd_, POLLIN, 0};
    if (::poll(&entry, 1, timeout_ms) != 1) return;
    std::vector<char> buffer(kMessageMax);
    int fds[kMessageFdsMax];
    int fd_count = 0;
    const long got = receive_message(fd_, buffer.data(), buffer.size(), false, fds, &fd_count);
    if (got <= 0) return;
    MessageReader reader({buffer.data(), static_cast<std::size_t>(got)});
    RecordView record;
    while (reader.next(record)) {
        StartedRecord started;
        EndedRecord ended;
        AliveRecord one;
        if (record.kind == RecordKind::kWelcome) REQUIRE(record.read(welcome_));
        if (record.kind == RecordKind::kAlive && record.read(one)) alive_.push_back(one);
        if (record.kind == RecordKind::kStarted && record.read(started)) {
            pids_[started.id] = static_cast<int>(started.pid);
        }
        if (record.kind == RecordKind::kEnded && record.read(ended)) ended_[ended.id] = ended;
    }
    REQUIRE_FALSE(reader.damaged());
}

WelcomeRecord LauncherRig::await_welcome() {
    welcome_ = WelcomeRecord{};
    const auto deadline = boot_ns() + 5 * kSecond;
    while (welcome_.launcher_pid == 0 && welcome_.busy == 0 && boot_ns() < deadline) receive(100);
    while (alive_.size() < welcome_.alive && boot_ns() < deadline) receive(100);
    REQUIRE((welcome_.launcher_pid != 0 || welcome_.busy != 0));
    return welcome_;
}

EndedRecord LauncherRig::wait_ended(std::uint64_t id, int timeout_ms) {
    const auto deadline = boot_ns() + static_cast<std::uint64_t>(timeout_ms) * kMillisecond;
    while (!ended_.contains(id) && boot_ns() < deadline) receive(50);
    INFO("attempt " << id);
    REQUIRE(ended_.contains(id));
    return ended_[id];
}

bool LauncherRig::has_ended(std::uint64_t id) {
    receive(0);
    return ended_.contains(id);
}

int LauncherRig::pid_of(std::uint64_t id, int timeout_ms) {
    const auto deadline = boot_ns() + static_cast<std::uint64_t>(timeout_ms) * kMillisecond;
    while (!pids_.contains(id) && !ended_.contains(id) && boot_ns() < deadline) receive(50);
    REQUIRE((pids_.contains(id) || ended_.contains(id)));
    return pids_.contains(id) ? pids_[id] : static_cast<int>(ended_[id].pid);
}

void LauncherRig::drop_connection() {
    ::close(fd_);
    fd_ = -1;
    ended_.clear();
    alive_.clear();
    pids_.clear();
}

WelcomeRecord LauncherRig::connect_again() {
    auto fd = connect_launcher(socket_path_);
    REQUIRE(fd);
    fd_ = *fd;
    const auto welcome = await_welcome();
    if (welcome.busy == 0) {
        MessageWriter message;
        message.add(RecordKind::kHello, HelloRecord{});
        send(message);
    }
    return welcome;
}

std::vector<std::string> LauncherRig::cgroup_children() const {
    std::vector<std::string> children;
    if (cgroup_.empty()) return children;
    for (const auto& name : list_cgroups(support_, cgroup_)) {
        children.push_back(cgroup_ + "/" + name);
    }
    return children;
}

int LauncherRig::cgroups_in_use() const {
    int count = 0;
    for (const auto& child : cgroup_children()) {
        if (cgroup_populated(support_, child)) ++count;
    }
    return count;
}

bool LauncherRig::wait_launcher_gone(int timeout_ms) {
    return eventually([this] { return !process_exists(launcher_pid_); }, timeout_ms);
}

}  // namespace reeve::worker::test
