// A thin, owning layer over SQLite's C interface: a connection, a statement, errors as Results.
//
// A connection and its statements belong to one thread at a time (opened with NOMUTEX). Error
// codes: full disk or quota -> kResourceExhausted, failed I/O or a damaged file -> kDataLoss, busy
// -> kUnavailable, all else -> kInternal. Messages name the file and, where there is one, the cure.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "common/base/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace reeve::plm {

class Statement {
public:
    Statement() = default;
    Statement(sqlite3* db, sqlite3_stmt* raw, const std::string* path)
        : db_(db), raw_(raw), path_(path) {}
    ~Statement();
    Statement(Statement&& other) noexcept { swap(other); }
    Statement& operator=(Statement&& other) noexcept {
        swap(other);
        return *this;
    }

    // Positions count from 1. Bytes are not copied: they must live until reset() or run().
    void bind(int position, std::int64_t value);
    void bind(int position, std::uint64_t value) {
        bind(position, static_cast<std::int64_t>(value));
    }
    void bind_blob(int position, std::string_view bytes);
    void bind_text(int position, std::string_view text);
    void bind_null(int position);

    Result<bool> step();  // true: a row is there
    Status run();         // one step that yields no row (or ignores it), then reset
    void reset();

    std::int64_t column(int index) const;  // from 0
    std::uint64_t column_unsigned(int index) const {
        return static_cast<std::uint64_t>(column(index));
    }
    std::string_view column_blob(int index) const;  // valid until the next step or reset
    bool column_null(int index) const;
    explicit operator bool() const { return raw_ != nullptr; }

private:
    void swap(Statement& other) {
        std::swap(db_, other.db_);
        std::swap(raw_, other.raw_);
        std::swap(path_, other.path_);
    }
    sqlite3* db_ = nullptr;
    sqlite3_stmt* raw_ = nullptr;
    const std::string* path_ = nullptr;
};

class Database {
public:
    enum class Mode : std::uint8_t { kCreate, kReadWrite, kReadOnly };

    static Result<Database> open(const std::string& path, Mode mode);

    Database() = default;
    ~Database() { close(); }
    Database(Database&& other) noexcept { swap(other); }
    Database& operator=(Database&& other) noexcept {
        swap(other);
        return *this;
    }

    Status exec(const char* sql);
    Status exec(const std::string& sql) { return exec(sql.c_str()); }
    Result<Statement> prepare(const char* sql);
    Result<std::int64_t> query_integer(const char* sql);  // first column of the first row, else 0

    // Waits at most this long for another connection's lock, looking every 50 us.
    void set_busy_wait_us(std::int64_t wait_us);
    sqlite3* raw() const { return raw_; }
    const std::string& path() const { return shared_->path; }
    bool is_open() const { return raw_ != nullptr; }
    void close();  // never checkpoints; statements must be gone

private:
    struct Shared {  // at a stable address: statements and the busy handler point here
        std::string path;
        std::int64_t busy_wait_us = 0;
    };
    void swap(Database& other) {
        std::swap(raw_, other.raw_);
        std::swap(shared_, other.shared_);
    }
    sqlite3* raw_ = nullptr;
    std::unique_ptr<Shared> shared_;
};

// What the connection's last error means; `rc` is SQLite's (extended) code.
Error sqlite_error(sqlite3* db, int rc, std::string_view path);

}  // namespace reeve::plm
