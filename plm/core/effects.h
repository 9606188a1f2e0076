// Effects is what may happen only once a batch is durable, kept from when it is gathered until
// then.
//
// Two exist at a time: that of the batch which gathers, and that of the batch which is being
// flushed. The model runs ahead of the flush, so what others are told of it is copied when the
// batch is sealed (Core::seal) and told as of then.
//
// INVARIANT 1  nothing in here happens before the flush of its batch, nor later than that of the
//              next one begins.
// INVARIANT 2  what is told (job entries, statuses, results, budgets) holds nothing of a later
//              batch.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "common/shm/layout.h"
#include "plm/core/streamed_results.h"
#include "plm/ledger/history.h"
#include "plm/server/backend.h"

namespace reeve::plm {

// What one watcher is told.
struct WatchNews {
    std::vector<v1::JobStatus> jobs;
    std::vector<v1::TaskResult> results;  // in the order in which they became durable
    std::vector<JobId> ended;
};

struct Effects {
    // While the batch gathers.
    std::vector<std::function<void()>> acks;
    bool acks_read_model =
        false;                   // nothing gathers beside their flush: the model must not be ahead
    bool starts_once = false;    // a task that may be started only once waits for the flush
    bool others_waited = false;  // for a job that ended in it
    std::vector<std::uint32_t> ended;                              // slots to be freed
    std::vector<std::uint32_t> requeued;                           // slots to be queued again
    std::vector<std::pair<std::uint32_t, std::uint32_t>> intents;  // slot, bits; 0: not suspend
    std::vector<std::string> result_files;                         // that were read, and go
    std::vector<v1::TaskResult> results;                           // for watchers
    std::vector<std::pair<std::shared_ptr<ResultSink>, StreamedResults>> streamed;

    // Added when it is sealed.
    std::vector<std::uint64_t> ring_heads;
    HistoryRows rows;
    std::vector<std::pair<WatchSink*, WatchNews>> news;
    std::vector<std::pair<std::uint32_t, shm::JobRecord>> entries;  // of the job table
    std::uint64_t backlog_tasks = 0;
    struct Budget {
        std::uint32_t uid;
        std::uint64_t spent_nano;
        std::uint64_t budget_nano;
    };
    std::vector<Budget> budgets;
};

}  // namespace reeve::plm
