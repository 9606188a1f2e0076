#include <chrono>
#include <cstdio>

#include "cli/audit_actions.h"
#include "cli/context.h"
#include "cli/json_writer.h"
#include "cli/text.h"
#include "common/audit/files.h"
#include "common/audit/text.h"
#include "common/audit/verify.h"
#include "common/process/cell.h"
#include "common/rpc/client.h"

namespace reeve::cli {
namespace {

constexpr std::chrono::milliseconds kPublishTimeout{2'000};
constexpr std::size_t kPolicySizeMax = 1 << 20;
constexpr std::uint64_t kPlainIdMax = std::uint64_t{1} << 48;

// "rewritten: the directory's..." -> its kind and the rest; "damaged" when no kind stands there.
std::pair<std::string_view, std::string_view> split_kind(std::string_view message) {
    for (const std::string_view kind : {"truncated", "tile mismatch", "rewritten", "proof"}) {
        if (message.starts_with(kind) && message.substr(kind.size()).starts_with(": ")) {
            return {kind, message.substr(kind.size() + 2)};
        }
    }
    return {"damaged", message};
}

}  // namespace

Result<audit::Id> parse_audit_task(std::string_view text) {
    if (const auto id = audit::id_from_hex(text)) return *id;
    const std::size_t dot = text.find('.');
    const auto job = audit::parse_decimal(text.substr(0, dot));
    const auto bad = [&] {
        return fail(ErrorCode::kInvalidArgument,
                    "task '" + std::string(text) +
                        "': expected JOB, JOB.ELEMENT, JOB.header or 32 hex digits");
    };
    if (!job) return bad();
    if (dot == text.npos) return audit::Id{*job, 0};
    const std::string_view element = text.substr(dot + 1);
    if (element == "header") return audit::Id{*job, kHeaderElement};
    const auto number = audit::parse_decimal(element);
    if (!number) return bad();
    return audit::Id{*job, *number};
}

std::string audit_task_text(audit::Id task) {
    if (task.high >= kPlainIdMax) return audit::to_hex(task);
    if (task.low == kHeaderElement) return std::to_string(task.high) + ".header";
    return audit::to_task(task).to_string();
}

std::string audit_worker_text(audit::Id worker) {
    if (worker.none()) return "-";
    if (worker.high >= kPlainIdMax) return audit::to_hex(worker);
    return std::to_string(worker.high) + "/" + std::to_string(worker.low);
}

Result<std::string> audit_directory(const AuditPlace& place) {
    if (!place.directory.empty()) return place.directory;
    REEVE_TRY_ASSIGN(auto cell, find_cell(place.state_dir));
    return cell.audit;
}

void audit_bring_up_to_date(const AuditPlace& place) {
    const auto cell = find_cell(place.state_dir);
    if (!cell || !rpc::cell_is_run(*cell)) return;
    auto client = rpc::Client::connect(*cell);
    if (!client) return;
    v1::AuditHeadRequest request;
    request.set_publish(true);
    (void)(*client)->call(&v1::Reeve::Stub::AuditHead, request, kPublishTimeout);
}

Result<audit::Policy> audit_policy(const AuditPlace& place) {
    if (!place.policy.empty()) {
        REEVE_TRY_ASSIGN(auto text, audit::read_file(place.policy, kPolicySizeMax));
        auto policy = audit::Policy::parse(text);
        if (!policy) return fail(std::move(policy).error().with(place.policy));
        return policy;
    }
    if (!place.vkey.empty()) {
        REEVE_TRY_ASSIGN(auto key, audit::parse_vkey(place.vkey));
        return audit::Policy::trust(std::move(key));
    }
    REEVE_TRY_ASSIGN(auto directory, audit_directory(place));
    return audit::policy_of_directory(directory);
}

Result<audit::LogView> audit_view(const AuditPlace& place) {
    REEVE_TRY_ASSIGN(auto directory, audit_directory(place));
    REEVE_TRY_ASSIGN(auto policy, audit_policy(place));
    return audit::LogView::open(directory, policy);
}

int audit_report(const AuditPlace& place, const Error& error) {
    if (error.code == ErrorCode::kUnauthenticated) {
        const bool quorum = error.message.find("quorum: ") != std::string::npos;
        return audit_refuse(place, quorum ? "quorum" : "bad signature", error.message);
    }
    if (error.code == ErrorCode::kDataLoss) {
        const auto [kind, message] = split_kind(error.message);
        return audit_refuse(place, kind, message);
    }
    report(error);
    return error.code == ErrorCode::kNotFound ? kExitNotFound : kAuditUnreadable;
}

int audit_report_unreadable(const AuditPlace& place, Error error) {
    if (error.code == ErrorCode::kNotFound) error.code = ErrorCode::kInvalidArgument;
    return audit_report(place, error);
}

int audit_refuse(const AuditPlace& place, std::string_view kind, std::string_view message,
                 std::optional<std::uint64_t> index, std::string_view tile) {
    if (place.json) {
        JsonWriter json;
        json.begin_object()
            .field("schema", "reeve.audit.refusal.v1")
            .field("ok", false)
            .field("kind", kind)
            .key("index");
        if (index) {
            json.value(*index);
        } else {
            json.null();
        }
        json.field("tile", tile).field("message", message).end_object();
        json.print();
        return kAuditRefused;
    }
    std::string text(kind);
    if (index) text += ": entry " + std::to_string(*index);
    if (!tile.empty()) text += ": " + std::string(tile);
    if (!message.empty()) text += ": " + std::string(message);
    write_out("refused: " + escape(text) + "\n");
    warn("the audit log was refused (" + std::string(kind) + ")");
    return kAuditRefused;
}

int audit_write(const std::string& path, const std::string& text) {
    if (path.empty() || path == "-") {
        write_out(text);
        return kExitOk;
    }
    if (auto written = audit::replace_file(path, text, audit::Durable::kYes); !written) {
        report(written.error());
        return kAuditUnreadable;
    }
    return kExitOk;
}

}  // namespace reeve::cli
