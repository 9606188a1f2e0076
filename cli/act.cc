#include "cli/act.h"

#include <algorithm>

#include "cli/catalogue.h"
#include "cli/client/own_client.h"
#include "cli/job_draft.h"
#include "cli/json_writer.h"
#include "cli/text.h"
#include "cli/units.h"
#include "common/base/clock.h"
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
        case v1::ACTION_SUSPEND:
            return {"suspend", "suspended"};
        case v1::ACTION_RESUME:
            return {"resume", "resumed"};
        default:
            return {"update", "updated"};
    }
}

bool names_many(const Selector& selector) {
    return selector.kind == Selector::Kind::kAll || selector.kind == Selector::Kind::kName ||
           (selector.kind == Selector::Kind::kJobs && selector.jobs.size() > 1);
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

// One line for many jobs: "cancelled jobs 4,7-9 (12 tasks)".
std::string done_line(const Words& words, const std::vector<const v1::ActResult*>& results) {
    std::uint64_t tasks = 0;
    std::vector<std::uint64_t> jobs;
    for (const auto* result : results) {
        tasks += result->changed();
        jobs.push_back(result->job());
    }
    std::string line =
        std::string(words.past) + (jobs.size() == 1 ? " job " : " jobs ") + format_ranges(jobs);
    if (tasks > jobs.size()) line += " (" + std::to_string(tasks) + " tasks)";
    return line + "\n";
}

void print_json(const Words& words, const v1::ActReply& reply) {
    JsonWriter json;
    json.begin_object().field("schema", "reeve.action.v1").field("action", words.verb);
    json.key("results").begin_array();
    for (const auto& result : reply.results()) {
        json.begin_object().field("job", result.job()).field("changed", result.changed());
        json.field("refused", result.refused()).field("message", result.message()).end_object();
    }
    json.end_array().end_object().print();
}

// `wide`: the jobs were not named one by one; those with nothing to do are no failure then.
int tell(const Context& context, const Words& words, const v1::ActReply& reply, bool wide) {
    std::vector<const v1::ActResult*> changed;
    std::vector<std::uint64_t> idle;
    bool refused = false;
    bool unknown = false;
    for (const auto& result : reply.results()) {
        if (result.changed() > 0) changed.push_back(&result);
        if (wide && result.idle()) {
            idle.push_back(result.job());
            continue;
        }
        refused |= result.refused() > 0 || (result.changed() == 0 && !result.message().empty());
        unknown |= result.message() == kNoSuchJob;
    }
    if (context.form() == Form::kJson) print_json(words, reply);
    if (context.form() == Form::kParsable) {
        for (const auto* result : changed) write_out(std::to_string(result->job()) + "\n");
    }
    if (context.form() == Form::kTable && !context.quiet) {
        if (wide && !changed.empty()) write_out(done_line(words, changed));
        for (const auto* result : changed) {
            if (!wide) write_out(done_line(words, {result}));
        }
    }
    flush_out();
    for (const auto& result : reply.results()) {
        const bool told = result.message().empty() || (wide && result.idle());
        if (told || context.form() == Form::kJson) continue;
        if (result.refused() > 0 || result.changed() == 0) {
            warn("job " + std::to_string(result.job()) + ": " + result.message());
        }
    }
    if (!idle.empty() && context.form() == Form::kTable && !context.quiet) {
        warn(std::string("nothing to ") + words.verb + " in " +
             (idle.size() == 1 ? "job " : "jobs ") + format_ranges(idle));
    }
    if (!refused) return finish(kExitOk);
    if (!changed.empty()) return finish(kExitFailed);
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
    auto client = connect_client(context);
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
    const bool wide = std::any_of(selectors->begin(), selectors->end(), names_many);
    if (request.selections().empty()) return tell(context, words, {}, wide);
    const auto reply = (*client)->calls().act(request);
    if (!reply) return report(reply.error());
    return tell(context, words, *reply, wide);
}

namespace {

Result<v1::DrainReply> ask_drain(const Context& context, const v1::DrainRequest& request) {
    if (!is_utf8(request.worker())) {
        return fail(ErrorCode::kNotFound, "there is no worker \"" + request.worker() +
                                              "\"; see which are here with: reeve node ls");
    }
    REEVE_TRY_ASSIGN(const auto client, rpc::Client::connect(context.cell, warn));
    return client->call(&v1::Reeve::Stub::Drain, request);
}

}  // namespace

int drain_command(const Context& context, const std::string& worker, bool drain) {
    v1::DrainRequest request;
    request.set_worker(worker);
    request.set_drain(drain);
    const auto reply = ask_drain(context, request);
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

int notice_command(const Context& context, const std::string& worker, const std::string& in) {
    v1::DrainRequest request;
    request.set_worker(worker);
    request.set_notice(true);
    if (!in.empty()) {
        const auto ms = parse_time_ms(in);
        if (!ms) return report(Error(ms.error()).with("--in"));
        request.set_vanishes_in_ms(*ms);
    }
    const auto reply = ask_drain(context, request);
    if (!reply) return report(reply.error());
    const auto in_ms = request.vanishes_in_ms();
    if (context.form() == Form::kJson) {
        JsonWriter json;
        json.begin_object().field("schema", "reeve.notice.v1").field("worker", worker);
        json.field("in_ms", in_ms).field("requeued", reply->requeued());
        json.field("left", reply->left()).end_object().print();
    } else if (!context.quiet) {
        const auto tasks = [](std::uint64_t count) {
            return std::to_string(count) + (count == 1 ? " task" : " tasks");
        };
        write_out("worker " + escape(worker) + " takes nothing new and will vanish" +
                  (in_ms == 0 ? std::string() : " in " + format_duration_ns(in_ms * kMillisecond)) +
                  "; " + tasks(reply->requeued()) + " requeued, " + tasks(reply->left()) +
                  " left to end there\n");
    }
    return finish(kExitOk);
}

}  // namespace reeve::cli
