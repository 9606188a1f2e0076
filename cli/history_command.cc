#include "cli/history_command.h"

#include <algorithm>

#include "cli/catalogue.h"
#include "cli/gather.h"
#include "cli/json_writer.h"
#include "cli/look.h"
#include "cli/ls.h"
#include "cli/render.h"
#include "cli/text.h"
#include "cli/units.h"
#include "common/base/clock.h"
#include "common/process/users.h"

namespace reeve::cli {

namespace {

std::string span(std::uint64_t from_ns, std::uint64_t to_ns) {
    return from_ns == 0 || to_ns < from_ns ? "-" : format_duration_ns(to_ns - from_ns);
}

// "2h" ago, or a date.
Result<std::uint64_t> since_ns(const std::string& text) {
    if (text.empty()) return 0;
    const auto now = wall_ns();
    if (const auto ago = parse_time_ms(text)) {
        return now - std::min(now, *ago * kMillisecond);
    }
    const auto date = parse_begin_ms(text, now / kMillisecond);
    if (!date || text[0] == '+') {
        return fail(
            ErrorCode::kInvalidArgument,
            "--since: \"" + text + "\" is neither a time like 2h nor a date like 2026-11-22");
    }
    return *date * kMillisecond;
}

// What was spent, by user or by SLA class.
int list_costs(const Context& context, const HistoryOptions& options, History& history) {
    const bool by_user = options.by == "user";
    const auto since = since_ns(options.since);
    if (!since) return report(since.error());
    const auto states = parse_states(options.states);
    if (!states) return report(states.error());
    History::JobQuery query;
    query.name_glob = options.name;
    query.since_ns = *since;
    if (states->size() == 1) query.outcome = states->front();
    const auto rows = history.costs(query, by_user);
    if (!rows) return report(rows.error());
    const auto name_of = [by_user](const History::CostRow& row) {
        if (by_user) return user_name(row.part);
        return std::string(to_string(static_cast<SlaClass>(row.part)));
    };
    std::uint64_t total = 0;
    for (const auto& row : *rows) total += row.cost_nano;
    if (context.form() == Form::kJson) {
        JsonWriter json;
        json.begin_object().field("schema", "reeve.cost.v1").field("by", options.by);
        json.key("total").decimal(total, 9).key("rows").begin_array();
        for (const auto& row : *rows) {
            json.begin_object().field("name", name_of(row)).field("jobs", row.jobs);
            json.field("tasks", row.tasks).key("cost").decimal(row.cost_nano, 9).end_object();
        }
        json.end_array().end_object().print();
        return finish(kExitOk);
    }
    Table table({{by_user ? "USER" : "SLA"}, {"JOBS", true}, {"TASKS", true}, {"COST", true}});
    for (const auto& row : *rows) {
        table.add({name_of(row), std::to_string(row.jobs), std::to_string(row.tasks),
                   format_cost(row.cost_nano)});
    }
    table.print();
    return finish(kExitOk);
}

int list_jobs(const Context& context, const HistoryOptions& options, History& history) {
    const auto states = parse_states(options.states);
    if (!states) return report(states.error());
    const auto since = since_ns(options.since);
    if (!since) return report(since.error());
    History::JobQuery query;
    query.limit = options.limit;
    query.name_glob = options.name;
    query.since_ns = *since;
    query.ended_only = true;
    if (states->size() == 1) query.outcome = states->front();
    auto jobs = history.jobs(query);
    if (!jobs) return report(jobs.error());
    std::erase_if(*jobs, [&](const v1::JobStatus& status) {
        return !states->empty() &&
               std::find(states->begin(), states->end(), job_state(status)) == states->end() &&
               std::find(states->begin(), states->end(), "ended") == states->end();
    });
    if (context.form() == Form::kJson) {
        JsonWriter json;
        json.begin_object().field("schema", "reeve.history.v1").key("jobs").begin_array();
        for (const auto& status : *jobs) write_job(json, status);
        json.end_array().end_object().print();
        return finish(kExitOk);
    }
    if (context.form() == Form::kParsable || context.quiet) {
        for (const auto& status : *jobs) write_out(std::to_string(status.job()) + "\n");
        return finish(kExitOk);
    }
    const bool priced = std::any_of(jobs->begin(), jobs->end(),
                                    [](const auto& status) { return status.cost_nano() != 0; });
    std::vector<Table::Column> columns{{"JOB", true},    {"NAME"},         {"STATE"},
                                       {"TASKS", true},  {"FAILED", true}, {"SUBMITTED"},
                                       {"WAITED", true}, {"TOOK", true}};
    if (priced) columns.push_back({"COST", true});
    columns.push_back({"REASON"});
    const auto last = columns.size() - 1;
    Table table(std::move(columns), last);
    table.colour_states_in(2);
    for (const auto& status : *jobs) {
        std::vector<std::string> row{std::to_string(status.job()),
                                     shorten(escape(status.name()), 20),
                                     job_state(status),
                                     std::to_string(status.elements()),
                                     std::to_string(status.failed()),
                                     format_clock_ns(status.submit_ns()),
                                     span(status.submit_ns(), status.start_ns()),
                                     span(status.start_ns(), status.end_ns())};
        if (priced) row.push_back(format_cost(status.cost_nano()));
        row.push_back(status.reason());
        table.add(std::move(row));
    }
    if (table.empty()) {
        write_out("no ended jobs\n");
    } else {
        table.print();
    }
    return finish(kExitOk);
}

int list_attempts(const Context& context, const HistoryOptions& options, History& history) {
    const auto selected = select_known(context, options.selectors);
    if (!selected) return report(selected.error());
    JsonWriter json;
    json.begin_object().field("schema", "reeve.attempts.v1").key("attempts").begin_array();
    Table table({{"TASK", true},
                 {"TRY", true},
                 {"OUTCOME", false},
                 {"WORKER", false},
                 {"STARTED", false},
                 {"TOOK", true},
                 {"CPU", true},
                 {"MEMORY", true},
                 {"NOTE", false}},
                8);
    table.colour_states_in(2);
    int code = kExitOk;
    for (const auto& one : *selected) {
        const auto attempts = history.attempts(one, options.limit);
        if (!attempts) return report(attempts.error());
        if (attempts->empty() && !history.job(one.job)) {
            code = report(Error{ErrorCode::kNotFound,
                                "job " + std::to_string(one.job) +
                                    " is not in the history; see which are with: reeve history"});
        }
        for (const auto& attempt : *attempts) {
            const auto& result = attempt.result;
            if (context.form() == Form::kJson) {
                json.begin_object().field("terminal", attempt.terminal).key("attempt");
                write_task(json, result);
                json.end_object();
            } else if (context.form() == Form::kParsable) {
                write_out(task_id(result, false) + "\n");
            }
            const auto cpu_us = result.user_us() + result.system_us();
            table.add({task_id(result, false), std::to_string(result.attempt()), result.outcome(),
                       result.worker_name(), format_clock_ns(result.started_ns()),
                       span(result.started_ns(), result.ended_ns()),
                       cpu_us == 0 ? "-" : format_duration_ns(cpu_us * 1000),
                       result.max_rss_bytes() == 0 ? "-" : format_bytes(result.max_rss_bytes()),
                       note_words(result)});
        }
    }
    if (context.form() == Form::kJson) {
        json.end_array().end_object().print();
    } else if (context.form() == Form::kTable && !table.empty()) {
        table.print();
    }
    return finish(code);
}

}  // namespace

int history_command(const Context& context, const HistoryOptions& options) {
    auto history = History::open(context.cell);
    if (!history) return report(history.error());
    if (!options.by.empty()) {
        if (options.selectors.empty()) return list_costs(context, options, **history);
        return report(Error{ErrorCode::kInvalidArgument,
                            "--by adds up all jobs; leave the jobs out, or narrow it with --name "
                            "and --since"});
    }
    return options.selectors.empty() ? list_jobs(context, options, **history)
                                     : list_attempts(context, options, **history);
}

}  // namespace reeve::cli
