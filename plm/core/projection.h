// Projection turns records into the rows of history.db. Live it follows the core's batches; a
// history that is behind is brought up to date by replaying the ledger through the same code. Not
// thread-safe.
#pragma once

#include <vector>

#include "plm/core/model.h"
#include "plm/core/records.h"
#include "plm/ledger/history.h"
#include "plm/ledger/ledger.h"

namespace reeve::plm {

std::string state_word(const Job& job);  // waiting held active ended

class Projection {
public:
    void note(Model& model, const Record& record);  // after model.apply(record)
    void note(Model&, const TaskMoved& record) { note_job(record.job); }
    void note(Model& model, const TaskEnded& record);
    // The next rows are gathered in `next`.
    HistoryRows take(Model& model, std::uint64_t seq, HistoryRows next = {});
    bool empty() const { return jobs_.empty() && rows_.ended.empty(); }

private:
    void note_job(JobId job);
    void note_cancelled(Model& model, const RunCancelled& record);

    void note_worker(Model& model, WorkerId worker);

    HistoryRows rows_;
    bool worker_known_ = false;  // of the row before in this batch: most are of one
    WorkerId worker_;
    RowText worker_name_;
    std::uint32_t price_micro_ = 0;
    std::vector<JobId> jobs_;  // as noted, some more than once
    std::vector<JobId> new_jobs_;
};

// Applies one batch's frames to a model; entries, if given, collects its audit entries, and
// projection its rows. Errors: kDataLoss with the batch and what does not fit.
Status replay_frames(Model& model, std::uint64_t seq, std::string_view frames,
                     std::vector<std::string>* entries, Projection* projection);

// For History: replays snapshot and batches of a ledger file, feeding the rows after `after_seq`.
Status catch_up_history(const std::string& ledger_path, Ledger& ledger, std::uint64_t after_seq,
                        const History::Take& take);

}  // namespace reeve::plm
