#include "plm/ledger/ledger.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sqlite3.h>
#include <xxhash.h>

#include "common/base/bytes.h"
#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/base/sync_directory.h"
#include "common/log/log.h"
#include "plm/ledger/ledger_impl.h"
#include "plm/ledger/wal_check.h"

namespace reeve::plm {

namespace {

constexpr std::int64_t kApplicationId = 0x52454556;  // "REEV"
constexpr std::int64_t kSchemaVersion = 1;

// The mark comes first: its one page precedes those of all other tables.
constexpr const char* kSchema =
    "CREATE TABLE mark(id INTEGER PRIMARY KEY, seq INTEGER NOT NULL, entries INTEGER NOT NULL,"
    " hash INTEGER NOT NULL, writes INTEGER NOT NULL);"
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value BLOB NOT NULL, hash INTEGER NOT NULL)"
    " WITHOUT ROWID;"
    "CREATE TABLE batch(seq INTEGER PRIMARY KEY, first_leaf INTEGER NOT NULL,"
    " leaf_count INTEGER NOT NULL, hash INTEGER NOT NULL, frames BLOB NOT NULL);"
    "CREATE TABLE snapshot(id INTEGER PRIMARY KEY, seq INTEGER NOT NULL,"
    " next_leaf INTEGER NOT NULL, parts INTEGER NOT NULL, hash INTEGER NOT NULL);"
    "CREATE TABLE snapshot_part(key INTEGER PRIMARY KEY, hash INTEGER NOT NULL,"
    " data BLOB NOT NULL);";

std::string unflushed_mark(const std::string& path) {
    return path + "-async";
}

// Damage in the middle looks like a tail that was never flushed, and only the audit log's size
// tells them apart, later: what is about to be dropped stays for whoever has to look.
Status keep_log_aside(const std::string& log) {
    const auto aside = log + ".torn-" + std::to_string(wall_ns() / kSecond);
    std::error_code error;
    std::filesystem::copy_file(log, aside, std::filesystem::copy_options::overwrite_existing,
                               error);
    if (!error) return {};
    std::filesystem::remove(aside, error);
    return fail(ErrorCode::kResourceExhausted,
                "cannot keep a copy of the torn log as " + aside + "; make room there");
}

std::string directory_of(const std::string& path) {
    const auto directory = path.substr(0, path.find_last_of('/') + 1);
    return directory.empty() ? "." : directory;
}

Status write_empty_ledger(const std::string& path) {
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return fail_errno("create " + path, errno);
    close(fd);
    REEVE_TRY_ASSIGN(Database db, Database::open(path, Database::Mode::kReadWrite));
    REEVE_TRY(
        db.exec("PRAGMA page_size=16384; PRAGMA auto_vacuum=INCREMENTAL;"
                "PRAGMA synchronous=FULL; BEGIN IMMEDIATE;"));
    REEVE_TRY(db.exec(kSchema));
    REEVE_TRY(db.exec("INSERT INTO mark VALUES(1, 0, 0, " +
                      std::to_string(static_cast<std::int64_t>(hash_numbers({0, 0}))) + ", 0)"));
    REEVE_TRY(db.exec("PRAGMA application_id=" + std::to_string(kApplicationId) +
                      ";"
                      "PRAGMA user_version=" +
                      std::to_string(kSchemaVersion) + "; COMMIT;"));
    return {};
}

// Made whole under another name, then renamed: a file called ledger.db is never half made, so a
// short or empty one is damage.
Status create_ledger(const std::string& path) {
    struct stat info {};
    if (lstat((path + "-wal").c_str(), &info) == 0 && info.st_size > 0) {
        return fail(ErrorCode::kDataLoss,
                    path + " is missing but its log " + path +
                        "-wal is there; restore both from a backup, or use a new --state-dir");
    }
    const std::string fresh = path + ".new";
    for (const char* suffix : {"", "-journal", "-wal", "-shm"}) unlink((fresh + suffix).c_str());
    REEVE_TRY(write_empty_ledger(fresh));
    if (rename(fresh.c_str(), path.c_str()) != 0) return fail_errno("rename " + fresh, errno);
    return sync_directory(directory_of(path));
}

// Looks by path only: closing any descriptor of a file SQLite has open in this process would drop
// SQLite's POSIX locks on it.
Status check_file(const std::string& path) {
    struct stat info {};
    if (lstat(path.c_str(), &info) != 0) {
        if (errno != ENOENT) return fail_errno("stat " + path, errno);
        return create_ledger(path);
    }
    if (!S_ISREG(info.st_mode)) {
        return fail(ErrorCode::kFailedPrecondition, path + " is not a regular file; move it away");
    }
    if (info.st_uid != geteuid()) {
        return fail(
            ErrorCode::kPermissionDenied,
            path + " belongs to uid " + std::to_string(info.st_uid) + "; use another --state-dir");
    }
    if (info.st_size == 0) {
        return fail(ErrorCode::kDataLoss,
                    path +
                        " is empty, which reeve never leaves behind; restore it from a backup, "
                        "or use a new --state-dir");
    }
    if ((info.st_mode & 077) != 0 && chmod(path.c_str(), 0600) != 0) {
        return fail_errno("chmod " + path, errno);
    }
    return {};
}

Status check_identity(Database& db) {
    REEVE_TRY_ASSIGN(const std::int64_t id, db.query_integer("PRAGMA application_id"));
    REEVE_TRY_ASSIGN(const std::int64_t version, db.query_integer("PRAGMA user_version"));
    if (id != kApplicationId) {
        return fail(ErrorCode::kDataLoss, db.path() +
                                              " is not a reeve ledger; restore it from a "
                                              "backup, or use a new --state-dir");
    }
    if (version != kSchemaVersion) {
        return fail(ErrorCode::kFailedPrecondition,
                    db.path() + " has version " + std::to_string(version) + ", this reeve reads " +
                        std::to_string(kSchemaVersion) + "; use the reeve that wrote it");
    }
    return {};
}

Status quick_check(Database& db) {
    struct stat info {};
    if (stat(db.path().c_str(), &info) != 0) return fail_errno("stat " + db.path(), errno);
    if (static_cast<std::uint64_t>(info.st_size) > kQuickCheckBytesMax) return {};
    REEVE_TRY_ASSIGN(Statement check, db.prepare("PRAGMA quick_check(1)"));
    REEVE_TRY_ASSIGN(const bool row, check.step());
    if (row && check.column_blob(0) == "ok") return {};
    std::string found = row ? std::string(check.column_blob(0)) : "no answer";
    std::replace(found.begin(), found.end(), '\n', ' ');
    return fail(ErrorCode::kDataLoss, db.path() + " is damaged: " + found +
                                          "; keep a copy and restore it from a backup, or use a "
                                          "new --state-dir");
}

}  // namespace

std::uint64_t hash_numbers(std::initializer_list<std::uint64_t> numbers) {
    return XXH3_64bits(std::data(numbers), numbers.size() * sizeof(std::uint64_t));
}

std::uint64_t hash_batch(const Batch& batch) {
    const std::uint64_t seed =
        hash_numbers({batch.seq, batch.first_leaf, batch.leaf_count, batch.frames.size()});
    return XXH3_64bits_withSeed(batch.frames.data(), batch.frames.size(), seed);
}

std::uint64_t hash_meta(std::string_view key, std::string_view value) {
    return XXH3_64bits_withSeed(value.data(), value.size(), XXH3_64bits(key.data(), key.size()));
}

std::uint64_t hash_part(std::uint64_t key, std::string_view data) {
    return XXH3_64bits_withSeed(data.data(), data.size(), hash_numbers({key, data.size()}));
}

Status configure_connection(Database& db, bool durable) {
    REEVE_TRY(db.exec(durable ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL"));
    REEVE_TRY(
        db.exec("PRAGMA wal_autocheckpoint=0;"
                "PRAGMA secure_delete=OFF; PRAGMA cache_size=-8192; PRAGMA cache_spill=OFF;"
                "PRAGMA temp_store=MEMORY; PRAGMA trusted_schema=OFF;"
                "PRAGMA cell_size_check=ON;"));
    return {};
}

Result<std::string> read_meta(Database& db, std::string_view key) {
    REEVE_TRY_ASSIGN(Statement select, db.prepare("SELECT value, hash FROM meta WHERE key=?"));
    select.bind_text(1, key);
    REEVE_TRY_ASSIGN(const bool row, select.step());
    if (!row) return fail(ErrorCode::kNotFound, "no ledger entry named " + std::string(key));
    const std::string_view value = select.column_blob(0);
    if (hash_meta(key, value) != select.column_unsigned(1)) {
        return fail(ErrorCode::kDataLoss, db.path() + ": the entry " + std::string(key) +
                                              " does not match its checksum; restore the file "
                                              "from a backup");
    }
    return std::string(value);
}

Ledger::Ledger(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Ledger::~Ledger() {
    impl_->stop();
    // A clean end leaves an empty log, so the next start has nothing to do.
    if (!impl_->failed && impl_->db.is_open()) (void)impl_->settle_wal();
    impl_->close_files();
}

Result<std::unique_ptr<Ledger>> Ledger::open(const std::string& path,
                                             const LedgerOptions& options) {
    auto impl = std::make_unique<Impl>();
    impl->path = path;
    impl->options = options;
    if (auto opened = impl->open_files(false); !opened) {
        impl->close_files();
        return fail(std::move(opened).error().with("opening the ledger"));
    }
    if (options.maintenance) impl->start();
    return std::unique_ptr<Ledger>(new Ledger(std::move(impl)));
}

Status Ledger::Impl::open_files(bool trial) {
    REEVE_TRY(check_file(path));
    const auto tail =
        access(unflushed_mark(path).c_str(), F_OK) == 0 ? WalTail::kUnflushed : WalTail::kFlushed;
    REEVE_TRY_ASSIGN(const WalReport wal, check_wal(path + "-wal", tail));
    if (wal.torn_frames > 0) {
        warning = "dropped a torn tail of " + std::to_string(wal.torn_frames) +
                  " frames at offset " + std::to_string(wal.torn_offset) + " of " + path + "-wal " +
                  (tail == WalTail::kFlushed ? "(never acknowledged)"
                                             : "(acknowledged with --durability async only; "
                                               "a copy is beside it)");
        log::warn("ledger: dropped a torn tail",
                  {{"path", path}, {"frames", wal.torn_frames}, {"offset", wal.torn_offset}});
        if (tail == WalTail::kUnflushed) REEVE_TRY(keep_log_aside(path + "-wal"));
    }
    REEVE_TRY_ASSIGN(db, Database::open(path, Database::Mode::kReadWrite));
    REEVE_TRY(check_identity(db));
    REEVE_TRY(configure_connection(db, options.durable));
    REEVE_TRY(db.exec("PRAGMA journal_mode=WAL"));
    REEVE_TRY(quick_check(db));
    REEVE_TRY(load_state());
    watch_wal(db);
    if (wal.bytes > 0) {
        // Frames left by an unfinished transaction must not mix with later ones (wal_check.h).
        auto settled = settle_wal();
        const bool full = !settled && settled.error().code == ErrorCode::kResourceExhausted;
        if (!settled && (trial || !full)) return settled;
    }
    REEVE_TRY(mark_unflushed());
    flush_failed = false;
    REEVE_TRY(prepare_statements());
    if (trial) REEVE_TRY(put_meta_row("trial", std::to_string(wall_ns())));
    return {};
}

// The mark is there before anything unflushed is, and goes once there is no log.
Status Ledger::Impl::mark_unflushed() {
    const auto mark = unflushed_mark(path);
    if (!options.durable) {
        const int fd = ::open(mark.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0) return fail_errno("create " + mark, errno);
        const int rc = fsync(fd);
        const int error = errno;
        close(fd);
        if (rc != 0) return fail_errno("flush " + mark, error);
        return sync_directory(directory_of(path));
    }
    struct stat info {};
    const bool empty = stat((path + "-wal").c_str(), &info) != 0 || info.st_size == 0;
    if (empty && unlink(mark.c_str()) == 0) return sync_directory(directory_of(path));
    return {};
}

// Counts frames for both connections, so that upkeep knows how far checkpoints are behind.
void Ledger::Impl::watch_wal(Database& connection) {
    sqlite3_wal_hook(
        connection.raw(),
        [](void* self, sqlite3*, const char*, int frames) {
            auto* impl = static_cast<Impl*>(self);
            const auto now = static_cast<std::uint64_t>(frames);
            if (now < impl->wal_frames) impl->copied_frames = 0;  // the log started anew
            impl->wal_frames = now;
            return SQLITE_OK;
        },
        this);
}

Status Ledger::Impl::prepare_statements() {
    REEVE_TRY_ASSIGN(begin, db.prepare("BEGIN IMMEDIATE"));
    REEVE_TRY_ASSIGN(end, db.prepare("COMMIT"));
    REEVE_TRY_ASSIGN(insert_batch,
                     db.prepare("INSERT INTO batch(seq, first_leaf, leaf_count, hash, frames)"
                                " VALUES(?,?,?,?,?)"));
    REEVE_TRY_ASSIGN(update_mark,
                     db.prepare("UPDATE mark SET seq=?, entries=?, hash=?, writes=writes+1"
                                " WHERE id=1"));
    REEVE_TRY_ASSIGN(insert_meta,
                     db.prepare("INSERT OR REPLACE INTO meta(key, value, hash) VALUES(?,?,?)"));
    return {};
}

void Ledger::Impl::forget_statements() {
    begin = Statement();
    end = Statement();
    insert_batch = Statement();
    update_mark = Statement();
    insert_meta = Statement();
}

void Ledger::Impl::close_files() {
    forget_statements();
    db.close();
    aux.close();
}

Status write_transaction(Database& db, const std::function<Status()>& body) {
    REEVE_TRY(db.exec("BEGIN IMMEDIATE; UPDATE mark SET writes=writes+1 WHERE id=1"));
    Status done = body();
    if (done) done = db.exec("COMMIT");
    if (!done) (void)db.exec("ROLLBACK");
    return done;
}

// Everything in the log goes to the main file, flushed; then the log is empty. A reader that sits
// on the log for longer than the wait keeps it from being emptied, which is harmless.
Status Ledger::Impl::settle_wal() {
    int in_log = 0;
    int copied = 0;
    db.set_busy_wait_us(1'000'000);
    const int rc =
        sqlite3_wal_checkpoint_v2(db.raw(), nullptr, SQLITE_CHECKPOINT_TRUNCATE, &in_log, &copied);
    const bool good = rc == SQLITE_OK || (rc & 0xFF) == SQLITE_BUSY;
    Status result;
    if (!good) result = fail(sqlite_error(db.raw(), rc, path));
    db.set_busy_wait_us(10'000'000);
    if (rc == SQLITE_OK) wal_frames = copied_frames = 0;
    return result;
}

Status Ledger::Impl::load_state() {
    REEVE_TRY_ASSIGN(const SnapshotHead head, read_snapshot_head(db));
    std::uint64_t seq = head.seq;
    std::uint64_t leaf = head.next_leaf;
    {
        REEVE_TRY_ASSIGN(Statement newest,
                         db.prepare("SELECT seq, first_leaf + leaf_count FROM batch"
                                    " ORDER BY seq DESC LIMIT 1"));
        REEVE_TRY_ASSIGN(const bool row, newest.step());
        if (row && newest.column_unsigned(0) > seq) {
            seq = newest.column_unsigned(0);
            leaf = newest.column_unsigned(1);
        }
    }
    REEVE_TRY(check_mark(seq));
    last_seq = seq;
    next_leaf = leaf;
    return {};
}

// Reads every entry: one whose key was damaged would otherwise just not be found.
Result<std::uint64_t> Ledger::Impl::check_entries() {
    REEVE_TRY_ASSIGN(Statement select, db.prepare("SELECT key, value, hash FROM meta"));
    for (std::uint64_t count = 0;; ++count) {
        REEVE_TRY_ASSIGN(const bool row, select.step());
        if (!row) return count;
        const std::string key(select.column_blob(0));
        if (hash_meta(key, select.column_blob(1)) != select.column_unsigned(2)) {
            return fail(ErrorCode::kDataLoss,
                        path +
                            ": an entry does not match its checksum; restore the file from a "
                            "backup");
        }
    }
}

Status Ledger::Impl::check_mark(std::uint64_t seq) {
    REEVE_TRY_ASSIGN(const std::uint64_t found, check_entries());
    REEVE_TRY_ASSIGN(Statement select,
                     db.prepare("SELECT seq, entries, hash FROM mark WHERE id=1"));
    REEVE_TRY_ASSIGN(const bool marked, select.step());
    const std::uint64_t last = marked ? select.column_unsigned(0) : 0;
    const std::uint64_t expected = marked ? select.column_unsigned(1) : 0;
    if (!marked || hash_numbers({last, expected}) != select.column_unsigned(2)) {
        return fail(ErrorCode::kDataLoss,
                    path + ": its mark is damaged; restore the file from a backup");
    }
    if (last != seq || expected != found) {
        return fail(ErrorCode::kDataLoss, path + " ends at batch " + std::to_string(seq) +
                                              " with " + std::to_string(found) +
                                              " entries, but was left at " + std::to_string(last) +
                                              " with " + std::to_string(expected) +
                                              "; restore it from a backup");
    }
    entries = found;
    return {};
}

tl::unexpected<Error> Ledger::Impl::stop_acknowledging(Error error) {
    failure = std::move(error).with("ledger stopped acknowledging");
    failed = true;
    seq_at_failure = last_seq;
    forget_statements();
    db.close();
    return fail(*failure);
}

Status Ledger::Impl::set_mark(std::uint64_t seq) {
    update_mark.bind(1, seq);
    update_mark.bind(2, entries);
    update_mark.bind(3, hash_numbers({seq, entries}));
    return update_mark.run();
}

Status Ledger::Impl::insert(const Batch& batch) {
    insert_batch.bind(1, batch.seq);
    insert_batch.bind(2, batch.first_leaf);
    insert_batch.bind(3, std::uint64_t{batch.leaf_count});
    insert_batch.bind(4, hash_batch(batch));
    insert_batch.bind_blob(5, batch.frames);
    const std::lock_guard hold(writer);
    REEVE_TRY(begin.run());
    REEVE_TRY(insert_batch.run());
    REEVE_TRY(set_mark(batch.seq));
    return end.run();
}

Status Ledger::commit(std::string_view frames, std::uint64_t first_leaf, std::uint32_t leaf_count,
                      bool flushed) {
    Impl& impl = *impl_;
    if (impl.failure) return fail(*impl.failure);
    const Batch batch{impl.last_seq + 1, first_leaf, leaf_count, frames};
    if (frames.size() > kBatchBytesMax) {
        return fail(ErrorCode::kInvalidArgument, "a ledger batch over 256 MiB");
    }
    if (batch.seq > 1 && first_leaf != impl.next_leaf) {
        return fail(ErrorCode::kInternal, "batch " + std::to_string(batch.seq) +
                                              " starts at leaf " + std::to_string(first_leaf) +
                                              ", the ledger is at " +
                                              std::to_string(impl.next_leaf));
    }
    if (impl.flush_failed) {
        return impl.stop_acknowledging(
            {ErrorCode::kDataLoss,
             impl.path + ": a flush failed; what it was for is written anew"});
    }
    REEVE_FAILPOINT("ledger_before_commit");
    if (auto inserted = impl.insert(batch); !inserted) {
        return impl.stop_acknowledging(std::move(inserted).error());
    }
    impl.unflushed = true;
    if (flushed) {
        if (auto done = flush(); !done) return impl.stop_acknowledging(std::move(done).error());
    }
    REEVE_FAILPOINT("ledger_after_commit");
    impl.last_seq = batch.seq;
    impl.next_leaf = first_leaf + leaf_count;
    ++impl.commits;
    if (impl.pending_bytes() >= impl.options.passive_bytes) impl.nudge();
    return {};
}

// By a descriptor of its own: SQLite holds no locks on the log, so closing it takes none away. A
// log that a checkpoint has begun anew meanwhile was flushed by it.
Status Ledger::flush() {
    Impl& impl = *impl_;
    if (impl.options.durable) return {};
    const std::lock_guard one(impl.flushing);  // who comes second returns when all is flushed
    if (impl.flush_failed) return fail(ErrorCode::kDataLoss, impl.path + ": a flush failed");
    if (!impl.unflushed.exchange(false)) return {};
    const auto wal = impl.path + "-wal";
    const int fd = ::open(wal.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    const int rc = fd < 0 ? -1 : fdatasync(fd);
    const int error = errno;
    if (fd >= 0) close(fd);
    if (rc == 0) return {};
    impl.unflushed = true;
    impl.flush_failed = true;
    return fail_errno("flush " + wal, error);
}

Status Ledger::reopen() {
    Impl& impl = *impl_;
    if (!impl.failure) return {};
    const std::lock_guard hold(impl.aux_mutex);
    impl.close_files();
    if (auto opened = impl.open_files(true); !opened) {
        impl.close_files();
        impl.failure = std::move(opened).error().with("ledger stopped acknowledging");
        return fail(*impl.failure);
    }
    impl.failure.reset();
    impl.failed = false;
    return {};
}

Status Ledger::resume_commit(std::string_view frames, std::uint64_t first_leaf,
                             std::uint32_t leaf_count) {
    Impl& impl = *impl_;
    const std::uint64_t known = impl.failure ? impl.seq_at_failure : impl.last_seq.load();
    REEVE_TRY(reopen());
    if (impl.last_seq == known) return commit(frames, first_leaf, leaf_count, true);
    Batch there;
    bool same = false;
    REEVE_TRY(for_each_batch(known, [&](const Batch& batch) -> Status {
        same = batch.seq == known + 1 && batch.first_leaf == first_leaf &&
               batch.leaf_count == leaf_count && batch.frames == frames;
        return {};
    }));
    if (!same || impl.last_seq != known + 1) {
        return fail(ErrorCode::kDataLoss, impl.path +
                                              " holds another batch than the one whose "
                                              "commit failed; restart the PLM");
    }
    return {};
}

bool Ledger::failed() const {
    return impl_->failed;
}

Status Ledger::Impl::put_meta_row(std::string_view key, std::string_view value) {
    insert_meta.bind_text(1, key);
    insert_meta.bind_blob(2, value);
    insert_meta.bind(3, hash_meta(key, value));
    const std::lock_guard hold(writer);
    auto written = write_transaction(db, [this]() -> Status {
        REEVE_TRY(insert_meta.run());
        REEVE_TRY_ASSIGN(const std::int64_t count, db.query_integer("SELECT count(*) FROM meta"));
        entries = static_cast<std::uint64_t>(count);
        return set_mark(last_seq);
    });
    unflushed = true;
    return written;
}

Status Ledger::put_meta(std::string_view key, std::string_view value) {
    if (impl_->failure) return fail(*impl_->failure);
    if (auto put = impl_->put_meta_row(key, value); !put) {
        return impl_->stop_acknowledging(std::move(put).error());
    }
    return {};
}

Result<std::string> Ledger::get_meta(std::string_view key) {
    if (impl_->failure) return fail(*impl_->failure);
    return read_meta(impl_->db, key);
}

Status Ledger::for_each_batch(std::uint64_t after_seq, const BatchCallback& callback) {
    Impl& impl = *impl_;
    if (impl.failure) return fail(*impl.failure);
    REEVE_TRY_ASSIGN(const BatchWalk walk, walk_batches(impl.db, after_seq, callback));
    if (walk.last_seq != std::max<std::uint64_t>(impl.last_seq, after_seq)) {
        return fail(ErrorCode::kDataLoss, impl.path + ": batches after " +
                                              std::to_string(walk.last_seq) +
                                              " are missing; restore the file from a backup");
    }
    return {};
}

std::uint64_t Ledger::last_seq() const {
    return impl_->last_seq;
}
std::uint64_t Ledger::next_leaf() const {
    return impl_->next_leaf;
}
std::uint64_t Ledger::commits() const {
    return impl_->commits;
}
const std::string& Ledger::warning() const {
    return impl_->warning;
}

std::uint64_t Ledger::wal_bytes() const {
    struct stat info {};
    if (stat((impl_->path + "-wal").c_str(), &info) != 0) return 0;
    return static_cast<std::uint64_t>(info.st_size);
}

void Ledger::keep_batches_after(std::uint64_t seq) {
    impl_->keep_after = seq;
}

Status Ledger::write_snapshot(const std::vector<std::string>& parts, std::uint64_t up_to_seq) {
    return impl_->write_snapshot(parts, up_to_seq);
}

Status Ledger::maintain() {
    return impl_->maintain();
}

}  // namespace reeve::plm
