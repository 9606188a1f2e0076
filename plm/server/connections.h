// Acceptor owns the unix socket and the accept loop, and knows who is behind each connection.
//
// gRPC 1.51's own listener stops accepting for good once descriptors ran out, and never tells who
// the peer is. So: our socket (bound 0600 under a temporary name, then renamed over the old one),
// our accept4, SO_PEERCRED, the descriptor moved to a number not used recently, then handed to
// gRPC, which calls the peer "fd:N". IdentityTable maps N back to the credentials; a number comes
// round again only after all others of the range did.
//
// Foreign uids are turned away before a byte of theirs is read. At the connection limit, and when
// descriptors run out (a spare one is kept to accept and close), newcomers are closed at once; the
// loop goes on. gRPC does not say when it closes a connection; a descriptor whose inode is no
// longer the accepted one's is gone.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <sys/types.h>

#include "common/base/result.h"
#include "plm/server/backend.h"

namespace reeve::plm {

class IdentityTable {
public:
    void set(int fd, const Identity& who, ino_t inode);
    void forget(int fd);
    // For grpc::ServerContext::peer(), "fd:N".
    std::optional<Identity> find(std::string_view peer) const;
    // True: fewer than `limit` connections are open. Looks (and forgets the closed ones) only when
    // that many are on record.
    bool has_room(std::size_t limit);

private:
    struct Entry {
        Identity who;
        ino_t inode = 0;  // 0: unused
    };
    mutable std::mutex mutex_;
    std::vector<Entry> entries_;  // index: descriptor
    std::size_t used_ = 0;
};

struct AcceptorOptions {
    std::string socket;
    std::size_t connections_max = 1000;  // also at most half of RLIMIT_NOFILE
    bool any_user = false;               // serve every uid (several users on one cell)
};

class Acceptor {
public:
    using HandOver = std::function<void(int fd)>;  // takes the descriptor

    static Result<std::unique_ptr<Acceptor>> start(const AcceptorOptions& options,
                                                   IdentityTable& table, HandOver hand_over);
    ~Acceptor();  // stops the loop and removes the socket
    Acceptor(const Acceptor&) = delete;
    Acceptor& operator=(const Acceptor&) = delete;

    std::uint64_t refused() const { return refused_; }

private:
    Acceptor(AcceptorOptions options, IdentityTable& table, HandOver hand_over)
        : options_(std::move(options)), table_(table), hand_over_(std::move(hand_over)) {}
    Status listen_on_socket();
    void run();
    bool accept_one();  // false: nothing left to accept
    void make_room();   // out of descriptors: accept and close with the spare one
    void admit(int fd);
    int move_to_fresh_number(int fd);
    void refuse(int fd, const char* why, const Identity& who);

    AcceptorOptions options_;
    IdentityTable& table_;
    HandOver hand_over_;
    int listener_ = -1;
    int stop_event_ = -1;
    int spare_ = -1;
    int next_number_ = 0;
    ino_t socket_inode_ = 0;
    std::size_t limit_ = 0;
    std::uint64_t last_complaint_ns_ = 0;
    std::atomic<std::uint64_t> refused_{0};
    std::thread thread_;
};

}  // namespace reeve::plm
