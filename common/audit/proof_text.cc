#include "common/audit/proof_text.h"

#include "common/audit/text.h"
#include "common/merkle/proof.h"

namespace reeve::audit {
namespace {

tl::unexpected<Error> bad(std::string_view what) {
    return fail(ErrorCode::kInvalidArgument, "proof: " + std::string(what));
}

void append_hashes(std::string& out, const std::vector<merkle::Hash>& hashes) {
    for (const merkle::Hash& hash : hashes) {
        out += encode_base64(merkle::as_bytes(hash)) + "\n";
    }
}

// Hash lines up to and with the empty line. `stop` ends them early and stays in `rest`.
Result<std::vector<merkle::Hash>> read_hashes(std::string_view& rest, std::string_view stop = {}) {
    std::vector<merkle::Hash> hashes;
    while (true) {
        if (!stop.empty() && rest.starts_with(stop)) return hashes;
        const auto line = next_line(rest);
        if (!line) return bad("ends before the empty line");
        if (line->empty()) return hashes;
        if (hashes.size() == merkle::kProofHashesMax) return bad("more than 63 hashes");
        const auto hash = parse_hash(*line);
        if (!hash) return bad("a hash line is not 32 bytes in canonical base64");
        hashes.push_back(*hash);
    }
}

Result<std::uint64_t> read_number(std::string_view& rest, std::string_view word) {
    const auto line = next_line(rest);
    if (!line || !line->starts_with(word)) return bad("no line '" + std::string(word) + "<n>'");
    const auto number = parse_decimal(line->substr(word.size()));
    if (!number) return bad("the number after '" + std::string(word) + "' is not canonical");
    return *number;
}

Result<ProvenEntry> read_entry(std::string_view line) {
    constexpr std::string_view kWord = "entry ";
    if (!line.starts_with(kWord)) return bad("expected an entry line");
    line.remove_prefix(kWord.size());
    const std::size_t first = line.find(' ');
    const std::size_t second = first == line.npos ? line.npos : line.find(' ', first + 1);
    if (second == line.npos) return bad("an entry line has role, index and bytes");
    ProvenEntry entry;
    entry.role = line.substr(0, first);
    const auto index = parse_decimal(line.substr(first + 1, second - first - 1));
    const auto bytes = decode_base64(line.substr(second + 1));
    if (entry.role.empty() || !index || !bytes) return bad("an entry line is malformed");
    entry.index = *index;
    entry.bytes = *bytes;
    return entry;
}

}  // namespace

std::string TlogProof::to_string() const {
    std::string out = std::string(kTlogProofHeader) + "\n";
    if (extra) out += "extra " + encode_base64(*extra) + "\n";
    out += "index " + std::to_string(index) + "\n";
    append_hashes(out, hashes);
    return out + "\n" + checkpoint;
}

Result<TlogProof> parse_tlog_proof(std::string_view text) {
    if (text.size() > kProofFileSizeMax) return bad("longer than 16 MiB");
    const auto header = next_line(text);
    if (!header || *header != kTlogProofHeader) {
        return bad("the first line is not " + std::string(kTlogProofHeader));
    }
    TlogProof proof;
    if (text.starts_with("extra ")) {
        const auto line = next_line(text);
        if (!line) return bad("ends in the extra line");
        proof.extra = decode_base64(line->substr(6));
        if (!proof.extra || proof.extra->empty()) return bad("extra is not canonical base64");
    }
    REEVE_TRY_ASSIGN(proof.index, read_number(text, "index "));
    REEVE_TRY_ASSIGN(proof.hashes, read_hashes(text));
    proof.checkpoint = text;
    if (text.empty()) return bad("no checkpoint");
    return proof;
}

std::string AddCheckpoint::to_string() const {
    std::string out = "old " + std::to_string(old_size) + "\n";
    append_hashes(out, hashes);
    return out + "\n" + checkpoint;
}

Result<AddCheckpoint> parse_add_checkpoint(std::string_view text) {
    if (text.size() > kProofFileSizeMax) return bad("longer than 16 MiB");
    AddCheckpoint request;
    REEVE_TRY_ASSIGN(request.old_size, read_number(text, "old "));
    REEVE_TRY_ASSIGN(request.hashes, read_hashes(text));
    request.checkpoint = text;
    if (text.empty()) return bad("no checkpoint");
    return request;
}

std::string Evidence::to_string() const {
    std::string out = std::string(kEvidenceHeader) + "\n";
    for (const ProvenEntry& entry : entries) {
        out += "entry " + entry.role + " " + std::to_string(entry.index) + " " +
               encode_base64(entry.bytes) + "\n";
        append_hashes(out, entry.hashes);
    }
    return out + "\n" + checkpoint;
}

Result<Evidence> parse_evidence(std::string_view text) {
    if (text.size() > kProofFileSizeMax) return bad("longer than 16 MiB");
    const auto header = next_line(text);
    if (!header || *header != kEvidenceHeader) {
        return bad("the first line is not " + std::string(kEvidenceHeader));
    }
    Evidence evidence;
    // The first empty line ends the entries; what follows is the checkpoint, whatever it is.
    for (bool more = text.starts_with("entry "); more;) {
        if (evidence.entries.size() == Evidence::kEntriesMax) return bad("more than 1024 entries");
        const auto line = next_line(text);
        if (!line) return bad("ends in an entry line");
        REEVE_TRY_ASSIGN(auto entry, read_entry(*line));
        const std::string_view before = text;
        REEVE_TRY_ASSIGN(entry.hashes, read_hashes(text, "entry "));
        const auto read = before.substr(0, before.size() - text.size());
        more = !read.ends_with("\n\n") && read != "\n";
        evidence.entries.push_back(std::move(entry));
    }
    if (evidence.entries.empty()) return bad("no entry");
    evidence.checkpoint = text;
    if (text.empty()) return bad("no checkpoint");
    return evidence;
}

}  // namespace reeve::audit
