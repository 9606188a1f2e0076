#include "plm/ledger/history.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <mutex>
#include <thread>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log/log.h"
#include "plm/ledger/sqlite.h"

namespace reeve::plm {

namespace {

constexpr std::int64_t kApplicationId = 0x52484953;  // "RHIS"
constexpr std::int64_t kSchemaVersion = 3;
constexpr std::size_t kQueueBatchesMax = 65'536;
constexpr auto kRetryPause = std::chrono::seconds(1);

constexpr const char* kSchema =
    "BEGIN IMMEDIATE;"
    "CREATE TABLE job(id INTEGER PRIMARY KEY, uid INTEGER, name TEXT, priority INTEGER,"
    " submit_ns INTEGER, start_ns INTEGER, end_ns INTEGER, elements INTEGER, succeeded INTEGER,"
    " failed INTEGER, cancelled INTEGER, state TEXT, reason TEXT, spec BLOB,"
    " sla INTEGER, cost_nano INTEGER);"
    "CREATE TABLE attempt(job INTEGER, element INTEGER, attempt INTEGER, outcome TEXT,"
    " exit_code INTEGER, core_dumped INTEGER, detail TEXT, submit_ns INTEGER,"
    " assigned_ns INTEGER, started_ns INTEGER, ended_ns INTEGER, user_us INTEGER,"
    " system_us INTEGER, max_rss_bytes INTEGER, worker_number INTEGER,"
    " worker_incarnation INTEGER, worker_name TEXT, terminal INTEGER,"
    " deaths INTEGER, price_micro INTEGER, PRIMARY KEY(job, element, attempt)) WITHOUT ROWID;"
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value);"
    "CREATE VIEW task AS SELECT * FROM attempt WHERE terminal = 1;"
    "PRAGMA application_id=1380469075; PRAGMA user_version=3; COMMIT;";
constexpr const char* kFromVersion1 =
    "BEGIN IMMEDIATE; ALTER TABLE attempt ADD COLUMN deaths INTEGER DEFAULT 0;"
    "PRAGMA user_version=2; COMMIT;";
// What ran before cost nothing, and of whatever class it was, standard is what is known.
constexpr const char* kFromVersion2 =
    "BEGIN IMMEDIATE; ALTER TABLE attempt ADD COLUMN price_micro INTEGER DEFAULT 0;"
    "ALTER TABLE job ADD COLUMN sla INTEGER DEFAULT 1;"
    "ALTER TABLE job ADD COLUMN cost_nano INTEGER DEFAULT 0;"
    "PRAGMA user_version=3; COMMIT;";
static_assert(kApplicationId == 1380469075);

constexpr const char* kUpsertJob =
    "INSERT INTO job VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT(id) DO UPDATE SET"
    " uid=excluded.uid, name=excluded.name, priority=excluded.priority,"
    " submit_ns=excluded.submit_ns, start_ns=excluded.start_ns, end_ns=excluded.end_ns,"
    " elements=excluded.elements, succeeded=excluded.succeeded, failed=excluded.failed,"
    " cancelled=excluded.cancelled, state=excluded.state, reason=excluded.reason,"
    " spec=coalesce(excluded.spec, spec), sla=excluded.sla, cost_nano=excluded.cost_nano";
constexpr const char* kUpsertAttempt =
    "INSERT OR REPLACE INTO attempt VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)";
// Made when it is missing: a history from before function tasks has none.
constexpr const char* kResultTable =
    "CREATE TABLE IF NOT EXISTS result(job INTEGER, element INTEGER, attempt INTEGER, bytes BLOB,"
    " PRIMARY KEY(job, element, attempt)) WITHOUT ROWID;";
constexpr const char* kUpsertResult = "INSERT OR REPLACE INTO result VALUES(?,?,?,?)";
constexpr const char* kMark = "INSERT OR REPLACE INTO meta(key, value) VALUES('last_seq', ?)";

std::size_t rows_in(const HistoryRows& rows) {
    return rows.jobs.size() + rows.attempts.size() + 1;
}

Status upsert(Statement& statement, const JobRow& row) {
    statement.bind(1, row.id);
    statement.bind(2, std::uint64_t{row.uid});
    statement.bind_text(3, row.name);
    statement.bind(4, row.priority);
    statement.bind(5, row.submit_ns);
    statement.bind(6, row.start_ns);
    statement.bind(7, row.end_ns);
    statement.bind(8, row.elements);
    statement.bind(9, row.succeeded);
    statement.bind(10, row.failed);
    statement.bind(11, row.cancelled);
    statement.bind_text(12, row.state);
    statement.bind_text(13, row.reason);
    if (row.spec.empty()) {
        statement.bind_null(14);
    } else {
        statement.bind_blob(14, row.spec);
    }
    statement.bind(15, static_cast<std::int64_t>(row.sla));
    statement.bind(16, row.cost_nano);
    return statement.run();
}

Status upsert(Statement& statement, const AttemptRow& row) {
    statement.bind(1, row.job);
    statement.bind(2, row.element);
    statement.bind(3, std::uint64_t{row.attempt});
    statement.bind_text(4, row.outcome);
    statement.bind(5, std::int64_t{row.exit_code});
    statement.bind(6, std::int64_t{row.core_dumped});
    statement.bind_text(7, row.detail);
    statement.bind(8, row.submit_ns);
    statement.bind(9, row.assigned_ns);
    statement.bind(10, row.started_ns);
    statement.bind(11, row.ended_ns);
    statement.bind(12, row.user_us);
    statement.bind(13, row.system_us);
    statement.bind(14, row.max_rss_bytes);
    statement.bind(15, row.worker_number);
    statement.bind(16, row.worker_incarnation);
    statement.bind_text(17, row.worker_name);
    statement.bind(18, std::int64_t{row.terminal});
    statement.bind(19, std::uint64_t{row.deaths});
    statement.bind(20, std::uint64_t{row.price_micro});
    return statement.run();
}

Status write_result(Statement& statement, const AttemptRow& row) {
    statement.bind(1, row.job);
    statement.bind(2, row.element);
    statement.bind(3, std::uint64_t{row.attempt});
    statement.bind_blob(4, row.result);
    return statement.run();
}

Result<Database> open_file(const std::string& path) {
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0) close(fd);  // made; SQLite's own files copy its mode
    REEVE_TRY_ASSIGN(Database db, Database::open(path, Database::Mode::kReadWrite));
    REEVE_TRY(
        db.exec("PRAGMA page_size=16384; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
                "PRAGMA wal_autocheckpoint=1024; PRAGMA cache_size=-8192;"
                "PRAGMA temp_store=MEMORY; PRAGMA secure_delete=OFF;"
                "PRAGMA trusted_schema=OFF; PRAGMA journal_size_limit=67108864;"));
    REEVE_TRY_ASSIGN(const std::int64_t tables,
                     db.query_integer("SELECT count(*) FROM sqlite_schema"));
    if (tables == 0) REEVE_TRY(db.exec(kSchema));
    REEVE_TRY(db.exec(kResultTable));
    REEVE_TRY_ASSIGN(const std::int64_t id, db.query_integer("PRAGMA application_id"));
    REEVE_TRY_ASSIGN(std::int64_t version, db.query_integer("PRAGMA user_version"));
    if (id == kApplicationId && version == 1) {
        REEVE_TRY(db.exec(kFromVersion1));
        version = 2;
    }
    if (id == kApplicationId && version == 2) {
        REEVE_TRY(db.exec(kFromVersion2));
        version = kSchemaVersion;
    }
    if (id != kApplicationId || version != kSchemaVersion) {
        return fail(ErrorCode::kDataLoss, path + " is not a history file of this version");
    }
    return db;
}

// Damage costs nothing but the rows the ledger no longer holds: begin anew, keep the old file.
Result<Database> open_or_rebuild(const std::string& path) {
    auto db = open_file(path);
    if (db || db.error().code != ErrorCode::kDataLoss) return db;
    log::warn("history: damaged, rebuilding it from the ledger",
              {{"path", path}, {"kept", path + ".damaged"}, {"error", db.error().message}});
    if (rename(path.c_str(), (path + ".damaged").c_str()) != 0) {
        return fail_errno("rename " + path, errno);
    }
    unlink((path + "-wal").c_str());
    unlink((path + "-shm").c_str());
    return open_file(path);
}

}  // namespace

struct History::Impl {
    std::string path;
    CatchUp catch_up;
    HistoryOptions options;

    Database db;
    Statement upsert_job;
    Statement upsert_attempt;
    Statement upsert_result;
    Statement mark;
    std::size_t open_rows = 0;   // in the transaction under way
    std::uint64_t open_seq = 0;  // newest seq in it

    std::mutex mutex;
    std::condition_variable wake;
    std::condition_variable idle;
    std::deque<HistoryRows> queue;
    std::size_t queued_rows = 0;
    bool busy = true;  // rows were taken and are not in the file yet
    bool stopping = false;
    std::atomic<bool> behind{true};
    std::atomic<std::uint64_t> last_seq{0};
    std::uint64_t pushed_seq = 0;    // newest seq given to push()
    std::uint64_t flush_wanted = 0;  // make_durable waits for this seq, 0: nobody does
    std::uint64_t flushes_asked = 0;
    std::uint64_t flushes_done = 0;
    std::thread thread;

    Status prepare();
    void run();
    Status round();
    Status catch_up_now();
    Status write_queue();
    Status write(const HistoryRows& rows);
    Status finish_transaction();
    Status flush_if_wanted();
    bool flush_is_due() const { return flushes_done != flushes_asked && last_seq >= flush_wanted; }
    void abandon();
    void forget_statements() {
        upsert_job = Statement();
        upsert_attempt = Statement();
        upsert_result = Statement();
        mark = Statement();
    }
};

Status History::Impl::prepare() {
    forget_statements();
    REEVE_TRY_ASSIGN(db, open_or_rebuild(path));
    REEVE_TRY_ASSIGN(upsert_job, db.prepare(kUpsertJob));
    REEVE_TRY_ASSIGN(upsert_attempt, db.prepare(kUpsertAttempt));
    REEVE_TRY_ASSIGN(upsert_result, db.prepare(kUpsertResult));
    REEVE_TRY_ASSIGN(mark, db.prepare(kMark));
    REEVE_TRY_ASSIGN(const std::int64_t seq,
                     db.query_integer("SELECT value FROM meta WHERE key='last_seq'"));
    last_seq = static_cast<std::uint64_t>(seq);
    open_rows = 0;
    open_seq = last_seq;
    return {};
}

void History::Impl::run() {
    std::unique_lock hold(mutex);
    while (true) {
        busy = behind && catch_up;
        if (!busy && queue.empty()) idle.notify_all();
        wake.wait(hold, [this] {
            return stopping || !queue.empty() || (behind && catch_up) || flush_is_due();
        });
        if (stopping && queue.empty()) return;
        busy = true;
        hold.unlock();
        const Status done = round();
        hold.lock();
        if (done) continue;
        log::warn("history: cannot write, will catch up from the ledger",
                  {{"path", path}, {"error", done.error().message}});
        queue.clear();
        queued_rows = 0;
        behind = true;
        if (stopping) return;
        wake.wait_for(hold, kRetryPause, [this] { return stopping; });
        hold.unlock();
        abandon();
        hold.lock();
    }
}

// After an error the connection is opened anew (this also replaces a damaged file).
void History::Impl::abandon() {
    forget_statements();
    db.close();
    if (auto opened = prepare(); !opened) {
        log::warn("history: cannot open", {{"path", path}, {"error", opened.error().message}});
    }
}

Status History::Impl::round() {
    if (!mark) return fail(ErrorCode::kUnavailable, path + " is not open");
    if (behind && catch_up) {
        behind = false;  // from here on pushes are queued again
        if (auto caught = catch_up_now(); !caught) return caught;
    }
    REEVE_TRY(write_queue());
    return flush_if_wanted();
}

// A checkpoint flushes the log before it copies it: everything committed is safe from then on.
Status History::Impl::flush_if_wanted() {
    std::uint64_t asked = 0;
    {
        const std::lock_guard hold(mutex);
        if (!flush_is_due()) return {};
        asked = flushes_asked;
    }
    REEVE_TRY(db.exec("PRAGMA wal_checkpoint(PASSIVE)"));
    {
        const std::lock_guard hold(mutex);
        flushes_done = asked;
    }
    idle.notify_all();
    return {};
}

Status History::Impl::catch_up_now() {
    Status written;
    const Status read = catch_up(last_seq, [&](const HistoryRows& rows) {
        written = write(rows);
        return written.has_value();
    });
    REEVE_TRY(written);
    REEVE_TRY(finish_transaction());
    if (!read && read.error().code == ErrorCode::kOutOfRange) {
        log::warn("history: the ledger no longer holds all that is missing",
                  {{"path", path}, {"error", read.error().message}});
        return {};
    }
    return read;
}

Status History::Impl::write_queue() {
    std::deque<HistoryRows> todo;
    {
        const std::lock_guard hold(mutex);
        todo.swap(queue);
        queued_rows = 0;
    }
    for (const HistoryRows& rows : todo) REEVE_TRY(write(rows));
    return finish_transaction();
}

Status History::Impl::write(const HistoryRows& rows) {
    if (rows.seq <= open_seq) return {};
    if (open_rows == 0) REEVE_TRY(db.exec("BEGIN IMMEDIATE"));
    for (const JobRow& row : rows.jobs) REEVE_TRY(upsert(upsert_job, row));
    for (const AttemptRow& row : rows.attempts) {
        REEVE_TRY(upsert(upsert_attempt, row));
        if (!row.result.empty()) REEVE_TRY(write_result(upsert_result, row));
    }
    open_rows += rows_in(rows);
    open_seq = rows.seq;
    if (open_rows >= options.transaction_rows) return finish_transaction();
    return {};
}

Status History::Impl::finish_transaction() {
    if (open_rows == 0) return {};
    mark.bind(1, open_seq);
    REEVE_TRY(mark.run());
    REEVE_TRY(db.exec("COMMIT"));
    open_rows = 0;
    last_seq = open_seq;
    return {};
}

History::History(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

History::~History() {
    {
        const std::lock_guard hold(impl_->mutex);
        impl_->stopping = true;
    }
    impl_->wake.notify_all();
    if (impl_->thread.joinable()) impl_->thread.join();
}

Result<std::unique_ptr<History>> History::open(const std::string& path, CatchUp catch_up,
                                               const HistoryOptions& options) {
    auto impl = std::make_unique<Impl>();
    impl->path = path;
    impl->catch_up = std::move(catch_up);
    impl->options = options;
    if (!impl->catch_up) impl->behind = false;
    REEVE_TRY(impl->prepare());
    impl->thread = std::thread([raw = impl.get()] { raw->run(); });
    return std::unique_ptr<History>(new History(std::move(impl)));
}

bool History::push(HistoryRows rows) {
    Impl& impl = *impl_;
    const std::size_t size = rows_in(rows);
    {
        const std::lock_guard hold(impl.mutex);
        impl.pushed_seq = rows.seq;
        if (impl.behind && impl.catch_up) return false;
        if (impl.queue.size() < kQueueBatchesMax &&
            impl.queued_rows + size <= impl.options.queue_rows) {
            impl.queued_rows += size;
            impl.queue.push_back(std::move(rows));
            impl.wake.notify_one();
            return true;
        }
        impl.behind = true;
    }
    impl.wake.notify_one();
    return false;
}

std::uint64_t History::last_seq() const {
    return impl_->last_seq;
}
bool History::behind() const {
    return impl_->behind;
}

Status History::make_durable(std::uint64_t timeout_ms) {
    Impl& impl = *impl_;
    std::unique_lock hold(impl.mutex);
    impl.flush_wanted = impl.pushed_seq;
    const std::uint64_t mine = ++impl.flushes_asked;
    impl.wake.notify_one();
    const bool done = impl.idle.wait_for(hold, std::chrono::milliseconds(timeout_ms),
                                         [&] { return impl.flushes_done >= mine; });
    if (done) return {};
    return fail(ErrorCode::kDeadlineExceeded,
                impl.path + ": the history is still behind; it will be tried again");
}

bool History::wait_idle(std::uint64_t timeout_ms) {
    std::unique_lock hold(impl_->mutex);
    return impl_->idle.wait_for(hold, std::chrono::milliseconds(timeout_ms), [this] {
        return impl_->queue.empty() && !impl_->busy && !impl_->behind;
    });
}

}  // namespace reeve::plm
