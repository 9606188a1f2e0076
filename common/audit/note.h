// Signed notes, checkpoints and cosignatures (C2SP signed-note, tlog-checkpoint, tlog-cosignature).
//
//   origin / decimal size / base64(root), each with its newline          the text, which is signed
//   (empty line)
//   <em dash> <key name> base64(key id u32 || signature)                 one line per signature
//
// Parsing is strict and trusts nothing; a note means something only after open_checkpoint found a
// good signature of a key the caller trusts. Pure; thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/audit/keys.h"
#include "common/base/result.h"
#include "common/merkle/hash.h"

namespace reeve::audit {

inline constexpr std::size_t kNoteSizeMax = 1 << 20;
inline constexpr std::size_t kSignaturesMax = 100;

struct NoteSignature {
    std::string name;
    std::uint32_t key_id = 0;
    std::string bytes;  // without the key id
    std::string line;   // as it stands, with its newline
};

struct Note {
    std::string text;  // what is signed: with its last newline, without the empty line
    std::vector<NoteSignature> signatures;
};

// Error kInvalidArgument: says which rule is broken.
Result<Note> parse_note(std::string_view bytes);

struct Checkpoint {
    std::string origin;
    std::uint64_t size = 0;
    merkle::Hash root{};

    std::string body() const;
    bool operator==(const Checkpoint&) const = default;
};

// The text of a checkpoint. Further non-empty lines are tolerated; we write none.
Result<Checkpoint> parse_checkpoint(std::string_view text);
// The same without the rule that size 0 has the empty root, which a witness judges separately.
Result<Checkpoint> parse_checkpoint_lines(std::string_view text);

struct Cosignature {
    std::size_t witness = 0;  // index into the witnesses given
    std::uint64_t time_seconds = 0;
};

struct OpenedCheckpoint {
    Checkpoint checkpoint;
    Note note;
    std::string text;                       // the whole note as read
    std::size_t log = 0;                    // which of the logs given signed it
    std::vector<Cosignature> cosignatures;  // of the witnesses given; each at most once
};

// Errors: kInvalidArgument (not a checkpoint note), kUnauthenticated (no known good signature, or a
// known key's signature is bad: then the whole note is refused).
Result<OpenedCheckpoint> open_checkpoint(std::string_view bytes, std::span<const VerifierKey> logs,
                                         std::span<const VerifierKey> witnesses);

// A signature line, with its newline.
std::string signature_line(const VerifierKey& key, std::string_view signature);

// Text, empty line and the log's signature line.
std::string sign_checkpoint(const Checkpoint& checkpoint, const SigningKey& key);

// The line a witness adds. Precondition: the key's type is kCosignature, time in 1..2^63-1.
std::string cosign(std::string_view text, const SigningKey& key, std::uint64_t time_seconds);

// The time of a good cosignature over this text, else nullopt.
std::optional<std::uint64_t> verify_cosignature(std::string_view text, const NoteSignature& line,
                                                const VerifierKey& key);

}  // namespace reeve::audit
