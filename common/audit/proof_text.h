// Proofs as files: C2SP tlog-proof, the add-checkpoint request, and reeve's evidence of several
// entries under one checkpoint.
//
//   c2sp.org/tlog-proof@v1        old <size>                  reeve/audit-evidence@v1
//   extra <base64>  (optional)    <hash>...                   entry <role> <index> <base64 bytes>
//   index <n>                     (empty line)                <hash>...           (per entry)
//   <hash>...                     <signed checkpoint>         (empty line)
//   (empty line)                                              <signed checkpoint>
//   <signed checkpoint>
//
// Parsers are strict and bounded; the checkpoint is kept as bytes, for open_checkpoint. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/merkle/hash.h"

namespace reeve::audit {

struct TlogProof {
    std::optional<std::string> extra;  // not authenticated; we put the entry's bytes here
    std::uint64_t index = 0;
    std::vector<merkle::Hash> hashes;
    std::string checkpoint;

    std::string to_string() const;
};
Result<TlogProof> parse_tlog_proof(std::string_view text);

struct AddCheckpoint {
    std::uint64_t old_size = 0;
    std::vector<merkle::Hash> hashes;
    std::string checkpoint;

    std::string to_string() const;
};
Result<AddCheckpoint> parse_add_checkpoint(std::string_view text);

struct ProvenEntry {
    std::string role;
    std::uint64_t index = 0;
    std::string bytes;
    std::vector<merkle::Hash> hashes;
};
struct Evidence {
    static constexpr std::size_t kEntriesMax = 1024;
    std::vector<ProvenEntry> entries;
    std::string checkpoint;

    std::string to_string() const;
};
Result<Evidence> parse_evidence(std::string_view text);

inline constexpr std::string_view kTlogProofHeader = "c2sp.org/tlog-proof@v1";
inline constexpr std::string_view kEvidenceHeader = "reeve/audit-evidence@v1";
inline constexpr std::size_t kProofFileSizeMax = 16 << 20;

}  // namespace reeve::audit
