// The words of the commands that act on jobs, and of wait.
#include <memory>

#include "cli/act.h"
#include "cli/commands.h"
#include "cli/wait.h"

namespace reeve::cli {

namespace {

void add_action(CLI::App& root, Line& line, const char* name, const char* help,
                v1::ActionKind action) {
    auto options = std::make_shared<ActOptions>();
    options->action = action;
    auto* command = root.add_subcommand(name, help);
    add_form(*command, line.context, Forms::kJsonAndIds);
    command->add_option("jobs", options->selectors, "12, 12.3, 1-5, @, @~1, all, name:GLOB")
        ->required();
    command->add_option("--reason", options->reason, "kept with the job")->type_name("TEXT");
    if (action == v1::ACTION_UPDATE) {
        command->add_option("-p,--priority", options->priority, "the new priority")->type_name("N");
        command->add_option("-t,--time", options->time_limit, "the new time limit")
            ->type_name("TIME");
    }
    command->callback([&line, options] {
        run_with_cell(line, [&](const Context& context) { return act_command(context, *options); });
    });
}

}  // namespace

void add_act_commands(CLI::App& root, Line& line) {
    add_action(root, line, "cancel", "end jobs or tasks: TERM, then KILL", v1::ACTION_CANCEL);
    add_action(root, line, "hold", "keep queued tasks from starting", v1::ACTION_HOLD);
    add_action(root, line, "release", "let held tasks start", v1::ACTION_RELEASE);
    add_action(root, line, "suspend", "stop running tasks where they are; what waits is held",
               v1::ACTION_SUSPEND);
    add_action(root, line, "resume", "let suspended tasks go on; what is held is released",
               v1::ACTION_RESUME);
    add_action(root, line, "requeue", "stop running tasks and queue them again",
               v1::ACTION_REQUEUE);
    add_action(root, line, "retry", "queue tasks again that ended without success",
               v1::ACTION_RETRY);
    add_action(root, line, "update", "change priority or time limit of what has not started",
               v1::ACTION_UPDATE);

    auto options = std::make_shared<WaitCommand>();
    auto* wait = root.add_subcommand("wait", "wait for jobs to end; exit 1 if something failed");
    add_form(*wait, line.context, Forms::kJsonAndIds);
    wait->add_option("jobs", options->selectors, "12, 12.3, 1-5, @, @~1, all, name:GLOB")
        ->required();
    wait->add_option("--timeout", options->timeout, "give up after this long, exit 6")
        ->type_name("TIME");
    wait->add_flag("--progress", options->progress, "a progress bar even on no terminal");
    wait->add_flag("--no-progress", options->no_progress, "no progress bar");
    wait->callback([&line, options] {
        run_with_cell(line,
                      [&](const Context& context) { return wait_command(context, *options); });
    });
}

}  // namespace reeve::cli
