#include "common/audit/recovery.h"

#include <algorithm>

#include "common/audit/files.h"
#include "common/audit/note.h"
#include "common/audit/text.h"
#include "common/audit/tiles.h"
#include "common/log/log.h"

namespace reeve::audit {
namespace {

std::string boot_id() {
    auto text = read_file("/proc/sys/kernel/random/boot_id", 128);
    if (!text) return "unknown";
    while (!text->empty() && text->back() == '\n') text->pop_back();
    return *text;
}

struct Synced {
    std::uint64_t size = 0;
    bool this_boot = false;  // later tiles were written since the machine started
};

// A missing or odd file means that nothing is known to be flushed, which is always safe.
Synced load_synced(const std::string& directory) {
    auto text = read_file(directory + "/tiles.synced", 256);
    if (!text) return {};
    std::string_view rest = *text;
    const auto line = next_line(rest);
    const std::size_t space = line ? line->find(' ') : std::string_view::npos;
    if (space == std::string_view::npos) return {};
    const auto size = parse_decimal(line->substr(0, space));
    if (!size) return {};
    return {*size, line->substr(space + 1) == boot_id()};
}

// The tree as the tiles have it, if its right edge is whole and gives the signed root.
Result<TreeWriter> from_tiles(const std::string& directory, const Checkpoint& signed_head) {
    TileReader reader(directory, signed_head.size);
    REEVE_TRY_ASSIGN(auto writer, TreeWriter::at_end_of(reader));
    if (writer.root() != signed_head.root) {
        return fail(ErrorCode::kDataLoss, "the tiles do not give the signed root");
    }
    return writer;
}

// Calls `take` with every entry of [begin, end) in order, a batch at a time.
Status each_entry(const EntryProvider& ledger, std::uint64_t begin, std::uint64_t end,
                  const std::function<Status(const std::vector<std::string>&)>& take) {
    std::vector<std::string> entries;
    while (begin < end) {
        const std::uint64_t count = std::min(TreeWriter::kBatchEntries, end - begin);
        entries.clear();
        auto read = ledger.read(begin, count, entries);
        if (!read) return fail(std::move(read).error().with("entries from the ledger"));
        if (entries.size() != count) {
            return fail(ErrorCode::kDataLoss, "the ledger has a gap at audit entry " +
                                                  std::to_string(begin + entries.size()));
        }
        REEVE_TRY(take(entries));
        begin += count;
    }
    return {};
}

// The tree below `base` from the tiles, the rest from the ledger; writes the tiles of the rest, but
// only after the root came out right: wrong entries must not overwrite what may be evidence.
Result<TreeWriter> from_ledger(const std::string& directory, const Checkpoint& signed_head,
                               std::uint64_t base, const EntryProvider& ledger) {
    TileReader reader(directory, base);
    REEVE_TRY_ASSIGN(auto range, reader.compact_range(base));
    REEVE_TRY(each_entry(ledger, base, signed_head.size, [&](const auto& entries) -> Status {
        for (const std::string& entry : entries) range.append(merkle::leaf_hash(entry));
        return {};
    }));
    if (range.root() != signed_head.root) {
        return fail(ErrorCode::kDataLoss,
                    "the ledger's entries do not give the root that was signed");
    }
    REEVE_TRY_ASSIGN(auto writer, TreeWriter::at_end_of(reader));
    REEVE_TRY(each_entry(ledger, base, signed_head.size, [&](const auto& entries) -> Status {
        for (const std::string& entry : entries) writer.append(entry);
        return writer.write();
    }));
    return writer;
}

Result<TreeWriter> rebuild(const std::string& directory, const Checkpoint& signed_head,
                           std::uint64_t trusted, const EntryProvider& ledger) {
    // Both the tiles below and the entries above have to be there, so the base is a tile boundary.
    const std::uint64_t oldest = (ledger.first + kTileWidth - 1) / kTileWidth * kTileWidth;
    const std::uint64_t begin = std::min(trusted, signed_head.size) / kTileWidth * kTileWidth;
    std::uint64_t base = std::max(oldest, begin);
    if (base > signed_head.size) base = 0;
    if (base < ledger.first) {
        return fail(ErrorCode::kDataLoss, "the ledger no longer has their entries");
    }
    auto writer = from_ledger(directory, signed_head, base, ledger);
    if (writer || base == oldest || oldest > signed_head.size) return writer;
    return from_ledger(directory, signed_head, oldest, ledger);
}

}  // namespace

Status store_synced(const std::string& directory, std::uint64_t size) {
    return replace_file(directory + "/tiles.synced", std::to_string(size) + " " + boot_id() + "\n",
                        Durable::kYes);
}

Result<Recovered> recover(const std::string& directory, const VerifierKey& key,
                          const EntryProvider& ledger) {
    auto text = read_file(directory + "/checkpoint", kNoteSizeMax);
    if (!text && text.error().code == ErrorCode::kNotFound) {
        if (ledger.first > 0) {
            return fail(ErrorCode::kDataLoss,
                        directory + "/checkpoint: missing, and the ledger begins at audit entry " +
                            std::to_string(ledger.first) + "; restore it from a copy");
        }
        REEVE_TRY(store_synced(directory, 0));
        return Recovered{TreeWriter(directory), "", 0};
    }
    if (!text) return fail(std::move(text).error());
    auto opened = open_checkpoint(*text, {&key, 1}, {});
    if (!opened) return fail(std::move(opened).error().with(directory + "/checkpoint"));
    const Checkpoint& head = opened->checkpoint;
    if (ledger.end < head.size) {
        return fail(ErrorCode::kFailedPrecondition,
                    "the ledger ends at audit entry " + std::to_string(ledger.end) + ", but size " +
                        std::to_string(head.size) + " is signed: going on would fork the log; " +
                        "restore the ledger, or move " + directory + " away to begin a new log");
    }
    if (ledger.first > head.size) {
        return fail(ErrorCode::kDataLoss,
                    directory + ": ends at size " + std::to_string(head.size) +
                        ", but the ledger has dropped the entries below " +
                        std::to_string(ledger.first) + "; restore a newer copy of the directory");
    }
    Synced synced = load_synced(directory);
    synced.size = std::min(synced.size, head.size);
    Result<TreeWriter> writer =
        fail(ErrorCode::kDataLoss, "not flushed before the machine stopped");
    if (synced.this_boot || synced.size == head.size) writer = from_tiles(directory, head);
    if (!writer) {
        log::warn("audit tiles are written again from the ledger",
                  {{"size", head.size}, {"reason", writer.error().message}});
        const std::string reason = writer.error().message;
        const std::uint64_t trusted = synced.this_boot ? 0 : synced.size;
        writer = rebuild(directory, head, trusted, ledger);
        if (!writer) {
            return fail(ErrorCode::kDataLoss, "audit tiles of " + directory + ": " + reason +
                                                  ", and " + writer.error().message);
        }
    }
    REEVE_TRY(store_synced(directory, synced.size));
    return Recovered{std::move(*writer), std::move(*text), synced.size};
}

}  // namespace reeve::audit
