// What the two halves of the history's reader share (history.cc: jobs, history_tasks.cc: tasks).
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace reeve::cli {

// One prepared statement; columns are read by position.
class Statement {
public:
    Statement(sqlite3* database, const std::string& sql) {
        if (sqlite3_prepare_v2(database, sql.c_str(), -1, &statement_, nullptr) != SQLITE_OK) {
            statement_ = nullptr;
        }
    }
    ~Statement() { sqlite3_finalize(statement_); }
    Statement(const Statement&) = delete;
    Statement& operator=(const Statement&) = delete;

    bool good() const { return statement_ != nullptr; }
    void bind(std::uint64_t value) {
        sqlite3_bind_int64(statement_, ++bound_, static_cast<sqlite3_int64>(value));
    }
    void bind(const std::string& text) {
        sqlite3_bind_text(statement_, ++bound_, text.data(), static_cast<int>(text.size()),
                          SQLITE_TRANSIENT);
    }
    bool step() { return statement_ != nullptr && sqlite3_step(statement_) == SQLITE_ROW; }
    std::uint64_t number(int column) const {
        return static_cast<std::uint64_t>(sqlite3_column_int64(statement_, column));
    }
    std::int32_t integer(int column) const { return sqlite3_column_int(statement_, column); }
    std::string text(int column) const { return std::string(view(column)); }
    std::string_view view(int column) const {  // until the next step
        const void* data = sqlite3_column_blob(statement_, column);
        const int size = sqlite3_column_bytes(statement_, column);
        if (data == nullptr || size <= 0) return {};
        return {static_cast<const char*>(data), static_cast<std::size_t>(size)};
    }

private:
    sqlite3_stmt* statement_ = nullptr;
    int bound_ = 0;
};

}  // namespace reeve::cli
