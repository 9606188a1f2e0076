#include "plm/ledger/history_file.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/assert.h"
#include "common/log/log.h"
#include "plm/ledger/history_schema.h"

namespace reeve::plm {

namespace {

constexpr const char* kUpsertJob =
    "INSERT INTO job_row(id, uid, name, priority, submit_ns, start_ns, end_ns, elements,"
    " succeeded, failed, cancelled, state, reason, sla, cost_nano)"
    " VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT(id) DO UPDATE SET"
    " name=excluded.name, priority=excluded.priority,"
    " submit_ns=excluded.submit_ns, start_ns=excluded.start_ns, end_ns=excluded.end_ns,"
    " elements=excluded.elements, succeeded=excluded.succeeded, failed=excluded.failed,"
    " cancelled=excluded.cancelled, state=excluded.state, reason=excluded.reason,"
    " sla=excluded.sla, cost_nano=excluded.cost_nano";
constexpr const char* kInsertSpec = "INSERT OR REPLACE INTO job_spec VALUES(?,?)";
constexpr const char* kInsertPack =
    "INSERT INTO attempt_pack VALUES(NULL,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)";
constexpr const char* kSelectPacks =
    "SELECT number, submit_ns, rows FROM attempt_pack"
    " WHERE job = ? AND block = ? AND attempt = ? AND first <= ? AND last >= ?";
constexpr const char* kSelectPack = "SELECT submit_ns, rows FROM attempt_pack WHERE number = ?";
constexpr const char* kUpdatePack = "UPDATE attempt_pack SET rows = ?, count = ? WHERE number = ?";
constexpr const char* kDeletePack = "DELETE FROM attempt_pack WHERE number = ?";
constexpr const char* kDeleteAttempt =
    "DELETE FROM attempt_row WHERE job = ? AND element = ? AND attempt = ?";
constexpr const char* kDeleteResult =
    "DELETE FROM result_row WHERE job = ? AND element = ? AND attempt = ?";
constexpr const char* kMark = "INSERT OR REPLACE INTO meta(key, value) VALUES('last_seq', ?)";

constexpr std::int64_t kKeptInCache = 4 << 20;  // of the end of the file

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
    if (tables == 0) {
        REEVE_TRY(db.exec(std::string("BEGIN IMMEDIATE;") + history::kTables +
                          history::kPacksAndViews + "COMMIT;"));
    }
    REEVE_TRY_ASSIGN(const std::int64_t id, db.query_integer("PRAGMA application_id"));
    REEVE_TRY_ASSIGN(std::int64_t version, db.query_integer("PRAGMA user_version"));
    if (id == history::kApplicationId && version >= 1 && version < history::kVersion) {
        REEVE_TRY(db.exec("BEGIN IMMEDIATE"));
        for (; version < history::kVersion; ++version) {
            REEVE_TRY(db.exec(history::kUpgrades[static_cast<std::size_t>(version) - 1]));
        }
        REEVE_TRY(db.exec(std::string(history::kPacksAndViews) + "COMMIT;"));
    }
    if (id != history::kApplicationId || version != history::kVersion) {
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

void HistoryFile::close() {
    for (Statement* statement :
         {&upsert_job_, &insert_spec_, &insert_pack_, &select_packs_, &select_pack_, &update_pack_,
          &delete_pack_, &delete_attempt_, &delete_result_, &mark_}) {
        *statement = Statement();
    }
    db_.close();
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
    packs_.clear();
    jobs_.clear();
    rows_ = 0;
    begun_ = false;
}

Status HistoryFile::open(const std::string& path) {
    close();
    REEVE_TRY_ASSIGN(db_, open_or_rebuild(path));
    REEVE_TRY_ASSIGN(upsert_job_, db_.prepare(kUpsertJob));
    REEVE_TRY_ASSIGN(insert_spec_, db_.prepare(kInsertSpec));
    REEVE_TRY_ASSIGN(insert_pack_, db_.prepare(kInsertPack));
    REEVE_TRY_ASSIGN(select_packs_, db_.prepare(kSelectPacks));
    REEVE_TRY_ASSIGN(select_pack_, db_.prepare(kSelectPack));
    REEVE_TRY_ASSIGN(update_pack_, db_.prepare(kUpdatePack));
    REEVE_TRY_ASSIGN(delete_pack_, db_.prepare(kDeletePack));
    REEVE_TRY_ASSIGN(delete_attempt_, db_.prepare(kDeleteAttempt));
    REEVE_TRY_ASSIGN(delete_result_, db_.prepare(kDeleteResult));
    REEVE_TRY_ASSIGN(const std::int64_t single,
                     db_.query_integer("SELECT EXISTS(SELECT 1 FROM attempt_row)"));
    REEVE_TRY_ASSIGN(const std::int64_t seq,
                     db_.query_integer("SELECT value FROM meta WHERE key='last_seq'"));
    REEVE_TRY_ASSIGN(mark_, db_.prepare(kMark));
    single_rows_ = single != 0;
    last_seq_ = static_cast<std::uint64_t>(seq);
    open_seq_ = last_seq_;
    fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat info {};
    dropped_to_ = fd_ >= 0 && ::fstat(fd_, &info) == 0 ? info.st_size : 0;
    return {};
}

Status HistoryFile::flush() {
    REEVE_TRY(db_.exec("PRAGMA wal_checkpoint(PASSIVE)"));
    drop_from_cache();
    return {};
}

// What was added to the file is seldom read, and never soon: the memory in which the system keeps
// a copy is better used for what is written next. Once: what somebody reads afterwards stays.
void HistoryFile::drop_from_cache() {
    struct stat info {};
    if (fd_ < 0 || ::fstat(fd_, &info) != 0) return;
    const auto end = info.st_size - kKeptInCache;
    if (end <= dropped_to_) return;
    (void)::posix_fadvise(fd_, dropped_to_, end - dropped_to_, POSIX_FADV_DONTNEED);
    dropped_to_ = end;
}

Status HistoryFile::add(HistoryRows& rows) {
    if (rows.seq <= open_seq_) return {};
    for (JobRow& row : rows.jobs) add_job(row);
    for (const EndedRow& row : rows.ended) {
        if (packs_.add(rows, row)) continue;
        // Told twice since the last commit: the later one counts.
        REEVE_TRY(write_packs());
        REEVE_ASSERT(packs_.add(rows, row));
    }
    rows_ += rows.weight();
    open_seq_ = rows.seq;
    return {};
}

void HistoryFile::add_job(JobRow& row) {
    auto& known = jobs_[row.id];
    if (row.spec.empty()) row.spec = std::move(known.spec);
    known = std::move(row);
}

Status HistoryFile::commit() {
    if (open_seq_ == last_seq_) return {};
    REEVE_TRY(begin());
    REEVE_TRY(write_jobs());
    REEVE_TRY(write_packs());
    mark_.bind(1, open_seq_);
    REEVE_TRY(mark_.run());
    REEVE_TRY(db_.exec("COMMIT"));
    begun_ = false;
    rows_ = 0;
    last_seq_ = open_seq_;
    return {};
}

Status HistoryFile::begin() {
    if (begun_) return {};
    REEVE_TRY(db_.exec("BEGIN IMMEDIATE"));
    begun_ = true;
    return {};
}

Status HistoryFile::write_jobs() {
    std::vector<const JobRow*> sorted;
    sorted.reserve(jobs_.size());
    for (const auto& [id, row] : jobs_) sorted.push_back(&row);
    std::sort(sorted.begin(), sorted.end(),
              [](const JobRow* a, const JobRow* b) { return a->id < b->id; });
    for (const JobRow* row : sorted) REEVE_TRY(write_job(*row));
    jobs_.clear();
    return {};
}

Status HistoryFile::write_job(const JobRow& row) {
    Statement& job = upsert_job_;
    job.bind(1, row.id);
    job.bind(2, std::uint64_t{row.uid});
    job.bind_text(3, row.name);
    job.bind(4, row.priority);
    job.bind(5, row.submit_ns);
    job.bind(6, row.start_ns);
    job.bind(7, row.end_ns);
    job.bind(8, row.elements);
    job.bind(9, row.succeeded);
    job.bind(10, row.failed);
    job.bind(11, row.cancelled);
    job.bind_text(12, row.state);
    job.bind_text(13, row.reason);
    job.bind(14, static_cast<std::int64_t>(row.sla));
    job.bind(15, row.cost_nano);
    REEVE_TRY(job.run());
    if (row.spec.empty()) return {};
    insert_spec_.bind(1, row.id);
    insert_spec_.bind_blob(2, row.spec);
    return insert_spec_.run();
}

Status HistoryFile::write_packs() {
    if (packs_.packs().empty()) return {};
    REEVE_TRY(begin());
    for (Pack& pack : packs_.packs()) {
        pack.rows += ']';
        REEVE_TRY(drop_told_before(pack));
        REEVE_TRY(write_pack(pack));
    }
    packs_.clear();
    return {};
}

Status HistoryFile::write_pack(const Pack& pack) {
    Statement& insert = insert_pack_;
    insert.bind(1, pack.job);
    insert.bind(2, pack.block);
    insert.bind(3, pack.first);
    insert.bind(4, pack.last);
    insert.bind(5, pack.count);
    insert.bind(6, std::uint64_t{pack.as.attempt});
    insert.bind_text(7, to_string(pack.as.outcome));
    insert.bind(8, std::int64_t{pack.as.exit_code});
    insert.bind(9, std::int64_t{pack.as.core_dumped});
    insert.bind_text(10, pack.detail);
    insert.bind(11, pack.as.submit_ns);
    insert.bind(12, pack.first_end_ns);
    insert.bind(13, pack.last_end_ns);
    insert.bind(14, pack.as.worker.number);
    insert.bind(15, pack.as.worker.incarnation);
    insert.bind_text(16, pack.worker_name);
    insert.bind(17, std::int64_t{pack.as.terminal});
    insert.bind(18, std::uint64_t{pack.as.deaths});
    insert.bind(19, std::uint64_t{pack.as.price_micro});
    insert.bind_text(20, pack.rows);
    if (pack.results.empty()) {
        insert.bind_null(21);
    } else {
        insert.bind_blob(21, pack.results);
    }
    return insert.run();
}

// An attempt is told again when its task was cancelled before it had another: the later one counts.
Status HistoryFile::drop_told_before(const Pack& pack) {
    std::vector<std::uint64_t> numbers;
    select_packs_.bind(1, pack.job);
    select_packs_.bind(2, pack.block);
    select_packs_.bind(3, std::uint64_t{pack.as.attempt});
    select_packs_.bind(4, pack.last);
    select_packs_.bind(5, pack.first);
    while (true) {
        REEVE_TRY_ASSIGN(const bool row, select_packs_.step());
        if (!row) break;
        ElementSet known;
        const bool whole =
            for_each_packed_row(select_packs_.column_blob(2), select_packs_.column_unsigned(1),
                                [&known](const PackedRow& packed) { known.add(packed.element); });
        if (!whole) {
            log::warn("history: a pack of attempts is damaged",
                      {{"path", db_.path()}, {"number", select_packs_.column_unsigned(0)}});
        }
        if (known.meets(pack.elements)) numbers.push_back(select_packs_.column_unsigned(0));
    }
    select_packs_.reset();
    for (const auto number : numbers) REEVE_TRY(drop_from_pack(number, pack));
    return single_rows_ ? drop_single_rows(pack) : Status{};
}

Status HistoryFile::drop_from_pack(std::uint64_t number, const Pack& told_again) {
    select_pack_.bind(1, number);
    REEVE_TRY_ASSIGN(const bool found, select_pack_.step());
    REEVE_ASSERT(found);
    const auto submit_ns = select_pack_.column_unsigned(0);
    std::string rows;
    std::uint64_t count = 0;
    (void)for_each_packed_row(select_pack_.column_blob(1), submit_ns, [&](const PackedRow& row) {
        if (told_again.elements.has(row.element)) return;
        append_packed_row(rows, submit_ns, row);
        ++count;
    });
    select_pack_.reset();
    if (count == 0) {
        delete_pack_.bind(1, number);
        return delete_pack_.run();
    }
    rows += ']';
    update_pack_.bind_text(1, rows);
    update_pack_.bind(2, count);
    update_pack_.bind(3, number);
    return update_pack_.run();
}

Status HistoryFile::drop_single_rows(const Pack& pack) {
    for (auto element = pack.first; element <= pack.last; ++element) {
        if (!pack.elements.has(element)) continue;
        for (Statement* statement : {&delete_attempt_, &delete_result_}) {
            statement->bind(1, pack.job);
            statement->bind(2, pack.block * kPackedBlock + element);
            statement->bind(3, std::uint64_t{pack.as.attempt});
            REEVE_TRY(statement->run());
        }
    }
    return {};
}

}  // namespace reeve::plm
