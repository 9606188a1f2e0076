// Ledger is the PLM's durable record: one SQLite row per commit batch, flushed before commit()
// returns; acknowledged means "its batch is in here".
//
// SQLite in WAL mode, synchronous=FULL, 16 KiB pages, no automatic checkpoints: a maintenance
// thread checkpoints, bounds the WAL, drops what a snapshot covers and gives space back. Only the
// PLM writes (it holds the cell's lock); anybody may read.
//
//   mark           newest seq, number of entries, hash    one row, touched by every write
//   meta           key -> value, hash                     cell id, epoch, ...
//   batch          seq -> first_leaf, leaf_count, hash, frames     seqs are contiguous
//   snapshot       id  -> seq, next_leaf, parts, hash     everything up to seq, as of one moment
//   snapshot_part  id << 24 | part -> hash, data
//
// Damage is found, never skipped: every row carries an XXH3 over all its columns, seqs and leaves
// must be contiguous, the WAL is walked before SQLite opens it (wal_check.h), the mark tells when
// rows at the end are gone, and files up to kQuickCheckBytesMax get SQLite's quick_check at open.
//
// Fail stop. After a commit() that failed nothing was acknowledged and the ledger is closed: every
// call fails with the same error until reopen() or resume_commit() succeeded. These open the file
// anew, move everything into the main file with a fresh flush (a page cache that dropped a failed
// write shows here) and make a trial commit.
//
// Not durable (LedgerOptions). A batch is in the file when commit() returns, so that no death of a
// process loses it, and on the disk when flush() or a checkpoint has returned. A power cut takes
// the batches after that, the newest ones and only those; `PATH-async` stands beside the file as
// long as its log may end so (wal_check.h).
//
// Threads   open, commit, meta, reopen, for_each_batch, read_snapshot: the core thread.
//           write_snapshot, snapshot_in_background, the counters, keep_batches_after, flush: any.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace reeve::plm {

inline constexpr std::size_t kBatchBytesMax = 256u << 20;
// A part is one transaction, and a commit may have to wait for one: cut large states into these.
inline constexpr std::size_t kSnapshotPartBytesMax = 1u << 20;
inline constexpr std::uint64_t kQuickCheckBytesMax = 256ULL << 20;

struct LedgerOptions {
    std::uint64_t wal_limit_bytes = 64ULL << 20;  // RESTART checkpoint above this
    std::uint64_t passive_bytes = 8ULL << 20;     // PASSIVE checkpoint after so much was written
    std::uint64_t spare_bytes = 64ULL << 20;      // free pages kept for reuse, rest is given back
    bool maintenance = true;                      // false: tests call maintain() themselves
    bool durable = true;                          // false: commit() leaves the flush to flush()
};

struct Batch {
    std::uint64_t seq = 0;
    std::uint64_t first_leaf = 0;
    std::uint32_t leaf_count = 0;
    std::string_view frames;  // valid during the callback
};
using BatchCallback = std::function<Status(const Batch&)>;

struct Snapshot {
    std::uint64_t seq = 0;  // 0: there is none
    std::uint64_t next_leaf = 0;
    std::vector<std::string> parts;
};

class Ledger {
public:
    // Makes the file (0600, written whole and then renamed) or opens and checks it.
    static Result<std::unique_ptr<Ledger>> open(const std::string& path,
                                                const LedgerOptions& options = {});
    ~Ledger();
    Ledger(const Ledger&) = delete;
    Ledger& operator=(const Ledger&) = delete;

    // One batch, seq last_seq() + 1, durable when this returns success (or see above).
    // `flushed`: durable in any case.
    Status commit(std::string_view frames, std::uint64_t first_leaf, std::uint32_t leaf_count,
                  bool flushed = false);

    // What commit() returned for before is durable now. Nothing to do where it was already. After
    // an error the next commit() fails.
    Status flush();

    // After a failed commit(): opens anew and checks. Harmless when nothing failed.
    Status reopen();
    // reopen(), and the batch whose commit() failed: kept if it turns out to be there, else
    // committed now. Give it exactly what commit() got. Try again (say each second) while it fails.
    Status resume_commit(std::string_view frames, std::uint64_t first_leaf,
                         std::uint32_t leaf_count);
    bool failed() const;

    // Durable like commit(). get_meta: kNotFound when the key was never put.
    Status put_meta(std::string_view key, std::string_view value);
    Result<std::string> get_meta(std::string_view key);

    // All batches after `after_seq`, in order. kOutOfRange: some of them were dropped already.
    Status for_each_batch(std::uint64_t after_seq, const BatchCallback& callback);

    // Blocks for as long as writing takes, in steps that let commits through; from then on batches
    // up to `up_to_seq` may go. The newest snapshot replaces all earlier ones.
    Status write_snapshot(const std::vector<std::string>& parts, std::uint64_t up_to_seq);
    // The same on the maintenance thread; `done` is called from there. `before`, if given, runs
    // there first (say History::make_durable: what leaves the ledger must be safe elsewhere); its
    // error ends the snapshot.
    void snapshot_in_background(std::vector<std::string> parts, std::uint64_t up_to_seq,
                                std::function<void(Status)> done,
                                std::function<Status()> before = {});
    Result<Snapshot> read_snapshot();
    // Batches after `seq` stay even when a snapshot covers them (a projection still wants them).
    void keep_batches_after(std::uint64_t seq);

    std::uint64_t last_seq() const;      // of the newest batch or snapshot, 0: nothing yet
    std::uint64_t next_leaf() const;     // first_leaf + leaf_count of the newest batch
    std::uint64_t commits() const;       // since open
    std::uint64_t wal_bytes() const;     // size of the WAL file
    const std::string& warning() const;  // what open() found and repaired, or empty

    // One round of what the maintenance thread does.
    Status maintain();
    // All of it at once: the WAL copied into the file and emptied; with `drop`, first everything
    // the newest snapshot covers is dropped and the space given back.
    Status tidy(bool drop);
    struct Extent {
        std::uint64_t bytes = 0;    // of the file and its WAL
        std::uint64_t batches = 0;  // rows
    };
    Result<Extent> extent();
    // Runs `job` on the maintenance thread, or `refuse` when the ledger is closing.
    void in_background(std::function<void()> job, std::function<void()> refuse);

private:
    struct Impl;
    explicit Ledger(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

// Reads the batches of a ledger somebody else is writing; holds no lock and no WAL frame between
// chunks of rows. Its own connection: one thread.
class LedgerReader {
public:
    static Result<std::unique_ptr<LedgerReader>> open(const std::string& path);
    ~LedgerReader();
    LedgerReader(const LedgerReader&) = delete;
    LedgerReader& operator=(const LedgerReader&) = delete;

    Result<Snapshot> read_snapshot();
    Status for_each_batch(std::uint64_t after_seq, const BatchCallback& callback);
    Result<std::string> get_meta(std::string_view key);

private:
    struct Impl;
    explicit LedgerReader(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace reeve::plm
