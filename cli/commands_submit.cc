// The words of submit and run.
#include <memory>

#include "cli/commands.h"
#include "cli/submit.h"

namespace reeve::cli {

namespace {

using Options = std::shared_ptr<SubmitOptions>;

void add_job_options(CLI::App& command, const Options& options) {
    for (const auto& rule : option_rules()) {
        const std::string flags = rule.flags;
        if (flags.empty()) continue;
        const auto* which = &rule;
        if (rule.kind == OptionKind::kFlag) {
            command.add_flag_callback(
                flags, [options, which] { options->values.emplace_back(which, "true"); },
                rule.help);
            continue;
        }
        command
            .add_option_function<std::vector<std::string>>(
                flags,
                [options, which](const std::vector<std::string>& texts) {
                    for (const auto& text : texts) options->values.emplace_back(which, text);
                },
                rule.help)
            ->type_name(rule.value)
            ->expected(1)
            ->allow_extra_args(false)
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    }
    command.add_option("--env", options->environment, "NAME=VALUE, or NAME to copy it from here")
        ->type_name("NAME=VALUE")
        ->expected(1)
        ->allow_extra_args(false)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    command
        .add_option("--param", options->parameters,
                    "a task for each value; {NAME} in the command and $NAME hold it")
        ->type_name("NAME=A,B,..")
        ->expected(1)
        ->allow_extra_args(false)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    command
        .add_option("--each-line", options->each_line,
                    "a task for each line; {} in the command and $REEVE_VALUE hold it")
        ->type_name("FILE");
}

// #REEVE lines come first, so that the command line wins.
Status take_directives(SubmitOptions& options) {
    REEVE_TRY(check_named_once(options.values));
    REEVE_TRY_ASSIGN(auto words, directives_for(options));
    if (words.empty()) return {};
    CLI::App parser;
    auto found = std::make_shared<SubmitOptions>();
    add_job_options(parser, found);
    std::reverse(words.begin(), words.end());
    try {
        parser.parse(words);
    } catch (const CLI::Error& problem) {
        return fail(ErrorCode::kInvalidArgument, options.words[0] + ": in its #REEVE lines: " +
                                                     problem.what() + "; see reeve submit --help");
    }
    if (auto once = check_named_once(found->values); !once) {
        return fail(std::move(once).error().with(options.words[0] + ": in its #REEVE lines"));
    }
    found->values.insert(found->values.end(), options.values.begin(), options.values.end());
    found->environment.insert(found->environment.end(), options.environment.begin(),
                              options.environment.end());
    found->parameters.insert(found->parameters.end(), options.parameters.begin(),
                             options.parameters.end());
    options.values = std::move(found->values);
    options.environment = std::move(found->environment);
    options.parameters = std::move(found->parameters);
    if (options.each_line.empty()) options.each_line = found->each_line;
    return {};
}

CLI::App* add_command(CLI::App& root, Line& line, const char* name, const char* help,
                      const Options& options, Forms forms,
                      int (*body)(const Context&, const SubmitOptions&)) {
    auto* command = root.add_subcommand(name, help);
    add_form(*command, line.context, forms);
    add_job_options(*command, options);
    command->add_option("file", options->words, "a script or a JSON job file; - for stdin");
    command->add_flag_callback(
        "--no-check", [options] { options->check = false; },
        "do not look whether program and files exist here");
    const bool attached = command->get_name() == "run";  // its other codes are the task's
    command->callback([&line, options, body, attached] {
        options->command = line.command;
        options->separated = line.separated;
        bool begun = false;
        if (auto taken = take_directives(*options); !taken) {
            line.code = report(taken.error());
        } else {
            run_with_cell(line, [&](const Context& context) {
                begun = true;
                return body(context, *options);
            });
        }
        if (!begun && attached) line.code = kExitOwnFailure;
    });
    return command;
}

}  // namespace

void add_submit_commands(CLI::App& root, Line& line) {
    auto options = std::make_shared<SubmitOptions>();
    auto* submit = add_command(root, line, "submit",
                               "queue a job: submit [options] -- command, script or jobs.json",
                               options, Forms::kJsonAndIds, submit_command);
    submit->add_flag("--wait", options->wait, "wait for the end; exit 1 if something failed");
    submit->add_flag("--progress", options->progress, "wait with a progress bar");
    submit->add_option("--timeout", options->timeout, "of --wait")->type_name("TIME");
    submit->add_flag("--dry-run", options->dry_run, "check everything, queue nothing");
    submit->footer(
        "Examples:\n"
        "  reeve submit -c 2 --mem 8G -t 30m -- python train.py\n"
        "  reeve submit --array 1-1000%10 -- ./step\n"
        "  reeve submit jobs.json --wait");
    add_command(root, line, "run", "submit one task and attach to it",
                std::make_shared<SubmitOptions>(), Forms::kNone, run_command);
}

}  // namespace reeve::cli
