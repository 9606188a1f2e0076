// The ledger's second thread: checkpoints, snapshots, dropping what they cover, giving space back.
//
// Everything is done in small steps with the writer lock let go (and a pause) between them, so that
// a commit waits for one step at most. Nothing here decides whether a commit succeeds: a failed
// step is reported once and tried again.
#include <algorithm>
#include <chrono>

#include <sqlite3.h>
#include <sys/stat.h>

#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/log/log.h"
#include "plm/ledger/ledger_impl.h"

namespace reeve::plm {

namespace {

constexpr std::uint64_t kStepBytes = 2u << 20;              // written under one hold of the lock
constexpr std::uint64_t kRoundBytes = 64u << 20;            // dropped in one round
constexpr std::uint64_t kQuietCheckpointNs = 10 * kSecond;  // a small rest is copied this often
constexpr int kVacuumPages = 64;
constexpr auto kRoundEvery = std::chrono::milliseconds(1000);
constexpr auto kPause = std::chrono::microseconds(500);

}  // namespace

void Ledger::Impl::start() {
    stopping = false;
    thread = std::thread([this] { run(); });
}

void Ledger::Impl::stop() {
    {
        const std::lock_guard hold(queue_mutex);
        stopping = true;
    }
    wake.notify_all();
    if (thread.joinable()) thread.join();
    for (auto& job : jobs) job();  // each answers, if only with a refusal
    jobs.clear();
}

std::uint64_t Ledger::Impl::pending_bytes() const {
    const std::uint64_t written = wal_frames;
    const std::uint64_t copied = copied_frames;
    return written > copied ? (written - copied) * kWalFrameBytes : 0;
}

void Ledger::Impl::nudge() {
    const std::lock_guard hold(queue_mutex);
    wake.notify_one();
}

void Ledger::Impl::run() {
    std::unique_lock hold(queue_mutex);
    while (!stopping) {
        wake.wait_for(hold, kRoundEvery, [this] {
            return stopping || !jobs.empty() ||
                   (!failed && pending_bytes() >= options.passive_bytes);
        });
        std::deque<std::function<void()>> todo;
        todo.swap(jobs);
        hold.unlock();
        for (auto& job : todo) job();
        const Status done = maintain();
        // A snapshot filled its page cache with what nobody reads again.
        if (!todo.empty()) forget_pages();
        const bool bad = !done && !failed;
        if (bad && !complained) {
            log::warn("ledger: upkeep failed, will be tried again",
                      {{"path", path}, {"error", done.error().message}});
        }
        complained = bad;
        if (bad) std::this_thread::sleep_for(std::chrono::milliseconds(200));
        hold.lock();
    }
}

Status Ledger::Impl::open_aux() {
    if (failed) return fail(ErrorCode::kUnavailable, "the ledger stopped acknowledging");
    if (aux.is_open()) return {};
    REEVE_TRY_ASSIGN(aux, Database::open(path, Database::Mode::kReadWrite));
    REEVE_TRY(configure_connection(aux));
    watch_wal(aux);  // after configuring: wal_autocheckpoint would replace the hook
    return {};
}

void Ledger::Impl::forget_pages() {
    const std::lock_guard hold(aux_mutex);
    if (aux.is_open()) sqlite3_db_release_memory(aux.raw());
}

Status Ledger::Impl::maintain() {
    const std::lock_guard hold(aux_mutex);
    if (failed) return {};
    REEVE_TRY(open_aux());
    REEVE_TRY(checkpoint());
    REEVE_TRY(drop_old());
    return give_back_space();
}

// PASSIVE copies without blocking anybody; while commits go on it never reaches the end of the log,
// so the log grows. Past the limit one more PASSIVE leaves little to do, then RESTART copies the
// rest with the writers held off, and the next commit begins the log anew (in the same blocks of
// the file: no allocation, which makes its flush cheaper).
Status Ledger::Impl::checkpoint() {
    const std::uint64_t pending = pending_bytes();
    const bool quiet_time = boot_ns() - last_passive_ns >= kQuietCheckpointNs;
    if (pending < options.passive_bytes && !(pending > 0 && quiet_time) && !reset_wanted) return {};
    int in_log = 0;
    int copied = 0;
    int rc =
        sqlite3_wal_checkpoint_v2(aux.raw(), nullptr, SQLITE_CHECKPOINT_PASSIVE, &in_log, &copied);
    last_passive_ns = boot_ns();
    if (rc == SQLITE_OK) copied_frames = static_cast<std::uint64_t>(std::max(copied, 0));
    if (rc != SQLITE_OK && (rc & 0xFF) != SQLITE_BUSY)
        return fail(sqlite_error(aux.raw(), rc, path));
    const bool too_long =
        static_cast<std::uint64_t>(std::max(in_log, 0)) * kWalFrameBytes >= options.wal_limit_bytes;
    if (!too_long && !reset_wanted) return {};
    const std::lock_guard hold(writer);
    aux.set_busy_wait_us(5'000);  // only a reader can be in the way; the next round tries again
    rc = sqlite3_wal_checkpoint_v2(aux.raw(), nullptr, SQLITE_CHECKPOINT_RESTART, &in_log, &copied);
    aux.set_busy_wait_us(10'000'000);
    if (rc == SQLITE_OK) {
        copied_frames = static_cast<std::uint64_t>(std::max(copied, 0));
        reset_wanted = false;
        return {};
    }
    if ((rc & 0xFF) == SQLITE_BUSY) return {};
    return fail(sqlite_error(aux.raw(), rc, path));
}

// Copies all of the WAL and cuts it to nothing; commits wait meanwhile.
Status Ledger::Impl::empty_wal() {
    const std::lock_guard hold(writer);
    int in_log = 0;
    int copied = 0;
    const int rc =
        sqlite3_wal_checkpoint_v2(aux.raw(), nullptr, SQLITE_CHECKPOINT_TRUNCATE, &in_log, &copied);
    if (rc != SQLITE_OK) return fail(sqlite_error(aux.raw(), rc, path));
    copied_frames = 0;
    wal_frames = 0;
    reset_wanted = false;
    return {};
}

Status Ledger::Impl::tidy(bool drop) {
    const std::lock_guard hold(aux_mutex);
    REEVE_TRY(open_aux());
    if (drop) {
        REEVE_TRY_ASSIGN(const SnapshotHead head, read_snapshot_head(aux));
        const std::uint64_t up_to = std::min(head.seq, keep_after.load());
        for (bool more = head.id != 0; more;) {
            REEVE_TRY_ASSIGN(more, drop_batches(up_to));
            REEVE_FAILPOINT("prune.dropped_some");
            if (!more) {
                REEVE_TRY_ASSIGN(more, drop_parts(head));
            }
        }
        REEVE_FAILPOINT("prune.before_vacuum");
        while (true) {
            REEVE_TRY_ASSIGN(const std::int64_t unused, aux.query_integer("PRAGMA freelist_count"));
            if (unused == 0) break;
            const std::lock_guard hold_writer(writer);
            const std::string vacuum =
                "PRAGMA incremental_vacuum(" + std::to_string(kVacuumPages) + ")";
            REEVE_TRY(write_transaction(aux, [&] { return aux.exec(vacuum); }));
        }
    }
    REEVE_FAILPOINT("prune.before_truncate");
    return empty_wal();
}

Status Ledger::tidy(bool drop) {
    return impl_->tidy(drop);
}

Result<Ledger::Extent> Ledger::extent() {
    const std::lock_guard hold(impl_->aux_mutex);
    REEVE_TRY(impl_->open_aux());
    Extent out;
    for (const auto* suffix : {"", "-wal"}) {
        struct stat about {};
        if (stat((impl_->path + suffix).c_str(), &about) == 0) {
            out.bytes += static_cast<std::uint64_t>(about.st_size);
        }
    }
    REEVE_TRY_ASSIGN(const std::int64_t batches,
                     impl_->aux.query_integer("SELECT count(*) FROM batch"));
    out.batches = static_cast<std::uint64_t>(batches);
    return out;
}

void Ledger::in_background(std::function<void()> job, std::function<void()> refuse) {
    Impl* impl = impl_.get();
    const std::lock_guard hold(impl->queue_mutex);
    impl->jobs.emplace_back([impl, job = std::move(job), refuse = std::move(refuse)] {
        impl->stopping ? refuse() : job();
    });
    impl->wake.notify_one();
}

Status Ledger::Impl::drop_old() {
    REEVE_TRY_ASSIGN(const SnapshotHead head, read_snapshot_head(aux));
    if (head.id == 0) return {};
    const std::uint64_t up_to = std::min(head.seq, keep_after.load());
    std::uint64_t steps = 0;
    for (bool more = true; more && steps < kRoundBytes / kStepBytes; ++steps) {
        REEVE_TRY_ASSIGN(more, drop_batches(up_to));
        if (!more) {
            REEVE_TRY_ASSIGN(more, drop_parts(head));
        }
        if (more) std::this_thread::sleep_for(kPause);
    }
    return {};
}

// True: something was dropped, there may be more.
Result<bool> Ledger::Impl::drop_batches(std::uint64_t up_to_seq) {
    std::uint64_t last = 0;
    {
        REEVE_TRY_ASSIGN(Statement select,
                         aux.prepare("SELECT seq, length(frames) FROM batch WHERE seq <= ?"
                                     " ORDER BY seq LIMIT 256"));
        select.bind(1, up_to_seq);
        std::uint64_t bytes = 0;
        while (bytes < kStepBytes) {
            REEVE_TRY_ASSIGN(const bool row, select.step());
            if (!row) break;
            last = select.column_unsigned(0);
            bytes += select.column_unsigned(1);
        }
    }
    if (last == 0) return false;
    REEVE_TRY_ASSIGN(Statement remove, aux.prepare("DELETE FROM batch WHERE seq <= ?"));
    remove.bind(1, last);
    const std::lock_guard hold(writer);
    if (auto removed = write_transaction(aux, [&] { return remove.run(); }); !removed) {
        reset_wanted = true;
        return fail(std::move(removed).error());
    }
    return true;
}

// Parts of earlier snapshots, one at a time, then their heads.
Result<bool> Ledger::Impl::drop_parts(const SnapshotHead& head) {
    REEVE_TRY_ASSIGN(Statement oldest, aux.prepare("SELECT min(key) FROM snapshot_part"));
    REEVE_TRY_ASSIGN(const bool row, oldest.step());
    const std::uint64_t key = oldest.column_unsigned(0);
    const bool parts = row && !oldest.column_null(0) && key < head.id << 24;
    oldest.reset();
    if (!parts) {
        const std::string id = std::to_string(head.id);
        REEVE_TRY_ASSIGN(
            const std::int64_t heads,
            aux.query_integer(("SELECT count(*) FROM snapshot WHERE id<" + id).c_str()));
        if (heads == 0) return false;
    }
    const std::lock_guard hold(writer);
    auto removed = write_transaction(aux, [&]() -> Status {
        if (parts) return aux.exec("DELETE FROM snapshot_part WHERE key=" + std::to_string(key));
        return aux.exec("DELETE FROM snapshot WHERE id<" + std::to_string(head.id));
    });
    if (removed) return parts;
    reset_wanted = true;
    return fail(std::move(removed).error());
}

Status Ledger::Impl::give_back_space() {
    const auto spare = static_cast<std::int64_t>(options.spare_bytes / kPageBytes);
    for (std::uint64_t step = 0; step < kRoundBytes / kPageBytes / kVacuumPages; ++step) {
        REEVE_TRY_ASSIGN(const std::int64_t unused, aux.query_integer("PRAGMA freelist_count"));
        if (unused <= spare + spare / 4) return {};
        {
            const std::lock_guard hold(writer);
            const std::string vacuum =
                "PRAGMA incremental_vacuum(" + std::to_string(kVacuumPages) + ")";
            if (auto done = write_transaction(aux, [&] { return aux.exec(vacuum); }); !done) {
                reset_wanted = true;
                return done;
            }
        }
        std::this_thread::sleep_for(kPause);
    }
    return {};
}

void Ledger::snapshot_in_background(std::vector<std::string> parts, std::uint64_t up_to_seq,
                                    std::function<void(Status)> done,
                                    std::function<Status()> before) {
    Impl* impl = impl_.get();
    const auto write = [impl, up_to_seq](const std::vector<std::string>& all,
                                         const std::function<Status()>& first) -> Status {
        if (impl->stopping) return fail(ErrorCode::kCancelled, "the ledger is closing");
        if (first) REEVE_TRY(first());
        return impl->write_snapshot(all, up_to_seq);
    };
    const std::lock_guard hold(impl->queue_mutex);
    impl->jobs.emplace_back([write, parts = std::move(parts), done = std::move(done),
                             before = std::move(before)] { done(write(parts, before)); });
    impl->wake.notify_one();
}

Status Ledger::Impl::write_part(std::uint64_t key, std::string_view data) {
    REEVE_TRY_ASSIGN(Statement insert,
                     aux.prepare("INSERT INTO snapshot_part(key, hash, data) VALUES(?,?,?)"));
    insert.bind(1, key);
    insert.bind(2, hash_part(key, data));
    insert.bind_blob(3, data);
    const std::lock_guard hold(writer);
    return write_transaction(aux, [&] { return insert.run(); });
}

// What a snapshot that was never finished left behind.
Status Ledger::Impl::clear_parts_from(std::uint64_t key) {
    REEVE_TRY_ASSIGN(Statement newest, aux.prepare("SELECT max(key) FROM snapshot_part"));
    while (true) {
        REEVE_TRY_ASSIGN(const bool row, newest.step());
        const bool found = row && !newest.column_null(0) && newest.column_unsigned(0) >= key;
        const std::string sql =
            "DELETE FROM snapshot_part WHERE key=" + std::to_string(newest.column(0));
        newest.reset();
        if (!found) return {};
        {
            const std::lock_guard hold(writer);
            REEVE_TRY(write_transaction(aux, [&] { return aux.exec(sql); }));
        }
        std::this_thread::sleep_for(kPause);
    }
}

// The parts first, then the head in a transaction of its own: the snapshot exists from that flush
// on, and with it everything up to `up_to_seq` is superfluous; upkeep drops it.
Status Ledger::Impl::write_snapshot(const std::vector<std::string>& parts,
                                    std::uint64_t up_to_seq) {
    const std::lock_guard hold(aux_mutex);
    REEVE_TRY(open_aux());
    REEVE_TRY_ASSIGN(const SnapshotHead old, read_snapshot_head(aux));
    if (up_to_seq > last_seq || up_to_seq < old.seq || parts.size() >= (1u << 24)) {
        return fail(ErrorCode::kInvalidArgument,
                    "a snapshot up to batch " + std::to_string(up_to_seq) + " of " +
                        std::to_string(last_seq) + " does not follow the one at " +
                        std::to_string(old.seq));
    }
    SnapshotHead head{old.id + 1, up_to_seq, old.next_leaf, parts.size()};
    if (up_to_seq != old.seq) {
        REEVE_TRY_ASSIGN(Statement select,
                         aux.prepare("SELECT first_leaf + leaf_count FROM batch WHERE seq = ?"));
        select.bind(1, up_to_seq);
        REEVE_TRY_ASSIGN(const bool row, select.step());
        if (!row)
            return fail(ErrorCode::kDataLoss, path + ": batch " + std::to_string(up_to_seq) +
                                                  " is missing; restore it from a backup");
        head.next_leaf = select.column_unsigned(0);
    }
    reset_wanted = true;  // until all went well
    REEVE_TRY(clear_parts_from(head.id << 24));
    for (std::size_t part = 0; part < parts.size(); ++part) {
        REEVE_TRY(write_part((head.id << 24) | part, parts[part]));
        std::this_thread::sleep_for(kPause);
    }
    REEVE_FAILPOINT("snapshot_before_head");
    REEVE_TRY_ASSIGN(Statement insert,
                     aux.prepare("INSERT INTO snapshot(id, seq, next_leaf, parts, hash)"
                                 " VALUES(?,?,?,?,?)"));
    insert.bind(1, head.id);
    insert.bind(2, head.seq);
    insert.bind(3, head.next_leaf);
    insert.bind(4, head.parts);
    insert.bind(5, hash_numbers({head.id, head.seq, head.next_leaf, head.parts}));
    const std::lock_guard hold_writer(writer);
    REEVE_TRY(write_transaction(aux, [&] { return insert.run(); }));
    reset_wanted = false;
    REEVE_FAILPOINT("snapshot_after_head");
    return {};
}

}  // namespace reeve::plm
