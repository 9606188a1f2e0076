// AuditLog is the single writer of a cell's audit log: entries in, tiles and checkpoints out.
//
// append only copies bytes into memory; publish does the hashing, writes bundles and tiles and then
// the signed checkpoint, which is durable before anyone can see it. Under load advance does most of
// the hashing and writing between two checkpoints, so that little memory is filled twice. Tiles
// need no flush of their own while the ledger still holds their entries; sync_tiles() gives them
// one before it drops them.
//
// Contract     append only entries whose ledger batch is durable, or will be by before_signing: a
//              published size is a promise.
// Threads      append and the getters from one thread, publish and advance from another; a short
//              mutex between them, never held during hashing or file I/O.
// Death        any kill leaves the old checkpoint with its tiles, or the new one with its own;
//              tiles beyond it are rewritten. After a power cut the unsynced tiles are
//              written again from the ledger. What cannot be repaired is refused, never signed
//              over.
//
// INVARIANT A1  a checkpoint is signed only when every tile below it is written.
// INVARIANT A2  every checkpoint extends the one signed before it.
//
// Tested in tests/unit/common/audit/log_test.cc.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/audit/keys.h"
#include "common/audit/note.h"
#include "common/base/result.h"

namespace reeve::audit {

// What the ledger still holds of the log's entries.
struct EntryProvider {
    std::uint64_t first = 0;  // index of the oldest entry it has
    std::uint64_t end = 0;    // one past the last durable one
    // Appends entries [begin, begin + count) to `out` in order; begin >= first, within end.
    std::function<Status(std::uint64_t begin, std::uint64_t count, std::vector<std::string>& out)>
        read;
};

struct LogOptions {
    std::string directory;  // DIR/audit
    std::string key_path;   // the private key; kept out of `directory`, which people copy
    std::string origin;     // used when the key is made; an existing key's name wins
};

class AuditLog {
public:
    // Opens or makes the log. A log that has no key yet gets one (0600), with log.vkey beside the
    // tiles. Then size() == published_size(), and the caller appends what its ledger has from
    // there. Errors: kFailedPrecondition (ledger shorter than the signed size: a fork; key without
    // log or log without key; another writer), kUnauthenticated (the checkpoint is not ours),
    // kDataLoss (tiles damaged beyond what the ledger can supply).
    static Result<AuditLog> open(const LogOptions& options, const EntryProvider& ledger);

    AuditLog(AuditLog&&) noexcept;
    AuditLog& operator=(AuditLog&&) noexcept;
    ~AuditLog();

    // Returns the leaf index of the first; the others follow. Entries are at most 65535 bytes.
    std::uint64_t append(std::span<const std::string> entries);
    // The same of `count` entries in bundle form: u16 length (big-endian) and bytes each.
    std::uint64_t append_bundle(std::string_view bundle, std::uint64_t count);
    // The same; a large buffer is taken as it is, and one that was used before left in its place.
    std::uint64_t append_buffer(std::string& bundle, std::uint64_t count);

    // Brings everything appended so far to disk under a signed checkpoint. Nothing new: no file is
    // touched. On an error (disk full) the old checkpoint stands and the next call tries again.
    // `before_signing`, if given, makes the ledger's entries durable where they are not yet.
    Status publish(const std::function<Status()>& before_signing = {});
    // Hashes what was appended so far and writes the tiles that are full: nobody sees them before
    // the next checkpoint. What could not be written is kept for publish.
    Status advance();

    // Flushes the tiles of everything published; returns the size that is safe on disk now. The
    // ledger may drop its batches below it.
    Result<std::uint64_t> sync_tiles();

    // Adds a witness's cosignature line to the current checkpoint. Errors: kInvalidArgument (not a
    // good cosignature of the current checkpoint), or what the disk says.
    Status add_cosignature(const VerifierKey& witness, const std::string& line);

    std::uint64_t size() const;  // appended: the next leaf index
    std::uint64_t published_size() const;
    std::uint64_t unpublished_bytes() const;
    std::string checkpoint() const;  // the signed note as published; empty before the first
    const VerifierKey& vkey() const;

private:
    struct State;
    explicit AuditLog(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace reeve::audit
