// History is the projection of ended work that people query: history.db, written off the hot path.
//
// The core pushes the rows of each ledger batch after its commit; a thread of its own upserts them
// in large transactions that also store the batch's seq, so a row is never ahead of or behind its
// mark. The file is rebuildable and therefore not flushed (WAL, synchronous=NORMAL): after a power
// cut it is merely some batches back. While much ends the thread rests between transactions, so
// that each packs more (history_file.h). What a snapshot lets the ledger drop cannot be fed again,
// so before a snapshot the file is flushed with make_durable() (Ledger::snapshot_in_background,
// `before`).
//
// Never stalls the core: when the queue is full push() drops the rows, returns false and the
// projection is "behind"; the thread then calls the catch-up callback, which reads the ledger after
// last_seq() and feeds the rows again. It starts behind, so a new process needs to do nothing.
//
//   behind := false  ->  catch up to the ledger's end  ->  take the queue, skipping known seqs
// Rows pushed meanwhile are queued (or make it behind once more), rows dropped before are in the
// ledger already, since the commit precedes the push: no gap.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "plm/ledger/history_rows.h"

namespace reeve::plm {

struct HistoryOptions {
    std::size_t queue_rows = 200'000;  // more waiting rows: behind
    std::size_t transaction_rows = 20'000;
    // Called on the history thread before rows are committed: what they tell of must not outlive
    // the ledger's record of it. An error ends the round.
    std::function<Status()> before_commit = {};
};

class History {
public:
    // Feeds all batches after `after_seq` to `take`, in order, from the history thread; stops when
    // take returns false. With kOutOfRange (the ledger dropped them) the gap stays and is logged.
    using Take = std::function<bool(HistoryRows)>;
    using CatchUp = std::function<Status(std::uint64_t after_seq, const Take& take)>;

    static Result<std::unique_ptr<History>> open(const std::string& path, CatchUp catch_up,
                                                 const HistoryOptions& options = {});
    ~History();  // writes what is queued, then stops
    History(const History&) = delete;
    History& operator=(const History&) = delete;

    // Core thread; never blocks on the disk. False: dropped, the ledger will be read instead.
    bool push(HistoryRows rows);
    // Somebody was told of what was pushed and may look: it is written now, not a little later.
    void hurry();
    // Empty rows whose memory was used before.
    HistoryRows spare();

    // Any thread. The newest batch whose rows are in the file: give it to keep_batches_after().
    std::uint64_t last_seq() const;
    bool behind() const;
    // Blocks (never call it from the core) until every row pushed, or dropped by push(), before the
    // call survives a power cut. kDeadlineExceeded: not within `timeout_ms`.
    Status make_durable(std::uint64_t timeout_ms);
    // Waits until everything pushed so far is in the file; false after `timeout_ms`.
    bool wait_idle(std::uint64_t timeout_ms);

private:
    struct Impl;
    explicit History(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

struct TaskQuery {
    std::uint64_t job = 0;  // 0: any
    std::uint64_t after_element = 0;
    bool from_start = true;  // false: elements beyond after_element only
    bool terminal_only = true;
    std::uint32_t limit = 1000;
};

// Reads history.db, also while the PLM writes it or is dead. Its own connection: one thread.
class HistoryReader {
public:
    static Result<std::unique_ptr<HistoryReader>> open(const std::string& path);
    ~HistoryReader();
    HistoryReader(const HistoryReader&) = delete;
    HistoryReader& operator=(const HistoryReader&) = delete;

    Result<JobRow> job(std::uint64_t id, bool with_spec);  // kNotFound
    Result<std::vector<JobRow>> newest_jobs(std::uint32_t limit, std::uint64_t before_id = 0);
    Result<std::vector<AttemptRow>> tasks(const TaskQuery& query);
    Result<std::vector<AttemptRow>> attempts(std::uint64_t job, std::uint64_t element);

private:
    struct Impl;
    explicit HistoryReader(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace reeve::plm
