#include <cstdio>
#include <iostream>
#include <iterator>

#include "cli/audit_actions.h"
#include "cli/context.h"
#include "cli/json_writer.h"
#include "cli/text.h"
#include "common/audit/files.h"
#include "common/audit/text.h"
#include "common/audit/witness.h"
#include "common/base/clock.h"
#include "common/merkle/proof.h"
#include "common/process/cell.h"

namespace reeve::cli {
namespace {

Result<audit::OpenedCheckpoint> open_file(const std::string& path, const audit::Policy& policy) {
    auto read = audit::read_file(path, audit::kNoteSizeMax);
    if (!read) {
        // What cannot be read at all (a directory) says nothing about the log.
        Error error = std::move(read).error();
        if (error.code == ErrorCode::kDataLoss) error.code = ErrorCode::kInvalidArgument;
        return fail(std::move(error));
    }
    const auto& text = *read;
    auto opened = audit::open_under_policy(text, policy);
    if (!opened) {
        Error error = std::move(opened).error();
        error.code = ErrorCode::kUnauthenticated;
        return fail(std::move(error).with(path));
    }
    return opened;
}

int split_view(const AuditPlace& place, const std::string& message,
               const audit::OpenedCheckpoint& a, const audit::OpenedCheckpoint& b) {
    const int code = audit_refuse(place, "split view", message);
    if (!place.json) write_out("\n" + a.text + "\n" + b.text);
    return code;
}

int agreed(const AuditPlace& place, const audit::Checkpoint& a, const audit::Checkpoint& b) {
    if (place.json) {
        JsonWriter json;
        json.begin_object()
            .field("schema", "reeve.audit.compare.v1")
            .field("ok", true)
            .field("size_a", a.size)
            .field("size_b", b.size)
            .end_object();
        json.print();
    } else {
        write_out("ok: size " + std::to_string(std::min(a.size, b.size)) +
                  (a.size == b.size ? " and the same root\n"
                                    : " is a prefix of size " +
                                          std::to_string(std::max(a.size, b.size)) + "\n"));
    }
    return kExitOk;
}

// Whether the directory's tree passes through this checkpoint.
Result<bool> passes_through(audit::LogView& view, const audit::Checkpoint& checkpoint) {
    REEVE_TRY_ASSIGN(const auto root, view.root(checkpoint.size));
    return root == checkpoint.root;
}

// A size or a checkpoint file: the size it stands for, checked against the directory.
Result<std::uint64_t> size_of(audit::LogView& view, const std::string& head,
                              const audit::Policy& policy) {
    if (const auto size = audit::parse_decimal(head)) return *size;
    REEVE_TRY_ASSIGN(auto opened, open_file(head, policy));
    const audit::Checkpoint& checkpoint = opened.checkpoint;
    if (checkpoint.size > view.checkpoint().size) {
        return fail(ErrorCode::kInvalidArgument,
                    head + ": size " + std::to_string(checkpoint.size) +
                        " is beyond the directory's " + std::to_string(view.checkpoint().size));
    }
    REEVE_TRY_ASSIGN(const bool same, passes_through(view, checkpoint));
    if (!same) {
        return fail(ErrorCode::kDataLoss, "rewritten: the directory's first " +
                                              std::to_string(checkpoint.size) +
                                              " entries are not those of " + head);
    }
    return checkpoint.size;
}

Result<std::string> read_request(const std::string& path) {
    if (path != "-") return audit::read_file(path, audit::kProofFileSizeMax);
    return std::string(std::istreambuf_iterator<char>(std::cin), {});
}

int show_witness(const AuditPlace& place, const audit::Witness& witness) {
    const auto& seen = witness.last_seen();
    if (place.json) {
        JsonWriter json;
        json.begin_object()
            .field("schema", "reeve.audit.witness.v1")
            .field("vkey", witness.vkey().to_string())
            .field("size", seen ? seen->size : 0)
            .field("origin", seen ? seen->origin : "")
            .field("root", seen ? audit::merkle_base64(seen->root) : "")
            .end_object();
        json.print();
        return kExitOk;
    }
    write_out("witness    " + witness.vkey().to_string() + "\n");
    if (!seen) {
        write_out("last seen  nothing yet\n");
        return kExitOk;
    }
    write_out("last seen  " + escape(seen->origin) + " size " + std::to_string(seen->size) +
              " root " + audit::merkle_base64(seen->root) + "\n");
    return kExitOk;
}

int answer_request(const AuditPlace& place, audit::Witness& witness, const std::string& request) {
    const auto answer = witness.add_checkpoint(request, wall_ns() / kSecond);
    if (place.json) {
        JsonWriter json;
        json.begin_object()
            .field("schema", "reeve.audit.cosigned.v1")
            .field("status", answer.status)
            .field("body", answer.body)
            .field("reason", answer.reason)
            .end_object();
        json.print();
    } else {
        write_out(answer.body);
    }
    if (answer.status == 200) return kExitOk;
    warn(std::to_string(answer.status) + ": " + answer.reason);
    return answer.status == 500 ? kAuditUnreadable : kAuditRefused;
}

}  // namespace

int audit_consistency(const AuditPlace& place, const AuditConsistency& options) {
    auto policy = audit_policy(place);
    if (!policy) return audit_report_unreadable(place, policy.error());
    auto view = audit_view(place);
    if (!view) return audit_report_unreadable(place, view.error());
    auto old_size = size_of(*view, options.old_head, *policy);
    if (!old_size) return audit_report_unreadable(place, old_size.error());
    if (!options.new_head.empty()) {
        auto new_size = size_of(*view, options.new_head, *policy);
        if (!new_size) return audit_report_unreadable(place, new_size.error());
        if (*new_size != view->checkpoint().size) {
            // An older signed checkpoint: the same directory, seen at that size.
            if (audit::parse_decimal(options.new_head)) {
                return audit_report(place,
                                    Error{ErrorCode::kInvalidArgument,
                                          "no signed checkpoint of size " + options.new_head +
                                              " is kept; give its file, or leave it out"});
            }
            auto opened = open_file(options.new_head, *policy);
            if (!opened) return audit_report_unreadable(place, opened.error());
            auto directory = audit_directory(place);
            if (!directory) return audit_report_unreadable(place, directory.error());
            *view = audit::LogView::at(std::move(*opened), *directory);
        }
    }
    auto request = view->consistency(*old_size);
    if (!request) return audit_report(place, request.error());
    return audit_write(options.output, request->to_string());
}

int audit_compare(const AuditPlace& place, const std::string& first, const std::string& second) {
    auto policy = audit_policy(place);
    if (!policy) return audit_report_unreadable(place, policy.error());
    auto a = open_file(first, *policy);
    if (!a) return audit_report_unreadable(place, a.error());
    auto b = open_file(second, *policy);
    if (!b) return audit_report_unreadable(place, b.error());
    if (a->checkpoint.origin != b->checkpoint.origin) {
        return audit_report(place, Error{ErrorCode::kInvalidArgument,
                                         "two different logs: " + a->checkpoint.origin + " and " +
                                             b->checkpoint.origin});
    }
    const audit::Checkpoint& head_a = a->checkpoint;
    const audit::Checkpoint& head_b = b->checkpoint;
    if (head_a.size == head_b.size) {
        if (head_a.root == head_b.root) return agreed(place, head_a, head_b);
        return split_view(place, "size " + std::to_string(head_a.size) + " with two roots", *a, *b);
    }
    if (head_a.size == 0 || head_b.size == 0) return agreed(place, head_a, head_b);
    auto view = audit_view(place);
    if (!view && place.directory.empty() && view.error().code == ErrorCode::kNotFound) {
        return audit_report(place, Error{ErrorCode::kInvalidArgument,
                                         "the sizes differ, and the cell has no log; give --dir "
                                         "DIR with the tiles of the larger one"});
    }
    if (!view) return audit_report_unreadable(place, view.error());
    for (const auto* one : {&*a, &*b}) {
        if (one->checkpoint.size > view->checkpoint().size) {
            return audit_report(
                place,
                Error{ErrorCode::kInvalidArgument,
                      "the directory ends at size " + std::to_string(view->checkpoint().size) +
                          ", below a checkpoint's " + std::to_string(one->checkpoint.size)});
        }
        auto same = passes_through(*view, one->checkpoint);
        if (!same) return audit_report(place, same.error());
        if (!*same) {
            return split_view(place,
                              "size " + std::to_string(one->checkpoint.size) +
                                  " is not a prefix of the directory's size " +
                                  std::to_string(view->checkpoint().size),
                              *one, one == &*a ? *b : *a);
        }
    }
    return agreed(place, head_a, head_b);
}

int audit_witness(const AuditPlace& place, const AuditWitness& options) {
    if (!options.create.empty()) {
        auto key = audit::SigningKey::generate(options.create, audit::KeyType::kCosignature);
        if (!key) return audit_report(place, key.error());
        if (auto stored = key->store(options.key); !stored) {
            return audit_report_unreadable(place, stored.error());
        }
    }
    auto key = audit::SigningKey::load(options.key);
    if (!key) return audit_report_unreadable(place, key.error());
    auto policy = audit_policy(place);
    if (!policy) return audit_report_unreadable(place, policy.error());
    auto witness = audit::Witness::open(options.state, std::move(*key),
                                        {policy->logs().begin(), policy->logs().end()});
    if (!witness) return audit_report_unreadable(place, witness.error());
    if (!options.request.empty()) {
        auto request = read_request(options.request);
        if (!request) return audit_report_unreadable(place, request.error());
        return answer_request(place, *witness, *request);
    }
    if (!options.cosign) return show_witness(place, *witness);
    auto view = audit_view(place);
    if (!view) return audit_report_unreadable(place, view.error());
    const std::uint64_t seen = witness->last_seen() ? witness->last_seen()->size : 0;
    if (seen > view->checkpoint().size) {
        return audit_refuse(place, "rolled back",
                            "size " + std::to_string(view->checkpoint().size) +
                                ", last cosigned is size " + std::to_string(seen));
    }
    auto request = view->consistency(seen);
    if (!request) return audit_report(place, request.error());
    return answer_request(place, *witness, request->to_string());
}

}  // namespace reeve::cli
