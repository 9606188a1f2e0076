// The inside of Ledger, shared by ledger.cc (the core's side) and maintenance.cc (the thread's
// side).
//
// Two connections: `db` belongs to the core thread, `aux` to whoever holds aux_mutex. Both write
// only while holding `writer`, so neither ever sees the other's lock as SQLITE_BUSY for long, and
// at most one unflushed transaction is ever in the WAL (wal_check.h relies on it: both connections
// run synchronous=FULL, unless the ledger is not durable). Lock order: aux_mutex, then writer;
// queue_mutex is held for moments only.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "plm/ledger/ledger.h"
#include "plm/ledger/sqlite.h"

namespace reeve::plm {

inline constexpr std::uint64_t kPageBytes = 16384;
inline constexpr std::uint64_t kWalFrameBytes = kPageBytes + 24;

// Hashes over whole rows: a flipped bit in any column shows.
std::uint64_t hash_batch(const Batch& batch);
std::uint64_t hash_meta(std::string_view key, std::string_view value);
std::uint64_t hash_numbers(std::initializer_list<std::uint64_t> numbers);
std::uint64_t hash_part(std::uint64_t key, std::string_view data);

Result<std::string> read_meta(Database& db, std::string_view key);
Status configure_connection(Database& db, bool durable = true);

// One write transaction that also touches the mark's page. wal_check.h tells transactions apart by
// their page numbers; the mark lies on the lowest page of all tables, so each begins with it.
Status write_transaction(Database& db, const std::function<Status()>& body);

struct SnapshotHead {
    std::uint64_t id = 0;  // 0: none
    std::uint64_t seq = 0;
    std::uint64_t next_leaf = 0;
    std::uint64_t parts = 0;
};
Result<SnapshotHead> read_snapshot_head(Database& db);

// Walks batches after `after_seq` in chunks; returns the seq of the last one seen.
struct BatchWalk {
    std::uint64_t last_seq = 0;
    std::uint64_t next_leaf = 0;
};
Result<BatchWalk> walk_batches(Database& db, std::uint64_t after_seq,
                               const BatchCallback& callback);

struct Ledger::Impl {
    std::string path;
    LedgerOptions options;
    std::string warning;

    // Core thread.
    Database db;
    Statement begin;
    Statement end;
    Statement insert_batch;
    Statement update_mark;
    Statement insert_meta;
    std::optional<Error> failure;
    std::uint64_t seq_at_failure = 0;
    std::uint64_t entries = 0;  // rows in meta, as the mark says

    std::atomic<bool> failed{false};
    std::atomic<std::uint64_t> last_seq{0};
    std::atomic<std::uint64_t> next_leaf{0};
    std::atomic<std::uint64_t> commits{0};
    std::atomic<std::uint64_t> wal_frames{0};     // in the live log, set by the WAL hook
    std::atomic<std::uint64_t> copied_frames{0};  // of these, checkpointed
    std::atomic<bool> unflushed{false};           // something was written since flush() began last
    std::atomic<bool> flush_failed{false};        // what was written may never reach the disk
    std::mutex flushing;
    std::atomic<std::uint64_t> keep_after{~std::uint64_t{0}};

    std::mutex writer;

    // Maintenance.
    std::mutex aux_mutex;
    Database aux;
    bool reset_wanted = false;  // an aborted transaction left frames behind: restart the log
    bool complained = false;
    std::uint64_t last_passive_ns = 0;
    std::mutex queue_mutex;
    std::condition_variable wake;
    std::deque<std::function<void()>> jobs;
    std::atomic<bool> stopping{false};
    std::thread thread;

    ~Impl() { stop(); }

    // ledger.cc
    Status open_files(bool trial);
    Status settle_wal();
    Status mark_unflushed();
    Status load_state();
    Status prepare_statements();
    void close_files();
    tl::unexpected<Error> stop_acknowledging(Error error);
    void forget_statements();
    void watch_wal(Database& connection);
    Result<std::uint64_t> check_entries();
    Status check_mark(std::uint64_t seq);
    Status set_mark(std::uint64_t seq);
    Status insert(const Batch& batch);
    Status put_meta_row(std::string_view key, std::string_view value);

    // maintenance.cc
    void start();
    void stop();
    void run();
    void nudge();
    std::uint64_t pending_bytes() const;
    Status open_aux();
    Status maintain();
    void forget_pages();
    Status checkpoint();
    Status drop_old();
    Status empty_wal();
    Status tidy(bool drop);
    Result<bool> drop_batches(std::uint64_t up_to_seq);
    Result<bool> drop_parts(const SnapshotHead& head);
    Status give_back_space();
    Status write_snapshot(const std::vector<std::string>& parts, std::uint64_t up_to_seq);
    Status write_part(std::uint64_t key, std::string_view data);
    Status clear_parts_from(std::uint64_t key);
};

}  // namespace reeve::plm
