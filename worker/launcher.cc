#include "worker/launcher.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/log/log.h"
#include "common/process/proc_info.h"
#include "worker/attempts.h"

namespace reeve::worker {
namespace {

constexpr std::uint64_t kMarginNs = kSecond;          // beyond the lease
constexpr std::uint64_t kEndingMaxNs = 10 * kSecond;  // then we leave even with something stuck
constexpr std::size_t kEndedPerFlush = 4096;

class Launcher {
public:
    Launcher(int agent_fd, std::string socket_path)
        : socket_path_(std::move(socket_path)), agent_fd_(agent_fd) {}
    int run();

private:
    bool set_up();
    bool listen_at_path();
    void watch(int fd, std::uint32_t events);
    int timeout_ms(std::uint64_t now_ns) const;
    void on_signal();
    void on_connection();
    void greet();
    void read_agent();        // all that waits, or its end
    bool read_one_message();  // false: nothing waits, or it is lost
    bool handle(const RecordView& record, int* fds, int fd_count);
    void start_by_fd(int record_fd, int input_fd);
    void configure(const ConfigureRecord& record);
    void acknowledge(std::uint64_t sequence);
    void lose_agent();
    void flush();
    bool add_began(MessageWriter& message);
    bool add_ended(MessageWriter& message);
    bool send(const MessageWriter& message);
    void end_everything();

    std::string socket_path_;
    int agent_fd_ = -1;
    int listen_fd_ = -1;
    int lock_fd_ = -1;
    int signal_fd_ = -1;
    int epoll_fd_ = -1;
    bool want_write_ = false;
    bool shut_down_ = false;
    std::uint64_t lost_agent_ns_ = 0;  // 0: one is here
    std::uint64_t lease_ns_ = 0;
    ConfigureRecord configured_;
    std::size_t told_ = 0;  // ended records already sent to this agent
    std::vector<char> buffer_ = std::vector<char>(kMessageMax);
    std::unique_ptr<Attempts> attempts_;
};

// -1: held by another. The file may have been removed by its last holder while we waited to open
// it.
int take_lock(const std::string& path) {
    for (int attempt = 0; attempt < 8; ++attempt) {
        const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0) return -1;
        struct stat locked {};
        struct stat named {};
        const bool held = ::flock(fd, LOCK_EX | LOCK_NB) == 0;
        if (held && ::fstat(fd, &locked) == 0 && ::stat(path.c_str(), &named) == 0 &&
            locked.st_ino == named.st_ino) {
            return fd;
        }
        ::close(fd);
        if (!held) return -1;
    }
    return -1;
}

bool Launcher::listen_at_path() {
    lock_fd_ = take_lock(socket_path_ + ".lock");
    if (lock_fd_ < 0) {
        log::warn("another launcher of this name lives", {{"socket", socket_path_}});
        return false;
    }
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (socket_path_.size() >= sizeof address.sun_path) return false;
    std::memcpy(address.sun_path, socket_path_.c_str(), socket_path_.size() + 1);
    listen_fd_ = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ::unlink(socket_path_.c_str());
    const auto old_mask = ::umask(0177);
    const bool bound =
        ::bind(listen_fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    ::umask(old_mask);
    if (!bound || ::listen(listen_fd_, 8) != 0) {
        log::error("cannot listen for a later agent",
                   {{"socket", socket_path_}, {"error", std::strerror(errno)}});
        return false;
    }
    return true;
}

void Launcher::watch(int fd, std::uint32_t events) {
    epoll_event event{};
    event.events = events;
    event.data.fd = fd;
    if (::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) != 0 && errno == EEXIST) {
        ::epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, fd, &event);
    }
}

bool Launcher::set_up() {
    ::setsid();
    ::prctl(PR_SET_NAME, "reeve-launcher", 0, 0, 0);
    ::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    // Nothing is caught or ignored: children then need no more than an empty mask.
    for (int number = 1; number < NSIG; ++number) ::signal(number, SIG_DFL);
    sigset_t all;
    sigfillset(&all);
    sigdelset(&all, SIGBUS);  // of a segment cut short (followers.h)
    ::sigprocmask(SIG_SETMASK, &all, nullptr);
    sigset_t watched;
    sigemptyset(&watched);
    sigaddset(&watched, SIGCHLD);
    signal_fd_ = ::signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
    epoll_fd_ = ::epoll_create1(EPOLL_CLOEXEC);
    if (signal_fd_ < 0 || epoll_fd_ < 0) return false;
    if (!socket_path_.empty() && !listen_at_path()) return false;
    watch(signal_fd_, EPOLLIN);
    watch(agent_fd_, EPOLLIN);
    if (listen_fd_ >= 0) watch(listen_fd_, EPOLLIN);
    attempts_ = std::make_unique<Attempts>();
    return true;
}

int Launcher::timeout_ms(std::uint64_t now_ns) const {
    auto next = attempts_->next_deadline_ns();
    if (agent_fd_ >= 0 && !want_write_) {
        next = std::min({next, attempts_->started_due_ns(), attempts_->ended_due_ns()});
    }
    if (lost_agent_ns_ != 0) next = std::min(next, lost_agent_ns_ + lease_ns_ + kMarginNs);
    if (next == ~std::uint64_t{0}) return -1;
    if (next <= now_ns) return 0;
    return static_cast<int>(std::min<std::uint64_t>((next - now_ns) / kMillisecond + 1, 60'000));
}

int Launcher::run() {
    if (!set_up()) return 1;
    greet();
    while (!shut_down_) {
        flush();
        epoll_event events[8];
        const int count = ::epoll_wait(epoll_fd_, events, 8, timeout_ms(boot_ns()));
        if (count < 0 && errno != EINTR) return 1;
        for (int i = 0; i < count; ++i) {
            const int fd = events[i].data.fd;
            if (fd == signal_fd_) on_signal();
            if (fd == agent_fd_) (void)read_one_message();  // the rest is told by the next wait
            if (fd == listen_fd_) on_connection();
        }
        const auto now = boot_ns();
        attempts_->run_timers(now);
        const bool alone = lost_agent_ns_ != 0 && now >= lost_agent_ns_ + lease_ns_ + kMarginNs;
        if (alone) {
            log::warn("no agent came within the lease; ending every task",
                      {{"alive", attempts_->alive()}});
            shut_down_ = true;
        }
    }
    end_everything();
    return 0;
}

void Launcher::on_signal() {
    // What it says is not looked at: reap() asks the kernel itself, until nothing is left.
    signalfd_siginfo info[16];
    [[maybe_unused]] const auto got = ::read(signal_fd_, info, sizeof info);
    attempts_->reap();
}

void Launcher::greet() {
    WelcomeRecord welcome;
    welcome.launcher_pid = static_cast<std::uint32_t>(::getpid());
    welcome.launcher_start_ticks = start_ticks(::getpid()).value_or(0);
    welcome.number = configured_.number;
    welcome.incarnation = configured_.incarnation;
    welcome.next_id = attempts_->next_id();
    std::memcpy(welcome.cgroup, configured_.cgroup, sizeof welcome.cgroup);
    attempts_->followers().clear();  // what is not told here does not begin
    const auto alive = attempts_->list();
    welcome.alive = static_cast<std::uint32_t>(alive.size());
    welcome.ended = static_cast<std::uint32_t>(attempts_->ended().size());
    MessageWriter message;
    message.add(RecordKind::kWelcome, welcome);
    for (const auto& record : alive) {
        if (!message.room_for(sizeof record)) {
            if (send_message(agent_fd_, message.text(), true) != 0) return;
            message.clear();
        }
        message.add(RecordKind::kAlive, record);
    }
    (void)send_message(agent_fd_, message.text(), true);
    attempts_->started_told();
    attempts_->began().clear();
    attempts_->tell_ended();
    told_ = 0;
}

void Launcher::on_connection() {
    const int fd = ::accept4(listen_fd_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) return;
    ucred peer{};
    socklen_t size = sizeof peer;
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.uid != ::geteuid()) {
        ::close(fd);
        return;
    }
    if (agent_fd_ >= 0) read_agent();  // whatever the old one still said, or its end
    if (agent_fd_ >= 0) {
        WelcomeRecord welcome;
        welcome.busy = 1;
        MessageWriter message;
        message.add(RecordKind::kWelcome, welcome);
        (void)send_message(fd, message.text(), false);
        ::close(fd);
        return;
    }
    agent_fd_ = fd;
    lost_agent_ns_ = 0;
    watch(agent_fd_, EPOLLIN);
    greet();
}

void Launcher::lose_agent() {
    ::epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, agent_fd_, nullptr);
    ::close(agent_fd_);
    agent_fd_ = -1;
    want_write_ = false;
    lost_agent_ns_ = boot_ns();
    if (configured_.number == 0) shut_down_ = true;  // it never got to work
}

void Launcher::read_agent() {
    while (read_one_message()) {
    }
}

bool Launcher::read_one_message() {
    if (agent_fd_ < 0 || shut_down_) return false;
    int fds[kMessageFdsMax];
    int fd_count = 0;
    const long got =
        receive_message(agent_fd_, buffer_.data(), buffer_.size(), false, fds, &fd_count);
    if (got == -EAGAIN) return false;
    if (got <= 0) {
        lose_agent();
        return false;
    }
    MessageReader reader({buffer_.data(), static_cast<std::size_t>(got)});
    RecordView record;
    bool fine = true;
    while (fine && reader.next(record)) fine = handle(record, fds, fd_count);
    for (int i = 0; i < fd_count; ++i) {
        if (fds[i] >= 0) ::close(fds[i]);
    }
    if (fine && !reader.damaged()) return true;
    log::error("damaged message from the agent; closing it", {});
    lose_agent();
    return false;
}

bool Launcher::handle(const RecordView& record, int* fds, int fd_count) {
    // Takes the last unused descriptor of the message.
    const auto take_fd = [&](int index) {
        if (index < 0 || index >= fd_count) return -1;
        return std::exchange(fds[index], -1);
    };
    switch (record.kind) {
        case RecordKind::kHello: {
            HelloRecord hello;
            return record.read(hello) && hello.version == kProtocolVersion;
        }
        case RecordKind::kConfigure: {
            ConfigureRecord configure_record;
            if (!record.read(configure_record)) return false;
            configure(configure_record);
            return true;
        }
        case RecordKind::kStart: {
            StartRecord head;
            if (!record.read(head)) return false;
            const bool input = (head.flags & kStartInputFd) != 0;
            attempts_->start(record.body, input ? take_fd(fd_count - 1) : -1);
            return true;
        }
        case RecordKind::kStartByFd: {
            const int record_fd = take_fd(0);
            start_by_fd(record_fd, take_fd(1));
            return true;
        }
        case RecordKind::kStartBehind:
            return attempts_->start_behind(record.body);
        case RecordKind::kSegment: {
            SegmentRecord segment;
            if (!record.read(segment)) return false;
            segment.name[sizeof segment.name - 1] = '\0';
            attempts_->followers().attach(segment.name);
            return true;
        }
        case RecordKind::kStop: {
            StopRecord stop;
            if (!record.read(stop)) return false;
            attempts_->stop(stop.id, stop.reason, stop.no_grace != 0);
            return true;
        }
        case RecordKind::kFreeze: {
            FreezeRecord freeze;
            if (!record.read(freeze)) return false;
            attempts_->freeze(freeze.id, freeze.frozen != 0);
            return true;
        }
        case RecordKind::kRename: {
            RenameRecord rename;
            if (!record.read(rename)) return false;
            attempts_->rename(rename.id, rename.name);
            return true;
        }
        case RecordKind::kAcknowledge: {
            AcknowledgeRecord done;
            if (!record.read(done)) return false;
            acknowledge(done.sequence);
            return true;
        }
        case RecordKind::kShutdown:
            shut_down_ = true;
            return true;
        default:
            return false;
    }
}

void Launcher::start_by_fd(int record_fd, int input_fd) {
    std::vector<std::uint64_t> bytes;
    struct stat info {};
    const bool fine = record_fd >= 0 && ::fstat(record_fd, &info) == 0 && info.st_size > 0 &&
                      static_cast<std::size_t>(info.st_size) <= kStartRecordMax;
    if (fine) {
        const auto size = static_cast<std::size_t>(info.st_size);
        bytes.resize((size + 7) / 8);
        const auto got = ::pread(record_fd, bytes.data(), size, 0);
        if (got == static_cast<ssize_t>(size)) {
            attempts_->start({reinterpret_cast<const char*>(bytes.data()), size}, input_fd);
            input_fd = -1;
        }
    }
    if (record_fd >= 0) ::close(record_fd);
    if (input_fd >= 0) ::close(input_fd);
}

void Launcher::configure(const ConfigureRecord& record) {
    lease_ns_ = record.lease_ns;
    const bool known = configured_.number == record.number &&
                       configured_.incarnation == record.incarnation && configured_.number != 0;
    configured_ = record;
    configured_.cgroup[sizeof configured_.cgroup - 1] = '\0';
    configured_.instance[sizeof configured_.instance - 1] = '\0';
    configured_.output_root[sizeof configured_.output_root - 1] = '\0';
    if (known) return;
    CgroupSubtree subtree;
    if (configured_.cgroup[0] != '\0') {
        auto made = CgroupSubtree::make(probe_cgroups(), configured_.cgroup);
        if (made) {
            subtree = std::move(*made);
        } else {
            log::error("no cgroups for tasks", {{"error", made.error().message}});
        }
    }
    attempts_->configure(std::move(subtree), configured_.instance, configured_.output_root);
}

void Launcher::acknowledge(std::uint64_t sequence) {
    auto& ended = attempts_->ended();
    while (!ended.empty() && ended.front().sequence <= sequence) {
        ended.pop_front();
        if (told_ > 0) --told_;
    }
}

bool Launcher::send(const MessageWriter& message) {
    const int error = send_message(agent_fd_, message.text(), false);
    if (error == 0) return true;
    if (error == EAGAIN) {
        want_write_ = true;
        watch(agent_fd_, EPOLLIN | EPOLLOUT);
        return false;
    }
    lose_agent();
    return false;
}

// False when the socket is full.
bool Launcher::add_ended(MessageWriter& message) {
    auto& ended = attempts_->ended();
    for (std::size_t sent = 0; told_ < ended.size() && sent < kEndedPerFlush; ++sent) {
        std::size_t added = 0;
        while (told_ + added < ended.size() && message.room_for(sizeof(EndedRecord))) {
            message.add(RecordKind::kEnded, ended[told_ + added]);
            ++added;
        }
        if (!send(message)) return false;
        told_ += added;
        message.clear();
    }
    return message.empty() || send(message);
}

// Before the endings of those they waited for. When the socket was full they are told again, which
// does no harm.
bool Launcher::add_began(MessageWriter& message) {
    for (const auto& one : attempts_->began()) {
        if (!message.room_for(sizeof one)) {
            if (!send(message)) return false;
            message.clear();
        }
        message.add(RecordKind::kBegan, one);
    }
    return true;
}

void Launcher::flush() {
    if (agent_fd_ < 0) return;
    const auto now = boot_ns();
    if (attempts_->ended_due_ns() > now && attempts_->started_due_ns() > now) {
        if (std::exchange(want_write_, false)) watch(agent_fd_, EPOLLIN);
        return;
    }
    MessageWriter message;
    if (!add_began(message)) return;
    auto& started = attempts_->started();
    // One that has ended meanwhile is told by its ended record alone.
    std::erase_if(started, [this](const auto& one) { return !attempts_->is_alive(one.id); });
    std::size_t told = 0;
    while (told < started.size() && message.room_for(sizeof(StartedRecord))) {
        message.add(RecordKind::kStarted, started[told++]);
    }
    REEVE_FAILPOINT("launcher.before_report");
    if (!add_ended(message)) return;
    attempts_->began().clear();
    if (told_ == attempts_->ended().size()) attempts_->ended_told();
    started.erase(started.begin(), started.begin() + static_cast<std::ptrdiff_t>(told));
    if (started.empty()) attempts_->started_told();
}

void Launcher::end_everything() {
    if (agent_fd_ >= 0) ::close(agent_fd_);
    agent_fd_ = -1;
    attempts_->followers().clear();
    attempts_->stop_all(StopReason::kShutdown);
    const auto deadline = boot_ns() + kEndingMaxNs;
    while (attempts_->alive() > 0 && boot_ns() < deadline) {
        epoll_event events[4];
        ::epoll_wait(epoll_fd_, events, 4, 10);
        on_signal();
        attempts_->run_timers(boot_ns());
    }
    attempts_->remove_subtree();
    if (!socket_path_.empty() && lock_fd_ >= 0 && listen_fd_ >= 0) {
        ::unlink(socket_path_.c_str());
        ::unlink((socket_path_ + ".lock").c_str());
    }
}

void close_others(int keep) {
    if (keep > 3) ::close_range(3, static_cast<unsigned>(keep - 1), 0);
    ::close_range(static_cast<unsigned>(std::max(keep, 2) + 1), ~0U, 0);
    const int null_fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd < 0) return;
    ::dup2(null_fd, 0);
    ::dup2(null_fd, 1);  // stderr stays: it is the worker's log
    if (null_fd > 2) ::close(null_fd);
}

}  // namespace

std::string launcher_socket_path(const std::string& runtime_dir, const std::string& name) {
    constexpr std::size_t kPathMax = 107 - 5;  // ".lock" is added to it
    auto path = runtime_dir + "/launcher-" + name + ".sock";
    if (path.size() <= kPathMax) return path;
    char text[20];
    std::snprintf(text, sizeof text, "%016zx", std::hash<std::string>{}(name));
    return runtime_dir + "/launcher-" + text + ".sock";
}

int run_launcher(int agent_fd, const std::string& socket_path) {
    return Launcher(agent_fd, socket_path).run();
}

Result<ForkedLauncher> fork_launcher(const std::string& socket_path) {
    int pair[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) {
        return fail_errno("socketpair for the launcher", errno);
    }
    const pid_t pid = ::fork();
    if (pid < 0) {
        const int error = errno;
        ::close(pair[0]);
        ::close(pair[1]);
        return fail_errno("fork the launcher", error);
    }
    if (pid == 0) {
        close_others(pair[1]);
        ::_exit(run_launcher(pair[1], socket_path));
    }
    ::close(pair[1]);
    return ForkedLauncher{pid, pair[0]};
}

Result<int> connect_launcher(const std::string& socket_path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (socket_path.size() >= sizeof address.sun_path) {
        return fail(ErrorCode::kInvalidArgument, "socket path too long: " + socket_path);
    }
    std::memcpy(address.sun_path, socket_path.c_str(), socket_path.size() + 1);
    const int fd = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0) return fail_errno("socket", errno);
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        const int error = errno;
        ::close(fd);
        return fail_errno("connect to " + socket_path, error);
    }
    return fd;
}

}  // namespace reeve::worker
