#include "common/rpc/client.h"

#include <algorithm>
#include <fstream>
#include <sstream>
#include <utility>

#include <sys/stat.h>
#include <unistd.h>

#include "common/rpc/status.h"

namespace reeve::rpc {

namespace {

// Reads /proc/locks instead of trying the lock: a try would make the owner's own start fail if both
// happened in the same instant. 0: nobody holds it.
pid_t lock_holder(const std::string& path) {
    struct stat about {};
    if (lstat(path.c_str(), &about) != 0) return 0;
    const std::string inode = ":" + std::to_string(about.st_ino);
    std::ifstream locks("/proc/locks");
    std::string line;
    while (std::getline(locks, line)) {
        if (line.find("FLOCK") == std::string::npos) continue;
        if (line.find(inode + " ") == std::string::npos) continue;
        // "7: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF"; -1: of another pid namespace.
        std::istringstream words(line);
        std::string skipped;
        long pid = 0;
        words >> skipped >> skipped >> skipped >> skipped >> pid;
        return pid == 0 ? -1 : static_cast<pid_t>(pid);
    }
    return 0;
}

bool socket_exists(const std::string& path) {
    struct stat about {};
    return lstat(path.c_str(), &about) == 0 && S_ISSOCK(about.st_mode);
}

}  // namespace

grpc::ChannelArguments channel_arguments() {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kBackoffMs);
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kBackoffMs);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kBackoffMaxMs);
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetMaxSendMessageSize(-1);
    return arguments;
}

pid_t plm_pid(const Cell& cell) {
    return lock_holder(cell.run + "/plm.lock");
}

bool cell_is_run(const Cell& cell) {
    return plm_pid(cell) != 0 || lock_holder(cell.dir + "/supervisor.lock") != 0;
}

Error unreachable(const Cell& cell, const std::string& why) {
    return Error{ErrorCode::kUnavailable,
                 why + " in " + cell.dir + "; start it with: reeve up --state-dir " + cell.dir};
}

namespace {

Error unanswered(const Cell& cell, std::chrono::milliseconds timeout) {
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(timeout).count();
    return Error{ErrorCode::kUnavailable,
                 plm_words(cell) +
                     (seconds > 0 ? ", waited " + std::to_string(seconds) + " s" : "") +
                     "; see what is wrong with: reeve status --state-dir " + cell.dir};
}

}  // namespace

Result<std::unique_ptr<Client>> Client::connect(const Cell& cell, TellLate tell) {
    struct stat about {};
    if (stat(cell.dir.c_str(), &about) == 0 && about.st_uid != geteuid()) {
        return fail(ErrorCode::kPermissionDenied,
                    "the cell in " + cell.dir + " belongs to user id " +
                        std::to_string(about.st_uid) + "; use it as that user");
    }
    if (!socket_exists(cell.socket) && !cell_is_run(cell)) {
        return fail(unreachable(cell, "no cell is running"));
    }
    auto channel = grpc::CreateCustomChannel(
        "unix:" + cell.socket, grpc::InsecureChannelCredentials(), channel_arguments());
    return std::make_unique<Client>(cell, std::move(channel), std::move(tell));
}

Client::Client(Cell cell, std::shared_ptr<grpc::Channel> channel, TellLate tell)
    : cell_(std::move(cell)),
      channel_(std::move(channel)),
      stub_(v1::Reeve::NewStub(channel_)),
      tell_late_(std::move(tell)) {}

void Client::await_connection(std::chrono::milliseconds most) {
    (void)channel_->WaitForConnected(std::chrono::system_clock::now() + most);
}

void Client::prepare(grpc::ClientContext& context, std::chrono::milliseconds timeout) {
    context.set_wait_for_ready(false);
    context.AddMetadata(kVersionKey, kClientVersion);
    if (timeout.count() > 0) context.set_deadline(std::chrono::system_clock::now() + timeout);
}

// A refused connection is tried again while somebody runs the cell; a call that may have reached
// the PLM (the connection broke under it) is given back as it is: only the caller knows whether the
// request may be repeated.
Status Client::attempt(std::chrono::milliseconds timeout,
                       const std::function<grpc::Status(grpc::ClientContext&)>& once) {
    const auto end = std::chrono::steady_clock::now() + timeout;
    const LateNotice late(cell_, tell_late_, timeout);
    while (true) {
        const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
            end - std::chrono::steady_clock::now());
        if (left.count() <= 0) return fail(unanswered(cell_, timeout));
        // Connected first, so that a failure of the call itself is the call's, not the
        // connection's.
        const auto step = std::min(left, std::chrono::milliseconds(1000));
        if (!channel_->WaitForConnected(std::chrono::system_clock::now() + step)) {
            if (!cell_is_run(cell_)) return fail(unreachable(cell_, "no cell is running"));
            continue;
        }
        grpc::ClientContext context;
        prepare(context, left);
        auto status = from_grpc(once(context));
        if (!status && status.error().code == ErrorCode::kDeadlineExceeded) {
            return fail(unanswered(cell_, timeout));
        }
        return status;
    }
}

}  // namespace reeve::rpc
