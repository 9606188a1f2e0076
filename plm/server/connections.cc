#include "plm/server/connections.h"

#include <algorithm>
#include <cerrno>
#include <charconv>

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/log/log.h"

namespace reeve::plm {

namespace {

constexpr int kBacklog = 256;
constexpr int kNumbersMax = 16'384;  // descriptors in circulation
constexpr int kPauseMs = 10;         // when not even the spare descriptor helps

int descriptor_limit() {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 64;
    return static_cast<int>(std::min<rlim_t>(limit.rlim_cur, kNumbersMax));
}

ino_t inode_of(int fd) {
    struct stat info {};
    return fstat(fd, &info) == 0 ? info.st_ino : 0;
}

// What may be replaced: nothing, or a socket of ours that a previous PLM left.
Status check_old_socket(const std::string& path) {
    struct stat info {};
    if (lstat(path.c_str(), &info) != 0) {
        return errno == ENOENT ? Status{} : Status(fail_errno("stat " + path, errno));
    }
    if (!S_ISSOCK(info.st_mode) || info.st_uid != geteuid()) {
        return fail(ErrorCode::kFailedPrecondition,
                    path + " is not a socket of this user; move it away");
    }
    return {};
}

Status check_directory(const std::string& path) {
    const std::string directory = path.substr(0, path.find_last_of('/'));
    if (mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
        return fail_errno("mkdir " + directory, errno);
    }
    struct stat info {};
    if (lstat(directory.c_str(), &info) != 0) return fail_errno("stat " + directory, errno);
    if (!S_ISDIR(info.st_mode) || info.st_uid != geteuid() || (info.st_mode & 077) != 0) {
        return fail(ErrorCode::kPermissionDenied,
                    directory +
                        " must be a directory of this user with mode 0700; fix it with: "
                        "chmod 700 " +
                        directory);
    }
    return {};
}

}  // namespace

void IdentityTable::set(int fd, const Identity& who, ino_t inode) {
    const std::lock_guard hold(mutex_);
    const auto index = static_cast<std::size_t>(fd);
    if (index >= entries_.size()) entries_.resize(index + 1);
    if (entries_[index].inode == 0) ++used_;
    entries_[index] = Entry{who, inode};
}

void IdentityTable::forget(int fd) {
    const std::lock_guard hold(mutex_);
    const auto index = static_cast<std::size_t>(fd);
    if (index < entries_.size() && entries_[index].inode != 0) {
        entries_[index] = Entry{};
        --used_;
    }
}

std::optional<Identity> IdentityTable::find(std::string_view peer) const {
    if (peer.substr(0, 3) != "fd:") return std::nullopt;
    peer.remove_prefix(3);
    std::size_t fd = 0;
    const auto [end, error] = std::from_chars(peer.data(), peer.data() + peer.size(), fd);
    if (error != std::errc{} || end != peer.data() + peer.size()) return std::nullopt;
    const std::lock_guard hold(mutex_);
    if (fd >= entries_.size() || entries_[fd].inode == 0) return std::nullopt;
    return entries_[fd].who;
}

bool IdentityTable::has_room(std::size_t limit) {
    const std::lock_guard hold(mutex_);
    if (used_ < limit) return true;
    for (std::size_t fd = 0; fd < entries_.size(); ++fd) {
        Entry& entry = entries_[fd];
        if (entry.inode == 0 || inode_of(static_cast<int>(fd)) == entry.inode) continue;
        entry = Entry{};
        --used_;
    }
    return used_ < limit;
}

Result<std::unique_ptr<Acceptor>> Acceptor::start(const AcceptorOptions& options,
                                                  IdentityTable& table, HandOver hand_over) {
    std::unique_ptr<Acceptor> acceptor(new Acceptor(options, table, std::move(hand_over)));
    REEVE_TRY(acceptor->listen_on_socket());
    acceptor->spare_ = open("/dev/null", O_RDONLY | O_CLOEXEC);
    acceptor->stop_event_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (acceptor->spare_ < 0 || acceptor->stop_event_ < 0) return fail_errno("eventfd", errno);
    const auto half = static_cast<std::size_t>(descriptor_limit() / 2);
    acceptor->limit_ = std::max<std::size_t>(1, std::min(options.connections_max, half));
    acceptor->thread_ = std::thread([raw = acceptor.get()] { raw->run(); });
    return acceptor;
}

Acceptor::~Acceptor() {
    if (thread_.joinable()) {
        const std::uint64_t one = 1;
        (void)!write(stop_event_, &one, sizeof one);
        thread_.join();
    }
    struct stat info {};
    if (listener_ >= 0 && lstat(options_.socket.c_str(), &info) == 0 &&
        info.st_ino == socket_inode_) {
        unlink(options_.socket.c_str());
    }
    for (const int fd : {listener_, stop_event_, spare_}) {
        if (fd >= 0) close(fd);
    }
}

// On Linux a socket file gets the mode its descriptor had (less the umask) at bind(): no moment in
// which others could connect, and no change of the process's umask.
Status Acceptor::listen_on_socket() {
    const std::string fresh = options_.socket + ".new";
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (fresh.size() >= sizeof address.sun_path) {
        return fail(ErrorCode::kInvalidArgument,
                    options_.socket +
                        " is too long for a socket; set XDG_RUNTIME_DIR to a shorter "
                        "directory");
    }
    fresh.copy(address.sun_path, fresh.size());
    REEVE_TRY(check_directory(options_.socket));
    REEVE_TRY(check_old_socket(options_.socket));
    unlink(fresh.c_str());
    listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener_ < 0) return fail_errno("socket", errno);
    if (fchmod(listener_, options_.any_user ? 0666 : 0600) != 0) return fail_errno("fchmod", errno);
    if (bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        return fail_errno("bind " + fresh, errno);
    }
    struct stat info {};
    if (lstat(fresh.c_str(), &info) != 0) return fail_errno("stat " + fresh, errno);
    if (!options_.any_user && (info.st_mode & 0177) != 0) {
        return fail(ErrorCode::kPermissionDenied, fresh + " could not be made with mode 0600");
    }
    socket_inode_ = info.st_ino;
    if (listen(listener_, kBacklog) != 0) return fail_errno("listen " + fresh, errno);
    if (rename(fresh.c_str(), options_.socket.c_str()) != 0) {
        return fail_errno("rename " + fresh, errno);
    }
    return {};
}

void Acceptor::run() {
    pollfd waiting[2] = {{stop_event_, POLLIN, 0}, {listener_, POLLIN, 0}};
    while (true) {
        if (poll(waiting, 2, -1) < 0 && errno != EINTR) {
            log::error("server: poll failed", {{"errno", errno}});
            return;
        }
        if ((waiting[0].revents & POLLIN) != 0) return;
        while (accept_one()) {
            pollfd stop{stop_event_, POLLIN, 0};
            if (poll(&stop, 1, 0) > 0) return;
        }
    }
}

bool Acceptor::accept_one() {
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
        admit(fd);
        return true;
    }
    if (errno == EINTR || errno == ECONNABORTED) return true;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return false;
    make_room();
    return false;
}

void Acceptor::make_room() {
    if (spare_ >= 0) close(spare_);
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd >= 0) refuse(fd, "out of descriptors", Identity{});
    spare_ = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        pollfd stop{stop_event_, POLLIN, 0};
        poll(&stop, 1, kPauseMs);
    }
}

void Acceptor::refuse(int fd, const char* why, const Identity& who) {
    close(fd);
    ++refused_;
    if (boot_ns() - last_complaint_ns_ < kSecond) return;
    last_complaint_ns_ = boot_ns();
    log::warn("server: connection refused",
              {{"why", why}, {"uid", who.uid}, {"pid", who.pid}, {"refused", refused_.load()}});
}

void Acceptor::admit(int fd) {
    ucred credentials{};
    socklen_t size = sizeof credentials;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
        return refuse(fd, "no peer credentials", Identity{});
    }
    const Identity who{credentials.uid, credentials.gid, credentials.pid};
    if (!options_.any_user && who.uid != geteuid() && who.uid != 0) {
        return refuse(fd, "another user", who);
    }
    if (!table_.has_room(limit_)) return refuse(fd, "too many connections", who);
    const int number = move_to_fresh_number(fd);
    if (number < 0) return refuse(fd, "out of descriptors", who);
    close(fd);
    table_.set(number, who, inode_of(number));
    hand_over_(number);
}

// The next number above the last one given, so that a late RPC of a closed connection can never be
// taken for one of the connection that got its number.
int Acceptor::move_to_fresh_number(int fd) {
    const int limit = descriptor_limit();
    const int low = std::min(64, limit / 2);
    if (next_number_ < low || next_number_ >= limit) next_number_ = low;
    int number = fcntl(fd, F_DUPFD_CLOEXEC, next_number_);
    if (number < 0) number = fcntl(fd, F_DUPFD_CLOEXEC, low);
    if (number >= 0) next_number_ = number + 1;
    return number;
}

}  // namespace reeve::plm
