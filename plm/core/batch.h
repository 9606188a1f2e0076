// CommitBatch gathers what one ledger commit makes durable: records, and the audit entries they
// cause.
//
// emit() encodes a record and applies it to the model at once; audit() numbers an entry, links it
// into its subject's chain and keeps its bytes. Nothing outside this process happens before the
// commit; what has to happen afterwards is kept by the core (effects.h). seal() ends the batch and
// begins the next: a SealedBatch no longer changes, so it may be written on another thread. Not
// thread-safe otherwise.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/audit/entry.h"
#include "common/base/ids.h"
#include "common/shm/slot_word.h"
#include "plm/core/model.h"
#include "plm/core/projection.h"
#include "plm/core/record_pack.h"
#include "plm/ledger/frame.h"

namespace reeve::plm {

// Codes of FAILED and CANCELLED beyond exit statuses (>= 0) and signals (< 0);
// docs/formats/audit.md.
inline constexpr std::int32_t kCodeTimedOut = 10'001;
inline constexpr std::int32_t kCodeOutOfMemory = 10'002;
inline constexpr std::int32_t kCodeLost = 10'004;
inline constexpr std::int32_t kCodePoison = 10'005;
inline constexpr std::int32_t kCodePreempted = 10'012;
inline constexpr std::int32_t kCodeDependency = 10'010;
inline constexpr std::int32_t kCodeMaxFailures = 10'011;
inline constexpr std::int32_t kCodeGang = 10'013;  // of another task of its gang

// In bundle form: u16 length (big-endian) and bytes each.
struct Bundle {
    std::string bytes;
    std::uint32_t count = 0;

    void clear();  // keeps the memory, unless it is much
};

class SealedBatch {
public:
    bool empty() const { return records_.empty() && entries_.count == 0; }
    std::size_t bytes() const { return records_.bytes().size() + entries_.bytes.size(); }
    std::uint64_t first_leaf() const { return first_leaf_; }
    const Bundle& entries() const { return entries_; }
    // For whoever takes them last, and may leave other memory in their place.
    std::string& entry_bytes() { return entries_.bytes; }
    // The whole batch as frames: the audit entries first, so that a replay knows every chain before
    // a record ends its task. Made at the first call.
    std::string_view frames();
    // Empty, with the memory of a large one given back.
    void clear();

private:
    friend class CommitBatch;

    FrameWriter records_;
    Bundle entries_;
    std::uint64_t first_leaf_ = 0;
    FrameWriter frames_;
};

class CommitBatch {
public:
    explicit CommitBatch(Model& model) : model_(model) {}

    void emit(const Record& record) { emit_one(record); }
    void emit(const TaskMoved& record) { emit_one(record); }  // the frequent ones, packed
    void emit(const TaskEnded& record) { emit_one(record); }

    // Entries about a task, a worker, or the cell; seq and prev are filled in. Returns the leaf
    // index.
    std::uint64_t audit(audit::Entry entry);
    std::uint64_t audit_task(audit::Kind kind, TaskId task, std::uint16_t attempt, WorkerId worker,
                             std::uint64_t wall_ns, std::int32_t code = 0,
                             std::string_view detail = {});

    bool empty() const { return records_.empty() && entries_.count == 0; }
    std::size_t bytes() const { return records_.size() + entries_.bytes.size(); }
    // What was gathered becomes `sealed`, which is cleared before.
    void seal(SealedBatch& sealed);
    Projection& projection() { return projection_; }

private:
    template <typename T>
    void emit_one(const T& record);
    void end_row();

    Model& model_;
    FrameWriter records_;
    RecordPacker packer_;
    bool in_row_ = false;  // a frame of packed records is open
    Bundle entries_;
    Projection projection_;
};

// A replayed batch's entries: brings the chains to where they stood after it.
Status replay_entries(Model& model, const AuditEntries& entries);

}  // namespace reeve::plm
