// The audit commands as functions over plain structs; audit.cc turns words into them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/audit/entry.h"
#include "common/audit/log_view.h"
#include "common/audit/policy.h"
#include "common/base/result.h"

namespace reeve::cli {

// What every audit command is given.
struct AuditPlace {
    std::string state_dir;
    std::string directory;  // --dir, else the cell's audit directory
    std::string policy;     // --policy FILE
    std::string vkey;       // --vkey KEY instead of a policy
    bool json = false;
};

// Asks the PLM of a cell that is run to publish what is durable by now, so that what a client has
// been told is under the checkpoint. Without an answer the directory is read as it stands.
void audit_bring_up_to_date(const AuditPlace& place);

struct AuditVerify {
    std::string remember;
    bool hashes_only = false;
    unsigned threads = 0;
};
struct AuditTask {
    std::string task;
    std::uint16_t attempt = 0;  // reassigned: 0 is the last passage
    std::string output;         // "" or "-": stdout
};
struct AuditProve {
    std::uint64_t index = 0;
    std::string output;
};
struct AuditCheck {
    std::string file;
    std::string entry_file;
    std::string leaf;  // hex
};
struct AuditConsistency {
    std::string old_head;  // a size, or a file with a signed checkpoint
    std::string new_head;
    std::string output;
};
struct AuditWitness {
    std::string key;
    std::string state;
    std::string create;   // name of a new key
    std::string request;  // an add-checkpoint body; "-" is stdin
    bool cosign = false;  // the directory's own checkpoint
};

int audit_head(const AuditPlace& place, bool raw);
int audit_verify(const AuditPlace& place, const AuditVerify& options);
int audit_history(const AuditPlace& place, const AuditTask& options);
int audit_reassigned(const AuditPlace& place, const AuditTask& options);
int audit_prove(const AuditPlace& place, const AuditProve& options);
int audit_check(const AuditPlace& place, const AuditCheck& options);
int audit_consistency(const AuditPlace& place, const AuditConsistency& options);
int audit_compare(const AuditPlace& place, const std::string& first, const std::string& second);
int audit_witness(const AuditPlace& place, const AuditWitness& options);

// 12, 12.3, 12.header (an array's own entries) or 32 hex digits. Error kInvalidArgument.
Result<audit::Id> parse_audit_task(std::string_view text);
std::string audit_task_text(audit::Id task);
std::string audit_worker_text(audit::Id worker);  // number/incarnation, "-" for none

// Shared by the files behind this header.
inline constexpr int kAuditRefused = 1;
inline constexpr int kAuditUnreadable = 2;
Result<std::string> audit_directory(const AuditPlace& place);
Result<audit::Policy> audit_policy(const AuditPlace& place);
Result<audit::LogView> audit_view(const AuditPlace& place);
// Tells an error: a refusal (kDataLoss, kUnauthenticated) is 1, no such task 3, all else 2.
int audit_report(const AuditPlace& place, const Error& error);
// The same where nothing was asked but the files themselves: a missing one is 2.
int audit_report_unreadable(const AuditPlace& place, Error error);
// Prints a refusal, on stdout for the reader and as JSON when asked, and one line on stderr.
int audit_refuse(const AuditPlace& place, std::string_view kind, std::string_view message,
                 std::optional<std::uint64_t> index = {}, std::string_view tile = {});
int audit_write(const std::string& path, const std::string& text);

}  // namespace reeve::cli
