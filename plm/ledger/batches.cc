// Reading side of the ledger, shared by the PLM's own connection and by LedgerReader.
#include <algorithm>

#include "plm/ledger/ledger_impl.h"

namespace reeve::plm {

namespace {

constexpr int kRowsPerChunk = 64;  // one read transaction; longer ones would pin the WAL

tl::unexpected<Error> damaged(const Database& db, std::uint64_t seq, const std::string& how) {
    return fail(ErrorCode::kDataLoss, db.path() + ": batch " + std::to_string(seq) + " " + how +
                                          "; keep a copy and restore the file from a backup, or "
                                          "use a new --state-dir");
}

Status check_first(Database& db, std::uint64_t expected, std::uint64_t found) {
    if (found == expected) return {};
    REEVE_TRY_ASSIGN(const SnapshotHead head, read_snapshot_head(db));
    if (expected <= head.seq) {
        return fail(ErrorCode::kOutOfRange, db.path() + ": batches " + std::to_string(expected) +
                                                " to " + std::to_string(found - 1) +
                                                " were dropped; a snapshot covers them");
    }
    return damaged(db, expected, "is missing");
}

struct Chunk {
    std::uint64_t next_leaf = 0;
    std::uint64_t last_seq = 0;
    int rows = 0;
};

Status read_chunk(Database& db, Statement& select, Chunk& at, bool first,
                  const BatchCallback& callback) {
    at.rows = 0;
    select.reset();
    select.bind(1, at.last_seq);
    while (true) {
        REEVE_TRY_ASSIGN(const bool row, select.step());
        if (!row) return {};
        const Batch batch{select.column_unsigned(0), select.column_unsigned(1),
                          static_cast<std::uint32_t>(select.column(2)), select.column_blob(4)};
        if (first && at.rows == 0) {
            REEVE_TRY(check_first(db, at.last_seq + 1, batch.seq));
        } else if (batch.seq != at.last_seq + 1) {
            return damaged(db, at.last_seq + 1, "is missing");
        } else if (batch.first_leaf != at.next_leaf) {
            return damaged(db, batch.seq, "does not continue the leaves of the one before");
        }
        if (hash_batch(batch) != select.column_unsigned(3)) {
            return damaged(db, batch.seq, "does not match its checksum");
        }
        REEVE_TRY(callback(batch));
        at.last_seq = batch.seq;
        at.next_leaf = batch.first_leaf + batch.leaf_count;
        ++at.rows;
    }
}

}  // namespace

Result<BatchWalk> walk_batches(Database& db, std::uint64_t after_seq,
                               const BatchCallback& callback) {
    REEVE_TRY_ASSIGN(Statement select,
                     db.prepare("SELECT seq, first_leaf, leaf_count, hash, frames FROM batch"
                                " WHERE seq > ? ORDER BY seq LIMIT 64"));
    Chunk at{0, after_seq, kRowsPerChunk};
    for (bool first = true; at.rows == kRowsPerChunk; first = false) {
        if (auto read = read_chunk(db, select, at, first, callback); !read) {
            return fail(std::move(read).error());
        }
    }
    return BatchWalk{at.last_seq, at.next_leaf};
}

Result<SnapshotHead> read_snapshot_head(Database& db) {
    REEVE_TRY_ASSIGN(Statement select,
                     db.prepare("SELECT id, seq, next_leaf, parts, hash FROM snapshot"
                                " ORDER BY id DESC LIMIT 1"));
    REEVE_TRY_ASSIGN(const bool row, select.step());
    if (!row) return SnapshotHead{};
    const SnapshotHead head{select.column_unsigned(0), select.column_unsigned(1),
                            select.column_unsigned(2), select.column_unsigned(3)};
    if (hash_numbers({head.id, head.seq, head.next_leaf, head.parts}) !=
        select.column_unsigned(4)) {
        return fail(ErrorCode::kDataLoss, db.path() +
                                              ": the snapshot's head does not match its "
                                              "checksum; restore the file from a backup");
    }
    return head;
}

namespace {

Result<Snapshot> read_newest_snapshot(Database& db) {
    REEVE_TRY_ASSIGN(const SnapshotHead head, read_snapshot_head(db));
    Snapshot snapshot{head.seq, head.next_leaf, {}};
    REEVE_TRY_ASSIGN(Statement select,
                     db.prepare("SELECT hash, data FROM snapshot_part WHERE key = ?"));
    for (std::uint64_t part = 0; part < head.parts; ++part) {
        const std::uint64_t key = (head.id << 24) | part;
        select.reset();
        select.bind(1, key);
        REEVE_TRY_ASSIGN(const bool row, select.step());
        if (!row || hash_part(key, select.column_blob(1)) != select.column_unsigned(0)) {
            return fail(ErrorCode::kDataLoss,
                        db.path() + ": part " + std::to_string(part) + " of the snapshot is " +
                            (row ? "damaged" : "missing") + "; restore the file from a backup");
        }
        snapshot.parts.emplace_back(select.column_blob(1));
    }
    return snapshot;
}

}  // namespace

Result<Snapshot> Ledger::read_snapshot() {
    if (impl_->failure) return fail(*impl_->failure);
    return read_newest_snapshot(impl_->db);
}

struct LedgerReader::Impl {
    Database db;
};

LedgerReader::LedgerReader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LedgerReader::~LedgerReader() = default;

Result<Snapshot> LedgerReader::read_snapshot() {
    return read_newest_snapshot(impl_->db);
}

Result<std::unique_ptr<LedgerReader>> LedgerReader::open(const std::string& path) {
    auto impl = std::make_unique<Impl>();
    REEVE_TRY_ASSIGN(impl->db, Database::open(path, Database::Mode::kReadOnly));
    return std::unique_ptr<LedgerReader>(new LedgerReader(std::move(impl)));
}

Status LedgerReader::for_each_batch(std::uint64_t after_seq, const BatchCallback& callback) {
    if (auto walk = walk_batches(impl_->db, after_seq, callback); !walk) {
        return fail(std::move(walk).error());
    }
    return {};
}

Result<std::string> LedgerReader::get_meta(std::string_view key) {
    return read_meta(impl_->db, key);
}

}  // namespace reeve::plm
