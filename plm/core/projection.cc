#include "plm/core/projection.h"

#include <algorithm>

#include "common/base/clock.h"
#include "plm/core/batch.h"
#include "plm/core/entry_pack.h"
#include "plm/core/record_pack.h"
#include "plm/ledger/frame.h"

namespace reeve::plm {

constexpr std::uint64_t kCancelledRowsMax = 10'000;

std::string state_word(const Job& job) {
    if (job.ended) return "ended";
    if (job.held) return "held";
    if (job.waiting) return "waiting";
    return "active";
}

void Projection::note(Model& model, const Record& record) {
    std::visit(
        [&](const auto& r) {
            using T = std::decay_t<decltype(r)>;
            if constexpr (std::is_same_v<T, TaskEnded>) {
                note(model, r);
                return;
            }
            if constexpr (std::is_same_v<T, JobSubmitted>) new_jobs_.push_back(r.job);
            if constexpr (requires { r.job; }) note_job(r.job);
            if constexpr (std::is_same_v<T, RunCancelled>) note_cancelled(model, r);
        },
        record);
}

void Projection::note(Model& model, const TaskEnded& r) {
    note_job(r.job);
    const Job* job = model.find(r.job);
    if (job == nullptr) return;
    note_worker(model, r.worker);
    auto& row = rows_.ended.emplace_back();
    row.job = r.job;
    row.element = job->element_of(r.ordinal);
    row.as.submit_ns = job->submit_ns;
    row.as.worker = r.worker;
    row.as.attempt = r.attempt;
    row.as.deaths = r.deaths;
    row.as.price_micro = price_micro_;
    row.as.exit_code = r.exit_code;
    row.as.outcome = r.outcome;
    row.as.core_dumped = r.core_dumped;
    row.as.terminal = r.final;
    row.assigned_ns = r.assigned_ns;
    row.started_ns = r.started_ns;
    row.ended_ns = r.ended_ns;
    row.user_us = r.user_us;
    row.system_us = r.system_us;
    row.max_rss_bytes = r.max_rss_bytes;
    row.worker_name = worker_name_;
    row.detail = rows_.keep(r.detail);
    row.result = rows_.keep(r.result);
}

void Projection::note_worker(Model& model, WorkerId worker) {
    if (worker_known_ && worker == worker_) return;
    worker_known_ = true;
    const auto found = model.workers().find(worker.incarnation);
    worker_ = worker;
    worker_name_ = found == model.workers().end() ? RowText{} : rows_.keep(found->second.name);
    price_micro_ = model.spend.price_of(worker);
}

void Projection::note_job(JobId job) {
    if (!jobs_.empty() && jobs_.back() == job) return;  // most come in rows of one job
    jobs_.push_back(job);
}

// Elements cancelled before they left their run get a row each, unless they are very many.
void Projection::note_cancelled(Model& model, const RunCancelled& record) {
    const Job* job = model.find(record.job);
    if (job == nullptr || record.last - record.first >= kCancelledRowsMax) return;
    for (auto ordinal = record.first; ordinal <= record.last; ++ordinal) {
        auto& row = rows_.ended.emplace_back();
        row.job = record.job;
        row.element = job->element_of(ordinal);
        row.as.outcome = Outcome::kCancelled;
        row.as.submit_ns = job->submit_ns;
        row.as.terminal = true;
        row.ended_ns = record.wall_ns;
    }
}

HistoryRows Projection::take(Model& model, std::uint64_t seq, HistoryRows next) {
    std::sort(jobs_.begin(), jobs_.end());
    jobs_.erase(std::unique(jobs_.begin(), jobs_.end()), jobs_.end());
    std::sort(new_jobs_.begin(), new_jobs_.end());
    for (const auto id : jobs_) {
        const Job* job = model.find(id);
        if (job == nullptr) continue;
        JobRow row;
        row.id = id;
        row.uid = job->uid;
        row.name = job->name();
        row.priority = job->priority;
        row.submit_ns = job->submit_ns;
        row.start_ns = job->start_ns;
        row.end_ns = job->end_ns;
        row.elements = job->count;
        row.succeeded = job->ok.count();
        row.failed = job->failed.count();
        row.cancelled = job->cancelled.count();
        row.state = state_word(*job);
        row.reason = job->reason;
        row.sla = job->extras->wants.sla;
        row.cost_nano = model.spend.of_job(id);
        const bool is_new = std::binary_search(new_jobs_.begin(), new_jobs_.end(), id);
        if (is_new) row.spec = job->spec.view();
        rows_.jobs.push_back(std::move(row));
    }
    jobs_.clear();
    new_jobs_.clear();
    rows_.seq = seq;
    HistoryRows rows = std::move(rows_);
    rows_ = std::move(next);
    worker_known_ = false;
    return rows;
}

Status replay_frames(Model& model, std::uint64_t seq, std::string_view frames,
                     std::vector<std::string>* entries, Projection* projection) {
    FrameReader reader(seq, frames);
    while (true) {
        REEVE_TRY_ASSIGN(const auto payload, reader.next());
        if (!payload) {
            model.settle_chains();
            return {};
        }
        REEVE_TRY_ASSIGN(auto record, decode(*payload));
        if (const auto* packed = std::get_if<PackedEntries>(&record)) {
            REEVE_TRY_ASSIGN(auto unpacked, unpack_entries(packed->packed, packed->count));
            record = AuditEntries{packed->first_leaf, std::move(unpacked)};
        }
        if (auto* audit_entries = std::get_if<AuditEntries>(&record)) {
            REEVE_TRY(replay_entries(model, *audit_entries));
            if (entries != nullptr) {
                for (auto& entry : audit_entries->entries) entries->push_back(std::move(entry));
            }
            continue;
        }
        const auto apply = [&](const Record& one) -> Status {
            REEVE_TRY(model.apply(one));
            if (projection != nullptr) projection->note(model, one);
            return {};
        };
        const auto* row = std::get_if<PackedRecords>(&record);
        auto applied = row != nullptr ? unpack_records(row->packed, apply) : apply(record);
        if (!applied) {
            return fail(std::move(applied).error().with("ledger batch " + std::to_string(seq)));
        }
    }
}

Status catch_up_history(const std::string& ledger_path, Ledger& ledger, std::uint64_t after_seq,
                        const History::Take& take) {
    if (ledger.last_seq() <= after_seq) return {};
    REEVE_TRY_ASSIGN(auto reader, LedgerReader::open(ledger_path));
    REEVE_TRY_ASSIGN(const auto snapshot, reader->read_snapshot());
    Model model;
    if (snapshot.seq != 0) {
        std::string bytes;
        for (const auto& part : snapshot.parts) bytes += part;
        REEVE_TRY(model.load(bytes));
    }
    Projection projection;
    bool wanted = true;
    return reader->for_each_batch(snapshot.seq, [&](const Batch& batch) -> Status {
        if (!wanted) return {};
        const bool fresh = batch.seq > after_seq;
        REEVE_TRY(
            replay_frames(model, batch.seq, batch.frames, nullptr, fresh ? &projection : nullptr));
        if (fresh) wanted = take(projection.take(model, batch.seq));
        for (auto* job : model.dirty()) job->dirty = false;
        model.dirty().clear();
        model.just_ended().clear();
        (void)model.evict_ended(2);
        return {};
    });
}

}  // namespace reeve::plm
