#include "common/audit/tiles.h"

#include <bit>

#include "common/audit/files.h"
#include "common/audit/text.h"
#include "common/base/assert.h"
#include "common/base/bytes.h"

namespace reeve::audit {
namespace {

constexpr std::size_t kCachedTilesMax = 64;

std::string index_path(std::uint64_t index) {
    char group[8];
    std::snprintf(group, sizeof group, "%03u", static_cast<unsigned>(index % 1000));
    std::string path = group;
    for (index /= 1000; index != 0; index /= 1000) {
        std::snprintf(group, sizeof group, "x%03u", static_cast<unsigned>(index % 1000));
        path = std::string(group) + "/" + path;
    }
    return path;
}

bool is_digits(std::string_view text) {
    return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
}

// Where the bytes of the first `width` entries of a bundle end, or npos.
std::size_t bundle_prefix(std::string_view bytes, unsigned width) {
    std::size_t at = 0;
    for (unsigned i = 0; i < width; ++i) {
        if (bytes.size() - at < 2) return std::string_view::npos;
        const std::size_t length = get_big_endian<std::uint16_t>(bytes.data() + at);
        if (bytes.size() - at - 2 < length) return std::string_view::npos;
        at += 2 + length;
    }
    return at;
}

std::vector<std::vector<merkle::Hash>> rows_of(std::string_view tile) {
    std::vector<std::vector<merkle::Hash>> rows(kTileHeight);
    for (std::size_t at = 0; at < tile.size(); at += merkle::kHashSize) {
        rows[0].push_back(merkle::to_hash(tile.substr(at, merkle::kHashSize)));
    }
    for (unsigned row = 1; row < kTileHeight; ++row) {
        const auto& below = rows[row - 1];
        for (std::size_t i = 0; i + 1 < below.size(); i += 2) {
            rows[row].push_back(merkle::node_hash(below[i], below[i + 1]));
        }
    }
    return rows;
}

}  // namespace

std::string TileName::path() const {
    std::string path = "tile/";
    path += level == kEntryLevel ? "entries" : std::to_string(level);
    path += "/" + index_path(index);
    if (width != kTileWidth) path += ".p/" + std::to_string(width);
    return path;
}

std::optional<TileName> parse_tile_path(std::string_view path) {
    constexpr std::string_view kPrefix = "tile/";
    if (!path.starts_with(kPrefix)) return std::nullopt;
    std::string_view rest = path.substr(kPrefix.size());
    const std::size_t slash = rest.find('/');
    if (slash == rest.npos) return std::nullopt;
    TileName name;
    const std::string_view level = rest.substr(0, slash);
    rest.remove_prefix(slash + 1);
    if (level == "entries") {
        name.level = kEntryLevel;
    } else {
        const auto number = parse_decimal(level);
        if (!number || *number > 63) return std::nullopt;
        name.level = static_cast<unsigned>(*number);
    }
    if (const std::size_t dot = rest.find(".p/"); dot != rest.npos) {
        const auto width = parse_decimal(rest.substr(dot + 3));
        if (!width || *width == 0 || *width >= kTileWidth) return std::nullopt;
        name.width = static_cast<unsigned>(*width);
        rest = rest.substr(0, dot);
    }
    while (!rest.empty()) {
        const bool more = rest.front() == 'x';
        const std::string_view group = rest.substr(more ? 1 : 0, 3);
        if (group.size() != 3 || !is_digits(group)) return std::nullopt;
        if (name.index > merkle::kSizeMax / 1000) return std::nullopt;
        name.index =
            name.index * 1000 + *parse_decimal(std::to_string(std::stoi(std::string(group))));
        rest.remove_prefix(more ? 4 : 3);
        if (more != (!rest.empty() && rest.front() == '/')) return std::nullopt;
        if (more) rest.remove_prefix(1);
        if (more == rest.empty()) return std::nullopt;
    }
    // One spelling only: what we would write ourselves.
    if (name.path() != path) return std::nullopt;
    return name;
}

unsigned tile_width(std::uint64_t size, unsigned level, std::uint64_t index) {
    const std::uint64_t hashes = hashes_at(size, level == kEntryLevel ? 0 : level);
    if (index >= (hashes + kTileWidth - 1) / kTileWidth) return 0;
    return static_cast<unsigned>(std::min<std::uint64_t>(kTileWidth, hashes - index * kTileWidth));
}

Result<std::vector<std::string_view>> split_bundle(std::string_view bytes, unsigned width) {
    std::vector<std::string_view> entries;
    entries.reserve(width);
    std::size_t at = 0;
    while (at < bytes.size() && entries.size() < width) {
        if (bytes.size() - at < 2) break;
        const std::size_t length = get_big_endian<std::uint16_t>(bytes.data() + at);
        if (bytes.size() - at - 2 < length) break;
        entries.push_back(bytes.substr(at + 2, length));
        at += 2 + length;
    }
    if (entries.size() != width) {
        return fail(ErrorCode::kDataLoss, "cut after " + std::to_string(entries.size()) + " of " +
                                              std::to_string(width) + " entries");
    }
    if (at != bytes.size()) {
        return fail(ErrorCode::kDataLoss, std::to_string(bytes.size() - at) +
                                              " bytes follow the last of " + std::to_string(width) +
                                              " entries");
    }
    return entries;
}

Result<std::string> TileReader::hash_tile(unsigned level, std::uint64_t index) const {
    const unsigned width = tile_width(size_, level, index);
    REEVE_ASSERT(width > 0);
    const std::size_t wanted = width * merkle::kHashSize;
    TileName name{level, index, width};
    auto bytes = read_file(directory_ + "/" + name.path(), kTileWidth * merkle::kHashSize);
    if (!bytes && bytes.error().code == ErrorCode::kNotFound && width < kTileWidth) {
        const TileName full{level, index, kTileWidth};
        auto whole = read_file(directory_ + "/" + full.path(), kTileWidth * merkle::kHashSize);
        if (whole && whole->size() == kTileWidth * merkle::kHashSize) {
            whole->resize(wanted);
            return whole;
        }
    }
    if (!bytes) return bytes;
    if (bytes->size() != wanted) {
        return fail(ErrorCode::kDataLoss, name.path() + ": " + std::to_string(bytes->size()) +
                                              " bytes where " + std::to_string(wanted) + " belong");
    }
    return bytes;
}

Result<std::string> TileReader::bundle(std::uint64_t index) const {
    const unsigned width = tile_width(size_, kEntryLevel, index);
    REEVE_ASSERT(width > 0);
    const TileName name{kEntryLevel, index, width};
    auto bytes = read_file(directory_ + "/" + name.path(), kBundleSizeMax);
    if (bytes || bytes.error().code != ErrorCode::kNotFound || width == kTileWidth) return bytes;
    const TileName full{kEntryLevel, index, kTileWidth};
    auto whole = read_file(directory_ + "/" + full.path(), kBundleSizeMax);
    if (!whole) return bytes;
    const std::size_t end = bundle_prefix(*whole, width);
    if (end == std::string::npos) {
        return fail(ErrorCode::kDataLoss,
                    full.path() + ": cut before entry " + std::to_string(width));
    }
    whole->resize(end);
    return whole;
}

Result<const TileReader::Cached*> TileReader::load(Key key) {
    if (const auto found = cache_.find(key); found != cache_.end()) return &found->second;
    Cached loaded;
    if (key.first == kEntryLevel) {
        REEVE_TRY_ASSIGN(loaded.bundle, bundle(key.second));
    } else {
        REEVE_TRY_ASSIGN(auto bytes, hash_tile(key.first, key.second));
        loaded.rows = rows_of(bytes);
    }
    if (cache_order_.size() == kCachedTilesMax) {
        cache_.erase(cache_order_.front());
        cache_order_.pop_front();
    }
    cache_order_.push_back(key);
    return &cache_.emplace(key, std::move(loaded)).first->second;
}

Result<std::string> TileReader::entry(std::uint64_t index) {
    REEVE_ASSERT(index < size_);
    const std::uint64_t number = index / kTileWidth;
    REEVE_TRY_ASSIGN(const Cached* cached, load({kEntryLevel, number}));
    const unsigned width = tile_width(size_, kEntryLevel, number);
    auto entries = split_bundle(cached->bundle, width);
    if (!entries) {
        return fail(std::move(entries).error().with(TileName{kEntryLevel, number, width}.path()));
    }
    return std::string((*entries)[index % kTileWidth]);
}

Result<merkle::Hash> TileReader::subtree(unsigned height, std::uint64_t index) {
    const unsigned level = height / kTileHeight;
    const unsigned row = height % kTileHeight;
    const std::uint64_t first = index << row;
    REEVE_ASSERT(first + (std::uint64_t{1} << row) <= hashes_at(size_, level));
    REEVE_TRY_ASSIGN(const Cached* cached, load({level, first / kTileWidth}));
    return cached->rows[row][static_cast<std::size_t>(first % kTileWidth) >> row];
}

merkle::SubtreeHash TileReader::subtree_hash() {
    return [this](unsigned height, std::uint64_t index) { return subtree(height, index); };
}

Result<merkle::Hash> TileReader::root(std::uint64_t size) {
    if (size == 0) return merkle::empty_root();
    return merkle::range_hash(0, size, subtree_hash());
}

Result<merkle::CompactRange> TileReader::compact_range(std::uint64_t size) {
    REEVE_ASSERT(size <= size_);
    std::vector<merkle::Hash> subtrees;
    std::uint64_t begin = 0;
    while (begin < size) {
        const auto height = static_cast<unsigned>(std::bit_width(size - begin) - 1);
        REEVE_TRY_ASSIGN(auto hash, subtree(height, begin >> height));
        subtrees.push_back(hash);
        begin += std::uint64_t{1} << height;
    }
    return merkle::CompactRange::from(size, std::move(subtrees));
}

}  // namespace reeve::audit
