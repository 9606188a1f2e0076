// The words of the commands that look at jobs.
#include <memory>

#include "cli/commands.h"
#include "cli/events.h"
#include "cli/explain.h"
#include "cli/history_command.h"
#include "cli/logs.h"
#include "cli/result.h"
#include "cli/ls.h"
#include "cli/nodes.h"

namespace reeve::cli {

namespace {

constexpr const char* kSelectorHelp = "12, 12.3, 1-5, @, @~1, all, name:GLOB";

void add_ls(CLI::App& root, Line& line) {
    auto options = std::make_shared<LsOptions>();
    auto* command = root.add_subcommand("ls", "list jobs; works with every daemon stopped");
    add_form(*command, line.context, Forms::kJsonAndIds);
    command->add_option("jobs", options->selectors, kSelectorHelp);
    command->add_option("--state", options->states, "only these, like running,failed")
        ->type_name("STATES");
    command->add_flag("-a,--all", options->all, "ended jobs too");
    command->add_option("--limit", options->limit, "ended jobs to list (default 1000)");
    command->callback([&line, options] {
        run_with_cell(line, [&](const Context& context) { return ls_command(context, *options); });
    });
}

void add_show(CLI::App& root, Line& line) {
    auto options = std::make_shared<ShowOptions>();
    auto* command = root.add_subcommand("show", "a job in full, with its tasks");
    add_form(*command, line.context, Forms::kJsonAndIds);
    command->add_option("jobs", options->selectors, kSelectorHelp)->required();
    command->add_flag("--attempts", options->attempts, "every attempt, not only the last");
    command->add_flag("--env", options->environment, "the environment too");
    command->add_option("--limit", options->limit, "tasks to show of each job (default 1000)");
    command->callback([&line, options] {
        run_with_cell(line,
                      [&](const Context& context) { return show_command(context, *options); });
    });
}

void add_logs(CLI::App& root, Line& line) {
    auto options = std::make_shared<LogsOptions>();
    auto* command = root.add_subcommand("logs", "print what tasks wrote");
    add_form(*command, line.context, Forms::kJson);
    command->add_option("tasks", options->selectors, kSelectorHelp)->required();
    command->add_flag("-f,--follow", options->follow, "go on until the task has ended");
    command->add_flag("--error", options->error, "stderr instead of stdout");
    command->add_option("--attempt", options->attempt, "of this attempt, not the last")
        ->type_name("N");
    command->add_flag("--paths", options->paths, "print the names of the files only");
    command->add_option("--limit", options->limit, "tasks of each job (default 200000)");
    command->callback([&line, options] {
        run_with_cell(line,
                      [&](const Context& context) { return logs_command(context, *options); });
    });
}

void add_result(CLI::App& root, Line& line) {
    auto options = std::make_shared<ResultOptions>();
    auto* command = root.add_subcommand("result", "print what function tasks gave back");
    add_form(*command, line.context, Forms::kJson);
    command->add_option("tasks", options->selectors, kSelectorHelp)->required();
    command->add_option("--limit", options->limit, "tasks of each job (default 100000)");
    command->callback([&line, options] {
        run_with_cell(line,
                      [&](const Context& context) { return result_command(context, *options); });
    });
}

void add_explain(CLI::App& root, Line& line) {
    auto options = std::make_shared<ExplainOptions>();
    auto* command = root.add_subcommand("explain", "why a job waits, and what would start it");
    add_form(*command, line.context, Forms::kJson);
    command->add_option("jobs", options->selectors, kSelectorHelp)->required();
    command->callback([&line, options] {
        run_with_cell(line,
                      [&](const Context& context) { return explain_command(context, *options); });
    });
}

void add_history(CLI::App& root, Line& line) {
    auto options = std::make_shared<HistoryOptions>();
    auto* command = root.add_subcommand("history", "jobs that ended; with a job, its attempts");
    add_form(*command, line.context, Forms::kJsonAndIds);
    command->add_option("jobs", options->selectors, kSelectorHelp);
    command->add_option("--state", options->states, "succeeded, failed or cancelled")
        ->type_name("STATES");
    command->add_option("--name", options->name, "only jobs of such a name")->type_name("GLOB");
    command->add_option("--since", options->since, "ended since: 2h, or 2026-11-22")
        ->type_name("WHEN");
    command->add_option("--limit", options->limit, "at most so many (default 50)");
    command->add_option("--by", options->by, "what was spent instead, by user or by sla")
        ->type_name("user|sla")
        ->check(CLI::IsMember({"user", "sla"}));
    command->callback([&line, options] {
        run_with_cell(line,
                      [&](const Context& context) { return history_command(context, *options); });
    });
}

void add_top(CLI::App& root, Line& line) {
    auto options = std::make_shared<TopOptions>();
    auto* command = root.add_subcommand("top", "workers and running tasks, again and again");
    add_form(*command, line.context, Forms::kJson);
    command->add_option("--interval", options->interval_seconds, "seconds between looks (1)")
        ->check(CLI::Range(0.1, 3600.0));
    command->add_option("-n,--count", options->count, "how many looks; 0: for ever");
    command->callback([&line, options] {
        run_with_cell(line, [&](const Context& context) { return top_command(context, *options); });
    });
}

void add_events(CLI::App& root, Line& line) {
    auto options = std::make_shared<EventsOptions>();
    auto from = std::make_shared<std::uint64_t>(0);
    auto* command = root.add_subcommand("events", "what happens, a JSON line for each event");
    command->add_option("jobs", options->selectors, "only of these jobs: 12, 1-5, @, name:GLOB");
    auto* start = command->add_option("--from", *from,
                                      "begin with the event of this index, 0: the very first "
                                      "(default: with what comes now)");
    command->add_flag("--no-follow{false}", options->follow, "end with the newest there is now");
    command->add_option("-n,--count", options->count, "end after so many")
        ->check([](const std::string& text) {
            const bool zero = !text.empty() && text.find_first_not_of('0') == std::string::npos;
            return zero ? "0 is too few; write 1 or more" : "";
        });
    command->callback([&line, options, from, start] {
        if (start->count() > 0) options->from = *from;
        run_with_cell(line,
                      [&](const Context& context) { return events_command(context, *options); });
    });
}

}  // namespace

void add_look_commands(CLI::App& root, Line& line) {
    add_ls(root, line);
    add_show(root, line);
    add_explain(root, line);
    add_logs(root, line);
    add_result(root, line);
    add_history(root, line);
    add_top(root, line);
    add_events(root, line);
}

}  // namespace reeve::cli
