// HistoryFile is history.db as History writes it: its schema, its upgrades, one transaction at a
// time.
//
// add() gathers in memory, commit() writes it all with the newest seq in one transaction, so the
// rows are never ahead of or behind their mark. A job's row is written once for all its changes
// since the last commit, attempts in packs (history_pack.h). An attempt that is told again takes
// the place of what was told before. Owned by the history thread; not thread-safe.
//
// A file that SQLite finds damaged is moved aside to <path>.damaged and begun anew.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>

#include "common/base/result.h"
#include "plm/ledger/history_pack.h"
#include "plm/ledger/history_rows.h"
#include "plm/ledger/sqlite.h"

namespace reeve::plm {

class HistoryFile {
public:
    // Opens or makes the file; what was added and not committed is forgotten.
    Status open(const std::string& path);
    bool is_open() const { return static_cast<bool>(mark_); }
    void close();

    // Rows of a seq that is in already are left out. Takes what it can use; `rows` may be cleared.
    Status add(HistoryRows& rows);
    std::size_t rows() const { return rows_; }  // since the last commit
    Status commit();
    std::uint64_t last_seq() const { return last_seq_; }
    // A checkpoint flushes the log before it copies it: what was committed is safe from then on.
    Status flush();
    ~HistoryFile() { close(); }

private:
    Status begin();
    Status write_packs();
    Status write_pack(const Pack& pack);
    Status drop_told_before(const Pack& pack);
    Status drop_from_pack(std::uint64_t number, const Pack& told_again);
    Status drop_single_rows(const Pack& pack);
    Status write_jobs();
    Status write_job(const JobRow& row);
    void add_job(JobRow& row);
    void drop_from_cache();

    Database db_;
    int fd_ = -1;  // of the same file: closed after SQLite's, whose locks go with it
    std::int64_t dropped_to_ = 0;  // bytes of the file
    Statement upsert_job_, insert_spec_, insert_pack_, select_packs_, select_pack_, update_pack_,
        delete_pack_, delete_attempt_, delete_result_, mark_;
    bool single_rows_ = false;  // attempts of before packs are in the file
    bool begun_ = false;
    std::uint64_t last_seq_ = 0;
    std::uint64_t open_seq_ = 0;  // newest seq added
    std::size_t rows_ = 0;
    PackBuilder packs_;
    std::unordered_map<std::uint64_t, JobRow> jobs_;
};

}  // namespace reeve::plm
