#include "common/audit/entry.h"

#include <cstring>

#include "common/base/assert.h"
#include "common/base/bytes.h"

namespace reeve::audit {
namespace {

constexpr char kMagic[4] = {'R', 'V', 'E', '1'};

void put_id(char* out, Id id) {
    put_big_endian(out, id.high);
    put_big_endian(out + 8, id.low);
}

Id get_id(const char* in) {
    return {get_big_endian<std::uint64_t>(in), get_big_endian<std::uint64_t>(in + 8)};
}

int hex_value(char digit) {
    if (digit >= '0' && digit <= '9') return digit - '0';
    if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
    return -1;
}

const char* defect(std::string_view bytes) {
    if (bytes.size() < kEntryHeaderSize) return "shorter than 96 bytes";
    if (std::memcmp(bytes.data(), kMagic, sizeof kMagic) != 0) return "the magic is not RVE1";
    if (!is_known(static_cast<std::uint8_t>(bytes[4]))) return "unknown kind";
    if (bytes[5] != 0) return "flags are not zero";
    if (bytes[92] != 0 || bytes[93] != 0) return "reserved bytes are not zero";
    const std::size_t detail = get_big_endian<std::uint16_t>(bytes.data() + 94);
    if (detail > kDetailSizeMax) return "detail longer than 4096 bytes";
    if (bytes.size() != kEntryHeaderSize + detail) return "length does not match the detail's";
    return nullptr;
}

}  // namespace

bool is_known(std::uint8_t kind) {
    return (kind >= 1 && kind <= 13) || (kind >= 16 && kind <= 18) || (kind >= 32 && kind <= 36);
}

std::string_view to_string(Kind kind) {
    switch (kind) {
        case Kind::kTaskSubmitted:
            return "TASK_SUBMITTED";
        case Kind::kAssigned:
            return "ASSIGNED";
        case Kind::kStarted:
            return "STARTED";
        case Kind::kPreempted:
            return "PREEMPTED";
        case Kind::kResumed:
            return "RESUMED";
        case Kind::kFinished:
            return "FINISHED";
        case Kind::kFailed:
            return "FAILED";
        case Kind::kCancelled:
            return "CANCELLED";
        case Kind::kReassigned:
            return "REASSIGNED";
        case Kind::kRequeued:
            return "REQUEUED";
        case Kind::kHeld:
            return "HELD";
        case Kind::kReleased:
            return "RELEASED";
        case Kind::kUpdated:
            return "UPDATED";
        case Kind::kWorkerJoined:
            return "WORKER_JOINED";
        case Kind::kWorkerDead:
            return "WORKER_DEAD";
        case Kind::kWorkerLeft:
            return "WORKER_LEFT";
        case Kind::kLogOpened:
            return "LOG_OPENED";
        case Kind::kSchedulerEpoch:
            return "SCHEDULER_EPOCH";
        case Kind::kKeyRotated:
            return "KEY_ROTATED";
        case Kind::kAdmin:
            return "ADMIN";
        case Kind::kReportRefused:
            return "REPORT_REFUSED";
    }
    return "unknown";
}

Subject subject_of(Kind kind) {
    const auto number = static_cast<std::uint8_t>(kind);
    if (number < 16) return Subject::kTask;
    return number < 32 ? Subject::kWorker : Subject::kScheduler;
}

std::string to_hex(Id id) {
    static constexpr char kDigits[] = "0123456789abcdef";
    std::string out;
    for (const std::uint64_t half : {id.high, id.low}) {
        for (int shift = 60; shift >= 0; shift -= 4) out += kDigits[(half >> shift) & 15];
    }
    return out;
}

std::optional<Id> id_from_hex(std::string_view hex) {
    if (hex.size() != 32) return std::nullopt;
    Id id;
    for (std::size_t i = 0; i < hex.size(); ++i) {
        const int value = hex_value(hex[i]);
        if (value < 0) return std::nullopt;
        std::uint64_t& half = i < 16 ? id.high : id.low;
        half = half << 4 | static_cast<std::uint64_t>(value);
    }
    return id;
}

Id subject_id(const Entry& entry) {
    switch (subject_of(entry.kind)) {
        case Subject::kTask:
            return entry.task;
        case Subject::kWorker:
            return entry.worker;
        case Subject::kScheduler:
            break;
    }
    return {};
}

std::string encode(const Entry& entry) {
    std::string out;
    out.reserve(kEntryHeaderSize + entry.detail.size());
    encode_to(out, entry);
    return out;
}

void encode_to(std::string& out, const Entry& entry) {
    REEVE_ASSERT(entry.detail.size() <= kDetailSizeMax);
    const auto start = out.size();
    out.append(kEntryHeaderSize, '\0');
    char* at = out.data() + start;
    std::memcpy(at, kMagic, sizeof kMagic);
    at[4] = static_cast<char>(entry.kind);
    put_big_endian(at + 6, entry.attempt);
    put_big_endian(at + 8, entry.seq);
    put_id(at + 16, entry.task);
    put_id(at + 32, entry.worker);
    put_id(at + 48, entry.peer);
    put_big_endian(at + 64, entry.time_ns);
    put_big_endian(at + 72, entry.prev);
    put_big_endian(at + 80, entry.cause);
    put_big_endian(at + 88, static_cast<std::uint32_t>(entry.code));
    put_big_endian(at + 94, static_cast<std::uint16_t>(entry.detail.size()));
    out.append(entry.detail);
}

Result<Entry> decode(std::string_view bytes) {
    if (const char* what = defect(bytes)) {
        return fail(ErrorCode::kInvalidArgument, std::string("audit entry: ") + what);
    }
    const char* at = bytes.data();
    Entry entry;
    entry.kind = static_cast<Kind>(at[4]);
    entry.attempt = get_big_endian<std::uint16_t>(at + 6);
    entry.seq = get_big_endian<std::uint64_t>(at + 8);
    entry.task = get_id(at + 16);
    entry.worker = get_id(at + 32);
    entry.peer = get_id(at + 48);
    entry.time_ns = get_big_endian<std::uint64_t>(at + 64);
    entry.prev = get_big_endian<std::uint64_t>(at + 72);
    entry.cause = get_big_endian<std::uint64_t>(at + 80);
    entry.code = static_cast<std::int32_t>(get_big_endian<std::uint32_t>(at + 88));
    entry.detail = bytes.substr(kEntryHeaderSize);
    return entry;
}

std::string_view take_entry(std::string_view& bundle) {
    const std::size_t length = get_big_endian<std::uint16_t>(bundle.data());
    const auto entry = bundle.substr(2, length);
    bundle.remove_prefix(2 + length);
    return entry;
}

}  // namespace reeve::audit
