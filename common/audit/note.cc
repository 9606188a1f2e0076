#include "common/audit/note.h"

#include <algorithm>

#include "common/audit/text.h"
#include "common/base/assert.h"
#include "common/base/bytes.h"
#include "common/merkle/compact_range.h"

namespace reeve::audit {
namespace {

constexpr std::string_view kDash = "\xE2\x80\x94 ";  // U+2014 and a space

tl::unexpected<Error> bad_note(std::string_view what) {
    return fail(ErrorCode::kInvalidArgument, "note: " + std::string(what));
}

tl::unexpected<Error> bad_checkpoint(std::string_view what) {
    return fail(ErrorCode::kInvalidArgument, "checkpoint: " + std::string(what));
}

Result<NoteSignature> parse_signature(std::string_view line) {
    if (!line.starts_with(kDash)) return bad_note("only signature lines may follow the empty line");
    const std::string_view rest = line.substr(kDash.size());
    const std::size_t space = rest.find(' ');
    if (space == rest.npos) return bad_note("a signature line has a name and a signature");
    NoteSignature signature;
    signature.name = rest.substr(0, space);
    if (!is_key_name(signature.name)) return bad_note("bad key name in a signature line");
    auto bytes = decode_base64(rest.substr(space + 1));
    if (!bytes) return bad_note("a signature is not canonical base64");
    if (bytes->size() < 5) return bad_note("a signature is too short");
    signature.key_id = get_big_endian<std::uint32_t>(bytes->data());
    signature.bytes = bytes->substr(4);
    signature.line = std::string(line) + "\n";
    return signature;
}

bool names(const NoteSignature& line, const VerifierKey& key) {
    return line.key_id == key.id && line.name == key.name;
}

std::string cosigned_message(std::string_view text, std::uint64_t time_seconds) {
    return "cosignature/v1\ntime " + std::to_string(time_seconds) + "\n" + std::string(text);
}

tl::unexpected<Error> bad_signature(const VerifierKey& key) {
    return fail(ErrorCode::kUnauthenticated,
                "note: the signature of the known key " + key.name + " is bad");
}

// Checks each witness's lines; a witness counts once.
Status collect_cosignatures(OpenedCheckpoint& opened, std::span<const VerifierKey> witnesses) {
    for (std::size_t i = 0; i < witnesses.size(); ++i) {
        bool counted = false;
        for (const NoteSignature& line : opened.note.signatures) {
            if (!names(line, witnesses[i])) continue;
            const auto time = verify_cosignature(opened.note.text, line, witnesses[i]);
            if (!time) return bad_signature(witnesses[i]);
            if (!counted) opened.cosignatures.push_back({i, *time});
            counted = true;
        }
    }
    return {};
}

}  // namespace

Result<Note> parse_note(std::string_view bytes) {
    if (bytes.size() > kNoteSizeMax) return bad_note("longer than 1 MiB");
    if (!is_utf8(bytes)) return bad_note("not UTF-8");
    for (const char c : bytes) {
        if (static_cast<unsigned char>(c) < 0x20 && c != '\n') return bad_note("control character");
    }
    if (bytes.empty() || bytes.back() != '\n') return bad_note("does not end with a newline");
    const std::size_t split = bytes.rfind("\n\n");
    if (split == bytes.npos) return bad_note("no empty line between text and signatures");
    Note note;
    note.text = bytes.substr(0, split + 1);
    std::string_view rest = bytes.substr(split + 2);
    while (!rest.empty()) {
        const auto line = next_line(rest);
        REEVE_ASSERT(line.has_value());
        if (note.signatures.size() == kSignaturesMax) return bad_note("more than 100 signatures");
        REEVE_TRY_ASSIGN(auto signature, parse_signature(*line));
        note.signatures.push_back(std::move(signature));
    }
    if (note.signatures.empty()) return bad_note("no signature");
    return note;
}

std::string Checkpoint::body() const {
    return origin + "\n" + std::to_string(size) + "\n" + encode_base64(merkle::as_bytes(root)) +
           "\n";
}

Result<Checkpoint> parse_checkpoint_lines(std::string_view text) {
    std::vector<std::string_view> lines;
    while (const auto line = next_line(text)) {
        if (line->empty()) return bad_checkpoint("empty line");
        lines.push_back(*line);
    }
    if (!text.empty()) return bad_checkpoint("the last line has no newline");
    if (lines.size() < 3) return bad_checkpoint("fewer than three lines");
    Checkpoint checkpoint;
    checkpoint.origin = lines[0];
    const auto size = parse_decimal(lines[1]);
    if (!size) return bad_checkpoint("the size is not a canonical decimal below 2^63");
    checkpoint.size = *size;
    const auto root = parse_hash(lines[2]);
    if (!root) return bad_checkpoint("the root is not 32 bytes in canonical base64");
    checkpoint.root = *root;
    return checkpoint;
}

Result<Checkpoint> parse_checkpoint(std::string_view text) {
    auto checkpoint = parse_checkpoint_lines(text);
    if (checkpoint && checkpoint->size == 0 && checkpoint->root != merkle::empty_root()) {
        return bad_checkpoint("size 0 with a root that is not the empty tree's");
    }
    return checkpoint;
}

std::optional<std::uint64_t> verify_cosignature(std::string_view text, const NoteSignature& line,
                                                const VerifierKey& key) {
    if (key.type != KeyType::kCosignature || !names(line, key)) return std::nullopt;
    if (line.bytes.size() != 8 + kSignatureSize) return std::nullopt;
    const auto time = get_big_endian<std::uint64_t>(line.bytes.data());
    if (time == 0 || time > merkle::kSizeMax) return std::nullopt;
    if (!parse_checkpoint(text)) return std::nullopt;
    const std::string_view signature = std::string_view(line.bytes).substr(8);
    if (!key.verify(cosigned_message(text, time), signature)) return std::nullopt;
    return time;
}

Result<OpenedCheckpoint> open_checkpoint(std::string_view bytes, std::span<const VerifierKey> logs,
                                         std::span<const VerifierKey> witnesses) {
    OpenedCheckpoint opened;
    REEVE_TRY_ASSIGN(opened.note, parse_note(bytes));
    REEVE_TRY_ASSIGN(opened.checkpoint, parse_checkpoint(opened.note.text));
    opened.text = bytes;
    bool signed_by_log = false;
    for (std::size_t i = 0; i < logs.size(); ++i) {
        for (const NoteSignature& line : opened.note.signatures) {
            if (!names(line, logs[i]) || logs[i].type != KeyType::kNote) continue;
            if (!logs[i].verify(opened.note.text, line.bytes)) return bad_signature(logs[i]);
            // A log speaks only for its own origin.
            if (logs[i].name != opened.checkpoint.origin || signed_by_log) continue;
            signed_by_log = true;
            opened.log = i;
        }
    }
    if (!signed_by_log) {
        return fail(
            ErrorCode::kUnauthenticated,
            "checkpoint: no known log key signed it for origin " + opened.checkpoint.origin);
    }
    REEVE_TRY(collect_cosignatures(opened, witnesses));
    return opened;
}

std::string signature_line(const VerifierKey& key, std::string_view signature) {
    std::string payload(4, '\0');
    put_big_endian(payload.data(), key.id);
    payload.append(signature);
    return std::string(kDash) + key.name + " " + encode_base64(payload) + "\n";
}

std::string sign_checkpoint(const Checkpoint& checkpoint, const SigningKey& key) {
    REEVE_ASSERT(key.verifier().type == KeyType::kNote);
    REEVE_ASSERT(key.verifier().name == checkpoint.origin);
    const std::string body = checkpoint.body();
    return body + "\n" + signature_line(key.verifier(), key.sign(body));
}

std::string cosign(std::string_view text, const SigningKey& key, std::uint64_t time_seconds) {
    REEVE_ASSERT(key.verifier().type == KeyType::kCosignature);
    REEVE_ASSERT(time_seconds > 0 && time_seconds <= merkle::kSizeMax);
    std::string payload(8, '\0');
    put_big_endian(payload.data(), time_seconds);
    payload += key.sign(cosigned_message(text, time_seconds));
    return signature_line(key.verifier(), payload);
}

}  // namespace reeve::audit
