#include "common/audit/hash_scan.h"

#include <algorithm>
#include <cstring>

#include "common/base/assert.h"

namespace reeve::audit {
namespace {

constexpr std::uint64_t kChunkBundles = 32;

Refusal make_refusal(RefusalKind kind, std::optional<std::uint64_t> index, const TileName& tile,
                     std::string message) {
    return {kind, index, tile.path(), std::move(message)};
}

void compare_leaves(ScannedBundle& scanned) {
    for (std::size_t i = 0; i < scanned.leaves.size(); ++i) {
        const char* stored = scanned.tile.data() + i * merkle::kHashSize;
        if (std::memcmp(stored, scanned.leaves[i].data(), merkle::kHashSize) != 0) {
            scanned.mismatch = static_cast<unsigned>(i);
            return;
        }
    }
}

std::unique_ptr<ScannedBundle> scan_bundle(const TileReader& reader, std::uint64_t number) {
    auto scanned = std::make_unique<ScannedBundle>();
    const unsigned width = tile_width(reader.size(), kEntryLevel, number);
    const TileName bundle_name{kEntryLevel, number, width};
    auto bytes = reader.bundle(number);
    if (!bytes) {
        scanned->bundle_damage = tile_refusal(bytes.error(), bundle_name);
        if (!scanned->bundle_damage) scanned->unreadable = bytes.error();
        return scanned;
    }
    scanned->bytes = std::move(*bytes);
    auto entries = split_bundle(scanned->bytes, width);
    if (!entries) {
        const bool cut = entries.error().message.starts_with("cut");
        scanned->bundle_damage =
            make_refusal(cut ? RefusalKind::kTruncated : RefusalKind::kTileMismatch, std::nullopt,
                         bundle_name, entries.error().message);
        return scanned;
    }
    scanned->entries = std::move(*entries);
    scanned->leaves.reserve(width);
    for (const std::string_view entry : scanned->entries) {
        scanned->leaves.push_back(merkle::leaf_hash(entry));
    }
    scanned->root = merkle::fold(scanned->leaves.front().data(), width);
    auto tile = reader.hash_tile(0, number);
    if (!tile) {
        scanned->tile_damage = tile_refusal(tile.error(), {0, number, width});
        if (!scanned->tile_damage) scanned->unreadable = tile.error();
        return scanned;
    }
    scanned->tile = std::move(*tile);
    compare_leaves(*scanned);
    return scanned;
}

}  // namespace

std::optional<Refusal> tile_refusal(const Error& error, const TileName& name) {
    const std::uint64_t span = name.level == kEntryLevel ? 1 : std::uint64_t{1} << (8 * name.level);
    const std::uint64_t first = name.index * kTileWidth * span;
    if (error.code == ErrorCode::kNotFound) {
        return make_refusal(RefusalKind::kTruncated, first, name, "missing");
    }
    if (error.code == ErrorCode::kDataLoss) {
        return make_refusal(RefusalKind::kTileMismatch, first, name, error.message);
    }
    return std::nullopt;
}

HashScan::HashScan(const std::string& directory, std::uint64_t size, unsigned threads)
    : reader_(directory, size),
      bundles_((size + kTileWidth - 1) / kTileWidth),
      chunks_((bundles_ + kChunkBundles - 1) / kChunkBundles),
      window_(2 + 2 * threads) {
    REEVE_ASSERT(threads > 0);
    const auto wanted = std::min<std::uint64_t>(threads, chunks_);
    for (std::uint64_t i = 0; i < wanted; ++i) threads_.emplace_back([this] { work(); });
}

HashScan::~HashScan() {
    {
        const std::lock_guard hold(mutex_);
        stop_ = true;
    }
    changed_.notify_all();
    for (auto& thread : threads_) thread.join();
}

HashScan::Chunk HashScan::scan_chunk(std::uint64_t chunk) const {
    Chunk out;
    const std::uint64_t end = std::min(bundles_, (chunk + 1) * kChunkBundles);
    for (std::uint64_t number = chunk * kChunkBundles; number < end; ++number) {
        out.push_back(scan_bundle(reader_, number));
    }
    return out;
}

void HashScan::work() {
    std::unique_lock hold(mutex_);
    while (true) {
        changed_.wait(hold, [this] {
            return stop_ || next_to_scan_ == chunks_ || next_to_scan_ < next_to_give_ + window_;
        });
        if (stop_ || next_to_scan_ == chunks_) return;
        const std::uint64_t chunk = next_to_scan_++;
        hold.unlock();
        Chunk scanned = scan_chunk(chunk);
        hold.lock();
        done_.emplace(chunk, std::move(scanned));
        changed_.notify_all();
    }
}

std::vector<std::unique_ptr<ScannedBundle>> HashScan::next() {
    std::unique_lock hold(mutex_);
    if (next_to_give_ == chunks_) return {};
    changed_.wait(hold, [this] { return done_.contains(next_to_give_); });
    auto found = done_.find(next_to_give_);
    Chunk chunk = std::move(found->second);
    done_.erase(found);
    ++next_to_give_;
    changed_.notify_all();
    return chunk;
}

void TileChecker::add_at(unsigned level, const merkle::Hash& hash) {
    REEVE_ASSERT(level < kLevelsMax);
    std::string& tile = edge_[level];
    tile.append(merkle::as_bytes(hash));
    ++count_[level];
    if (tile.size() < kTileWidth * merkle::kHashSize) return;
    compare(level, count_[level] / kTileWidth - 1, tile);
    const merkle::Hash parent =
        merkle::fold(reinterpret_cast<const std::uint8_t*>(tile.data()), kTileWidth);
    tile.clear();
    add_at(level + 1, parent);
}

void TileChecker::finish() {
    for (unsigned level = 1; level < kLevelsMax; ++level) {
        if (!edge_[level].empty()) compare(level, count_[level] / kTileWidth, edge_[level]);
    }
}

void TileChecker::compare(unsigned level, std::uint64_t index, const std::string& expected) {
    if (refusal_ || unreadable_) return;
    auto stored = reader_.hash_tile(level, index);
    const TileName name{level, index, tile_width(reader_.size(), level, index)};
    if (!stored) {
        refusal_ = tile_refusal(stored.error(), name);
        if (!refusal_) unreadable_ = stored.error();
        return;
    }
    ++compared_;
    if (*stored == expected) return;
    std::size_t at = 0;
    while ((*stored)[at] == expected[at]) ++at;
    const std::uint64_t hash = index * kTileWidth + at / merkle::kHashSize;
    refusal_ = make_refusal(
        RefusalKind::kTileMismatch, hash << (kTileHeight * level), name,
        "hash " + std::to_string(at / merkle::kHashSize) + " is not the root of the tile below");
}

}  // namespace reeve::audit
