// RunnerRing is the memory an agent shares with one of its runner processes: a memfd with a header
// and two rings of records, requests down and responses up.
//
//   RunnerHeader (4 KiB) | requests (kRequestBytes) | responses (kResponseBytes)
//
// Records are variable in length, 8-aligned and contiguous; a record that does not fit before the
// end is preceded by a skip. Positions only grow; a record lies at position & (size - 1).
//
// Progress   both sides wait-free but for their sleeps.
// Order      (1) release store of a tail pairs with (2) the other side's acquire load of it.
//            (3) release store of response_head pairs with (4) the runner's acquire load.
//            (5) `begun`, then `halt` read by the runner; (6) `halt`, then `begun` read by the
//            agent; all sequentially consistent: either the runner sees that it is to stop, or the
//            agent sees that another request has begun (Dekker), so that a kill meant for one task
//            never hits the next.
// Death      a runner killed anywhere: the agent takes the responses it published, the request it
//            is in by `begun`, and gives the others to the next runner. An agent killed anywhere:
//            its successor maps the memfd through /proc/PID/fd/0 and reads the requests between
//            `released` and `request_tail`.
// Untrusted  the runner runs other people's code: the agent checks every position and size, and
//            never reads back what it once wrote there, except as a successor (and then believes
//            only what the slots confirm).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/shm/layout.h"

namespace reeve::worker {

inline constexpr std::uint64_t kRunnerMagic = 0x31'4E4E'5552'5652ULL;
inline constexpr std::uint32_t kRunnerVersion = 1;
inline constexpr std::uint64_t kRequestBytes = 4 << 20;  // sparse: only what was used is memory
inline constexpr std::uint64_t kResponseBytes = 4 << 20;
inline constexpr std::uint64_t kRecordBytesMax = (1 << 20) + 4096;
inline constexpr std::uint32_t kErrorTextMax = 160;

struct RunnerHeader {
    std::uint64_t magic = kRunnerMagic;
    std::uint32_t version = kRunnerVersion;
    std::uint32_t uid = 0;
    alignas(64) std::atomic<std::uint64_t> request_tail{0};   // agent
    std::atomic<std::uint64_t> released{0};                   // agent: before it all is dealt with
    std::atomic<std::uint32_t> halt{0};                       // agent: begin nothing more
    alignas(64) std::atomic<std::uint64_t> begun{0};          // runner: sequence it is in
    std::atomic<std::uint64_t> begun_ns{0};                   // boot clock
    std::atomic<std::uint32_t> ready{0};                      // its pid once it has its handlers
    alignas(64) std::atomic<std::uint64_t> response_tail{0};  // runner
    alignas(64) std::atomic<std::uint64_t> response_head{0};  // agent
    shm::WakeWord wake_runner;
    shm::WakeWord wake_agent;
    char problem[256]{};  // why it could not start; runner
};
static_assert(sizeof(RunnerHeader) <= 4096);

enum class RecordType : std::uint32_t { kSkip = 0, kRequest = 1, kResponse = 2 };

struct RequestRecord {
    std::uint32_t bytes = 0;  // with what follows, multiple of 8
    RecordType type = RecordType::kRequest;
    std::uint64_t sequence = 0;
    std::uint64_t job = 0;
    std::uint64_t element = 0;
    std::uint32_t attempt = 0;
    std::atomic<std::uint32_t> cancel{0};  // agent
    std::uint32_t handler_bytes = 0;
    std::uint32_t data_bytes = 0;
    // then handler, data
    std::string_view handler() const {
        return {reinterpret_cast<const char*>(this + 1), handler_bytes};
    }
    std::string_view data() const {
        return {reinterpret_cast<const char*>(this + 1) + handler_bytes, data_bytes};
    }
};
static_assert(sizeof(RequestRecord) == 48);

enum class CallStatus : std::uint32_t {
    kOk = 0,
    kFailed = 1,   // the handler's own code and words
    kNotRun = 2,   // cancelled before it began
    kCrashed = 3,  // a warm runner's program ended under it
};

struct ResponseRecord {
    std::uint32_t bytes = 0;
    RecordType type = RecordType::kResponse;
    std::uint64_t sequence = 0;
    std::uint64_t started_wall_ns = 0;
    std::uint64_t ended_wall_ns = 0;
    std::uint64_t user_us = 0;
    std::uint64_t system_us = 0;
    CallStatus status = CallStatus::kOk;
    std::int32_t code = 0;
    std::uint32_t text_bytes = 0;
    std::uint32_t result_bytes = 0;
    // then result, text
};
static_assert(sizeof(ResponseRecord) == 64);

struct Response {
    ResponseRecord head;
    std::string_view text;  // valid until the response is released
    std::string_view result;
    std::uint64_t end = 0;  // position behind it
};

class RunnerRing {
public:
    static Result<std::unique_ptr<RunnerRing>> create(std::uint32_t uid);  // agent
    // Maps the ring behind a descriptor, which it takes over. Errors: not one of ours.
    static Result<std::unique_ptr<RunnerRing>> map(int fd);
    ~RunnerRing();
    RunnerRing(const RunnerRing&) = delete;
    RunnerRing& operator=(const RunnerRing&) = delete;

    int fd() const { return fd_; }
    RunnerHeader& header() const { return *header_; }

    // Agent. nullptr: no room now. The request is seen by the runner at once; wake it afterwards.
    RequestRecord* push_request(const RequestRecord& head, std::string_view handler,
                                std::string_view data);
    std::uint64_t request_tail() const { return header_->request_tail.load(); }
    // The record at `at`, skips passed over (`at` moves behind it); nullptr at the tail or when
    // damaged.
    RequestRecord* next_request(std::uint64_t& at) const;
    std::optional<Response> next_response() const;
    void release_response(std::uint64_t end) {
        header_->response_head.store(end, std::memory_order_release);  // (3)
    }

    // Runner. Waits for room for so many bytes of result and text; then fill it and publish.
    char* response_room(std::size_t bytes);
    void publish_response(const ResponseRecord& head);

private:
    RunnerRing(int fd, void* memory);

    int fd_ = -1;
    RunnerHeader* header_ = nullptr;
    char* requests_ = nullptr;
    char* responses_ = nullptr;
    std::uint64_t response_at_ = 0;  // where response_room() made room
};

}  // namespace reeve::worker
