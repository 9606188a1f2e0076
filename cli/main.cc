// reeve: one executable, all roles and all commands.
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <sstream>
#include <string_view>

#include <fcntl.h>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/text.h"

#ifdef REEVE_HAVE_GROUP
#include "cli/group.h"
#include "cli/help_format.h"
#endif
#ifdef REEVE_HAVE_AUDIT
#include "cli/audit.h"
#endif
#ifdef REEVE_HAVE_SIM
#include "cli/sim.h"
#endif

namespace reeve::cli {

void run_with_cell(Line& line, const Body& body) {
    auto cell = find_cell(line.context.state_dir);
    if (!cell) {
        line.code = report(cell.error());
        return;
    }
    line.context.cell = std::move(*cell);
    line.code = body(line.context);
}

void add_form(CLI::App& command, Context& context, Forms forms) {
    if (forms != Forms::kNone) {
        auto* json = command.add_flag("--json", context.json, "JSON with a versioned schema");
        if (forms == Forms::kJsonAndIds) {
            command.add_flag("--parsable", context.parsable, "ids only, one a line")
                ->excludes(json);
        }
    }
    command.add_flag("-q,--quiet", context.quiet, "nothing but what was asked for");
}

namespace {

constexpr const char* kVersion = REEVE_VERSION;

// The words up to `--`, and those behind it where the command runs programs.
void split_command_line(std::vector<std::string>& words, Line& line) {
    const auto dashes = std::find(words.begin(), words.end(), "--");
    if (dashes == words.end()) return;
    for (auto word = words.begin(); word != dashes; ++word) {
        if (*word == "--state-dir") {
            if (++word == dashes) return;
            continue;
        }
        if (word->substr(0, 1) == "-") continue;
        if (*word != "submit" && *word != "run") return;  // the first word names the command
        break;
    }
    line.separated = true;
    line.command.assign(dashes + 1, words.end());
    words.erase(dashes, words.end());
}

const CLI::App* chosen(const CLI::App& root) {
    const CLI::App* at = &root;
    while (true) {
        const auto used = at->get_subcommands();
        if (used.empty()) return at;
        at = used.front();
    }
}

std::string path_of(const CLI::App& root, const CLI::App& command) {
    std::string path = "reeve";
    if (&command != &root) {
        const auto* parent = command.get_parent();
        path = (parent == nullptr ? path : path_of(root, *parent)) + " " + command.get_name();
    }
    return path;
}

// What other schedulers and queues call it.
struct Foreign {
    std::string_view theirs;
    std::string_view ours;
};
constexpr Foreign kForeign[] = {
    {"queue", "ls"},
    {"squeue", "ls"},
    {"qstat", "ls"},
    {"list", "ls"},
    {"jobs", "ls"},
    {"ps", "ls"},
    {"sbatch", "submit"},
    {"qsub", "submit"},
    {"add", "submit"},
    {"srun", "run"},
    {"exec", "run"},
    {"scancel", "cancel"},
    {"qdel", "cancel"},
    {"kill", "cancel"},
    {"rm", "cancel"},
    {"tail", "logs -f"},
    {"cat", "logs"},
    {"output", "logs"},
    {"info", "show"},
    {"scontrol", "show"},
    {"sacct", "history"},
    {"sinfo", "node ls"},
    {"nodes", "node ls"},
    {"start", "up"},
    {"stop", "down"},
    {"--cpus-per-task", "-c"},
    {"--job-name", "--name"},
    {"-J", "--name"},
    {"--dependency", "--after"},
    {"-d", "--after"},
    {"--nodelist", "--node"},
    {"--gres", "--gpus"},
    {"--constraint", "--label"},
    {"--chdir", "--cwd"},
    {"-D", "--cwd"},
    {"-o", "--output"},
    {"-e", "--error"},
    {"-i", "--input"},
};

// "--memm" was not expected: what was probably meant, among what may stand there.
std::string guess_for(const CLI::App& command, const CLI::App& root, const std::string& word) {
    std::vector<std::string> names;
    for (const auto* app : {&command, &root}) {
        for (const auto* option : app->get_options()) {
            for (const auto& name : option->get_lnames()) names.push_back("--" + name);
        }
        if (app != &command) break;  // of the others only the options go everywhere
        for (const auto* sub : app->get_subcommands([](const CLI::App*) { return true; })) {
            names.push_back(sub->get_name());
        }
    }
    const auto bare = word.substr(0, word.find('='));
    const auto* foreign = std::ranges::find(kForeign, bare, &Foreign::theirs);
    if (foreign != std::end(kForeign) &&
        (bare[0] == '-' ? command.get_name() == "submit" || command.get_name() == "run"
                        : &command == &root)) {
        return std::string(foreign->ours);
    }
    return closest(bare, {names.begin(), names.end()});
}

int tell_usage(const CLI::App& root, const CLI::ParseError& problem) {
    const auto& command = *chosen(root);
    std::string what = problem.what();
    while (!what.empty() && (what.back() == '\n' || what.back() == '.')) what.pop_back();
    // CLI11's words, made ours: "jobs is required", "Could not convert: --grace = x",
    // "--interval: Value 0 not in range 0.1 to 3600".
    if (what.ends_with(" is required")) what.replace(what.size() - 12, 12, " is missing");
    if (what.starts_with("Could not convert: ")) {
        const auto equals = what.find(" = ");
        if (equals != std::string::npos) {
            what = what.substr(19, equals - 19) + ": \"" + what.substr(equals + 3) +
                   "\" is not a number";
        }
    }
    if (const auto value = what.find(": Value "); value != std::string::npos) {
        what.erase(value + 2, 6);
        const auto range = what.find(" not in range ");
        if (range != std::string::npos) what.insert(range + 1, "is ");
    }
    std::string cure = "see " + path_of(root, command) + " --help";
    const auto extra = root.remaining(true);
    if (problem.get_name() == "ExtrasError" || !extra.empty()) {
        auto word = extra.empty() ? std::string() : extra.front();
        // What follows an unknown option is not its fault; the option itself is.
        for (const auto& one : extra) {
            if (one.starts_with("-") && one.size() > 1 && one != "--") {
                word = one;
                break;
            }
        }
        if (word.empty()) {
            const auto at = what.rfind(' ');
            if (at != std::string::npos) word = what.substr(at + 1);
        }
        if (!word.empty()) {
            what = "\"" + word + "\" was not expected";
            const auto guess = guess_for(command, root, word);
            if (!guess.empty()) cure = "did you mean " + guess + "? (" + cure + ")";
        }
    }
    if (!what.empty() && what[0] >= 'A' && what[0] <= 'Z' && what.substr(0, 2) != "A ") {
        what[0] = static_cast<char>(what[0] + 32);
    }
    report(Error{ErrorCode::kInvalidArgument, what + "; " + cure});
    return command.get_name() == "run" ? kExitOwnFailure : kExitUsage;
}

void add_own_commands(CLI::App& root, Line& line) {
    auto* version = root.add_subcommand("version", "print the version");
    version->callback([] { write_out(std::string("reeve ") + kVersion + "\n"); });
    auto shell = std::make_shared<std::string>();
    auto* completion = root.add_subcommand("completion", "print a completion script");
    completion->add_option("shell", *shell, "bash, zsh or fish")
        ->required()
        ->check(CLI::IsMember({"bash", "zsh", "fish"}));
    completion->callback([&root, &line, shell] { line.code = print_completion(root, *shell); });
}

// Counts are not negative (CLI11 would wrap them), and some of them not 0 either.
void check_counts(CLI::App& app) {
    for (auto* option : app.get_options()) {
        const auto name = option->get_single_name();
        const bool some = name == "limit" || name.ends_with("-slots");
        const bool number = option->get_type_name() == "UINT" || name == "attempt";
        if (!number && !some) continue;
        option->check([some](const std::string& text) {
            if (text.starts_with("-")) {
                return "\"" + text + "\" is negative; write " + (some ? "1" : "0") + " or more";
            }
            const bool zero = !text.empty() && text.find_first_not_of('0') == std::string::npos;
            return some && zero ? std::string("0 is too few; write 1 or more") : std::string();
        });
    }
    for (auto* sub : app.get_subcommands([](const CLI::App*) { return true; })) check_counts(*sub);
}

void add_all(CLI::App& root, Line& line) {
    root.fallthrough();
    root.require_subcommand(0, 1);
    root.add_option("--state-dir", line.context.state_dir,
                    "the cell (default: $REEVE_STATE_DIR, else ~/.local/state/reeve)")
        ->type_name("DIR")
        ->check([](const std::string& text) {
            return text.empty() ? std::string("is empty; name a directory") : std::string();
        });
    root.set_version_flag("--version", std::string("reeve ") + kVersion, "print the version");
#ifdef REEVE_HAVE_GROUP
    add_group_commands(root, line.context.state_dir, line.code);
#endif
    add_submit_commands(root, line);
    add_act_commands(root, line);
    add_look_commands(root, line);
    add_node_commands(root, line);
#ifdef REEVE_HAVE_AUDIT
    add_audit_commands(root, line.context.state_dir, line.code);
#endif
#ifdef REEVE_HAVE_SIM
    add_sim_commands(root, line);
#endif
    add_role_commands(root, line);
    add_own_commands(root, line);
    check_counts(root);
}

std::vector<std::string> words_of(int argc, char** argv) {
    std::vector<std::string> words(argv + 1, argv + argc);
    const std::string_view program = argc > 0 ? argv[0] : "";
    if (program.substr(program.find_last_of('/') + 1) == "shm-dump") {
        words.insert(words.begin(), {"shm", "dump"});
    }
    return words;
}

int run_line(int argc, char** argv) {
    Line line;
    CLI::App root("reeve queues work, runs it, and keeps a record that can be checked.", "reeve");
    root.formatter(std::make_shared<HelpFormat>());
    root.set_help_flag("-h,--help", "print this page");
    add_all(root, line);
    auto words = words_of(argc, argv);
    split_command_line(words, line);
    if (words.empty()) {
        write_out(root.help());
        return finish(kExitUsage);
    }
    std::reverse(words.begin(), words.end());
    try {
        root.parse(words);
    } catch (const CLI::Success& asked) {
        std::ostringstream out;
        const int code = root.exit(asked, out, out);
        write_out(out.str());
        return finish(code);
    } catch (const CLI::ParseError& problem) {
        return tell_usage(root, problem);
    }
    if (root.get_subcommands().empty()) {
        return report(Error{ErrorCode::kInvalidArgument, "no command given; see reeve --help"});
    }
    return finish(line.code);
}

// A file opened in the place of a closed stdin, stdout or stderr would be taken for it. What stands
// there instead refuses to be written.
void hold_standard_descriptors() {
    for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
        if (fcntl(fd, F_GETFD) == -1) (void)open("/dev/null", O_RDONLY);
    }
}

}  // namespace

}  // namespace reeve::cli

int main(int argc, char** argv) {
    reeve::cli::hold_standard_descriptors();
    // A closed pipe ends us by an error of write(), which every command checks.
    std::signal(SIGPIPE, SIG_IGN);
    try {
        return reeve::cli::run_line(argc, argv);
    } catch (const std::exception& problem) {
        std::fprintf(stderr, "reeve: internal error: %s; please report it\n", problem.what());
        return reeve::cli::kExitInternal;
    }
}
