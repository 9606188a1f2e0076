// LogView answers questions about one signed checkpoint of a log directory, each answer with proof.
//
// Whatever it hands out was checked against the signed root on the way, so an edited tile or entry
// surfaces as an error here too. Works on a plain copy with every daemon stopped. Not thread-safe.
//
// Errors: kDataLoss (the files do not fit the signed root: refused; the message begins with the
// kind: "truncated: ...", "tile mismatch: ...", "rewritten: ...", "proof: ..."), kUnauthenticated
// (signature or quorum: refused), kNotFound (no such directory, entry or task), kInvalidArgument.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/audit/entry.h"
#include "common/audit/note.h"
#include "common/audit/policy.h"
#include "common/audit/proof_text.h"
#include "common/audit/tiles.h"
#include "common/base/result.h"

namespace reeve::audit {

struct IndexedEntry {
    std::uint64_t index = 0;
    std::string bytes;
    std::vector<merkle::Hash> proof;
};

class LogView {
public:
    static Result<LogView> open(const std::string& directory, const Policy& policy);
    // The same directory seen at an older checkpoint, which the caller has opened.
    static LogView at(OpenedCheckpoint head, std::string directory) {
        return LogView(std::move(head), std::move(directory));
    }

    const OpenedCheckpoint& head() const { return head_; }
    const Checkpoint& checkpoint() const { return head_.checkpoint; }

    Result<IndexedEntry> entry(std::uint64_t index);
    // All entries of a task, in order. Reads the whole log.
    Result<std::vector<IndexedEntry>> history(Id task);
    // C2SP tlog-proof with the entry's bytes as extra.
    Result<TlogProof> prove(std::uint64_t index);
    // The proof that this checkpoint extends the tree of old_size leaves, for a witness.
    Result<AddCheckpoint> consistency(std::uint64_t old_size);
    Result<merkle::Hash> root(std::uint64_t size);
    // How a task went from one holder to the next: its last entry under the old holder, the death
    // (when the holder died), the taking, and the entries up to the next assignment. The last such
    // passage, or the one that led to this attempt.
    Result<Evidence> reassigned(Id task, std::optional<std::uint16_t> attempt);

private:
    LogView(OpenedCheckpoint head, std::string directory)
        : head_(std::move(head)), reader_(std::move(directory), head_.checkpoint.size) {}

    OpenedCheckpoint head_;
    TileReader reader_;
};

// Opens a signed checkpoint under the policy: signature and quorum.
Result<OpenedCheckpoint> open_under_policy(std::string_view note, const Policy& policy);

// Verifies a tlog-proof for these entry bytes (or for the leaf hash alone). Returns the checkpoint.
Result<OpenedCheckpoint> check_proof(const TlogProof& proof, const merkle::Hash& leaf,
                                     const Policy& policy);

struct Reassignment {
    Id task;
    Id from;
    Id to;
    std::uint16_t attempt = 0;           // the new one
    std::optional<std::uint64_t> death;  // index of the old holder's WORKER_DEAD
    std::uint64_t taken = 0;             // index of the REQUEUED or REASSIGNED entry
    std::uint64_t assigned = 0;          // index of the entry that names the new holder
    OpenedCheckpoint head;
};
// Verifies the evidence offline: signature, quorum, every inclusion, and that the entries tell one
// passage of one task from a holder to the next. kDataLoss: they do not.
Result<Reassignment> check_evidence(const Evidence& evidence, const Policy& policy);

}  // namespace reeve::audit
