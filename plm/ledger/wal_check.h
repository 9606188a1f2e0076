// check_wal tells a torn tail of SQLite's write-ahead log from damage in its middle.
//
// SQLite itself stops reading a WAL at the first frame whose checksum fails and silently forgets
// what follows. After a power cut that is right: only the transaction that was being flushed can be
// torn, and it was never acknowledged. But when flushed transactions follow the bad frame, the file
// was damaged, and opening it would lose acknowledged work. So the PLM walks the log first.
//
//   header 32 B | frame 24 + page | frame 24 + page | ...   (https://sqlite.org/fileformat2.html)
//
// A frame belongs to the present log if its salts are the header's. After the last sound commit at
// most one transaction may follow, whole or in part. SQLite writes a transaction's pages in rising
// order, and every transaction of the ledger begins with the mark's page (or page 1), the lowest:
// so a commit mark before the end of what follows, page numbers that do not rise, or too few
// numbers between two pages for the unreadable frames between them, show that there are two. Pure
// reading; call it while nobody has the database open for writing.
#pragma once

#include <cstdint>
#include <string>

#include "common/base/result.h"

namespace reeve::plm {

// A ledger that is not durable (ledger.h) may lose any number of its last transactions to a power
// cut, in pieces: then everything behind the last whole one is a torn tail, and damage there looks
// the same. (What a signed checkpoint covers was flushed: the audit log notices when it is gone.)
enum class WalTail : std::uint8_t { kFlushed, kUnflushed };

struct WalReport {
    std::uint64_t bytes = 0;
    std::uint64_t committed_frames = 0;
    std::uint64_t torn_frames = 0;  // of one unacknowledged transaction, dropped by SQLite
    std::uint64_t torn_offset = 0;  // of the first of them
};

// A missing or empty file is a lawful, empty log. Damage: kDataLoss with path, offset and cure.
Result<WalReport> check_wal(const std::string& wal_path, WalTail tail = WalTail::kFlushed);

}  // namespace reeve::plm
