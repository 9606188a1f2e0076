#include <chrono>
#include <cstdio>

#include "cli/audit_actions.h"
#include "cli/context.h"
#include "cli/json_writer.h"
#include "cli/text.h"
#include "common/audit/files.h"
#include "common/audit/rules.h"
#include "common/audit/text.h"
#include "common/audit/verify.h"
#include "common/merkle/proof.h"
#include "common/process/cell.h"

namespace reeve::cli {
namespace {

using audit::merkle_base64;

void add_head(JsonWriter& json, const audit::OpenedCheckpoint& head, const audit::Policy& policy) {
    json.field("origin", head.checkpoint.origin)
        .field("size", head.checkpoint.size)
        .field("root", merkle_base64(head.checkpoint.root));
    json.key("cosignatures").begin_array();
    for (const auto& one : head.cosignatures) {
        json.begin_object()
            .field("witness", policy.witnesses()[one.witness].name)
            .field("time_seconds", one.time_seconds)
            .end_object();
    }
    json.end_array();
}

// What the entries of a task say, for the two forms of `history`.
struct Story {
    audit::TaskState state = audit::TaskState::kNone;
    std::optional<std::string> broken;
    std::uint64_t last = audit::kNoIndex;
    std::uint64_t next_seq = 0;

    void add(std::uint64_t index, const audit::Entry& entry) {
        if (broken) return;
        const auto next = audit::next_state(state, entry.kind);
        if (entry.seq != next_seq || entry.prev != last) {
            broken = "entry " + std::to_string(index) + " does not follow the task's previous one";
        } else if (!next) {
            broken = "entry " + std::to_string(index) + ": " +
                     std::string(audit::to_string(entry.kind)) + " of a task that is " +
                     std::string(audit::to_string(state));
        } else {
            state = *next;
        }
        last = index;
        ++next_seq;
    }
    bool terminal() const { return state == audit::TaskState::kDone; }
};

void print_entry_json(const audit::IndexedEntry& one, const audit::Entry& entry) {
    JsonWriter json;
    json.begin_object()
        .field("schema", "reeve.audit.entry.v1")
        .field("index", one.index)
        .field("kind", audit::to_string(entry.kind))
        .field("attempt", entry.attempt)
        .field("seq", entry.seq)
        .field("task", audit::to_hex(entry.task))
        .field("worker", audit::to_hex(entry.worker))
        .field("peer", audit::to_hex(entry.peer))
        .field("time_ns", entry.time_ns)
        .field("code", entry.code);
    for (const auto& [name, index] : {std::pair{"prev", entry.prev}, {"cause", entry.cause}}) {
        json.key(name);
        if (index == audit::kNoIndex) {
            json.null();
        } else {
            json.value(index);
        }
    }
    json.field("entry", audit::encode_base64(one.bytes));
    json.key("proof").begin_array();
    for (const auto& hash : one.proof) json.value(merkle_base64(hash));
    json.end_array().end_object();
    json.print();
}

void print_story_json(const audit::LogView& view, audit::Id task, const Story& story,
                      std::size_t count) {
    JsonWriter json;
    json.begin_object()
        .field("schema", "reeve.audit.history.v1")
        .field("task", audit::to_hex(task))
        .field("entries", count)
        .field("state", audit::to_string(story.state))
        .field("terminal", story.terminal())
        .field("origin", view.checkpoint().origin)
        .field("size", view.checkpoint().size)
        .field("root", merkle_base64(view.checkpoint().root))
        .end_object();
    json.print();
}

void print_story_table(audit::Id task, const Story& story,
                       const std::vector<audit::IndexedEntry>& found,
                       const std::vector<audit::Entry>& entries) {
    Table table({{"INDEX", true},
                 {"TIME"},
                 {"ENTRY"},
                 {"ATTEMPT", true},
                 {"WORKER"},
                 {"FROM"},
                 {"CODE", true},
                 {"CAUSE", true}});
    for (std::size_t i = 0; i < entries.size(); ++i) {
        const audit::Entry& entry = entries[i];
        table.add({std::to_string(found[i].index), format_time_ns(entry.time_ns),
                   std::string(audit::to_string(entry.kind)), std::to_string(entry.attempt),
                   audit_worker_text(entry.worker), audit_worker_text(entry.peer),
                   std::to_string(entry.code),
                   entry.cause == audit::kNoIndex ? "-" : std::to_string(entry.cause)});
    }
    table.print();
    write_out("task " + audit_task_text(task) + ": " + std::to_string(entries.size()) +
              " entries, each proven to be in the signed log; " +
              (story.terminal() ? "ended, nothing can follow"
                                : "not ended (" + std::string(audit::to_string(story.state)) +
                                      "), a later entry may exist") +
              "\n");
}

int told(const AuditPlace& place, const audit::VerifyReport& report, double seconds,
         const audit::Policy& policy) {
    const auto& head = *report.head;
    if (place.json) {
        JsonWriter json;
        json.begin_object().field("schema", "reeve.audit.verify.v1").field("ok", true);
        add_head(json, head, policy);
        json.field("entries", report.entries)
            .field("tiles", report.tiles)
            .field("tasks", report.tasks)
            .field("open_tasks", report.open_tasks);
        json.key("remembered_size");
        if (report.remembered) {
            json.value(report.remembered->size);
        } else {
            json.null();
        }
        json.field("seconds", seconds).end_object();
        json.print();
        return kExitOk;
    }
    char time[32];
    std::snprintf(time, sizeof time, "%.2f s", seconds);
    write_out("ok: " + head.checkpoint.origin + " size " + std::to_string(head.checkpoint.size) +
              " root " + merkle_base64(head.checkpoint.root) + "\n");
    write_out("    " + std::to_string(report.entries) + " entries, " +
              std::to_string(report.tiles) + (report.tiles == 1 ? " tile, " : " tiles, ") +
              std::to_string(report.tasks) + " tasks (" + std::to_string(report.open_tasks) +
              " open: not ended), " +
              std::to_string(head.cosignatures.size()) + " cosignatures, " + time + "\n");
    if (report.remembered) {
        write_out("    extends the remembered size " + std::to_string(report.remembered->size) +
                  "\n");
    }
    return kExitOk;
}

int check_evidence_file(const AuditPlace& place, const std::string& text,
                        const audit::Policy& policy) {
    auto evidence = audit::parse_evidence(text);
    if (!evidence) return audit_report(place, evidence.error());
    auto found = audit::check_evidence(*evidence, policy);
    if (!found) return audit_report(place, found.error());
    if (place.json) {
        JsonWriter json;
        json.begin_object().field("schema", "reeve.audit.reassigned.v1").field("ok", true);
        json.field("task", audit::to_hex(found->task))
            .field("from", audit::to_hex(found->from))
            .field("to", audit::to_hex(found->to))
            .field("attempt", found->attempt)
            .field("taken", found->taken)
            .field("assigned", found->assigned)
            .key("death");
        if (found->death) {
            json.value(*found->death);
        } else {
            json.null();
        }
        add_head(json, found->head, policy);
        json.end_object();
        json.print();
        return kExitOk;
    }
    std::string line = "ok: task " + audit_task_text(found->task) + " went from worker " +
                       audit_worker_text(found->from) + " to " + audit_worker_text(found->to) +
                       " as attempt " + std::to_string(found->attempt);
    line += found->death ? ", after its death (entry " + std::to_string(*found->death) + ")"
                         : ", its holder living";
    write_out(line + "\n    " + std::to_string(evidence->entries.size()) + " entries proven in " +
              found->head.checkpoint.origin + " size " +
              std::to_string(found->head.checkpoint.size) + "\n");
    return kExitOk;
}

// The leaf a proof without extra is about.
Result<merkle::Hash> leaf_of(const AuditPlace& place, const AuditCheck& options,
                             const audit::TlogProof& proof) {
    if (!options.leaf.empty()) {
        const auto high = audit::id_from_hex(options.leaf.substr(0, 32));
        const auto low =
            options.leaf.size() == 64 ? audit::id_from_hex(options.leaf.substr(32)) : std::nullopt;
        if (!high || !low) return fail(ErrorCode::kInvalidArgument, "--leaf wants 64 hex digits");
        merkle::Hash leaf;
        std::size_t at = 0;
        for (const std::uint64_t part : {high->high, high->low, low->high, low->low}) {
            for (int shift = 56; shift >= 0; shift -= 8) {
                leaf[at++] = static_cast<std::uint8_t>(part >> shift);
            }
        }
        return leaf;
    }
    if (!options.entry_file.empty()) {
        REEVE_TRY_ASSIGN(auto bytes, audit::read_file(options.entry_file, 65535));
        return merkle::leaf_hash(bytes);
    }
    if (proof.extra) return merkle::leaf_hash(*proof.extra);
    if (place.directory.empty()) {
        return fail(
            ErrorCode::kInvalidArgument,
            "the proof does not carry its entry; give --entry FILE, --leaf HEX or --dir DIR");
    }
    REEVE_TRY_ASSIGN(auto view, audit_view(place));
    REEVE_TRY_ASSIGN(auto entry, view.entry(proof.index));
    return merkle::leaf_hash(entry.bytes);
}

}  // namespace

int audit_head(const AuditPlace& place, bool raw) {
    auto policy = audit_policy(place);
    if (!policy) return audit_report_unreadable(place, policy.error());
    auto view = audit_view(place);
    if (!view) return audit_report_unreadable(place, view.error());
    const auto& head = view->head();
    if (raw) {
        write_out(head.text);
        return kExitOk;
    }
    if (place.json) {
        JsonWriter json;
        json.begin_object().field("schema", "reeve.audit.head.v1");
        add_head(json, head, *policy);
        json.field("checkpoint", head.text).end_object();
        json.print();
        return kExitOk;
    }
    write_out("origin  " + escape(head.checkpoint.origin) + "\n" + "size    " +
              std::to_string(head.checkpoint.size) + "\n" + "root    " +
              merkle_base64(head.checkpoint.root) + "\n");
    write_out("signed  by " + policy->logs()[head.log].to_string() + "\n");
    for (const auto& one : head.cosignatures) {
        write_out("cosigned by " + policy->witnesses()[one.witness].name + " at " +
                  format_iso_ns(one.time_seconds * 1'000'000'000ULL) + "\n");
    }
    return kExitOk;
}

int audit_verify(const AuditPlace& place, const AuditVerify& options) {
    auto directory = audit_directory(place);
    if (!directory) return audit_report_unreadable(place, directory.error());
    auto policy = audit_policy(place);
    if (!policy) return audit_report_unreadable(place, policy.error());
    audit::VerifyOptions verify;
    verify.directory = *directory;
    verify.policy = *policy;
    verify.hashes_only = options.hashes_only;
    verify.threads = options.threads;
    if (!options.remember.empty()) verify.remember_path = options.remember;
    const auto begin = std::chrono::steady_clock::now();
    auto report = audit::verify_directory(verify);
    if (!report) {
        Error error = std::move(report).error();
        error.code = ErrorCode::kInvalidArgument;  // whatever it was, the files were not judged
        return audit_report(place, error);
    }
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
    if (!report->refusal) return told(place, *report, spent.count(), *policy);
    const audit::Refusal& refusal = *report->refusal;
    return audit_refuse(place, audit::to_string(refusal.kind), refusal.message, refusal.index,
                        refusal.tile);
}

int audit_history(const AuditPlace& place, const AuditTask& options) {
    auto task = parse_audit_task(options.task);
    if (!task) return audit_report(place, task.error());
    auto view = audit_view(place);
    if (!view) return audit_report_unreadable(place, view.error());
    auto found = view->history(*task);
    // `12` means a job of one task; where there is none, the array's own entries.
    if (!found && found.error().code == ErrorCode::kNotFound && task->low == 0 &&
        options.task.find_first_not_of("0123456789") == std::string::npos) {
        const audit::Id header{task->high, kHeaderElement};
        auto of_header = view->history(header);
        if (of_header) {
            *task = header;
            found = std::move(of_header);
        }
    }
    if (!found) return audit_report(place, std::move(found).error().with("task " + options.task));
    std::vector<audit::Entry> entries;
    Story story;
    for (const auto& one : *found) {
        auto entry = audit::decode(one.bytes);
        if (!entry) return audit_refuse(place, "audit rule", entry.error().message, one.index);
        story.add(one.index, *entry);
        entries.push_back(*entry);
        if (place.json) print_entry_json(one, *entry);
    }
    if (story.broken) return audit_refuse(place, "audit rule", *story.broken);
    if (place.json) {
        print_story_json(*view, *task, story, entries.size());
    } else {
        print_story_table(*task, story, *found, entries);
    }
    return kExitOk;
}

int audit_reassigned(const AuditPlace& place, const AuditTask& options) {
    auto task = parse_audit_task(options.task);
    if (!task) return audit_report(place, task.error());
    auto view = audit_view(place);
    if (!view) return audit_report_unreadable(place, view.error());
    std::optional<std::uint16_t> attempt;
    if (options.attempt != 0) attempt = options.attempt;
    auto evidence = view->reassigned(*task, attempt);
    if (!evidence) {
        return audit_report(place, std::move(evidence).error().with("task " + options.task));
    }
    return audit_write(options.output, evidence->to_string());
}

int audit_prove(const AuditPlace& place, const AuditProve& options) {
    auto view = audit_view(place);
    if (!view) return audit_report_unreadable(place, view.error());
    auto proof = view->prove(options.index);
    if (!proof) return audit_report(place, proof.error());
    return audit_write(options.output, proof->to_string());
}

int audit_check(const AuditPlace& place, const AuditCheck& options) {
    auto policy = audit_policy(place);
    if (!policy) return audit_report_unreadable(place, policy.error());
    auto text = audit::read_file(options.file == "-" ? "/dev/stdin" : options.file,
                                 audit::kProofFileSizeMax);
    if (!text) return audit_report_unreadable(place, text.error());
    if (text->starts_with(audit::kEvidenceHeader)) {
        return check_evidence_file(place, *text, *policy);
    }
    auto proof = audit::parse_tlog_proof(*text);
    if (!proof) return audit_refuse(place, "malformed", proof.error().message);
    auto leaf = leaf_of(place, options, *proof);
    if (!leaf) return audit_report(place, leaf.error());
    auto head = audit::check_proof(*proof, *leaf, *policy);
    if (!head) {
        // A malformed checkpoint inside a proof is the proof's fault, not the user's.
        Error error = std::move(head).error();
        if (error.code == ErrorCode::kInvalidArgument) error.code = ErrorCode::kDataLoss;
        return audit_report(place, error);
    }
    if (place.json) {
        JsonWriter json;
        json.begin_object()
            .field("schema", "reeve.audit.check.v1")
            .field("ok", true)
            .field("index", proof->index)
            .field("leaf", merkle_base64(*leaf));
        add_head(json, *head, *policy);
        json.end_object();
        json.print();
        return kExitOk;
    }
    write_out("ok: entry " + std::to_string(proof->index) + " is in " + head->checkpoint.origin +
              " size " + std::to_string(head->checkpoint.size) + "\n");
    return kExitOk;
}

}  // namespace reeve::cli
