// status, and the command-line options of up, down, status, doctor and supervise.
#include <algorithm>
#include <charconv>
#include <filesystem>
#include <memory>

#include <sched.h>
#include <unistd.h>

#include "cli/context.h"
#include "cli/group.h"
#include "cli/group_view.h"
#include "cli/json_writer.h"
#include "cli/offer_words.h"
#include "cli/policy_file.h"
#include "cli/text.h"
#include "cli/units.h"
#include "common/shm/task_slots.h"

namespace reeve::cli {
namespace {

constexpr double kSecondsMax = 86'400;

void print_json(const Cell& cell, const GroupView& view) {
    JsonWriter json;
    json.begin_object().field("schema", "reeve.status.v1").field("state", view.state);
    json.field("state_dir", cell.dir).field("cell", cell.hash).field("socket", cell.socket);
    json.field("segment", view.segment).field("segment_note", view.segment_note);
    json.field("generation", view.generation).field("epoch", view.epoch);
    json.field("acknowledging", view.acknowledging).key("processes").begin_array();
    for (const auto& process : view.processes) {
        json.begin_object().field("role", process.role).field("name", process.name);
        json.field("pid", process.pid).field("state", process.state);
        json.key("heartbeat_age_ms");
        process.heartbeat_age_ms < 0 ? json.null() : json.value(process.heartbeat_age_ms);
        json.key("uptime_ms");
        process.uptime_ms < 0 ? json.null() : json.value(process.uptime_ms);
        if (!process.worker_state.empty()) {
            json.field("worker_state", process.worker_state);
            json.field("worker_number", process.worker_number);
            json.field("worker_incarnation", process.worker_incarnation);
        }
        json.end_object();
    }
    json.end_array().end_object().print();
}

void print_table(const Cell& cell, const GroupView& view) {
    Table table({{"ROLE"},
                 {"NAME"},
                 {"PID", true},
                 {"STATE"},
                 {"HEARTBEAT", true},
                 {"UPTIME", true},
                 {"WORKER"}});
    table.colour_states_in(3);
    const auto duration = [](std::int64_t ms) {
        return ms < 0 ? std::string("-")
                      : format_duration_ns(static_cast<std::uint64_t>(ms) * kMillisecond);
    };
    for (const auto& process : view.processes) {
        table.add({process.role, process.name, process.pid == 0 ? "-" : std::to_string(process.pid),
                   process.state, duration(process.heartbeat_age_ms), duration(process.uptime_ms),
                   process.worker_state});
    }
    write_out("cell     " + escape(cell.dir) + "\n");
    write_out("state    " + view.state + "\n");
    if (view.segment.empty()) {
        write_out("segment  none\n");
    } else if (!view.segment_note.empty()) {
        write_out("segment  " + view.segment + " (" + escape(view.segment_note) + ")\n");
    } else {
        write_out(
            "segment  " + view.segment + ", epoch " + std::to_string(view.epoch) +
            (view.acknowledging ? "\n" : ", not acknowledging: the ledger cannot be written\n"));
    }
    table.print();
}

// What a person types after `up`.
struct UpWords {
    SuperviseOptions options;
    UpRequest request;
    std::string cpus;
    std::string memory;
    std::string gpus;
    std::string slots;
    std::vector<std::string> plugins;
    std::string runner;
    std::string recycle;
    std::string durability;
    OfferWords offer;
    std::vector<std::string> budgets;
    double lease_seconds = 0;
    double wait_seconds = 30;
};

std::uint64_t machine_cpus() {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    return static_cast<std::uint64_t>(std::max(1, CPU_COUNT(&set)));
}

template <typename T>
Status checked(const char* flag, Result<T> parsed) {
    if (parsed) return {};
    return fail(std::move(parsed).error().with(flag));
}

Status check_slots(const std::string& text) {
    REEVE_TRY_ASSIGN(const auto slots, parse_count(text, ~0ULL));
    return shm::check_task_slots(slots);
}

// Each worker offers what it is told; several workers without a word share the machine evenly.
Status complete_up(UpWords& words) {
    auto& worker = words.options.worker_arguments;
    auto& plm = words.options.plm_arguments;
    for (const auto& [flag, word] :
         {std::pair{"--cpus", &words.cpus}, {"--mem", &words.memory}, {"--gpus", &words.gpus}}) {
        if (word->empty()) words.request.by_default.emplace_back(flag);
    }
    if (words.cpus.empty() && words.options.workers > 1) {
        const auto milli = machine_cpus() * 1000 / words.options.workers;
        char text[32];
        std::snprintf(text, sizeof text, "%.3f",
                      static_cast<double>(std::max<std::uint64_t>(1, milli)) / 1000);
        words.cpus = text;
    }
    if (words.memory.empty() && words.options.workers > 1) {
        const auto pages = static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES));
        const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
        words.memory = std::to_string(pages * page / words.options.workers) + "B";
    }
    if (!words.cpus.empty()) {
        REEVE_TRY(checked("--cpus", parse_cpus(words.cpus)));
        worker.insert(worker.end(), {"--cpus", words.cpus});
    }
    if (!words.memory.empty()) {
        REEVE_TRY(checked("--mem", parse_size(words.memory)));
        worker.insert(worker.end(), {"--mem", words.memory});
    }
    if (words.gpus.empty() && words.options.workers == 1) words.gpus = "auto";
    if (!words.gpus.empty()) {
        if (words.gpus == "auto" && words.options.workers > 1) {
            return fail(ErrorCode::kInvalidArgument,
                        "--gpus: auto gives all GPUs to one worker; use --workers 1, or write how "
                        "many each worker offers");
        }
        if (words.gpus != "auto") {
            REEVE_TRY(checked("--gpus", parse_count(words.gpus, 64)));
        }
        worker.insert(worker.end(), {"--gpus", words.gpus});
    }
    for (const auto& plugin : words.plugins) {
        std::error_code error;
        const auto path = std::filesystem::absolute(plugin, error).string();
        worker.insert(worker.end(), {"--plugin", path});
    }
    if (!words.runner.empty()) {
        // Its relative words are meant from here.
        const auto here = std::filesystem::current_path().string();
        worker.insert(worker.end(), {"--runner", words.runner, "--runner-cwd", here});
    }
    if (!words.recycle.empty()) {
        REEVE_TRY(checked("--recycle", parse_count(words.recycle, 1ULL << 31)));
        worker.insert(worker.end(), {"--recycle", words.recycle});
    }
    REEVE_TRY(check_offers(words.offer, words.options.workers));
    for (auto& word : offer_arguments(words.offer)) worker.push_back(std::move(word));
    if (words.lease_seconds > 0) {
        char text[32];
        std::snprintf(text, sizeof text, "%.0fms", words.lease_seconds * 1000);
        worker.insert(worker.end(), {"--lease", text});
    }
    if (!words.slots.empty()) {
        REEVE_TRY(checked("--slots", check_slots(words.slots)));
        plm.insert(plm.end(), {"--slots", words.slots});
    }
    if (auto budgets = parse_budgets(words.budgets); !budgets) return fail(budgets.error());
    for (const auto& budget : words.budgets) plm.insert(plm.end(), {"--budget", budget});
    if (!words.durability.empty()) plm.insert(plm.end(), {"--durability", words.durability});
    words.options.ready_timeout_ns = static_cast<std::uint64_t>(words.wait_seconds * 1e9);
    return {};
}

using Action = std::function<int(const Cell&)>;

void on_run(CLI::App* command, const std::string& state_dir, int& exit_code, Action action) {
    command->callback([&state_dir, &exit_code, action = std::move(action)] {
        const auto cell = find_cell(state_dir);
        exit_code = cell ? action(*cell) : report(cell.error());
    });
}

// Seconds from `least` on, at most a day.
CLI::Validator seconds_from(double least, const char* example) {
    return CLI::Validator(
        [least, example](const std::string& text) {
            double value = 0;
            const char* end = text.data() + text.size();
            const auto parsed = std::from_chars(text.data(), end, value);
            const bool good = parsed.ec == std::errc{} && parsed.ptr == end && value >= least &&
                              value <= kSecondsMax;
            return good ? std::string()
                        : "\"" + text + "\" is not a number of seconds that is " +
                              (least > 0 ? "positive" : "not negative") +
                              " and at most a day; write for example " + example;
        },
        "");
}

void add_up(CLI::App& root, const std::string& state_dir, int& exit_code) {
    auto words = std::make_shared<UpWords>();
    auto* up = root.add_subcommand("up", "start the process group and return when it is ready");
    up->add_flag("--foreground", words->request.foreground, "stay, and stop the group on Ctrl-C");
    up->add_option("--workers", words->options.workers, "how many workers to start (default 1)")
        ->check(CLI::Range(0, 4096));
    up->add_option("-c,--cpus", words->cpus, "cpus each worker offers (default: the machine's)")
        ->type_name("N");
    up->add_option("--mem", words->memory, "memory each worker offers, e.g. 8G")->type_name("SIZE");
    up->add_option("--plugin", words->plugins, "a shared object with function handlers")
        ->type_name("FILE")
        ->check(CLI::ExistingFile)
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    up->add_option("--runner", words->runner,
                   "a program kept warm for functions, e.g. 'python3 serve.py'")
        ->type_name("COMMAND");
    up->add_option("--recycle", words->recycle, "calls of --runner before it is started anew")
        ->type_name("N");
    up->add_option("--gpus", words->gpus,
                   "GPUs each worker offers: a number or auto (default: auto for one worker)")
        ->type_name("N|auto");
    add_offer_options(*up, words->offer);
    add_budget_option(*up, words->budgets);
    up->add_option("--slots", words->slots,
                   "task slots of a new segment: 64 or more, a multiple of 64 (default 65536)")
        ->type_name("N");
    up->add_option("--durability", words->durability,
                   "sync (default), or async: acknowledge before the flush")
        ->check(CLI::IsMember({"sync", "async"}));
    up->add_option("--policy", words->request.policy,
                   "shares, quotas and limits, kept as policy.json; none: without")
        ->type_name("FILE");
    up->add_option("--lease", words->lease_seconds, "seconds a silent worker is waited for")
        ->check(seconds_from(0.001, "3"));
    up->add_option("--wait", words->wait_seconds, "seconds to wait for readiness (default 30)")
        ->check(seconds_from(0.001, "30"));
    on_run(up, state_dir, exit_code, [words, up](const Cell& cell) {
        if (up->count("--workers") == 0) words->request.by_default.emplace_back("--workers");
        if (const auto completed = complete_up(*words); !completed) {
            return report(completed.error());
        }
        if (!words->request.policy.empty()) {
            if (const auto made = create_cell_directories(cell); !made) return report(made.error());
            if (const auto taken = install_policy(cell, words->request.policy); !taken) {
                return report(taken.error());
            }
        }
        return up_main(cell, words->options, words->request);
    });
}

void add_supervise(CLI::App& root, const std::string& state_dir, int& exit_code) {
    auto options = std::make_shared<SuperviseOptions>();
    auto* supervise = root.add_subcommand("supervise", "what `up` runs in the background");
    supervise->group("");  // not shown: a role, not an act
    supervise->add_option("--workers", options->workers)->check(CLI::Range(0, 4096));
    supervise->add_option("--ready-fd", options->ready_fd);
    supervise->add_option("--lock-fd", options->lock_fd);
    auto ready_ms = std::make_shared<std::uint64_t>(30'000);
    supervise->add_option("--ready-ms", *ready_ms);
    const auto pass = [&](const char* name, std::vector<std::string>& words) {
        supervise->add_option(name, words)->take_all()->allow_extra_args(false);
    };
    pass("--worker-arg", options->worker_arguments);
    pass("--plm-arg", options->plm_arguments);
    pass("--scheduler-arg", options->scheduler_arguments);
    pass("--register-arg", options->register_arguments);
    on_run(supervise, state_dir, exit_code, [options, ready_ms](const Cell& cell) {
        options->ready_timeout_ns = *ready_ms * kMillisecond;
        return supervise_main(cell, *options);
    });
}

}  // namespace

int status_main(const Cell& cell, bool json) {
    const auto view = view_group(cell);
    json ? print_json(cell, view) : print_table(cell, view);
    if (view.state == "up") return finish(kExitOk);
    return finish(view.state == "down" ? kExitUnreachable : kExitFailed);
}

void add_group_commands(CLI::App& root, const std::string& state_dir, int& exit_code) {
    add_up(root, state_dir, exit_code);

    auto down_options = std::make_shared<DownOptions>();
    auto* down = root.add_subcommand("down", "stop the process group; nothing of it is left");
    down->add_option("--grace", down_options->grace_seconds, "seconds before a role is killed")
        ->check(seconds_from(0, "10"));
    on_run(down, state_dir, exit_code,
           [down_options](const Cell& cell) { return down_main(cell, *down_options); });

    auto status_json = std::make_shared<bool>(false);
    auto* status = root.add_subcommand("status",
                                       "the processes of the group (0 up, 1 degraded, "
                                       "4 down)");
    status->add_flag("--json", *status_json, "schema reeve.status.v1");
    on_run(status, state_dir, exit_code,
           [status_json](const Cell& cell) { return status_main(cell, *status_json); });

    auto doctor_json = std::make_shared<bool>(false);
    auto* doctor = root.add_subcommand("doctor", "check the machine");
    doctor->add_flag("--json", *doctor_json, "schema reeve.doctor.v1");
    on_run(doctor, state_dir, exit_code,
           [doctor_json](const Cell& cell) { return doctor_main(cell, *doctor_json); });

    add_supervise(root, state_dir, exit_code);
}

}  // namespace reeve::cli
