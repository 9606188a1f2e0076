#include "common/audit/witness.h"

#include <cerrno>
#include <utility>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/audit/files.h"
#include "common/audit/proof_text.h"
#include "common/merkle/compact_range.h"
#include "common/merkle/proof.h"

namespace reeve::audit {
namespace {

WitnessAnswer answer(int status, std::string reason, std::string body = {}) {
    return {status, std::move(body), std::move(reason)};
}

// 404 when no key is known for the origin, 403 when none of them signed, nullopt when one did.
std::optional<WitnessAnswer> check_signature(const Note& note, const Checkpoint& checkpoint,
                                             const std::vector<VerifierKey>& logs) {
    bool origin_known = false;
    bool signed_by_log = false;
    for (const VerifierKey& log : logs) {
        if (log.name != checkpoint.origin) continue;
        origin_known = true;
        for (const NoteSignature& line : note.signatures) {
            if (line.name != log.name || line.key_id != log.id) continue;
            if (!log.verify(note.text, line.bytes))
                return answer(403, "the log's signature is bad");
            signed_by_log = true;
        }
    }
    if (!origin_known) return answer(404, "unknown origin " + checkpoint.origin);
    if (!signed_by_log) return answer(403, "no trusted key of the log signed this");
    return std::nullopt;
}

}  // namespace

Witness::Witness(std::string state_path, SigningKey key, std::vector<VerifierKey> logs)
    : state_path_(std::move(state_path)), key_(std::move(key)), logs_(std::move(logs)) {}

Witness::Witness(Witness&& other) noexcept
    : state_path_(std::move(other.state_path_)),
      key_(std::move(other.key_)),
      logs_(std::move(other.logs_)),
      last_seen_(std::move(other.last_seen_)),
      lock_fd_(std::exchange(other.lock_fd_, -1)) {}

Witness& Witness::operator=(Witness&& other) noexcept {
    std::swap(state_path_, other.state_path_);
    std::swap(key_, other.key_);
    std::swap(logs_, other.logs_);
    std::swap(last_seen_, other.last_seen_);
    std::swap(lock_fd_, other.lock_fd_);
    return *this;
}

Witness::~Witness() {
    if (lock_fd_ >= 0) close(lock_fd_);
}

Result<Witness> Witness::open(std::string state_path, SigningKey key,
                              std::vector<VerifierKey> logs) {
    if (key.verifier().type != KeyType::kCosignature) {
        return fail(ErrorCode::kInvalidArgument, "a witness's key has type 4 (cosignature/v1)");
    }
    const std::string lock_path = state_path + ".lock";
    Witness witness(std::move(state_path), std::move(key), std::move(logs));
    witness.lock_fd_ = ::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (witness.lock_fd_ < 0) return fail_errno("open " + lock_path, errno);
    if (flock(witness.lock_fd_, LOCK_EX | LOCK_NB) != 0) {
        return fail(ErrorCode::kFailedPrecondition,
                    witness.state_path_ + ": another witness is using this state");
    }
    auto state = read_file(witness.state_path_, kNoteSizeMax);
    if (!state && state.error().code == ErrorCode::kNotFound) return witness;
    if (!state) return fail(std::move(state).error());
    auto opened = open_checkpoint(*state, witness.logs_, {});
    if (!opened) {
        return fail(ErrorCode::kDataLoss, witness.state_path_ +
                                              ": is not a checkpoint of a trusted log (" +
                                              opened.error().message + ")");
    }
    witness.last_seen_ = opened->checkpoint;
    return witness;
}

WitnessAnswer Witness::refuse_with_evidence(std::string_view request, std::string reason) {
    // The name is the request's hash, so that a repeated request does not fill the disk.
    const std::string name = merkle::to_hex(merkle::sha256(request)).substr(0, 16);
    if (auto kept = replace_file(state_path_ + ".refused." + name, request, Durable::kYes); !kept) {
        reason += "; and the evidence could not be kept: " + kept.error().message;
    }
    return answer(422, std::move(reason));
}

WitnessAnswer Witness::add_checkpoint(std::string_view request, std::uint64_t now_seconds) {
    auto parsed = parse_add_checkpoint(request);
    if (!parsed) return answer(400, parsed.error().message);
    auto note = parse_note(parsed->checkpoint);
    if (!note) return answer(400, note.error().message);
    auto checkpoint = parse_checkpoint_lines(note->text);
    if (!checkpoint) return answer(400, checkpoint.error().message);
    if (auto refused = check_signature(*note, *checkpoint, logs_)) return *refused;
    if (parsed->old_size > checkpoint->size) return answer(400, "old size above the new size");

    const bool known = last_seen_ && last_seen_->origin == checkpoint->origin;
    if (last_seen_ && !known) return answer(404, "this witness follows " + last_seen_->origin);
    const std::uint64_t remembered = known ? last_seen_->size : 0;
    if (parsed->old_size != remembered) {
        return answer(409, "the last cosigned size is " + std::to_string(remembered),
                      std::to_string(remembered) + "\n");
    }
    if (checkpoint->size == 0 && checkpoint->root != merkle::empty_root()) {
        return refuse_with_evidence(request, "size 0 with a root that is not the empty tree's");
    }
    if (remembered == 0) {
        if (!parsed->hashes.empty()) return answer(422, "a proof from size 0 must be empty");
    } else if (!merkle::verify_consistency(remembered, checkpoint->size, last_seen_->root,
                                           checkpoint->root, parsed->hashes)) {
        return refuse_with_evidence(request, "the checkpoint does not extend the one of size " +
                                                 std::to_string(remembered));
    }
    if (now_seconds == 0 || now_seconds > merkle::kSizeMax) return answer(500, "no clock");
    // First the memory, then the signature: a crash between them costs one cosignature only.
    if (auto stored = replace_file(state_path_, parsed->checkpoint, Durable::kYes); !stored) {
        return answer(500, stored.error().message);
    }
    last_seen_ = *checkpoint;
    return answer(200, "cosigned size " + std::to_string(checkpoint->size),
                  cosign(note->text, key_, now_seconds));
}

}  // namespace reeve::audit
