#include "common/audit/tree_writer.h"

#include <algorithm>
#include <bit>

#include <dirent.h>
#include <unistd.h>

#include "common/audit/files.h"
#include "common/base/assert.h"
#include "common/base/bytes.h"

namespace reeve::audit {
namespace {

constexpr std::size_t kFullTile = kTileWidth * merkle::kHashSize;

// entries < level 0 < level 1 ...: the order in which a reader needs them to exist.
unsigned write_rank(const TileName& name) {
    return name.level == kEntryLevel ? 0 : 1 + name.level;
}

void remove_directory(const std::string& path) {
    DIR* directory = opendir(path.c_str());
    if (directory == nullptr) return;
    while (const dirent* file = readdir(directory)) {
        if (file->d_name[0] != '.') unlink((path + "/" + file->d_name).c_str());
    }
    closedir(directory);
    rmdir(path.c_str());
}

}  // namespace

Result<TreeWriter> TreeWriter::at_end_of(TileReader& reader) {
    TreeWriter writer(reader.directory());
    writer.size_ = reader.size();
    writer.written_size_ = reader.size();
    for (unsigned level = 0; level < kLevelsMax; ++level) {
        const std::uint64_t hashes = hashes_at(writer.size_, level);
        if (hashes % kTileWidth == 0) continue;
        REEVE_TRY_ASSIGN(writer.edge_[level], reader.hash_tile(level, hashes / kTileWidth));
        writer.partials_.push_back({level, hashes / kTileWidth, kTileWidth});
    }
    const auto width = static_cast<unsigned>(writer.size_ % kTileWidth);
    if (width == 0) return writer;
    const std::uint64_t last = writer.size_ / kTileWidth;
    REEVE_TRY_ASSIGN(writer.bundle_, reader.bundle(last));
    writer.partials_.push_back({kEntryLevel, last, kTileWidth});
    const std::string name = TileName{kEntryLevel, last, width}.path();
    auto entries = split_bundle(writer.bundle_, width);
    if (!entries) return fail(std::move(entries).error().with(name));
    for (unsigned i = 0; i < width; ++i) {
        const std::string_view known =
            std::string_view(writer.edge_[0]).substr(i * merkle::kHashSize, merkle::kHashSize);
        if (merkle::as_bytes(merkle::leaf_hash((*entries)[i])) != known) {
            return fail(ErrorCode::kDataLoss,
                        name + ": entry " + std::to_string(i) + " does not match its leaf hash");
        }
    }
    return writer;
}

void TreeWriter::append(std::string_view entry) {
    REEVE_ASSERT(entry.size() <= 65535);
    REEVE_ASSERT(size_ < merkle::kSizeMax);
    char length[2];
    put_big_endian(length, static_cast<std::uint16_t>(entry.size()));
    bundle_.append(length, sizeof length).append(entry);
    ++size_;
    if (size_ % kTileWidth == 0) {
        const std::size_t likely = bundle_.size();
        full_.push_back({{kEntryLevel, size_ / kTileWidth - 1, kTileWidth}, std::move(bundle_)});
        bundle_ = {};
        bundle_.reserve(likely);
    }
    carry(0, merkle::leaf_hash(entry));
}

void TreeWriter::carry(unsigned level, const merkle::Hash& hash) {
    REEVE_ASSERT(level < kLevelsMax);
    std::string& tile = edge_[level];
    tile.append(merkle::as_bytes(hash));
    if (tile.size() < kFullTile) return;
    const auto* hashes = reinterpret_cast<const std::uint8_t*>(tile.data());
    const merkle::Hash parent = merkle::fold(hashes, kTileWidth);
    const std::uint64_t index = hashes_at(size_, level) / kTileWidth - 1;
    full_.push_back({{level, index, kTileWidth}, std::move(tile)});
    tile = {};
    tile.reserve(kFullTile);
    carry(level + 1, parent);
}

Status TreeWriter::write_file(const File& file) {
    const std::string path = directory_ + "/" + file.name.path();
    const bool partial = file.name.width != kTileWidth;
    if (partial) {
        const TileName full{file.name.level, file.name.index, kTileWidth};
        if (std::find(partials_.begin(), partials_.end(), full) == partials_.end()) {
            partials_.push_back(full);
        }
    }
    // The directory of a partial tile lies beside the full one.
    const std::string group = parent_of(partial ? parent_of(path) : path);
    if (access(group.c_str(), F_OK) != 0) REEVE_TRY(make_spread(directory_ + "/tile", group));
    return replace_file(path, file.bytes, Durable::kNo);
}

void TreeWriter::sort_full() {
    std::stable_sort(full_.begin(), full_.end(), [](const File& a, const File& b) {
        return write_rank(a.name) < write_rank(b.name);
    });
}

void TreeWriter::note_full_written() {
    for (const File& file : full_) {
        const auto partial = std::find(partials_.begin(), partials_.end(), file.name);
        if (partial == partials_.end()) continue;
        superseded_.push_back(file.name);
        partials_.erase(partial);
    }
    full_.clear();
}

Status TreeWriter::write_full() {
    sort_full();
    for (const File& file : full_) {
        const std::string path = directory_ + "/" + file.name.path();
        auto written = write_unread_file(path, file.bytes);
        if (!written && written.error().code == ErrorCode::kNotFound) {
            REEVE_TRY(make_spread(directory_ + "/tile", parent_of(path)));
            written = write_unread_file(path, file.bytes);
        }
        REEVE_TRY(written);
    }
    note_full_written();
    return {};
}

Status TreeWriter::write() {
    if (written_size_ == size_ && full_.empty()) return {};
    std::vector<File> partial;
    const auto width = static_cast<unsigned>(size_ % kTileWidth);
    if (width != 0) partial.push_back({{kEntryLevel, size_ / kTileWidth, width}, bundle_});
    for (unsigned level = 0; level < kLevelsMax; ++level) {
        const std::uint64_t hashes = hashes_at(size_, level);
        const auto here = static_cast<unsigned>(hashes % kTileWidth);
        // A level whose hashes did not change since the last write has its file already.
        if (here == 0 || hashes == hashes_at(written_size_, level)) continue;
        partial.push_back({{level, hashes / kTileWidth, here}, edge_[level]});
    }
    sort_full();
    std::size_t next_partial = 0;
    const auto write_partials_below = [&](unsigned rank) -> Status {
        while (next_partial < partial.size() && write_rank(partial[next_partial].name) < rank) {
            REEVE_TRY(write_file(partial[next_partial++]));
        }
        return {};
    };
    for (const File& file : full_) {
        REEVE_TRY(write_partials_below(write_rank(file.name)));
        REEVE_TRY(write_file(file));
    }
    REEVE_TRY(write_partials_below(~0U));
    note_full_written();
    written_size_ = size_;
    return {};
}

void TreeWriter::drop_superseded_partials() {
    for (const TileName& name : superseded_) {
        remove_directory(directory_ + "/" + name.path() + ".p");
    }
    superseded_.clear();
}

merkle::Hash TreeWriter::root() const {
    std::vector<merkle::Hash> subtrees;
    for (unsigned level = kLevelsMax; level-- > 0;) {
        const auto* hashes = reinterpret_cast<const std::uint8_t*>(edge_[level].data());
        std::size_t left = edge_[level].size() / merkle::kHashSize;
        while (left > 0) {
            const std::size_t count = std::bit_floor(left);
            subtrees.push_back(merkle::fold(hashes, count));
            hashes += count * merkle::kHashSize;
            left -= count;
        }
    }
    auto range = merkle::CompactRange::from(size_, std::move(subtrees));
    REEVE_ASSERT(range.has_value());
    return range->root();
}

}  // namespace reeve::audit
