// The ledger's records: what happened, in the order in which it became durable.
//
// A batch holds frames, each one record: a type byte and little-endian fields. Types and fields are
// part of the ledger's format (docs/formats/ledger.md): new fields go to the end, numbers are never
// reused.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/model/outcome.h"
#include "common/shm/slot_word.h"

namespace reeve::v1 {
class JobSpec;
}  // namespace reeve::v1

namespace reeve::plm {

struct JobSubmitted {
    JobId job = 0;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::uint64_t submit_ns = 0;
    std::uint64_t first_sequence = 0;
    std::string spec;
    std::uint16_t fair_milli = 0;         // fair-share points, settled now
    const v1::JobSpec* parsed = nullptr;  // `spec`, if somebody parsed it already; not durable
};

// `count` elements from `first` on left the run and are tasks now (queued, attempt 0).
struct Admitted {
    JobId job = 0;
    std::uint64_t first = 0;
    std::uint64_t count = 0;
    bool held = false;
};

// A task (that may just be leaving the run) is now in `state`.
struct TaskMoved {
    JobId job = 0;
    std::uint64_t ordinal = 0;
    shm::SlotState state = shm::SlotState::kQueued;
    std::uint16_t attempt = 0;
    WorkerId worker;
    std::uint64_t wall_ns = 0;
    std::uint32_t deaths = 0;
    std::uint32_t retries_used = 0;
    std::uint32_t intent = 0;
};

// An attempt ended; final unless a TaskMoved to queued or held follows.
struct TaskEnded {
    JobId job = 0;
    std::uint64_t ordinal = 0;
    std::uint16_t attempt = 0;
    Outcome outcome = Outcome::kNone;
    bool final = true;
    bool core_dumped = false;
    std::int32_t exit_code = 0;
    WorkerId worker;
    std::uint64_t assigned_ns = 0;
    std::uint64_t started_ns = 0;
    std::uint64_t ended_ns = 0;
    std::uint64_t user_us = 0;
    std::uint64_t system_us = 0;
    std::uint64_t max_rss_bytes = 0;
    std::string detail;
    std::string result;        // of a function task
    std::uint32_t deaths = 0;  // workers that died under the task so far
};

enum class JobChange : std::uint8_t {
    kHold = 1,
    kRelease = 2,
    kPriority = 3,      // value
    kTimeLimit = 4,     // value, ms
    kHoldElements = 5,  // elements of the run: value = first ordinal, other = last
    kReleaseElements = 6,
    kReason = 7,  // text
};
struct JobChanged {
    JobId job = 0;
    JobChange change = JobChange::kHold;
    std::int64_t value = 0;
    std::int64_t other = 0;
    std::string text;
};

// Elements first..last that were still in the run will never start.
struct RunCancelled {
    JobId job = 0;
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    bool rest = false;  // the rest of the run: one entry on the header
    std::uint64_t wall_ns = 0;
};

// An ended task is a task again (retry by a person): its element leaves the ended sets.
struct TaskRetried {
    JobId job = 0;
    std::uint64_t ordinal = 0;
    std::uint16_t attempt = 0;
    std::uint64_t wall_ns = 0;
};

enum class WorkerChange : std::uint8_t { kJoined = 1, kDead = 2, kLeft = 3 };
struct WorkerChanged {
    WorkerId worker;
    WorkerChange change = WorkerChange::kJoined;
    std::string name;
    std::uint64_t leaf = 0;
    std::uint32_t price_micro = 0;  // of an hour of it, in millionths
};

struct EpochOpened {
    std::uint64_t epoch = 0;
    std::uint32_t segment_generation = 0;
};

// The batch's audit entries as ledgers held them before PackedEntries.
struct AuditEntries {
    std::uint64_t first_leaf = 0;
    std::vector<std::string> entries;
};

// The batch's audit entries (entry_pack.h); the batch row has the first leaf index, too.
struct PackedEntries {
    std::uint64_t first_leaf = 0;
    std::uint32_t count = 0;
    std::string packed;
};

// A row of TaskMoved and TaskEnded (record_pack.h).
struct PackedRecords {
    std::string_view packed;  // of the bytes it was decoded from
};

using Record = std::variant<JobSubmitted, Admitted, TaskMoved, TaskEnded, JobChanged, RunCancelled,
                            TaskRetried, WorkerChanged, EpochOpened, AuditEntries, PackedEntries,
                            PackedRecords>;
inline constexpr char kPackedRecordsType = 12;

std::string encode(const Record& record);
void encode_to(std::string& out, const Record& record);  // appends
// A PackedEntries record from `count` entries in bundle form (common/audit/log.h).
void encode_entries(std::string& out, std::uint64_t first_leaf, std::string_view bundle,
                    std::uint32_t count);
// kDataLoss naming what is wrong when the bytes are not a record.
Result<Record> decode(std::string_view bytes);

}  // namespace reeve::plm
