// The tlog-tiles directory: where a hash or an entry of the tree lies, and a reader over it.
//
//   checkpoint                            tile/<L>/<N>[.p/<W>]        tile/entries/<N>[.p/<W>]
//
// N is decimal in groups of three, all but the last prefixed x: 1234067 -> x001/x234/067. A tile
// has 256 hashes when full, W when partial; hash i of tile n at level l is the root of the complete
// subtree of 256^l leaves at n*256+i. A bundle holds u16 length + bytes per entry.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/result.h"
#include "common/merkle/compact_range.h"
#include "common/merkle/hash.h"
#include "common/merkle/proof.h"

namespace reeve::audit {

inline constexpr unsigned kTileWidth = 256;
inline constexpr unsigned kTileHeight = 8;
inline constexpr unsigned kLevelsMax = 8;  // 256^8 leaves are more than 2^63
inline constexpr std::size_t kBundleSizeMax = kTileWidth * (2 + 65535);

// Relative paths. width is 1..256; 256 names the full tile. Levels of entry bundles: kEntryLevel.
inline constexpr unsigned kEntryLevel = 64;
struct TileName {
    unsigned level = 0;
    std::uint64_t index = 0;
    unsigned width = kTileWidth;

    std::string path() const;
    bool operator==(const TileName&) const = default;
};
std::optional<TileName> parse_tile_path(std::string_view path);  // canonical paths only

// How many hashes level l of a tree of this size has.
inline std::uint64_t hashes_at(std::uint64_t size, unsigned level) {
    return level >= kLevelsMax ? 0 : size >> (kTileHeight * level);
}
// The width of tile `index` at this level in a tree of this size: 0 when there is none.
unsigned tile_width(std::uint64_t size, unsigned level, std::uint64_t index);

// Splits a bundle into exactly `width` entries. Error kDataLoss: cut, too long, trailing bytes.
Result<std::vector<std::string_view>> split_bundle(std::string_view bytes, unsigned width);

// Reads tiles of one tree size. Keeps a few tiles in memory; not thread-safe.
class TileReader {
public:
    TileReader(std::string directory, std::uint64_t size)
        : directory_(std::move(directory)), size_(size) {}

    std::uint64_t size() const { return size_; }
    const std::string& directory() const { return directory_; }

    // The bytes of the tile as this tree size sees it: the partial file, else the first hashes of
    // the full one. Errors: kNotFound, kDataLoss (wrong length), naming the tile.
    Result<std::string> hash_tile(unsigned level, std::uint64_t index) const;
    // The bundle's bytes; an older reader of a full bundle gets the first entries.
    Result<std::string> bundle(std::uint64_t index) const;
    Result<std::string> entry(std::uint64_t index);

    // The hash of the complete subtree over [index << height, (index + 1) << height).
    Result<merkle::Hash> subtree(unsigned height, std::uint64_t index);
    merkle::SubtreeHash subtree_hash();

    // MTH over the first `size` leaves. Precondition: size <= this->size().
    Result<merkle::Hash> root(std::uint64_t size);
    Result<merkle::CompactRange> compact_range(std::uint64_t size);

private:
    // A hash tile with the inner nodes of its complete subtrees: row r has width >> r of them.
    using Rows = std::vector<std::vector<merkle::Hash>>;
    struct Cached {
        std::string bundle;
        Rows rows;
    };
    using Key = std::pair<unsigned, std::uint64_t>;  // level (or kEntryLevel), index

    Result<const Cached*> load(Key key);

    std::string directory_;
    std::uint64_t size_;
    std::map<Key, Cached> cache_;
    std::list<Key> cache_order_;
};

}  // namespace reeve::audit
