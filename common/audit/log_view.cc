#include "common/audit/log_view.h"

#include <algorithm>
#include <cstring>

#include "common/audit/files.h"
#include "common/base/assert.h"
#include "common/base/bytes.h"
#include "common/merkle/proof.h"

namespace reeve::audit {
namespace {

// A tile that is not there is damage of the log, not a question about something unknown.
// The message begins with the kind of refusal, as verify names it.
tl::unexpected<Error> as_damage(Error error) {
    if (error.code == ErrorCode::kNotFound) {
        error.code = ErrorCode::kDataLoss;
        return fail(std::move(error).with("truncated"));
    }
    if (error.code == ErrorCode::kDataLoss) return fail(std::move(error).with("tile mismatch"));
    return fail(std::move(error));
}

tl::unexpected<Error> refused(std::string what) {
    return fail(ErrorCode::kDataLoss, std::move(what));
}

bool is_task_entry(std::string_view bytes, const char (&id)[16]) {
    return bytes.size() >= kEntryHeaderSize && static_cast<std::uint8_t>(bytes[4]) < 16 &&
           std::memcmp(bytes.data() + 16, id, sizeof id) == 0;
}

}  // namespace

Result<OpenedCheckpoint> open_under_policy(std::string_view note, const Policy& policy) {
    REEVE_TRY_ASSIGN(auto opened, open_checkpoint(note, policy.logs(), policy.witnesses()));
    if (!policy.quorum_met(opened.cosignatures)) {
        return fail(ErrorCode::kUnauthenticated,
                    "quorum: " + std::to_string(opened.cosignatures.size()) +
                        " good cosignatures, the policy asks for " + policy.quorum_text());
    }
    return opened;
}

Result<LogView> LogView::open(const std::string& directory, const Policy& policy) {
    REEVE_TRY_ASSIGN(auto text, read_file(directory + "/checkpoint", kNoteSizeMax));
    auto head = open_under_policy(text, policy);
    if (!head) {
        Error error = std::move(head).error();
        error.code = ErrorCode::kUnauthenticated;  // a malformed checkpoint is refused as well
        return fail(std::move(error).with(directory + "/checkpoint"));
    }
    return LogView(std::move(*head), directory);
}

Result<IndexedEntry> LogView::entry(std::uint64_t index) {
    if (index >= reader_.size()) {
        return fail(ErrorCode::kNotFound, "entry " + std::to_string(index) + ": the log has " +
                                              std::to_string(reader_.size()));
    }
    IndexedEntry found;
    found.index = index;
    auto bytes = reader_.entry(index);
    if (!bytes) return as_damage(std::move(bytes).error());
    found.bytes = std::move(*bytes);
    auto proof = merkle::inclusion_proof(index, reader_.size(), reader_.subtree_hash());
    if (!proof) return as_damage(std::move(proof).error());
    found.proof = std::move(*proof);
    if (!merkle::verify_inclusion(index, reader_.size(), merkle::leaf_hash(found.bytes),
                                  found.proof, checkpoint().root)) {
        return refused("tile mismatch: entry " + std::to_string(index) +
                       " and its tiles do not lead to the " +
                       "signed root; run `reeve audit verify` to find the damage");
    }
    return found;
}

Result<std::vector<IndexedEntry>> LogView::history(Id task) {
    char id[16];
    put_big_endian(id, task.high);
    put_big_endian(id + 8, task.low);
    std::vector<std::uint64_t> places;
    const std::uint64_t bundles = (reader_.size() + kTileWidth - 1) / kTileWidth;
    for (std::uint64_t number = 0; number < bundles; ++number) {
        auto bytes = reader_.bundle(number);
        if (!bytes) return as_damage(std::move(bytes).error());
        const unsigned width = tile_width(reader_.size(), kEntryLevel, number);
        auto entries = split_bundle(*bytes, width);
        if (!entries) {
            return as_damage(
                std::move(entries).error().with(TileName{kEntryLevel, number, width}.path()));
        }
        for (unsigned i = 0; i < width; ++i) {
            if (is_task_entry((*entries)[i], id)) places.push_back(number * kTileWidth + i);
        }
    }
    if (places.empty()) return fail(ErrorCode::kNotFound, "no entry of this task in the log");
    std::vector<IndexedEntry> found;
    found.reserve(places.size());
    for (const std::uint64_t place : places) {
        REEVE_TRY_ASSIGN(auto one, entry(place));
        found.push_back(std::move(one));
    }
    return found;
}

Result<TlogProof> LogView::prove(std::uint64_t index) {
    REEVE_TRY_ASSIGN(auto found, entry(index));
    TlogProof proof;
    proof.extra = std::move(found.bytes);
    proof.index = index;
    proof.hashes = std::move(found.proof);
    proof.checkpoint = head_.text;
    return proof;
}

Result<merkle::Hash> LogView::root(std::uint64_t size) {
    REEVE_ASSERT(size <= reader_.size());
    auto root = reader_.root(size);
    if (!root) return as_damage(std::move(root).error());
    return root;
}

Result<AddCheckpoint> LogView::consistency(std::uint64_t old_size) {
    if (old_size > reader_.size()) {
        return fail(ErrorCode::kInvalidArgument, "size " + std::to_string(old_size) +
                                                     " lies beyond the checkpoint's " +
                                                     std::to_string(reader_.size()));
    }
    AddCheckpoint request;
    request.old_size = old_size;
    if (old_size > 0) {
        auto proof = merkle::consistency_proof(old_size, reader_.size(), reader_.subtree_hash());
        if (!proof) return as_damage(std::move(proof).error());
        REEVE_TRY_ASSIGN(const auto old_root, root(old_size));
        if (!merkle::verify_consistency(old_size, reader_.size(), old_root, checkpoint().root,
                                        *proof)) {
            return refused(
                "tile mismatch: the tiles do not lead to the signed root; run `reeve audit "
                "verify`");
        }
        request.hashes = std::move(*proof);
    }
    // A witness wants the log's own signature; others' cosignatures are not its business.
    request.checkpoint = head_.note.text + "\n";
    for (const NoteSignature& line : head_.note.signatures) {
        if (line.name == checkpoint().origin) request.checkpoint += line.line;
    }
    return request;
}

Result<OpenedCheckpoint> check_proof(const TlogProof& proof, const merkle::Hash& leaf,
                                     const Policy& policy) {
    REEVE_TRY_ASSIGN(auto opened, open_under_policy(proof.checkpoint, policy));
    const Checkpoint& head = opened.checkpoint;
    if (!merkle::verify_inclusion(proof.index, head.size, leaf, proof.hashes, head.root)) {
        return refused("proof: the entry is not at index " + std::to_string(proof.index) +
                       " of the signed tree of size " + std::to_string(head.size));
    }
    return opened;
}

}  // namespace reeve::audit
