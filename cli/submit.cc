#include "cli/submit.h"

#include <algorithm>
#include <cstdio>
#include <set>

#include "cli/client/own_client.h"
#include "cli/forecast.h"
#include "cli/json_writer.h"
#include "cli/render.h"
#include "cli/selectors.h"
#include "cli/text.h"
#include "cli/wait.h"
#include "common/base/clock.h"
#include "common/rpc/wants.h"
#include "common/shm/heap_key.h"
#include "common/shm/resource_names.h"

namespace reeve::cli {

namespace {

// `--after @`: the newest job, asked of the PLM.
Status resolve_last(Calls& calls, std::vector<JobDraft>& drafts) {
    std::uint64_t last = 0;
    for (auto& draft : drafts) {
        for (auto& dependency : *draft.spec.mutable_after()) {
            if (dependency.label().empty() || dependency.label()[0] != '@') continue;
            REEVE_TRY_ASSIGN(const auto selector, parse_selector(dependency.label()));
            if (last == 0) {
                v1::GetRequest request;
                request.set_limit(1);
                REEVE_TRY_ASSIGN(const auto reply,
                                 calls.rpc().call(&v1::Reeve::Stub::Get, request));
                last = reply.last_job_id();
            }
            Catalogue catalogue;
            catalogue.last_job = last;
            REEVE_TRY_ASSIGN(const auto selected, resolve({selector}, catalogue));
            dependency.set_job(selected.front().job);
            dependency.clear_label();
        }
    }
    return {};
}

void print_reply(const Context& context, const std::vector<JobDraft>& drafts,
                 const v1::SubmitReply& reply) {
    const std::vector<std::uint64_t> ids(reply.job_ids().begin(), reply.job_ids().end());
    if (context.form() == Form::kJson) {
        JsonWriter json;
        json.begin_object().field("schema", "reeve.submitted.v1").key("jobs").begin_array();
        for (std::size_t i = 0; i < ids.size(); ++i) {
            const auto& spec = drafts[i].spec;
            const auto at = static_cast<int>(i);
            json.begin_object().field("job", ids[i]).field("name", spec.task().name());
            json.field("label", spec.label()).field("elements", elements_of(spec));
            json.field("existed", at < reply.existed_size() && reply.existed(at)).end_object();
        }
        json.end_array().end_object().print();
    } else if (context.parsable || context.quiet) {
        std::string out;
        for (const auto id : ids) out += std::to_string(id) + "\n";
        write_out(out);
    } else if (ids.size() == 1) {
        write_out("submitted job " + std::to_string(ids[0]) + "\n");
    } else {
        write_out("submitted jobs " + format_ranges(ids) + " (" + std::to_string(ids.size()) +
                  ")\n");
    }
}

// The first task of each job, were it submitted now; 0: cannot be told.
std::vector<std::uint64_t> forecasts(const Context& context, const std::vector<JobDraft>& drafts) {
    std::vector<std::uint64_t> out(drafts.size(), 0);
    const Gatherer gatherer(context);
    if (gatherer.segment() == nullptr) return out;
    const Picture picture = take_picture(*gatherer.segment());
    for (std::size_t i = 0; i < drafts.size(); ++i) {
        const auto& spec = drafts[i].spec;
        if (spec.hold() || spec.after_size() > 0) continue;
        ForecastTask task;
        task.request = resources_of(spec.task().resources());
        task.wants = rpc::wants_of(spec);
        task.request.named = shm::find_counts(*gatherer.segment(), task.wants.resources);
        if (task.request.named.fits_nowhere()) continue;
        task.time_limit_ns = spec.task().time_limit_ms() * kMillisecond;
        task.nodes = std::max(spec.nodes(), 1U);
        task.key = shm::heap_key(spec.priority(), picture.now_ns, ~std::uint64_t{0});
        const auto start = earliest_start_ns(picture, task);
        if (start) out[i] = std::max(*start, spec.not_before_unix_ms() * kMillisecond);
    }
    return out;
}

void print_dry_run(const Context& context, const std::vector<JobDraft>& drafts) {
    std::uint64_t tasks = 0;
    for (const auto& draft : drafts) tasks += elements_of(draft.spec);
    const auto starts = forecasts(context, drafts);
    if (context.form() == Form::kJson) {
        JsonWriter json;
        json.begin_object().field("schema", "reeve.dry-run.v1").field("tasks", tasks);
        json.key("jobs").begin_array();
        for (std::size_t i = 0; i < drafts.size(); ++i) {
            const auto& spec = drafts[i].spec;
            json.begin_object().field("name", spec.task().name()).field("label", spec.label());
            write_time(json, "earliest_start", starts[i]);
            json.field("elements", elements_of(spec)).key("command").begin_array();
            for (const auto& word : spec.task().argv()) json.value(word);
            json.end_array().end_object();
        }
        json.end_array().end_object().print();
    } else if (!context.quiet && !context.parsable) {
        std::string line = "would submit " + std::to_string(drafts.size()) +
                           (drafts.size() == 1 ? " job (" : " jobs (") + std::to_string(tasks) +
                           (tasks == 1 ? " task)" : " tasks)");
        const auto first = std::find_if(starts.begin(), starts.end(),
                                        [](std::uint64_t start) { return start != 0; });
        if (first != starts.end()) {
            line += drafts.size() == 1 ? "; it " : "; the first ";
            line += forecast_words(*first, wall_ns());
        }
        write_out(line + "\n");
    }
}

// Jobs that will wait for a worker that is not here: they were taken, for it may come.
void warn_of_missing_workers(const Context& context, const std::vector<JobDraft>& drafts) {
    const auto asks = [](const JobDraft& draft) { return !rpc::wants_of(draft.spec).empty(); };
    if (std::none_of(drafts.begin(), drafts.end(), asks)) return;
    const Gatherer gatherer(context);
    if (gatherer.segment() == nullptr) return;
    const auto workers = segment_workers(*gatherer.segment());
    std::set<std::string> told;
    for (const auto& draft : drafts) {
        const auto wants = rpc::wants_of(draft.spec);
        if (wants.empty()) continue;
        const auto words =
            no_worker_words(workers, wants, resources_of(draft.spec.task().resources()));
        if (words.empty() || !told.insert(words).second) continue;
        warn((draft.spec.label().empty() ? "the job" : "job \"" + draft.spec.label() + "\"") + " " +
             words);
    }
}

}  // namespace

Result<v1::SubmitReply> send(Client& client, std::vector<JobDraft>& drafts, bool dry_run) {
    REEVE_TRY(resolve_last(client.calls(), drafts));
    v1::SubmitRequest request;
    request.set_validate_only(dry_run);
    for (const auto& draft : drafts) *request.add_jobs() = draft.spec;
    return client.calls().submit(request);
}

int submit_command(const Context& context, const SubmitOptions& options) {
    std::vector<std::string> warnings;
    if (!options.timeout.empty() && !options.wait && !options.progress) {
        return report(Error{ErrorCode::kInvalidArgument,
                            "--timeout is how long --wait waits; add --wait, or limit the tasks "
                            "themselves with --time"});
    }
    auto drafts = prepare(options, warnings);
    if (!drafts) return report(drafts.error());
    WaitOptions waiting;
    if (!options.timeout.empty()) {
        const auto timeout = parse_time_ms(options.timeout);
        if (!timeout) return report(Error(timeout.error()).with("--timeout"));
        waiting.timeout_ms = *timeout;
    }
    auto client = connect_client(context);
    if (!client) {
        // A dry run says what it can without a cell.
        if (!options.dry_run) return report(client.error());
        print_dry_run(context, *drafts);
        return finish(kExitOk);
    }
    const auto reply = send(**client, *drafts, options.dry_run);
    if (!reply) return report(reply.error());
    if (!context.quiet) {
        for (const auto& warning : warnings) warn(warning);
        warn_of_missing_workers(context, *drafts);
    }
    if (options.dry_run) {
        print_dry_run(context, *drafts);
        return finish(kExitOk);
    }
    print_reply(context, *drafts, *reply);
    flush_out();
    if (!options.wait && !options.progress) return finish(kExitOk);
    waiting.progress = options.progress || stderr_is_terminal_for(context);
    std::vector<Selected> selected;
    for (const auto id : reply->job_ids()) selected.push_back({id, {}});
    return wait_and_tell(context, **client, selected, waiting);
}

}  // namespace reeve::cli
