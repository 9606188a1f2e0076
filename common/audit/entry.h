// The audit entry v1: 96 bytes and a detail, big-endian, one byte string per record.
//
//   0 magic RVE1 | 4 kind | 5 flags 0 | 6 attempt u16 | 8 seq u64 | 16 task | 32 worker | 48 peer
//   64 time_ns u64 | 72 prev u64 | 80 cause u64 | 88 code i32 | 92 reserved 0 | 94 length u16
//   96 detail
//
// The bytes that are hashed are the bytes that are stored; nothing is ever serialised again to be
// verified. The encoding is canonical all the same, so a client can recompute a leaf from what it
// knows. Format: docs/formats/audit.md. Pure; no allocation in decode.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/ids.h"
#include "common/base/result.h"

namespace reeve::audit {

enum class Kind : std::uint8_t {
    kTaskSubmitted = 1,
    kAssigned = 2,
    kStarted = 3,
    kPreempted = 4,
    kResumed = 5,
    kFinished = 6,
    kFailed = 7,
    kCancelled = 8,
    kReassigned = 9,
    kRequeued = 10,
    kHeld = 11,
    kReleased = 12,
    kUpdated = 13,
    kWorkerJoined = 16,
    kWorkerDead = 17,
    kWorkerLeft = 18,
    kLogOpened = 32,
    kSchedulerEpoch = 33,
    kKeyRotated = 34,
    kAdmin = 35,
    kReportRefused = 36,
};

// Whose chain (seq, prev) an entry belongs to.
enum class Subject : std::uint8_t { kTask, kWorker, kScheduler };

bool is_known(std::uint8_t kind);
std::string_view to_string(Kind kind);  // "TASK_SUBMITTED", "ASSIGNED", ...
Subject subject_of(Kind kind);

inline constexpr std::uint64_t kNoIndex = ~std::uint64_t{0};
inline constexpr std::size_t kEntryHeaderSize = 96;
inline constexpr std::size_t kDetailSizeMax = 4096;
inline constexpr std::size_t kEntrySizeMax = kEntryHeaderSize + kDetailSizeMax;

// Sixteen bytes on the wire: two big-endian halves.
struct Id {
    std::uint64_t high = 0;
    std::uint64_t low = 0;
    auto operator<=>(const Id&) const = default;
    bool none() const { return high == 0 && low == 0; }
};

inline Id to_id(TaskId task) {
    return {task.job, task.element};
}
inline Id to_id(WorkerId worker) {
    return {worker.number, worker.incarnation};
}
inline TaskId to_task(Id id) {
    return {id.high, id.low};
}
inline WorkerId to_worker(Id id) {
    return {id.high, id.low};
}
std::string to_hex(Id id);  // 32 lower-case digits
std::optional<Id> id_from_hex(std::string_view hex);

struct Entry {
    Kind kind = Kind::kTaskSubmitted;
    std::uint16_t attempt = 0;
    std::uint64_t seq = 0;  // 0, 1, 2... per subject
    Id task;
    Id worker;                       // who acts, or who gets it
    Id peer;                         // who it was taken from
    std::uint64_t time_ns = 0;       // wall clock of the recorder, informative
    std::uint64_t prev = kNoIndex;   // leaf index of the subject's previous entry
    std::uint64_t cause = kNoIndex;  // leaf index of the entry that caused this one
    std::int32_t code = 0;           // exit status, reason
    std::string_view detail;         // borrowed: from the caller, or from the bytes decoded
};

// The subject's id: the task, the worker, or zero for the scheduler.
Id subject_id(const Entry& entry);

// Precondition: detail.size() <= kDetailSizeMax.
std::string encode(const Entry& entry);
void encode_to(std::string& out, const Entry& entry);  // appends
// Errors: kInvalidArgument naming what is wrong.
Result<Entry> decode(std::string_view bytes);

// Takes the first entry off a bundle (u16 length, big-endian, and bytes each; tiles.h) that this
// process made: nothing is checked.
std::string_view take_entry(std::string_view& bundle);

}  // namespace reeve::audit
