// HashScan hashes all entries of a directory on several threads and compares them with every tile.
//
// Worker threads take chunks of bundles; results come out in order through next(). The level-0
// tiles are compared by the workers, the upper levels by the consumer's TileChecker.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/audit/tiles.h"
#include "common/audit/verify.h"

namespace reeve::audit {

// One bundle, hashed.
struct ScannedBundle {
    std::string bytes;
    std::vector<std::string_view> entries;  // into bytes; empty when damage says so
    std::vector<merkle::Hash> leaves;       // hashes of the entries
    merkle::Hash root{};                    // over the leaves
    std::string tile;                       // level 0 as stored; empty when it could not be read
    std::optional<Refusal> bundle_damage;   // missing, cut, trailing bytes
    std::optional<Refusal> tile_damage;     // level 0 missing or of another length
    std::optional<unsigned> mismatch;       // first entry whose hash is not the tile's
    std::optional<Error> unreadable;        // the disk, permissions
};

class HashScan {
public:
    HashScan(const std::string& directory, std::uint64_t size, unsigned threads);
    ~HashScan();
    HashScan(const HashScan&) = delete;
    HashScan& operator=(const HashScan&) = delete;

    // The next chunk of bundles in order; empty at the end.
    std::vector<std::unique_ptr<ScannedBundle>> next();

private:
    using Chunk = std::vector<std::unique_ptr<ScannedBundle>>;
    void work();
    Chunk scan_chunk(std::uint64_t chunk) const;

    const TileReader reader_;
    const std::uint64_t bundles_;
    const std::uint64_t chunks_;
    const std::uint64_t window_;

    std::mutex mutex_;
    std::condition_variable changed_;
    std::map<std::uint64_t, Chunk> done_;
    std::uint64_t next_to_scan_ = 0;
    std::uint64_t next_to_give_ = 0;
    bool stop_ = false;
    std::vector<std::thread> threads_;
};

// Turns a failed tile read into what it means for the verdict; nullopt: the disk failed, not the
// log.
std::optional<Refusal> tile_refusal(const Error& error, const TileName& name);

// Recomputes the tiles above level 0 from the roots of the level-0 tiles and compares the files.
class TileChecker {
public:
    explicit TileChecker(const TileReader& reader) : reader_(reader) {}

    // Roots of full level-0 tiles, in order.
    void add(const merkle::Hash& tile_root) { add_at(1, tile_root); }
    // Compares the partial tiles of the right edge.
    void finish();

    std::uint64_t compared() const { return compared_; }
    const std::optional<Refusal>& refusal() const { return refusal_; }
    const std::optional<Error>& unreadable() const { return unreadable_; }

private:
    void add_at(unsigned level, const merkle::Hash& hash);
    void compare(unsigned level, std::uint64_t index, const std::string& expected);

    const TileReader& reader_;
    std::string edge_[kLevelsMax];
    std::uint64_t count_[kLevelsMax] = {};
    std::uint64_t compared_ = 0;
    std::optional<Refusal> refusal_;
    std::optional<Error> unreadable_;
};

}  // namespace reeve::audit
