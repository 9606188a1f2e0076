// Recovery of the audit log's writer: from the signed checkpoint, the tiles and the ledger's
// entries back to a tree that may be signed again.
//
// The file `tiles.synced` beside the checkpoint ("<size> <boot id>\n") says up to which size the
// tiles were flushed, and in which boot the later ones were written: within that boot the page
// cache has them, after it they are written again from the ledger.
#pragma once

#include <cstdint>
#include <string>

#include "common/audit/keys.h"
#include "common/audit/log.h"
#include "common/audit/tree_writer.h"
#include "common/base/result.h"

namespace reeve::audit {

struct Recovered {
    TreeWriter writer;
    std::string note;          // the checkpoint as it stands; empty for a new log
    std::uint64_t synced = 0;  // tiles below are flushed
};

// Errors: see AuditLog::open.
Result<Recovered> recover(const std::string& directory, const VerifierKey& key,
                          const EntryProvider& ledger);

// Records that the tiles below size are flushed; durable.
Status store_synced(const std::string& directory, std::uint64_t size);

}  // namespace reeve::audit
