// What agent and launcher say to each other over a SOCK_SEQPACKET socket.
//
// A message is a row of records; a record is RecordHeader and a body, padded to 8 bytes. Bodies are
// the fixed structs below; kStart is followed by its arrays and strings. Both ends are the same
// executable, yet every count and size is checked: a record that does not fit is refused whole.
//
//   agent -> launcher   hello, configure, start, stop, freeze, acknowledge, shutdown
//   launcher -> agent   welcome, alive*, (then) started, ended
//
// An ended record is kept, and told again to each new agent, until it was acknowledged.
// A start too long for a message, or with data for stdin, comes alone: flags say which file
// descriptors ride on the message (record first, then stdin).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/model/outcome.h"
#include "common/process/cgroup.h"
#include "worker/child.h"

namespace reeve::worker {

inline constexpr std::uint32_t kProtocolVersion = 4;
inline constexpr std::size_t kMessageMax = 64 * 1024;    // bytes of one message
inline constexpr std::size_t kStartRecordMax = 4 << 20;  // with arguments and environment
inline constexpr std::uint32_t kStringsMax = 65'536;     // argv or env entries
inline constexpr std::uint32_t kGroupsMax = 1024;
inline constexpr std::uint32_t kRlimitsMax = 16;
inline constexpr std::uint32_t kAffinityBytesMax = 1024;
inline constexpr std::uint32_t kAttemptsMax = 16'384;  // alive at once on one worker
inline constexpr std::size_t kRelativeMax = 112;

enum class RecordKind : std::uint32_t {
    kHello = 1,
    kConfigure = 2,
    kStart = 3,
    kStop = 4,
    kFreeze = 5,
    kAcknowledge = 6,
    kShutdown = 7,
    kStartByFd = 8,  // the kStart record lies in the first descriptor
    kRename = 9,     // an attempt got a new slot or word: the segment was rebuilt
    kSegment = 10,
    kStartBehind = 11,  // a start that waits in the launcher (followers.h)
    kWelcome = 16,
    kAlive = 17,
    kStarted = 18,
    kEnded = 19,
    kBegan = 20,  // a follower; before the ended record of the one it waited for
};

struct RecordHeader {
    RecordKind kind{};
    std::uint32_t bytes = 0;  // of the body, without padding
};
static_assert(sizeof(RecordHeader) == 8);

// What an attempt is, in the agent's words; the launcher only repeats it.
struct AttemptName {
    std::uint64_t word = 0;  // the slot word it runs under
    std::uint64_t job = 0;
    std::uint64_t element = 0;
    std::uint32_t slot = 0;
    std::uint32_t attempt = 0;
    std::uint64_t gpu_mask = 0;  // what it was given of them: a segment made anew does not say
};

struct HelloRecord {
    std::uint32_t version = kProtocolVersion;
    std::uint32_t agent_pid = 0;
};

struct ConfigureRecord {
    std::uint64_t number = 0;
    std::uint64_t incarnation = 0;
    std::uint64_t lease_ns = 0;
    char cgroup[kRelativeMax]{};  // relative name of the subtree; "": no cgroups
    char instance[64]{};          // REEVE_INSTANCE, for the sweep without cgroups
    char output_root[512]{};      // Cell::output
};

struct StartRecord {
    std::uint64_t id = 0;  // chosen by the agent, grows
    AttemptName name;
    std::uint64_t time_limit_ns = 0;  // 0: none
    std::uint64_t grace_ns = 0;
    std::uint64_t output_limit_bytes = 0;
    CgroupLimits limits;
    std::uint32_t flags = 0;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint32_t group_count = 0;
    std::uint32_t argument_count = 0;
    std::uint32_t environment_count = 0;
    std::uint32_t affinity_bytes = 0;  // multiple of 8
    std::uint32_t rlimit_count = 0;
    std::uint32_t string_bytes = 0;
    std::uint32_t reserved = 0;
    // then: ChildRlimit[], affinity, groups (padded to 8), and NUL-terminated strings in this
    // order: argv..., env..., path, directory, input, output, error, temporary
};
inline constexpr std::uint32_t kStartNoOutput = 1;
inline constexpr std::uint32_t kStartNoError = 2;
inline constexpr std::uint32_t kStartErrorIsOutput = 4;
inline constexpr std::uint32_t kStartSwitchUser = 8;
inline constexpr std::uint32_t kStartSetGroups = 16;
inline constexpr std::uint32_t kStartNoNewPrivileges = 32;
inline constexpr std::uint32_t kStartInputFd = 64;  // the last descriptor of the message

enum class StopReason : std::uint32_t {
    kNone = 0,
    kCancel = 1,
    kRequeue = 2,
    kTimeLimit = 3,
    kFenced = 4,  // not ours any more: no grace
    kShutdown = 5,
};

struct StopRecord {
    std::uint64_t id = 0;
    StopReason reason = StopReason::kNone;
    std::uint32_t no_grace = 0;
};

struct FreezeRecord {
    std::uint64_t id = 0;
    std::uint32_t frozen = 0;
    std::uint32_t reserved = 0;
};

struct AcknowledgeRecord {
    std::uint64_t sequence = 0;  // every ended record up to this one is done with
};

struct SegmentRecord {
    char name[128]{};  // where the followers' words are; "": nowhere, and those that wait are off
};

// Then: a StartRecord with its arrays and strings.
struct BehindRecord {
    std::uint64_t after_id = 0;
    std::uint64_t from = 0;  // the slot word that is its to leave
    std::uint64_t to = 0;
    std::uint32_t slot = 0;
    std::uint32_t reserved = 0;
};

struct RenameRecord {
    std::uint64_t id = 0;
    AttemptName name;
};

struct ShutdownRecord {
    std::uint64_t reserved = 0;
};

struct WelcomeRecord {
    std::uint32_t version = kProtocolVersion;
    std::uint32_t launcher_pid = 0;
    std::uint64_t launcher_start_ticks = 0;
    std::uint64_t number = 0;  // 0: not configured yet
    std::uint64_t incarnation = 0;
    std::uint64_t next_id = 1;
    std::uint32_t alive = 0;  // so many kAlive records follow
    std::uint32_t ended = 0;  // so many kEnded records follow, not acknowledged yet
    std::uint32_t busy = 0;   // 1: another agent lives; this connection is closed
    std::uint32_t reserved = 0;
    char cgroup[kRelativeMax]{};
};

struct AliveRecord {
    std::uint64_t id = 0;
    AttemptName name;
    std::uint32_t pid = 0;
    std::uint32_t ended = 0;  // 1: its ended record follows later
    std::uint64_t started_wall_ns = 0;
};

struct BeganRecord {
    std::uint64_t id = 0;
    AttemptName name;
};

struct StartedRecord {
    std::uint64_t id = 0;
    std::uint32_t pid = 0;
    std::uint32_t reserved = 0;
};

struct EndedRecord {
    std::uint64_t sequence = 0;
    std::uint64_t id = 0;
    AttemptName name;
    std::uint64_t started_wall_ns = 0;
    std::uint64_t ended_wall_ns = 0;
    std::uint64_t user_us = 0;
    std::uint64_t system_us = 0;
    std::uint64_t max_rss_bytes = 0;
    std::uint32_t pid = 0;
    std::int32_t exit_code = 0;  // exit status, or -signal
    Outcome outcome = Outcome::kNone;
    std::uint8_t core_dumped = 0;
    std::uint8_t has_text = 0;  // the agent's note: see TaskSlot::has_text
    StopReason stopped_for = StopReason::kNone;
    char detail[64]{};  // for people, NUL-terminated
};

// Puts records one after the other into a message.
class MessageWriter {
public:
    template <typename Body>
    void add(RecordKind kind, const Body& body) {
        static_assert(std::is_trivially_copyable_v<Body>);
        add_bytes(kind, std::string_view(reinterpret_cast<const char*>(&body), sizeof body));
    }
    void add_bytes(RecordKind kind, std::string_view body) {
        const RecordHeader header{kind, static_cast<std::uint32_t>(body.size())};
        text_.append(reinterpret_cast<const char*>(&header), sizeof header);
        text_.append(body);
        text_.append((8 - body.size() % 8) % 8, '\0');
    }
    bool room_for(std::size_t body_bytes) const {
        return text_.size() + sizeof(RecordHeader) + body_bytes + 8 <= kMessageMax;
    }
    const std::string& text() const { return text_; }
    bool empty() const { return text_.empty(); }
    void clear() { text_.clear(); }

private:
    std::string text_;
};

struct RecordView {
    RecordKind kind{};
    std::string_view body;

    // Copies the fixed part out; false when the body is shorter.
    template <typename Body>
    bool read(Body& out) const {
        static_assert(std::is_trivially_copyable_v<Body>);
        if (body.size() < sizeof out) return false;
        __builtin_memcpy(&out, body.data(), sizeof out);
        return true;
    }
};

// Walks the records of a message; next() is false at its end or at a damaged record.
class MessageReader {
public:
    explicit MessageReader(std::string_view message) : rest_(message) {}
    bool next(RecordView& out);
    bool damaged() const { return damaged_; }

private:
    std::string_view rest_;
    bool damaged_ = false;
};

// A start in the agent's hands, and how it becomes a record.
struct StartText {
    StartRecord head;
    std::vector<ChildRlimit> rlimits;
    std::vector<unsigned char> affinity;
    std::vector<std::uint32_t> groups;
    std::vector<std::string> arguments;
    std::vector<std::string> environment;
    std::string path;
    std::string directory;
    std::string input;
    std::string output;
    std::string error;
    std::string temporary;  // "": none
};
std::string encode_start(StartText& start);

// A start in the launcher's hands: pointers into the record's bytes, checked.
struct StartView {
    StartRecord head;
    const ChildRlimit* rlimits = nullptr;
    const unsigned char* affinity = nullptr;
    const std::uint32_t* groups = nullptr;
    std::vector<const char*> argv;  // null-terminated
    std::vector<const char*> envp;
    const char* path = nullptr;
    const char* directory = nullptr;
    const char* input = nullptr;
    const char* output = nullptr;
    const char* error = nullptr;
    const char* temporary = nullptr;
};
// `bytes` must be 8-aligned and stay as long as the view is used.
bool decode_start(std::string_view bytes, StartView& out);

inline constexpr int kMessageFdsMax = 2;

// One message in or out. send: 0, or errno (EAGAIN when the peer is slow and `wait` is false).
// receive: bytes, 0 at the end of the connection, -errno. Received descriptors are close-on-exec.
int send_message(int socket_fd, std::string_view message, bool wait, const int* fds = nullptr,
                 int fd_count = 0);
long receive_message(int socket_fd, char* buffer, std::size_t size, bool wait, int* fds,
                     int* fd_count);

}  // namespace reeve::worker
