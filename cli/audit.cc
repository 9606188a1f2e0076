#include "cli/audit.h"

#include <functional>
#include <memory>

#include "cli/audit_actions.h"

namespace reeve::cli {
namespace {

// One subcommand being built: its place, its options, and where its exit code goes.
struct Building {
    CLI::App& audit;
    std::string& state_dir;
    int& exit_code;

    // What writes a proof has no --json: the file's own format is what `check` and others read.
    std::shared_ptr<AuditPlace> add_place(CLI::App* command, bool json = true) const {
        auto place = std::make_shared<AuditPlace>();
        command->add_option("--dir", place->directory, "the log directory (default: the cell's)")
            ->type_name("DIR");
        auto* policy = command->add_option("--policy", place->policy,
                                           "trust policy (default: DIR/log.vkey, no witnesses)");
        policy->type_name("FILE");
        command->add_option("--vkey", place->vkey, "the log's key instead of a policy")
            ->type_name("KEY")
            ->excludes(policy);
        if (json) command->add_flag("--json", place->json, "JSON with a versioned schema");
        return place;
    }

    static void add_directory(CLI::App* command, const std::shared_ptr<AuditPlace>& place) {
        command->add_option("dir", place->directory, "the log directory (as --dir)")
            ->type_name("DIR");
    }

    void on_run(CLI::App* command, const std::shared_ptr<AuditPlace>& place,
                std::function<int(const AuditPlace&)> body) const {
        command->callback([place, body = std::move(body), state = &state_dir, code = &exit_code] {
            place->state_dir = *state;
            if (place->directory.empty()) audit_bring_up_to_date(*place);
            *code = body(*place);
        });
    }
};

void add_looking(const Building& in) {
    auto* head = in.audit.add_subcommand("head", "the signed checkpoint");
    auto place = in.add_place(head);
    Building::add_directory(head, place);
    auto raw = std::make_shared<bool>(false);
    head->add_flag("--raw", *raw, "the signed note as it stands");
    in.on_run(head, place, [raw](const AuditPlace& at) { return audit_head(at, *raw); });

    auto* verify = in.audit.add_subcommand("verify", "check everything: 0 ok, 1 refused");
    place = in.add_place(verify);
    Building::add_directory(verify, place);
    auto options = std::make_shared<AuditVerify>();
    verify
        ->add_option("--remember", options->remember,
                     "file with the last verified checkpoint: refuses rollback and rewriting")
        ->type_name("FILE");
    verify->add_flag("--hashes-only", options->hashes_only, "skip the audit rules");
    verify->add_option("--threads", options->threads, "hashing threads (default: one per core)");
    in.on_run(verify, place,
              [options](const AuditPlace& at) { return audit_verify(at, *options); });

    auto task = std::make_shared<AuditTask>();
    auto* history = in.audit.add_subcommand("history", "all entries of a task, each proven");
    history->add_option("task", task->task, "12, 12.3, 12.header or 32 hex digits")->required();
    place = in.add_place(history);
    Building::add_directory(history, place);
    in.on_run(history, place, [task](const AuditPlace& at) { return audit_history(at, *task); });
}

void add_proving(const Building& in) {
    auto task = std::make_shared<AuditTask>();
    auto* reassigned = in.audit.add_subcommand(
        "reassigned", "write the evidence that a task went from one worker to the next");
    reassigned->add_option("task", task->task, "12, 12.3 or 32 hex digits")->required();
    reassigned->add_option("--attempt", task->attempt, "the attempt it led to (default: the last)");
    reassigned->add_option("-o,--output", task->output, "file to write (default: stdout)");
    auto place = in.add_place(reassigned, false);
    Building::add_directory(reassigned, place);
    in.on_run(reassigned, place,
              [task](const AuditPlace& at) { return audit_reassigned(at, *task); });

    auto proving = std::make_shared<AuditProve>();
    auto* prove = in.audit.add_subcommand("prove", "write the proof of one entry (tlog-proof)");
    prove->add_option("index", proving->index, "leaf index, from 0")->required();
    prove->add_option("-o,--output", proving->output, "file to write (default: stdout)");
    place = in.add_place(prove, false);
    Building::add_directory(prove, place);
    in.on_run(prove, place, [proving](const AuditPlace& at) { return audit_prove(at, *proving); });

    auto checking = std::make_shared<AuditCheck>();
    auto* check = in.audit.add_subcommand("check", "verify a proof or evidence file, offline");
    check->add_option("file", checking->file, "what prove or reassigned wrote; - is stdin")
        ->required();
    check->add_option("--entry", checking->entry_file, "file with the entry's exact bytes");
    check->add_option("--leaf", checking->leaf, "the entry's leaf hash, hex");
    place = in.add_place(check);
    in.on_run(check, place,
              [checking](const AuditPlace& at) { return audit_check(at, *checking); });
}

void add_comparing(const Building& in) {
    auto heads = std::make_shared<AuditConsistency>();
    auto* consistency =
        in.audit.add_subcommand("consistency", "write the proof that one tree extends another");
    consistency->add_option("old", heads->old_head, "a size, or a file with a checkpoint")
        ->required();
    consistency->add_option("new", heads->new_head, "the same (default: the current checkpoint)");
    consistency->add_option("-o,--output", heads->output, "file to write (default: stdout)");
    auto place = in.add_place(consistency, false);
    in.on_run(consistency, place,
              [heads](const AuditPlace& at) { return audit_consistency(at, *heads); });

    auto files = std::make_shared<std::pair<std::string, std::string>>();
    auto* compare = in.audit.add_subcommand("compare", "two signed checkpoints: one history?");
    compare->add_option("a", files->first, "file with a signed checkpoint")->required();
    compare->add_option("b", files->second, "another")->required();
    place = in.add_place(compare);
    in.on_run(compare, place, [files](const AuditPlace& at) {
        return audit_compare(at, files->first, files->second);
    });

    auto own = std::make_shared<AuditWitness>();
    auto* witness = in.audit.add_subcommand("witness", "a stand-alone witness: show or cosign");
    witness->add_option("--key", own->key, "the witness's private key")->required();
    witness->add_option("--state", own->state, "file with the last cosigned checkpoint")
        ->required();
    witness->add_option("--create", own->create, "make the key first, under this name")
        ->type_name("NAME");
    auto* request = witness->add_option("--request", own->request,
                                        "answer this add-checkpoint request; - is stdin");
    witness->add_flag("--cosign", own->cosign, "cosign the directory's checkpoint once")
        ->excludes(request);
    place = in.add_place(witness);
    in.on_run(witness, place, [own](const AuditPlace& at) { return audit_witness(at, *own); });
}

}  // namespace

void add_audit_commands(CLI::App& root, std::string& state_dir, int& exit_code) {
    auto* audit = root.add_subcommand("audit", "the record and its proofs");
    audit->fallthrough();
    audit->require_subcommand(1);
    const Building in{*audit, state_dir, exit_code};
    add_looking(in);
    add_proving(in);
    add_comparing(in);
}

}  // namespace reeve::cli
