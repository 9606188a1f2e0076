// verify_directory judges a log directory: signatures and quorum, every entry against every tile up
// to the signed root, the audit rules, and what the reader remembers of it.
//
// Needs nothing but the files, so a plain copy will do. Hashing runs on all cores, the rules on one
// more thread's worth of the caller; memory is bounded by a few hundred bundles and 40 bytes per
// task. The first offending entry or tile is named; damage of the hashes outranks a broken rule.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/audit/note.h"
#include "common/audit/policy.h"
#include "common/base/result.h"

namespace reeve::audit {

enum class RefusalKind : std::uint8_t {
    kEditedEntry,
    kTileMismatch,
    kTruncated,
    kRolledBack,
    kRewritten,
    kSplitView,
    kBadSignature,
    kQuorum,
    kAuditRule,
    kMalformed,
};
std::string_view to_string(RefusalKind kind);  // "edited entry", "tile mismatch", ...

struct Refusal {
    RefusalKind kind = RefusalKind::kMalformed;
    std::optional<std::uint64_t> index;  // the first offending entry
    std::string tile;                    // the first offending tile, relative path
    std::string message;

    std::string to_string() const;
};

struct VerifyOptions {
    std::string directory;
    Policy policy;
    std::optional<std::string> remember_path;  // a file with the last verified checkpoint
    bool hashes_only = false;                  // skip the audit rules
    unsigned threads = 0;                      // 0: one per core
};

struct VerifyReport {
    std::optional<OpenedCheckpoint> head;  // once its signature held
    std::optional<Refusal> refusal;
    std::optional<Checkpoint> remembered;
    std::uint64_t entries = 0;
    std::uint64_t tiles = 0;  // hash tiles compared
    std::uint64_t tasks = 0;  // 0 with hashes_only
    std::uint64_t open_tasks = 0;
};

// A refusal is a report, not an error. Errors: the directory, the policy's files or the remembered
// checkpoint cannot be read.
Result<VerifyReport> verify_directory(const VerifyOptions& options);

// The log's own key as DIR/log.vkey names it: trust for a first look, not for evidence.
Result<Policy> policy_of_directory(const std::string& directory);

}  // namespace reeve::audit
