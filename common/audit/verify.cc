#include "common/audit/verify.h"

#include <algorithm>
#include <thread>

#include "common/audit/entry.h"
#include "common/audit/files.h"
#include "common/audit/hash_scan.h"
#include "common/audit/rules.h"
#include "common/audit/tiles.h"
#include "common/merkle/compact_range.h"

namespace reeve::audit {
namespace {

// Everything one pass over the entries finds out.
class Pass {
public:
    Pass(const VerifyOptions& options, const Checkpoint& head, std::optional<Checkpoint> remembered)
        : options_(options),
          head_(head),
          remembered_(std::move(remembered)),
          reader_(options.directory, head.size),
          checker_(reader_) {}

    // Error: the disk failed.
    Status run() {
        const unsigned cores = std::max(1U, std::thread::hardware_concurrency());
        HashScan scan(options_.directory, head_.size,
                      options_.threads == 0 ? cores : options_.threads);
        remember_root_if_due({});
        while (!damage_) {
            const auto chunk = scan.next();
            if (chunk.empty()) break;
            for (const auto& bundle : chunk) {
                REEVE_TRY(take(*bundle));
                if (damage_) break;
            }
        }
        if (!damage_) checker_.finish();
        if (checker_.unreadable()) return fail(*checker_.unreadable());
        return {};
    }

    std::optional<Refusal> verdict() const {
        if (auto refusal = hash_verdict()) return refusal;
        if (remembered_ && remembered_root_ && *remembered_root_ != remembered_->root) {
            return Refusal{RefusalKind::kRewritten, std::nullopt, "",
                           "the first " + std::to_string(remembered_->size) +
                               " entries are not those of the remembered checkpoint"};
        }
        return rule_;
    }

    void fill(VerifyReport& report) const {
        report.entries = entries_.size();
        report.tiles = level_0_tiles_ + checker_.compared();
        report.tasks = auditor_.tasks();
        report.open_tasks = auditor_.open_tasks();
    }

private:
    Status take(const ScannedBundle& bundle) {
        if (bundle.unreadable) return fail(*bundle.unreadable);
        if (bundle.bundle_damage) {
            damage_ = bundle.bundle_damage;
            if (!damage_->index) damage_->index = entries_.size();
            return {};
        }
        if (bundle.tile_damage && !level_0_) {
            level_0_ = bundle.tile_damage;
            tiles_known_ = false;
        }
        if (bundle.mismatch && !level_0_) {
            const std::uint64_t number = entries_.size() / kTileWidth;
            level_0_ = Refusal{RefusalKind::kEditedEntry, entries_.size() + *bundle.mismatch,
                               TileName{0, number, tile_width(head_.size, 0, number)}.path(), ""};
            from_tiles_ = entries_;
        }
        remember_root_if_due(bundle.leaves);
        if (level_0_ && !bundle.tile_damage && tiles_known_) extend_from_tile(bundle);
        if (bundle.tile_damage) tiles_known_ = false;
        if (!bundle.tile.empty()) ++level_0_tiles_;
        check_rules(bundle);
        extend(bundle);
        return {};
    }

    void extend(const ScannedBundle& bundle) {
        if (bundle.leaves.size() < kTileWidth) {
            for (const merkle::Hash& leaf : bundle.leaves) entries_.append(leaf);
            return;
        }
        entries_.append_subtree(kTileHeight, bundle.root);
        checker_.add(bundle.root);
    }

    // What the stored hashes alone would give, to tell an edited entry from an edited tile.
    void extend_from_tile(const ScannedBundle& bundle) {
        for (std::size_t at = 0; at < bundle.tile.size(); at += merkle::kHashSize) {
            from_tiles_.append(
                merkle::to_hash(std::string_view(bundle.tile).substr(at, merkle::kHashSize)));
        }
    }

    void remember_root_if_due(const std::vector<merkle::Hash>& leaves) {
        if (!remembered_ || remembered_root_) return;
        if (remembered_->size > entries_.size() + leaves.size()) return;
        merkle::CompactRange until = entries_;
        for (std::size_t i = 0; until.size() < remembered_->size; ++i) until.append(leaves[i]);
        remembered_root_ = until.root();
    }

    void check_rules(const ScannedBundle& bundle) {
        if (options_.hashes_only || rule_) return;
        std::uint64_t index = entries_.size();
        for (const std::string_view bytes : bundle.entries) {
            auto entry = decode(bytes);
            auto wrong = entry ? auditor_.add(*entry) : std::optional(entry.error().message);
            if (wrong) {
                rule_ = Refusal{RefusalKind::kAuditRule, index, "", *wrong};
                return;
            }
            ++index;
        }
    }

    std::optional<Refusal> hash_verdict() const {
        if (damage_ && (!level_0_ || level_0_->kind != RefusalKind::kEditedEntry)) return damage_;
        const bool entries_right = !damage_ && entries_.root() == head_.root;
        if (level_0_) {
            Refusal refusal = *level_0_;
            if (refusal.kind != RefusalKind::kEditedEntry) return refusal;
            const std::uint64_t place = *refusal.index % kTileWidth;
            if (entries_right) {
                refusal.kind = RefusalKind::kTileMismatch;
                refusal.message = "hash " + std::to_string(place) + " is not that of entry " +
                                  std::to_string(*refusal.index) + ", which fits the signed root";
            } else {
                const bool tiles_right =
                    !damage_ && tiles_known_ && from_tiles_.root() == head_.root;
                refusal.message = "entry " + std::to_string(*refusal.index) +
                                  " does not match its leaf hash" +
                                  (tiles_right ? ", which fits the signed root" : "");
            }
            return refusal;
        }
        if (auto refusal = checker_.refusal()) {
            if (entries_right || refusal->kind != RefusalKind::kTileMismatch) return refusal;
            refusal->kind = RefusalKind::kEditedEntry;
            refusal->message =
                "the entries from " + std::to_string(*refusal->index) + " on do not give this hash";
            return refusal;
        }
        if (entries_right) return std::nullopt;
        return Refusal{RefusalKind::kRewritten, std::nullopt, "",
                       "entries and tiles agree with each other, but not with the signed root"};
    }

    const VerifyOptions& options_;
    const Checkpoint& head_;
    const std::optional<Checkpoint> remembered_;
    const TileReader reader_;
    TileChecker checker_;
    Auditor auditor_;

    merkle::CompactRange entries_;     // of the entries' hashes
    merkle::CompactRange from_tiles_;  // of the stored level-0 hashes, since the first mismatch
    bool tiles_known_ = true;
    std::uint64_t level_0_tiles_ = 0;
    std::optional<merkle::Hash> remembered_root_;
    std::optional<Refusal> damage_;   // a bundle that cannot be read as entries: the pass ends
    std::optional<Refusal> level_0_;  // the first trouble with the tiles of level 0
    std::optional<Refusal> rule_;
};

Result<std::optional<Checkpoint>> load_remembered(const VerifyOptions& options) {
    if (!options.remember_path) return std::nullopt;
    auto text = read_file(*options.remember_path, kNoteSizeMax);
    if (!text && text.error().code == ErrorCode::kNotFound) return std::nullopt;
    if (!text) return fail(std::move(text).error());
    auto note = parse_note(*text);
    auto checkpoint =
        note ? parse_checkpoint(note->text) : Result<Checkpoint>(fail(std::move(note).error()));
    if (!checkpoint) {
        return fail(ErrorCode::kInvalidArgument, *options.remember_path +
                                                     ": is not a remembered checkpoint (" +
                                                     checkpoint.error().message + ")");
    }
    return std::move(*checkpoint);
}

std::optional<Refusal> check_memory(const Checkpoint& head, const Checkpoint& remembered) {
    const auto refuse = [](RefusalKind kind, std::string message) {
        return Refusal{kind, std::nullopt, "", std::move(message)};
    };
    if (head.origin != remembered.origin) {
        return refuse(RefusalKind::kRewritten,
                      "this is the log " + head.origin + ", remembered is " + remembered.origin);
    }
    if (head.size < remembered.size) {
        return refuse(RefusalKind::kRolledBack, "size " + std::to_string(head.size) +
                                                    ", remembered is size " +
                                                    std::to_string(remembered.size));
    }
    if (head.size == remembered.size && head.root != remembered.root) {
        return refuse(RefusalKind::kRewritten,
                      "size " + std::to_string(head.size) + " had another root when remembered");
    }
    return std::nullopt;
}

}  // namespace

std::string_view to_string(RefusalKind kind) {
    switch (kind) {
        case RefusalKind::kEditedEntry:
            return "edited entry";
        case RefusalKind::kTileMismatch:
            return "tile mismatch";
        case RefusalKind::kTruncated:
            return "truncated";
        case RefusalKind::kRolledBack:
            return "rolled back";
        case RefusalKind::kRewritten:
            return "rewritten";
        case RefusalKind::kSplitView:
            return "split view";
        case RefusalKind::kBadSignature:
            return "bad signature";
        case RefusalKind::kQuorum:
            return "quorum";
        case RefusalKind::kAuditRule:
            return "audit rule";
        case RefusalKind::kMalformed:
            return "malformed";
    }
    return "unknown";
}

std::string Refusal::to_string() const {
    std::string out(audit::to_string(kind));
    if (index) out += ": entry " + std::to_string(*index);
    if (!tile.empty()) out += ": " + tile;
    if (!message.empty()) out += ": " + message;
    return out;
}

Result<Policy> policy_of_directory(const std::string& directory) {
    const std::string path = directory + "/log.vkey";
    auto text = read_file(path, 4096);
    if (!text) {
        return fail(std::move(text).error().with(
            "no policy given and the log's own key cannot be read (give --policy FILE)"));
    }
    if (!text->empty() && text->back() == '\n') text->pop_back();
    auto key = parse_vkey(*text);
    if (!key) return fail(std::move(key).error().with(path));
    return Policy::trust(std::move(*key));
}

Result<VerifyReport> verify_directory(const VerifyOptions& options) {
    VerifyReport report;
    REEVE_TRY_ASSIGN(report.remembered, load_remembered(options));
    REEVE_TRY_ASSIGN(auto text, read_file(options.directory + "/checkpoint", kNoteSizeMax));
    auto head = open_checkpoint(text, options.policy.logs(), options.policy.witnesses());
    if (!head) {
        const bool signature = head.error().code == ErrorCode::kUnauthenticated;
        report.refusal = Refusal{signature ? RefusalKind::kBadSignature : RefusalKind::kMalformed,
                                 std::nullopt, "checkpoint", head.error().message};
        return report;
    }
    report.head = std::move(*head);
    if (!options.policy.quorum_met(report.head->cosignatures)) {
        report.refusal =
            Refusal{RefusalKind::kQuorum, std::nullopt, "checkpoint",
                    std::to_string(report.head->cosignatures.size()) +
                        " good cosignatures, the policy asks for " + options.policy.quorum_text()};
        return report;
    }
    const Checkpoint& checkpoint = report.head->checkpoint;
    if (report.remembered) report.refusal = check_memory(checkpoint, *report.remembered);
    if (report.refusal) return report;

    Pass pass(options, checkpoint, report.remembered);
    REEVE_TRY(pass.run());
    pass.fill(report);
    report.refusal = pass.verdict();
    if (!report.refusal && options.remember_path) {
        REEVE_TRY(replace_file(*options.remember_path, report.head->text, Durable::kYes, 0644));
    }
    return report;
}

}  // namespace reeve::audit
