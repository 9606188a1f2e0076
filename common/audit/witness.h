// Witness decides whether to cosign a log's checkpoint (C2SP tlog-witness, the add-checkpoint
// rules).
//
// It remembers, per origin, the largest checkpoint it ever cosigned, and cosigns only what extends
// it. The new state is durable before the cosignature exists. A refusal for a broken proof or
// another root at the same size is evidence: the request is kept beside the state file, never
// deleted.
//
// Statuses are the protocol's: 200 cosigned, 400 malformed, 403 bad signature, 404 unknown origin,
// 409 other size than remembered (body: that size), 422 proof or root refused, 500 our disk.
// Not thread-safe; one process per state file (it is locked).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/audit/keys.h"
#include "common/audit/note.h"
#include "common/base/result.h"

namespace reeve::audit {

struct WitnessAnswer {
    int status = 0;
    std::string body;    // 200: the cosignature line; 409: the remembered size and a newline
    std::string reason;  // for people
};

class Witness {
public:
    // state_path holds the last cosigned note; it may not exist yet. Errors: kFailedPrecondition (a
    // second witness on this file), kDataLoss (not a note of these logs), kInvalidArgument (the key
    // is not of type 4).
    static Result<Witness> open(std::string state_path, SigningKey key,
                                std::vector<VerifierKey> logs);
    Witness(Witness&& other) noexcept;
    Witness& operator=(Witness&& other) noexcept;
    ~Witness();

    WitnessAnswer add_checkpoint(std::string_view request, std::uint64_t now_seconds);

    // What it last cosigned; nullopt before the first.
    const std::optional<Checkpoint>& last_seen() const { return last_seen_; }
    const VerifierKey& vkey() const { return key_.verifier(); }

private:
    Witness(std::string state_path, SigningKey key, std::vector<VerifierKey> logs);
    WitnessAnswer refuse_with_evidence(std::string_view request, std::string reason);

    std::string state_path_;
    SigningKey key_;
    std::vector<VerifierKey> logs_;
    std::optional<Checkpoint> last_seen_;
    int lock_fd_ = -1;
};

}  // namespace reeve::audit
