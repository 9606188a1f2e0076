#include "worker/launcher_protocol.h"

#include <cerrno>
#include <cstring>

#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

namespace reeve::worker {
namespace {

std::size_t padded(std::size_t bytes) {
    return (bytes + 7) / 8 * 8;
}

void append_raw(std::string& out, const void* data, std::size_t bytes) {
    out.append(static_cast<const char*>(data), bytes);
    out.append(padded(bytes) - bytes, '\0');
}

// Hands out the NUL-terminated strings of a block, one by one.
class StringCursor {
public:
    explicit StringCursor(std::string_view block) : rest_(block) {}
    const char* next() {
        const auto end = rest_.find('\0');
        if (end == std::string_view::npos) return nullptr;
        const char* text = rest_.data();
        rest_.remove_prefix(end + 1);
        return text;
    }
    bool at_end() const { return rest_.empty(); }

private:
    std::string_view rest_;
};

}  // namespace

bool MessageReader::next(RecordView& out) {
    if (rest_.empty() || damaged_) return false;
    RecordHeader header;
    if (rest_.size() < sizeof header) {
        damaged_ = true;
        return false;
    }
    std::memcpy(&header, rest_.data(), sizeof header);
    rest_.remove_prefix(sizeof header);
    if (padded(header.bytes) > rest_.size()) {
        damaged_ = true;
        return false;
    }
    out.kind = header.kind;
    out.body = rest_.substr(0, header.bytes);
    rest_.remove_prefix(padded(header.bytes));
    return true;
}

std::string encode_start(StartText& start) {
    auto& head = start.head;
    std::string strings;
    const auto add = [&](const std::string& text) {
        strings.append(text.c_str(), text.size() + 1);
    };
    for (const auto& text : start.arguments) add(text);
    for (const auto& text : start.environment) add(text);
    for (const auto* text :
         {&start.path, &start.directory, &start.input, &start.output, &start.error,
          &start.temporary}) {
        add(*text);
    }
    start.affinity.resize(padded(start.affinity.size()));
    head.group_count = static_cast<std::uint32_t>(start.groups.size());
    head.argument_count = static_cast<std::uint32_t>(start.arguments.size());
    head.environment_count = static_cast<std::uint32_t>(start.environment.size());
    head.affinity_bytes = static_cast<std::uint32_t>(start.affinity.size());
    head.rlimit_count = static_cast<std::uint32_t>(start.rlimits.size());
    head.string_bytes = static_cast<std::uint32_t>(strings.size());
    std::string out;
    out.reserve(sizeof head + strings.size() + 256);
    append_raw(out, &head, sizeof head);
    append_raw(out, start.rlimits.data(), start.rlimits.size() * sizeof(ChildRlimit));
    append_raw(out, start.affinity.data(), start.affinity.size());
    append_raw(out, start.groups.data(), start.groups.size() * sizeof(std::uint32_t));
    out.append(strings);
    return out;
}

bool decode_start(std::string_view bytes, StartView& out) {
    auto& head = out.head;
    if (bytes.size() < sizeof head || bytes.size() > kStartRecordMax) return false;
    std::memcpy(&head, bytes.data(), sizeof head);
    if (head.argument_count == 0 || head.argument_count > kStringsMax ||
        head.environment_count > kStringsMax || head.group_count > kGroupsMax ||
        head.rlimit_count > kRlimitsMax || head.affinity_bytes > kAffinityBytesMax ||
        head.affinity_bytes % 8 != 0) {
        return false;
    }
    std::size_t at = padded(sizeof head);
    const auto rlimits = at;
    at += head.rlimit_count * sizeof(ChildRlimit);
    const auto affinity = at;
    at += head.affinity_bytes;
    const auto groups = at;
    at += padded(head.group_count * sizeof(std::uint32_t));
    if (at + head.string_bytes != bytes.size()) return false;
    out.rlimits = reinterpret_cast<const ChildRlimit*>(bytes.data() + rlimits);
    out.affinity = reinterpret_cast<const unsigned char*>(bytes.data() + affinity);
    out.groups = reinterpret_cast<const std::uint32_t*>(bytes.data() + groups);
    StringCursor strings(bytes.substr(at));
    out.argv.clear();
    out.envp.clear();
    for (std::uint32_t i = 0; i < head.argument_count; ++i) out.argv.push_back(strings.next());
    for (std::uint32_t i = 0; i < head.environment_count; ++i) out.envp.push_back(strings.next());
    for (auto** text : {&out.path, &out.directory, &out.input, &out.output, &out.error,
                        &out.temporary}) {
        *text = strings.next();
    }
    if (out.temporary == nullptr || !strings.at_end()) return false;
    out.argv.push_back(nullptr);
    out.envp.push_back(nullptr);
    return out.argv[0][0] != '\0';
}

int send_message(int socket_fd, std::string_view message, bool wait, const int* fds, int fd_count) {
    iovec part{const_cast<char*>(message.data()), message.size()};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMessageFdsMax)]{};
    if (fd_count > 0) {
        const auto bytes = sizeof(int) * static_cast<std::size_t>(fd_count);
        header.msg_control = control;
        header.msg_controllen = CMSG_SPACE(bytes);
        auto* item = CMSG_FIRSTHDR(&header);
        item->cmsg_level = SOL_SOCKET;
        item->cmsg_type = SCM_RIGHTS;
        item->cmsg_len = CMSG_LEN(bytes);
        std::memcpy(CMSG_DATA(item), fds, bytes);
    }
    while (::sendmsg(socket_fd, &header, MSG_NOSIGNAL | (wait ? 0 : MSG_DONTWAIT)) < 0) {
        if (errno != EINTR) return errno;
    }
    return 0;
}

long receive_message(int socket_fd, char* buffer, std::size_t size, bool wait, int* fds,
                     int* fd_count) {
    iovec part{buffer, size};
    msghdr header{};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMessageFdsMax)]{};
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    *fd_count = 0;
    ssize_t got = 0;
    do {
        got = ::recvmsg(socket_fd, &header, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
    } while (got < 0 && errno == EINTR);
    if (got < 0) return -errno;
    for (auto* item = CMSG_FIRSTHDR(&header); item != nullptr; item = CMSG_NXTHDR(&header, item)) {
        if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) continue;
        const auto count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t i = 0; i < count; ++i) {
            int fd = -1;
            std::memcpy(&fd, CMSG_DATA(item) + i * sizeof(int), sizeof fd);
            if (*fd_count < kMessageFdsMax) {
                fds[(*fd_count)++] = fd;
            } else {
                ::close(fd);
            }
        }
    }
    if ((header.msg_flags & MSG_TRUNC) != 0) return -EMSGSIZE;
    return got;
}

}  // namespace reeve::worker
