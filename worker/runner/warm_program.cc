#include "worker/runner/warm_program.h"

#include <array>
#include <cerrno>
#include <cstring>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "common/base/bytes.h"
#include "common/base/clock.h"

namespace reeve::worker {
namespace {

using Json = nlohmann::json;

constexpr int kPollMs = 20;  // how soon a cancel is seen
constexpr std::uint64_t kReadyNs = 60 * kSecond;
constexpr int kEndMs = 2000;
constexpr std::size_t kMessageMax = 3 << 20;
constexpr int kProtocolCode = 125;
constexpr std::string_view kHelloJson = "reeve-json";
constexpr std::string_view kHelloFrames = "reeve-frames";
constexpr std::string_view kDigits =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

std::string to_base64(std::string_view bytes) {
    std::string out;
    for (std::size_t at = 0; at < bytes.size(); at += 3) {
        std::uint32_t group = 0;
        for (std::size_t i = 0; i < 3; ++i) {
            const auto byte = at + i < bytes.size() ? static_cast<unsigned char>(bytes[at + i]) : 0;
            group = group << 8 | static_cast<std::uint32_t>(byte);
        }
        for (std::size_t i = 0; i < 4; ++i) {
            out += at + i > bytes.size() ? '=' : kDigits[group >> (18 - 6 * i) & 63];
        }
    }
    return out;
}

Result<std::string> from_base64(std::string_view text) {
    std::string out;
    std::uint32_t group = 0;
    int bits = 0;
    for (const char c : text) {
        if (c == '=') break;
        const auto digit = kDigits.find(c);
        if (digit == std::string_view::npos) {
            return fail(ErrorCode::kInvalidArgument, "result_base64 is not base64");
        }
        group = group << 6 | static_cast<std::uint32_t>(digit);
        bits += 6;
        if (bits < 8) continue;
        bits -= 8;
        out += static_cast<char>(group >> bits & 0xFF);
    }
    return out;
}

std::string how_it_ended(int status) {
    if (WIFSIGNALED(status))
        return "its program died of signal " + std::to_string(WTERMSIG(status));
    return "its program ended with status " + std::to_string(WEXITSTATUS(status));
}

bool cancelled(const Call* call) {
    return call != nullptr && call->request->cancel.load() != 0;
}

void close_fd(int& fd) {
    if (fd >= 0) ::close(fd);
    fd = -1;
}

}  // namespace

WarmProgram::~WarmProgram() {
    if (running()) (void)end(0);
}

Status WarmProgram::spawn() {
    std::array<std::array<int, 2>, 3> pipes{};
    for (auto& one : pipes) {
        if (::pipe2(one.data(), O_CLOEXEC) != 0) return fail_errno("pipe", errno);
    }
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, pipes[0][0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, pipes[1][1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, pipes[2][1], STDERR_FILENO);
    std::string line = "exec " + options_.command;
    std::array<char*, 4> argv{const_cast<char*>("/bin/sh"), const_cast<char*>("-c"), line.data(),
                              nullptr};
    // We ignore SIGPIPE; a program of others must not.
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t defaults;
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_setsigdefault(&attributes, &defaults);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    const int error = ::posix_spawn(&pid_, "/bin/sh", &actions, &attributes, argv.data(), environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    ::close(pipes[0][0]);
    ::close(pipes[1][1]);
    ::close(pipes[2][1]);
    in_ = pipes[0][1];
    out_ = pipes[1][0];
    err_ = pipes[2][0];
    ::fcntl(err_, F_SETFL, O_NONBLOCK);
    if (error != 0) {
        pid_ = 0;
        return fail_errno("start " + options_.command, error);
    }
    return {};
}

Status WarmProgram::start() {
    read_.clear();
    calls_ = 0;
    told_ = false;
    protocol_ = Protocol::kNone;
    REEVE_TRY(spawn());
    auto ready = read_hello();
    if (!ready && running()) (void)end(0);
    return ready;
}

Status WarmProgram::read_hello() {
    const auto until = boot_ns() + kReadyNs;
    while (read_.find('\n') == std::string::npos) {
        REEVE_TRY(wait_readable(nullptr));
        if (boot_ns() > until || read_.size() > kMessageMax) {
            return fail(ErrorCode::kDeadlineExceeded,
                        "its program does not say reeve-json or reeve-frames");
        }
    }
    const auto end_of_line = read_.find('\n');
    const auto line = read_.substr(0, end_of_line);
    read_.erase(0, end_of_line + 1);
    if (line == kHelloJson) protocol_ = Protocol::kJson;
    if (line == kHelloFrames) protocol_ = Protocol::kFrames;
    if (protocol_ != Protocol::kNone) return {};
    return fail(ErrorCode::kInvalidArgument,
                "its program says \"" + line.substr(0, 40) + "\", not reeve-json or reeve-frames");
}

// Reads what is there; an error when the program has ended. Returns after kPollMs at the latest.
Status WarmProgram::wait_readable(const Call* call) {
    std::array<pollfd, 2> fds{{{out_, POLLIN, 0}, {err_, POLLIN, 0}}};
    const int ready = ::poll(fds.data(), fds.size(), kPollMs);
    if (ready < 0 && errno != EINTR) return fail_errno("poll", errno);
    if (fds[1].revents != 0) drain_stderr(call);
    if (cancelled(call) && !told_) {
        told_ = true;
        ::kill(pid_, SIGTERM);
    }
    if (fds[0].revents == 0) return {};
    std::array<char, 65536> chunk;
    const auto got = ::read(out_, chunk.data(), chunk.size());
    if (got > 0) {
        read_.append(chunk.data(), static_cast<std::size_t>(got));
        return {};
    }
    if (got < 0 && errno == EINTR) return {};
    drain_stderr(call);
    return fail(ErrorCode::kUnavailable, end(kEndMs));
}

void WarmProgram::drain_stderr(const Call* call) {
    std::array<char, 65536> chunk;
    while (true) {
        const auto got = ::read(err_, chunk.data(), chunk.size());
        if (got == 0) close_fd(err_);  // poll ignores it from now on
        if (got <= 0) return;
        const std::string_view text(chunk.data(), static_cast<std::size_t>(got));
        if (call == nullptr) {
            [[maybe_unused]] const auto put = ::write(STDERR_FILENO, text.data(), text.size());
        } else {
            write_log(*call, text);
        }
    }
}

// The file a program's output would go to, made when there is something to write.
void WarmProgram::write_log(const Call& call, std::string_view text) {
    const auto directory = options_.output_root + "/" + std::to_string(call.job);
    ::mkdir(directory.c_str(), 0700);
    const auto path = directory + "/" + std::to_string(call.element) + "." +
                      std::to_string(call.attempt) + ".out";
    const int fd =
        ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return;
    [[maybe_unused]] const auto put = ::write(fd, text.data(), text.size());
    ::close(fd);
}

Status WarmProgram::write_all(std::string_view bytes) {
    while (!bytes.empty()) {
        const auto put = ::write(in_, bytes.data(), bytes.size());
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return fail(ErrorCode::kUnavailable, end(kEndMs));
        bytes.remove_prefix(static_cast<std::size_t>(put));
    }
    return {};
}

Status WarmProgram::send(const Call& call) {
    const std::string_view data(static_cast<const char*>(call.data), call.data_size);
    Json head{{"job", call.job}, {"element", call.element}, {"attempt", call.attempt}};
    head["function"] = std::string(call.request->handler());
    if (protocol_ == Protocol::kFrames) {
        auto text = head.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
        std::array<char, 4> length{};
        put_big_endian(length.data(), static_cast<std::uint32_t>(text.size() + data.size()));
        text.insert(0, length.data(), length.size());
        text.append(data);
        return write_all(text);
    }
    // `data` is the last member, where a shell finds it easily.
    auto line = head.dump(-1, ' ', false, Json::error_handler_t::replace);
    line.pop_back();
    std::string quoted;
    try {
        quoted = "\"data\":" + Json(std::string(data)).dump();
    } catch (const Json::exception&) {  // no UTF-8
        quoted = "\"data_base64\":\"" + to_base64(data) + "\"";
    }
    return write_all(line + "," + quoted + "}\n");
}

bool WarmProgram::take_message(std::string& message) {
    if (protocol_ == Protocol::kJson) {
        const auto end_of_line = read_.find('\n');
        if (end_of_line == std::string::npos) return false;
        message = read_.substr(0, end_of_line);
        read_.erase(0, end_of_line + 1);
        return true;
    }
    if (read_.size() < 4) return false;
    const auto length = get_big_endian<std::uint32_t>(read_.data());
    if (read_.size() - 4 < length) return false;
    message = read_.substr(4, length);
    read_.erase(0, 4 + std::size_t{length});
    return true;
}

Result<WarmProgram::Reply> WarmProgram::receive(const Call& call) {
    std::string message;
    while (!take_message(message)) {
        if (read_.size() > kMessageMax) {
            return fail(ErrorCode::kInvalidArgument, "its program's reply is over 3 MiB");
        }
        REEVE_TRY(wait_readable(&call));
    }
    drain_stderr(&call);
    if (protocol_ == Protocol::kJson) return parse(message, {});
    const auto line = std::min(message.find('\n'), message.size());
    const auto bytes = std::string_view(message).substr(std::min(line + 1, message.size()));
    return parse(std::string_view(message).substr(0, line), bytes);
}

Result<WarmProgram::Reply> WarmProgram::parse(std::string_view head, std::string_view bytes) const {
    const auto json = Json::parse(head, nullptr, false);
    if (!json.is_object()) {
        return fail(ErrorCode::kInvalidArgument, "its program's reply is no JSON object");
    }
    Reply reply;
    reply.result = bytes;
    for (const auto& [name, value] : json.items()) {
        if (name == "code" && value.is_number_integer()) {
            reply.code = value.get<int>();
        } else if (name == "error" && value.is_string()) {
            reply.error = value.get<std::string>();
        } else if (name == "result" && value.is_string()) {
            reply.result = value.get<std::string>();
        } else if (name == "result_base64" && value.is_string()) {
            REEVE_TRY_ASSIGN(reply.result, from_base64(value.get<std::string>()));
        } else {
            return fail(
                ErrorCode::kInvalidArgument,
                "its program's reply: \"" + name.substr(0, 20) + "\" is unknown or no text");
        }
    }
    if (!reply.error.empty() && reply.code == 0) reply.code = 1;
    return reply;
}

int WarmProgram::run(Call& call) {
    const auto failed = [&](const Error& error) {
        if (running()) (void)end(0);
        call.status = CallStatus::kCrashed;
        call.error = error.message;
        return kProtocolCode;
    };
    if (!running()) {
        if (auto started = start(); !started) return failed(started.error());
    }
    told_ = false;
    if (auto sent = send(call); !sent) return failed(sent.error());
    auto reply = receive(call);
    if (!reply) return failed(reply.error());
    if (reply->code == 0) {
        char* room = call.room(reply->result.size());
        if (room == nullptr) {
            call.error = "its result is over 1 MiB";
            return kProtocolCode;
        }
        std::memcpy(room, reply->result.data(), reply->result.size());
    }
    call.error = reply->error;
    if (told_ || ++calls_ == options_.recycle_after) (void)end(kEndMs);
    return reply->code;
}

// Closes its stdin, gives it `patience_ms` to end by itself, kills it, and says how it ended.
std::string WarmProgram::end(int patience_ms) {
    close_fd(in_);
    int status = 0;
    const auto until = boot_ns() + static_cast<std::uint64_t>(patience_ms) * kMillisecond;
    pid_t got = 0;
    while ((got = ::waitpid(pid_, &status, WNOHANG)) == 0 && boot_ns() < until) {
        if (err_ >= 0) drain_stderr(nullptr);
        const timespec pause{0, 2 * kMillisecond};
        ::nanosleep(&pause, nullptr);
    }
    if (got == 0) {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, &status, 0);
    }
    close_fd(out_);
    close_fd(err_);
    pid_ = 0;
    return how_it_ended(status);
}

}  // namespace reeve::worker
