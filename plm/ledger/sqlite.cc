#include "plm/ledger/sqlite.h"

#include <cerrno>
#include <ctime>

#include <sqlite3.h>

#include "common/base/assert.h"

namespace reeve::plm {

namespace {

constexpr std::int64_t kBusyLookUs = 50;
constexpr std::int64_t kBusyWaitUs = 10'000'000;

int wait_a_little(void* limit_us, int times) {
    if (times * kBusyLookUs >= *static_cast<std::int64_t*>(limit_us)) return 0;
    const timespec pause{0, kBusyLookUs * 1000};
    nanosleep(&pause, nullptr);
    return 1;
}

}  // namespace

Error sqlite_error(sqlite3* db, int rc, std::string_view path) {
    const int extended = db != nullptr ? sqlite3_extended_errcode(db) : rc;
    const int system_error = db != nullptr ? sqlite3_system_errno(db) : 0;
    std::string message(path);
    message += ": ";
    message += db != nullptr ? sqlite3_errmsg(db) : sqlite3_errstr(rc);
    switch (rc & 0xFF) {
        case SQLITE_FULL:
            return {ErrorCode::kResourceExhausted, message + "; free space on its file system"};
        case SQLITE_IOERR:
            if (system_error == ENOSPC || system_error == EDQUOT ||
                extended == SQLITE_IOERR_SHMSIZE) {
                return {ErrorCode::kResourceExhausted, message + "; free space on its file system"};
            }
            message += " (code " + std::to_string(extended) + ", errno " +
                       std::to_string(system_error) + "); check the disk and the kernel log";
            return {ErrorCode::kDataLoss, message};
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
            return {ErrorCode::kDataLoss,
                    message +
                        "; the file is damaged: keep a copy of it and restore it from a "
                        "backup, or use a new --state-dir"};
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
            return {ErrorCode::kUnavailable, message + "; another program is holding it"};
        case SQLITE_CANTOPEN:
        case SQLITE_PERM:
        case SQLITE_READONLY:
            return {system_error == ENOENT ? ErrorCode::kNotFound : ErrorCode::kPermissionDenied,
                    message + "; check that the file exists and belongs to this user"};
        default:
            return {ErrorCode::kInternal,
                    message + " (sqlite code " + std::to_string(extended) + ")"};
    }
}

Statement::~Statement() {
    if (raw_ != nullptr) sqlite3_finalize(raw_);
}

void Statement::bind(int position, std::int64_t value) {
    const int rc = sqlite3_bind_int64(raw_, position, value);
    REEVE_ASSERT(rc == SQLITE_OK);
}

// The bytes outlive the statement's run, hence no copy. A null pointer would bind NULL.
void Statement::bind_blob(int position, std::string_view bytes) {
    const char* data = bytes.data() != nullptr ? bytes.data() : "";
    const int rc = sqlite3_bind_blob64(raw_, position, data, bytes.size(), SQLITE_STATIC);
    REEVE_ASSERT(rc == SQLITE_OK || rc == SQLITE_TOOBIG || rc == SQLITE_NOMEM);
}

void Statement::bind_text(int position, std::string_view text) {
    const char* data = text.data() != nullptr ? text.data() : "";
    const int rc =
        sqlite3_bind_text64(raw_, position, data, text.size(), SQLITE_STATIC, SQLITE_UTF8);
    REEVE_ASSERT(rc == SQLITE_OK || rc == SQLITE_TOOBIG || rc == SQLITE_NOMEM);
}

void Statement::bind_null(int position) {
    sqlite3_bind_null(raw_, position);
}

Result<bool> Statement::step() {
    const int rc = sqlite3_step(raw_);
    if (rc == SQLITE_ROW) return true;
    if (rc == SQLITE_DONE) return false;
    return fail(sqlite_error(db_, rc, *path_));
}

Status Statement::run() {
    auto stepped = step();
    reset();
    if (!stepped) return fail(std::move(stepped).error());
    return {};
}

void Statement::reset() {
    sqlite3_reset(raw_);
}

std::int64_t Statement::column(int index) const {
    return sqlite3_column_int64(raw_, index);
}

std::string_view Statement::column_blob(int index) const {
    const auto* data = static_cast<const char*>(sqlite3_column_blob(raw_, index));
    const int size = sqlite3_column_bytes(raw_, index);
    return data == nullptr ? std::string_view{}
                           : std::string_view(data, static_cast<std::size_t>(size));
}

bool Statement::column_null(int index) const {
    return sqlite3_column_type(raw_, index) == SQLITE_NULL;
}

Result<Database> Database::open(const std::string& path, Mode mode) {
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE | SQLITE_OPEN_EXRESCODE;
    switch (mode) {
        case Mode::kCreate:
            flags |= SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
            break;
        case Mode::kReadWrite:
            flags |= SQLITE_OPEN_READWRITE;
            break;
        case Mode::kReadOnly:
            flags |= SQLITE_OPEN_READONLY;
            break;
    }
    Database db;
    db.shared_ = std::make_unique<Shared>(Shared{path, kBusyWaitUs});
    const int rc = sqlite3_open_v2(path.c_str(), &db.raw_, flags, nullptr);
    if (rc != SQLITE_OK) return fail(sqlite_error(db.raw_, rc, path));
    sqlite3_busy_handler(db.raw_, wait_a_little, &db.shared_->busy_wait_us);
    // A close that checkpoints would write through a handle that may just have failed to flush.
    sqlite3_db_config(db.raw_, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
    return db;
}

Status Database::exec(const char* sql) {
    const int rc = sqlite3_exec(raw_, sql, nullptr, nullptr, nullptr);
    if (rc != SQLITE_OK) return fail(sqlite_error(raw_, rc, shared_->path));
    return {};
}

Result<Statement> Database::prepare(const char* sql) {
    sqlite3_stmt* raw = nullptr;
    const int rc = sqlite3_prepare_v3(raw_, sql, -1, SQLITE_PREPARE_PERSISTENT, &raw, nullptr);
    if (rc != SQLITE_OK) return fail(sqlite_error(raw_, rc, shared_->path));
    return Statement(raw_, raw, &shared_->path);
}

Result<std::int64_t> Database::query_integer(const char* sql) {
    REEVE_TRY_ASSIGN(Statement statement, prepare(sql));
    REEVE_TRY_ASSIGN(const bool row, statement.step());
    return row ? statement.column(0) : 0;
}

void Database::set_busy_wait_us(std::int64_t wait_us) {
    shared_->busy_wait_us = wait_us;
}

void Database::close() {
    if (raw_ != nullptr) {
        const int rc = sqlite3_close(raw_);
        REEVE_ASSERT(rc == SQLITE_OK);  // a statement still lives otherwise
    }
    raw_ = nullptr;
    shared_.reset();
}

}  // namespace reeve::plm
