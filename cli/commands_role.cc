// The words of the roles: plm, scheduler, register, worker.
#include <memory>

#include "cli/commands.h"
#include "cli/offer_words.h"
#include "cli/units.h"

#ifdef REEVE_HAVE_PLM
#include "cli/policy_file.h"
#include "common/shm/task_slots.h"
#include "plm/plm.h"
#endif
#ifdef REEVE_HAVE_SCHEDULER
#include "scheduler/scheduler.h"
#endif
#ifdef REEVE_HAVE_REGISTER
#include "register/register.h"
#endif
#ifdef REEVE_HAVE_WORKER
#include "worker/runner/runner.h"
#include "worker/worker.h"
#endif

namespace reeve::cli {

namespace {

constexpr const char* kGroup = "Roles (started by reeve up)";

// Turns a parse failure of a unit into CLI11's own kind of error, which names the option.
template <typename T>
T need(const char* option, Result<T> value) {
    if (!value) throw CLI::ValidationError(option, value.error().message);
    return *value;
}

[[maybe_unused]] CLI::App* add_role(CLI::App& root, const char* name, const char* help) {
    auto* role = root.add_subcommand(name, help);
    role->group(kGroup);
    return role;
}

#ifdef REEVE_HAVE_PLM
void add_plm(CLI::App& root, Line& line) {
    auto options = std::make_shared<plm::PlmOptions>();
    auto* role = add_role(root, "plm", "the queue's keeper: ids, ledger, audit log, clients");
    auto& segment = options->segment;
    role->add_option("--slots", segment.task_slots, "task slots in shared memory (65536)")
        ->check([](const std::string& text) {
            const auto slots = parse_count(text, ~0ULL);
            if (!slots) return slots.error().message;
            const auto good = shm::check_task_slots(*slots);
            return good ? std::string() : good.error().message;
        });
    role->add_option("--worker-slots", segment.workers, "worker slots (64)");
    role->add_option("--job-slots", segment.jobs, "job entries in shared memory (16384)");
    role->add_option("--class-slots", segment.classes, "request classes (4096)");
    role->add_option_function<std::string>(
            "--arena",
            [options](const std::string& text) {
                options->segment.arena_bytes = need("--arena", parse_size(text));
            },
            "payload arena in shared memory (24M)")
        ->type_name("SIZE");
    role->add_option_function<std::string>(
            "--durability",
            [options](const std::string& text) { options->durable = text == "sync"; },
            "sync: acknowledge after the flush; async: after the write, flush later")
        ->check(CLI::IsMember({"sync", "async"}));
    role->add_option_function<std::string>(
            "--checkpoint-interval",
            [options](const std::string& text) {
                options->checkpoint_interval_ms =
                    need("--checkpoint-interval", parse_time_ms(text));
            },
            "of the audit log (250ms)")
        ->type_name("TIME");
    role->add_option_function<std::string>(
            "--snapshot-bytes",
            [options](const std::string& text) {
                options->snapshot_bytes = need("--snapshot-bytes", parse_size(text));
            },
            "ledger bytes between snapshots, at least (64M)")
        ->type_name("SIZE");
    role->add_option("--deaths-max", options->deaths_max,
                     "workers a task may take down: then it is poison (5)");
    auto budgets = std::make_shared<std::vector<std::string>>();
    add_budget_option(*role, *budgets);
    role->callback([&line, options, budgets] {
        auto parsed = parse_budgets(*budgets);
        if (!parsed) {
            line.code = report(parsed.error());
            return;
        }
        options->budget_nano = std::move(*parsed);
        run_with_cell(line, [&](const Context& context) {
            const Cell cell = context.cell;
            options->read_policy = [cell] { return read_cell_policy(cell); };
            auto policy = options->read_policy();
            if (!policy) return report(policy.error());
            options->policy = std::move(*policy);
            return plm_main(cell, *options);
        });
    });
}
#endif

#ifdef REEVE_HAVE_SCHEDULER
void add_scheduler(CLI::App& root, Line& line) {
    auto options = std::make_shared<SchedulerOptions>();
    auto* role = add_role(root, "scheduler", "places queued tasks on workers");
    role->callback([&line, options] {
        run_with_cell(
            line, [&](const Context& context) { return scheduler_main(context.cell, *options); });
    });
}
#endif

#ifdef REEVE_HAVE_REGISTER
void add_register(CLI::App& root, Line& line) {
    auto options = std::make_shared<RegisterOptions>();
    auto* role = add_role(root, "register", "watches workers and requeues what the dead held");
    role->add_option_function<std::string>(
            "--lease",
            [options](const std::string& text) {
                options->lease_default_ns = need("--lease", parse_time_ms(text)) * kMillisecond;
            },
            "for workers that name none (3s)")
        ->type_name("TIME");
    role->add_option_function<std::string>(
            "--margin",
            [options](const std::string& text) {
                options->margin_ns = need("--margin", parse_time_ms(text)) * kMillisecond;
            },
            "on top of the lease (1s)")
        ->type_name("TIME");
    role->add_option("--deaths-max", options->deaths_max,
                     "workers a task may take down: then it is poison (5)");
    role->callback([&line, options] {
        run_with_cell(
            line, [&](const Context& context) { return register_main(context.cell, *options); });
    });
}
#endif

#ifdef REEVE_HAVE_WORKER
// What function tasks run in.
void add_runner_options(CLI::App& role, const std::shared_ptr<WorkerOptions>& options) {
    role.add_option("--plugin", options->plugins, "a shared object with function handlers")
        ->type_name("FILE")
        ->check(CLI::ExistingFile)
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    role.add_option("--runner", options->runner_program,
                    "a program kept warm for functions no plug-in has, fed over stdin/stdout")
        ->type_name("COMMAND");
    role.add_option("--recycle", options->recycle_after,
                    "calls of --runner before it is started anew (never)")
        ->type_name("N");
    role.add_option("--runners", options->runners, "runner processes at most (one per cpu)")
        ->check(CLI::Range(1, 256));
    role.add_option("--runner-cwd", options->runner_directory, "where they work (/)")
        ->type_name("DIR")
        ->check(CLI::ExistingDirectory);
}

// Started by a worker's launcher only; not shown.
void add_runner(CLI::App& root, Line& line) {
    auto options = std::make_shared<worker::RunnerOptions>();
    auto* role = root.add_subcommand("runner", "runs function tasks for a worker");
    role->group("");
    role->add_option("--plugin", options->plugins)
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    role->add_option("--program", options->program);
    role->add_option("--recycle", options->recycle_after);
    role->add_option("--output-root", options->output_root);
    role->callback([&line, options] { line.code = worker::runner_main(*options); });
}

void add_worker(CLI::App& root, Line& line) {
    auto options = std::make_shared<WorkerOptions>();
    auto* role = add_role(root, "worker", "runs tasks on this machine");
    role->add_option("--name", options->name, "unique in the cell (worker-1)");
    role->add_option_function<std::string>(
            "-c,--cpus",
            [options](const std::string& text) {
                options->cpu_milli = need("--cpus", parse_cpus(text));
            },
            "cpus to offer (default: all this process may use)")
        ->type_name("N");
    role->add_option_function<std::string>(
            "--mem",
            [options](const std::string& text) {
                options->memory_bytes = need("--mem", parse_size(text));
            },
            "memory to offer (default: the machine's or the cgroup's)")
        ->type_name("SIZE");
    role->add_option_function<std::string>(
            "--gpus",
            [options](const std::string& text) {
                options->detect_gpus = text == "auto";
                if (options->detect_gpus) return;
                options->gpus = static_cast<std::uint32_t>(need("--gpus", parse_count(text, 64)));
            },
            "whole GPUs to offer; auto: those the driver shows and CUDA_VISIBLE_DEVICES leaves")
        ->type_name("N|auto");
    role->add_option("--gpu-ids", options->gpu_ids, "their names for CUDA_VISIBLE_DEVICES")
        ->delimiter(',');
    const auto milliseconds = [role, options](const char* flag, std::uint32_t* target,
                                              const char* help) {
        role->add_option_function<std::string>(
                flag,
                [options, flag, target](const std::string& text) {
                    const auto value = need(flag, parse_time_ms(text));
                    if (value > 86'400'000) throw CLI::ValidationError(flag, "at most 1d");
                    *target = static_cast<std::uint32_t>(value);
                },
                help)
            ->type_name("TIME");
    };
    milliseconds("--lease", &options->lease_ms, "how long it may be silent (3s)");
    milliseconds("--grace", &options->grace_ms, "TERM to KILL for tasks that name none (5s)");
    role->add_option("--pids-max", options->pids_max, "processes per task (no limit)");
    role->add_flag("--limit-cpu", options->limit_cpu, "cpu quota per task, where cgroups allow");
    role->add_flag("--require-cgroup", options->require_cgroup, "refuse to start without cgroups");
    add_runner_options(*role, options);
    auto words = std::make_shared<OfferWords>();
    add_offer_options(*role, *words);
    role->callback([&line, options, words] {
        auto offer = offer_for(*words, options->name);
        if (!offer) {
            line.code = report(offer.error());
            return;
        }
        options->labels = std::move(offer->labels);
        options->resources = std::move(offer->resources);
        options->spot = offer->spot;
        options->on_demand_micro = offer->price_micro;
        options->price_micro = offer->spot ? offer->spot_price_micro : offer->price_micro;
        run_with_cell(line,
                      [&](const Context& context) { return worker_main(context.cell, *options); });
    });
}
#endif

}  // namespace

void add_role_commands([[maybe_unused]] CLI::App& root, [[maybe_unused]] Line& line) {
#ifdef REEVE_HAVE_PLM
    add_plm(root, line);
#endif
#ifdef REEVE_HAVE_SCHEDULER
    add_scheduler(root, line);
#endif
#ifdef REEVE_HAVE_REGISTER
    add_register(root, line);
#endif
#ifdef REEVE_HAVE_WORKER
    add_worker(root, line);
    add_runner(root, line);
#endif
}

}  // namespace reeve::cli
