// TreeWriter grows the tree and writes its tiles: the right edge in memory, full tiles to files.
//
// append hashes and keeps; write brings everything appended so far to the directory, bundles first,
// then hash tiles level by level; write_full only the full tiles, which no later entry changes. It
// writes them in place: precondition: no checkpoint covers them yet.
// What could not be written (disk full) is tried again by the next write, so a failure loses
// nothing. Memory: one partial tile per level and what awaits writing; callers with millions of
// entries call write or write_full every kBatchEntries. Not thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/audit/tiles.h"
#include "common/base/result.h"

namespace reeve::audit {

class TreeWriter {
public:
    static constexpr std::uint64_t kBatchEntries = 65536;

    explicit TreeWriter(std::string directory) : directory_(std::move(directory)) {}

    // Continues the tree of reader.size() leaves that lies in the reader's directory. Errors: what
    // the reader says; kDataLoss when the last bundle and the last tile of level 0 disagree.
    static Result<TreeWriter> at_end_of(TileReader& reader);

    // Precondition: entry.size() <= 65535.
    void append(std::string_view entry);
    Status write();
    Status write_full();

    // Removes the partial tiles whose full tile is written. Call it when a checkpoint needs them no
    // more; failures are harmless and ignored.
    void drop_superseded_partials();

    std::uint64_t size() const { return size_; }
    merkle::Hash root() const;

private:
    struct File {
        TileName name;
        std::string bytes;
    };
    void carry(unsigned level, const merkle::Hash& hash);
    void sort_full();
    Status write_file(const File& file);
    void note_full_written();

    std::string directory_;
    std::uint64_t size_ = 0;
    std::uint64_t written_size_ = 0;
    std::string bundle_;                        // of the partial tile
    std::array<std::string, kLevelsMax> edge_;  // hashes of the partial tile of each level
    std::vector<File> full_;                    // full tiles not yet written
    std::vector<TileName> partials_;            // whose directories may hold partial tiles
    std::vector<TileName> superseded_;          // of these, the ones that are full by now
};

}  // namespace reeve::audit
