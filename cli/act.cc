#include "cli/act.h"

#include "cli/catalogue.h"
#include "cli/job_draft.h"
#include "cli/json_writer.h"
#include "cli/text.h"
#include "common/rpc/client.h"

namespace reeve::cli {

namespace {

// How the PLM says that it never heard of a job (plm/core/core_actions.cc).
constexpr const char* kNoSuchJob = "there is no such job";

struct Words {
    const char* verb;
    const char* past;
};

Words words_of(v1::ActionKind action) {
    switch (action) {
        case v1::ACTION_CANCEL:
            return {"cancel", "cancelled"};
        case v1::ACTION_HOLD:
            return {"hold", "held"};
        case v1::ACTION_RELEASE:
            return {"release", "released"};
        case v1::ACTION_REQUEUE:
            return {"requeue", "requeued"};
        case v1::ACTION_RETRY:
            return {"retry", "queued again"};
        default:
            return {"update", "updated"};
    }
}

// What update changes, by the rules submit has for the same options.
Status fill_update(const ActOptions& options, v1::ActRequest& request) {
    if (options.action != v1::ACTION_UPDATE) return {};
    if (options.priority.empty() && options.time_limit.empty()) {
        return fail(ErrorCode::kInvalidArgument,
                    "update needs something to change; give --priority N or --time TIME");
    }
    JobDraft draft;
    for (const auto& rule : option_rules()) {
        const std::string field = rule.field;
        const std::string& text = field == "priority"     ? options.priority
                                  : field == "time_limit" ? options.time_limit
                                                          : std::string();
        if (text.empty()) continue;
        if (auto set = rule.set(draft, text); !set) {
            return fail(Error(set.error()).with(field == "priority" ? "--priority" : "--time"));
        }
    }
    request.set_set_priority(!options.priority.empty());
    request.set_priority(draft.spec.priority());
    request.set_set_time_limit(!options.time_limit.empty());
    request.set_time_limit_ms(draft.spec.task().time_limit_ms());
    return {};
}

int tell(const Context& context, const Words& words, const v1::ActReply& reply) {
    std::uint64_t changed = 0;
    bool refused = false;
    bool unknown = false;
    JsonWriter json;
    json.begin_object().field("schema", "reeve.action.v1").field("action", words.verb);
    json.key("results").begin_array();
    for (const auto& result : reply.results()) {
        changed += result.changed();
        refused |= result.refused() > 0 || (result.changed() == 0 && !result.message().empty());
        unknown |= result.message() == kNoSuchJob;
        json.begin_object().field("job", result.job()).field("changed", result.changed());
        json.field("refused", result.refused()).field("message", result.message()).end_object();
        if (context.form() == Form::kParsable && result.changed() > 0) {
            write_out(std::to_string(result.job()) + "\n");
        }
        if (context.form() == Form::kTable && !context.quiet && result.changed() > 0) {
            std::string line = std::string(words.past) + " job " + std::to_string(result.job());
            if (result.changed() > 1) line += " (" + std::to_string(result.changed()) + " tasks)";
            write_out(line + "\n");
        }
    }
    json.end_array().end_object();
    if (context.form() == Form::kJson) json.print();
    flush_out();
    for (const auto& result : reply.results()) {
        if (result.message().empty() || context.form() == Form::kJson) continue;
        if (result.refused() > 0 || result.changed() == 0) {
            warn("job " + std::to_string(result.job()) + ": " + result.message());
        }
    }
    if (!refused) return finish(kExitOk);
    if (changed > 0) return finish(kExitFailed);
    return finish(unknown ? kExitNotFound : kExitRefused);
}

}  // namespace

int act_command(const Context& context, const ActOptions& options) {
    v1::ActRequest request;
    request.set_action(options.action);
    if (!is_utf8(options.reason)) {
        return report(Error{
            ErrorCode::kInvalidArgument,
            "--reason holds bytes that are not UTF-8: " + options.reason + "; write it in UTF-8"});
    }
    request.set_reason(options.reason);
    if (auto filled = fill_update(options, request); !filled) return report(filled.error());
    const auto selectors = parse_selectors(options.selectors);
    if (!selectors) return report(selectors.error());
    auto client = rpc::Client::connect(context.cell);
    if (!client) return report(client.error());
    const auto scope = options.action == v1::ACTION_RETRY ? Scope::kKnown : Scope::kLive;
    const auto selected = select_jobs(context, *selectors, scope);
    if (!selected) return report(selected.error());
    for (const auto& one : *selected) {
        auto* selection = request.add_selections();
        selection->set_job(one.job);
        for (const auto& range : one.elements) {
            auto* elements = selection->add_elements();
            elements->set_first(range.first);
            elements->set_last(range.last);
        }
    }
    const auto words = words_of(options.action);
    if (request.selections().empty()) return tell(context, words, {});
    const auto reply = (*client)->call(&v1::Reeve::Stub::Act, request, std::chrono::seconds(60));
    if (!reply) return report(reply.error());
    return tell(context, words, *reply);
}

int drain_command(const Context& context, const std::string& worker, bool drain) {
    if (!is_utf8(worker)) {
        return report(
            Error{ErrorCode::kNotFound,
                  "there is no worker \"" + worker + "\"; see which are here with: reeve node ls"});
    }
    auto client = rpc::Client::connect(context.cell);
    if (!client) return report(client.error());
    v1::DrainRequest request;
    request.set_worker(worker);
    request.set_drain(drain);
    const auto reply = (*client)->call(&v1::Reeve::Stub::Drain, request);
    if (!reply) return report(reply.error());
    if (context.form() == Form::kJson) {
        JsonWriter json;
        json.begin_object().field("schema", "reeve.drain.v1").field("worker", worker);
        json.field("drain", drain).end_object().print();
    } else if (!context.quiet) {
        write_out((drain ? "draining worker " : "worker takes work again: ") + escape(worker) +
                  "\n");
    }
    return finish(kExitOk);
}

}  // namespace reeve::cli
