#include "plm/core/batch.h"

#include "common/base/assert.h"
#include "common/base/clock.h"
#include "common/log/log.h"

namespace reeve::plm {
namespace {

Chain& chain_of(Model& model, const audit::Entry& entry) {
    switch (audit::subject_of(entry.kind)) {
        case audit::Subject::kTask:
            return model.task_chains[audit::to_task(entry.task)];
        case audit::Subject::kWorker:
            return model.worker_chains[audit::to_worker(entry.worker).incarnation];
        case audit::Subject::kScheduler:
            break;
    }
    return model.scheduler_chain;
}

}  // namespace

void CommitBatch::emit(const Record& record) {
    const auto applied = model_.apply(record);
    if (!applied) log::error("record does not apply", {{"why", applied.error().message}});
    REEVE_ASSERT(applied.has_value());
    projection_.note(model_, record);
    records_.push_back(encode(record));
}

std::uint64_t CommitBatch::audit(audit::Entry entry) {
    Chain& chain = chain_of(model_, entry);
    entry.seq = chain.next_seq++;
    entry.prev = chain.last_leaf;
    chain.last_leaf = model_.next_leaf;
    if (entry.time_ns == 0) entry.time_ns = wall_ns();
    entries_.push_back(audit::encode(entry));
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

FrameWriter& CommitBatch::frames() {
    frames_.clear();
    if (!entries_.empty()) {
        frames_.append(encode(Record{AuditEntries{first_leaf(), entries_}}));
    }
    for (const auto& record : records_) frames_.append(record);
    return frames_;
}

void CommitBatch::clear() {
    records_.clear();
    entries_.clear();
    frames_.clear();
}

Status replay_entries(Model& model, const AuditEntries& entries) {
    if (entries.first_leaf != model.next_leaf) {
        return fail(ErrorCode::kDataLoss, "ledger batch starts at audit leaf " +
                                              std::to_string(entries.first_leaf) + " where " +
                                              std::to_string(model.next_leaf) + " is due");
    }
    for (const auto& bytes : entries.entries) {
        REEVE_TRY_ASSIGN(const auto entry, audit::decode(bytes));
        Chain& chain = chain_of(model, entry);
        chain.next_seq = entry.seq + 1;
        chain.last_leaf = model.next_leaf++;
    }
    return {};
}

}  // namespace reeve::plm
