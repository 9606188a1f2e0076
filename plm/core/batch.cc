#include "plm/core/batch.h"

#include <utility>

#include "common/base/assert.h"
#include "common/base/bytes.h"
#include "common/base/clock.h"
#include "common/log/log.h"

namespace reeve::plm {
namespace {

constexpr std::size_t kEntriesFrameBytes = 8u << 20;  // before they are packed
constexpr std::size_t kRowBytes = 256U << 10;         // of packed records

Chain& chain_of(Model& model, const audit::Entry& entry) {
    switch (audit::subject_of(entry.kind)) {
        case audit::Subject::kTask:
            return model.chain_of(audit::to_task(entry.task));
        case audit::Subject::kWorker:
            return model.worker_chains[audit::to_worker(entry.worker).incarnation];
        case audit::Subject::kScheduler:
            break;
    }
    return model.scheduler_chain;
}

}  // namespace

template <typename T>
void CommitBatch::emit_one(const T& record) {
    const auto applied = model_.apply(record);
    if (!applied) log::error("record does not apply", {{"why", applied.error().message}});
    REEVE_ASSERT(applied.has_value());
    projection_.note(model_, record);
    if constexpr (std::is_same_v<T, Record>) {
        end_row();
        encode_to(records_.open(), record);
        records_.close();
        return;
    } else {
        if (!in_row_) {
            in_row_ = true;
            records_.open().push_back(kPackedRecordsType);
            packer_.begin();
        }
        packer_.add(records_.opened(), record);
        if (records_.opened_bytes() >= kRowBytes) end_row();
    }
}
template void CommitBatch::emit_one(const Record&);
template void CommitBatch::emit_one(const TaskMoved&);
template void CommitBatch::emit_one(const TaskEnded&);

void CommitBatch::end_row() {
    if (std::exchange(in_row_, false)) records_.close();
}

std::uint64_t CommitBatch::audit(audit::Entry entry) {
    Chain& chain = chain_of(model_, entry);
    entry.seq = chain.next_seq++;
    entry.prev = chain.last_leaf;
    chain.last_leaf = model_.next_leaf;
    if (entry.time_ns == 0) entry.time_ns = wall_ns();
    auto& bytes = entries_.bytes;
    const auto start = bytes.size();
    bytes.append(2, '\0');
    audit::encode_to(bytes, entry);
    put_big_endian(bytes.data() + start, static_cast<std::uint16_t>(bytes.size() - start - 2));
    ++entries_.count;
    return model_.next_leaf++;
}

std::uint64_t CommitBatch::audit_task(audit::Kind kind, TaskId task, std::uint16_t attempt,
                                      WorkerId worker, std::uint64_t wall_time, std::int32_t code,
                                      std::string_view detail) {
    audit::Entry entry;
    entry.kind = kind;
    entry.task = audit::to_id(task);
    entry.attempt = attempt;
    entry.worker = audit::to_id(worker);
    entry.time_ns = wall_time;
    entry.code = code;
    entry.detail = detail;
    return audit(entry);
}

void Bundle::clear() {
    bytes.clear();
    if (bytes.capacity() > kKeptBytesMax) bytes.shrink_to_fit();
    count = 0;
}

void CommitBatch::seal(SealedBatch& sealed) {
    end_row();
    sealed.clear();
    std::swap(sealed.records_, records_);
    std::swap(sealed.entries_, entries_);
    sealed.first_leaf_ = model_.next_leaf - sealed.entries_.count;
    model_.settle_chains();
}

void SealedBatch::clear() {
    records_.clear();
    entries_.clear();
    frames_.clear();
}

std::string_view SealedBatch::frames() {
    if (!frames_.empty()) return frames_.bytes();
    std::string_view entries = entries_.bytes;
    for (auto leaf = first_leaf_; !entries.empty();) {
        std::uint32_t count = 0;
        auto rest = entries;
        for (; !rest.empty() && entries.size() - rest.size() < kEntriesFrameBytes; ++count) {
            audit::take_entry(rest);
        }
        encode_entries(frames_.open(), leaf, entries.substr(0, entries.size() - rest.size()),
                       count);
        frames_.close();
        entries = rest;
        leaf += count;
    }
    frames_.append_frames(records_);
    return frames_.bytes();
}

Status replay_entries(Model& model, const AuditEntries& entries) {
    if (entries.first_leaf != model.next_leaf) {
        return fail(ErrorCode::kDataLoss, "ledger batch starts at audit leaf " +
                                              std::to_string(entries.first_leaf) + " where " +
                                              std::to_string(model.next_leaf) + " is due");
    }
    for (const auto& bytes : entries.entries) {
        REEVE_TRY_ASSIGN(const auto entry, audit::decode(bytes));
        const Chain chain{entry.seq + 1, model.next_leaf++};
        if (audit::subject_of(entry.kind) == audit::Subject::kTask) {
            model.note_chain(audit::to_task(entry.task), chain);
        } else {
            chain_of(model, entry) = chain;
        }
    }
    return {};
}

}  // namespace reeve::plm
