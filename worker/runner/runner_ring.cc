#include "worker/runner/runner_ring.h"

#include <cerrno>
#include <cstring>

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/assert.h"
#include "common/shm/wake.h"

namespace reeve::worker {
namespace {

constexpr std::uint64_t kHeaderBytes = 4096;
constexpr std::uint64_t kTotalBytes = kHeaderBytes + kRequestBytes + kResponseBytes;

struct SkipRecord {
    std::uint32_t bytes = 0;
    RecordType type = RecordType::kSkip;
};
static_assert(sizeof(SkipRecord) == 8);

std::uint64_t padded(std::uint64_t bytes) {
    return (bytes + 7) / 8 * 8;
}

// Where a record of `bytes` can lie contiguously from `tail` on, or nullopt when the ring holds too
// much; writes the skip that leads there.
std::optional<std::uint64_t> place(char* ring, std::uint64_t size, std::uint64_t tail,
                                   std::uint64_t head, std::uint64_t bytes) {
    const auto left = size - (tail & (size - 1));
    const auto skip = bytes <= left ? 0 : left;
    if (tail - head > size || tail - head + skip + bytes > size) return std::nullopt;
    if (skip != 0) {
        const SkipRecord record{static_cast<std::uint32_t>(skip)};
        std::memcpy(ring + (tail & (size - 1)), &record, sizeof record);
    }
    return tail + skip;
}

// Passes skips over; the bytes of the record found, or 0: none, or damaged.
std::uint64_t find_record(const char* ring, std::uint64_t size, std::uint64_t tail,
                          std::uint64_t& at, RecordType type, std::size_t least) {
    for (int skips = 0; skips < 2; ++skips) {
        const auto there = tail - at;
        if (there < sizeof(SkipRecord) || there > size) return 0;
        SkipRecord head;
        std::memcpy(&head, ring + (at & (size - 1)), sizeof head);
        const auto left = size - (at & (size - 1));
        if (head.bytes > there || head.bytes > left || head.bytes % 8 != 0) return 0;
        if (head.type == type) return head.bytes >= least ? head.bytes : 0;
        if (head.type != RecordType::kSkip || head.bytes == 0) return 0;
        at += head.bytes;
    }
    return 0;
}

}  // namespace

RunnerRing::RunnerRing(int fd, void* memory) : fd_(fd) {
    auto* base = static_cast<char*>(memory);
    header_ = reinterpret_cast<RunnerHeader*>(base);
    requests_ = base + kHeaderBytes;
    responses_ = requests_ + kRequestBytes;
}

RunnerRing::~RunnerRing() {
    ::munmap(header_, kTotalBytes);
    ::close(fd_);
}

Result<std::unique_ptr<RunnerRing>> RunnerRing::create(std::uint32_t uid) {
    const int fd = ::memfd_create("reeve-runner", MFD_CLOEXEC);
    if (fd < 0) return fail_errno("memfd_create for a runner", errno);
    if (::ftruncate(fd, static_cast<off_t>(kTotalBytes)) != 0 || ::fchmod(fd, 0600) != 0) {
        const int error = errno;
        ::close(fd);
        return fail_errno("make a runner's ring", error);
    }
    void* memory = ::mmap(nullptr, kTotalBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) {
        const int error = errno;
        ::close(fd);
        return fail_errno("map a runner's ring", error);
    }
    auto* header = new (memory) RunnerHeader;
    header->uid = uid;
    return std::unique_ptr<RunnerRing>(new RunnerRing(fd, memory));
}

Result<std::unique_ptr<RunnerRing>> RunnerRing::map(int fd) {
    struct stat info {};
    if (::fstat(fd, &info) != 0 || static_cast<std::uint64_t>(info.st_size) != kTotalBytes) {
        ::close(fd);
        return fail(ErrorCode::kInvalidArgument, "not a runner's ring");
    }
    void* memory = ::mmap(nullptr, kTotalBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) {
        const int error = errno;
        ::close(fd);
        return fail_errno("map a runner's ring", error);
    }
    auto ring = std::unique_ptr<RunnerRing>(new RunnerRing(fd, memory));
    if (ring->header().magic != kRunnerMagic || ring->header().version != kRunnerVersion) {
        return fail(ErrorCode::kInvalidArgument, "not a runner's ring");
    }
    return ring;
}

RequestRecord* RunnerRing::push_request(const RequestRecord& head, std::string_view handler,
                                        std::string_view data) {
    const auto bytes = padded(sizeof head + handler.size() + data.size());
    REEVE_ASSERT(bytes <= kRecordBytesMax);
    const auto tail = header_->request_tail.load(std::memory_order_relaxed);
    const auto at = place(requests_, kRequestBytes, tail, header_->released.load(), bytes);
    if (!at) return nullptr;
    char* memory = requests_ + (*at & (kRequestBytes - 1));
    auto* record = new (memory) RequestRecord;
    record->bytes = static_cast<std::uint32_t>(bytes);
    record->sequence = head.sequence;
    record->job = head.job;
    record->element = head.element;
    record->attempt = head.attempt;
    record->handler_bytes = static_cast<std::uint32_t>(handler.size());
    record->data_bytes = static_cast<std::uint32_t>(data.size());
    std::memcpy(memory + sizeof *record, handler.data(), handler.size());
    std::memcpy(memory + sizeof *record + handler.size(), data.data(), data.size());
    header_->request_tail.store(*at + bytes, std::memory_order_release);  // (1)
    return record;
}

RequestRecord* RunnerRing::next_request(std::uint64_t& at) const {
    const auto tail = header_->request_tail.load(std::memory_order_acquire);  // (2)
    const auto bytes = find_record(requests_, kRequestBytes, tail, at, RecordType::kRequest,
                                   sizeof(RequestRecord));
    if (bytes == 0) return nullptr;
    auto* record = reinterpret_cast<RequestRecord*>(requests_ + (at & (kRequestBytes - 1)));
    const std::uint64_t room = bytes - sizeof *record;
    if (record->handler_bytes > room || record->data_bytes > room - record->handler_bytes) {
        return nullptr;
    }
    at += bytes;
    return record;
}

std::optional<Response> RunnerRing::next_response() const {
    auto at = header_->response_head.load(std::memory_order_relaxed);
    const auto tail = header_->response_tail.load(std::memory_order_acquire);  // (2)
    const auto bytes = find_record(responses_, kResponseBytes, tail, at, RecordType::kResponse,
                                   sizeof(ResponseRecord));
    if (bytes == 0) return std::nullopt;
    const char* memory = responses_ + (at & (kResponseBytes - 1));
    Response out;
    std::memcpy(&out.head, memory, sizeof out.head);
    const std::uint64_t room = bytes - sizeof out.head;
    if (out.head.text_bytes > room || out.head.result_bytes > room - out.head.text_bytes) {
        return std::nullopt;
    }
    out.result = {memory + sizeof out.head, out.head.result_bytes};
    out.text = {memory + sizeof out.head + out.head.result_bytes, out.head.text_bytes};
    out.end = at + bytes;
    return out;
}

char* RunnerRing::response_room(std::size_t bytes) {
    const auto whole = padded(sizeof(ResponseRecord) + bytes);
    REEVE_ASSERT(whole <= kRecordBytesMax);
    while (true) {
        const auto head = header_->response_head.load(std::memory_order_acquire);  // (4)
        const auto tail = header_->response_tail.load(std::memory_order_relaxed);
        if (const auto at = place(responses_, kResponseBytes, tail, head, whole)) {
            response_at_ = *at;
            return responses_ + (*at & (kResponseBytes - 1)) + sizeof(ResponseRecord);
        }
        // The agent is slow, or away: it wakes us as it takes some.
        shm::wake(header_->wake_agent);
        const auto ticket = shm::prepare_sleep(header_->wake_runner);
        if (header_->response_head.load() != head) {
            shm::cancel_sleep(header_->wake_runner);
            continue;
        }
        shm::sleep(header_->wake_runner, ticket, shm::kSleepMaxNs);
    }
}

void RunnerRing::publish_response(const ResponseRecord& head) {
    auto record = head;
    record.bytes = static_cast<std::uint32_t>(
        padded(sizeof head + std::uint64_t{head.text_bytes} + head.result_bytes));
    std::memcpy(responses_ + (response_at_ & (kResponseBytes - 1)), &record, sizeof record);
    header_->response_tail.store(response_at_ + record.bytes, std::memory_order_release);  // (1)
}

}  // namespace reeve::worker
