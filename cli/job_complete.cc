// The second half of job_draft.h: splitting commands, filling in what is open, looking at the disk.
#include "cli/job_draft.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iterator>

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "cli/json_writer.h"
#include "cli/text.h"
#include "common/base/clock.h"

namespace reeve::cli {

namespace {

tl::unexpected<Error> bad(std::string message) {
    return fail(ErrorCode::kInvalidArgument, std::move(message));
}

constexpr const char* kDefaultVariable = "REEVE_VALUE";
// What a task is given of the submitter's environment unless --env says otherwise.
constexpr std::array<const char*, 8> kInherited{"PATH",  "HOME", "USER",   "LOGNAME",
                                                "SHELL", "LANG", "LC_ALL", "TZ"};

bool starts_expansion(std::string_view text, std::size_t at) {
    if (text[at] != '$' || at + 1 >= text.size()) return false;
    const char next = text[at + 1];
    return (next >= 'a' && next <= 'z') || (next >= 'A' && next <= 'Z') || next == '_' ||
           next == '{' || next == '(';
}

tl::unexpected<Error> needs_shell(std::string_view sign) {
    return bad("the command holds " + std::string(sign) +
               ", which only a shell understands; add \"shell\": true, or quote it to pass it on");
}

}  // namespace

Result<std::vector<std::string>> split_command(std::string_view text) {
    std::vector<std::string> words;
    std::string word;
    bool in_word = false;
    char quote = '\0';
    for (std::size_t at = 0; at < text.size(); ++at) {
        const char c = text[at];
        if (quote == '\'') {
            if (c == '\'') {
                quote = '\0';
            } else {
                word += c;
            }
            continue;
        }
        if (c == '\\') {
            if (at + 1 >= text.size()) return bad("the command ends in a backslash; remove it");
            const char next = text[++at];
            const bool kept = quote == '"' && std::strchr("\"\\$`", next) == nullptr;
            if (kept) word += c;
            word += next;
            in_word = true;
            continue;
        }
        if (c == '`' || starts_expansion(text, at)) return needs_shell(c == '`' ? "`" : "$");
        if (quote == '"') {
            if (c == '"') {
                quote = '\0';
            } else {
                word += c;
            }
            continue;
        }
        if (c == '\'' || c == '"') {
            quote = c;
            in_word = true;
        } else if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
            if (in_word) words.push_back(std::move(word));
            word.clear();
            in_word = false;
        } else if (std::strchr("|&;<>", c) != nullptr && c != '\0') {
            return needs_shell(std::string(1, c));
        } else {
            word += c;
            in_word = true;
        }
    }
    if (quote != '\0') return bad(std::string("a quote ") + quote + " is not closed; close it");
    if (in_word) words.push_back(std::move(word));
    if (words.empty()) return bad("the command is empty; write the program to run");
    return words;
}

Surroundings here() {
    Surroundings out;
    std::array<char, 4096> buffer{};
    if (getcwd(buffer.data(), buffer.size()) != nullptr) out.cwd = buffer.data();
    out.getenv = [](const char* name) -> const char* { return std::getenv(name); };
    out.now_ms = wall_ns() / kMillisecond;
    return out;
}

namespace {

std::string braces_of(const JobDraft& draft) {
    const auto& variable = draft.spec.task().element_variable();
    return draft.parameter ? "{" + variable + "}" : "{}";
}

// `exec 'cp' "$REEVE_VALUE" '/out/'`: the value is one word whatever it holds.
std::string exec_line(const v1::TaskSpec& task, const std::string& braces) {
    std::string line = "exec";
    for (const auto& word : task.argv()) {
        line += ' ';
        std::size_t at = 0;
        std::string quoted_word;
        while (true) {
            const auto found = word.find(braces, at);
            const auto piece = word.substr(at, found - at);
            if (!piece.empty()) quoted_word += shell_quote(piece);
            if (found == std::string::npos) break;
            quoted_word += "\"$" + task.element_variable() + "\"";
            at = found + braces.size();
        }
        line += quoted_word.empty() ? "''" : quoted_word;
    }
    return line;
}

Status shape_command(JobDraft& draft) {
    auto* task = draft.spec.mutable_task();
    if (task->argv().empty()) {
        return bad("there is no command; write one after --, like: reeve submit -- echo hello");
    }
    if (draft.shell) {
        std::string line;
        for (const auto& word : task->argv()) line += (line.empty() ? "" : " ") + word;
        task->clear_argv();
        task->add_argv("/bin/sh");
        task->add_argv("-c");
        task->add_argv(line);
    } else if (uses_element_value(draft)) {
        const auto line = exec_line(*task, braces_of(draft));
        task->clear_argv();
        task->add_argv("/bin/sh");
        task->add_argv("-c");
        task->add_argv(line);
    }
    if (task->argv_size() > kArgumentsMax) {
        return bad("the command has more than 16384 words; put them into a file");
    }
    std::size_t total = 0;
    for (const auto& word : task->argv()) {
        if (word.find('\0') != std::string::npos) {
            return bad("the command holds a NUL byte; remove it");
        }
        total += word.size() + 1;
    }
    for (const auto& variable : task->env()) {
        total += variable.name().size() + variable.value().size() + 2;
    }
    if (total > kCommandBytesMax) {
        return bad("command and environment are larger than 128 KiB; put them into a file");
    }
    if (task->argv(0).empty()) return bad("the program's name is empty; write the program to run");
    return {};
}

std::string base_name(const std::string& path) {
    const auto slash = path.find_last_of('/');
    return slash == std::string::npos || slash + 1 == path.size() ? path : path.substr(slash + 1);
}

Status check_name(const std::string& name) {
    if (name.size() > kJobNameMax) return bad("the name is longer than 255 bytes; shorten it");
    for (const char c : name) {
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
            return bad("the name \"" + escape(name.substr(0, 60)) +
                       "\" holds a control character; write it on one line without tabs");
        }
    }
    return {};
}

// Relative paths are meant from the task's working directory.
void anchor(std::string& path, const std::string& cwd) {
    if (path.empty() || path == "none" || path[0] == '/' || path.substr(0, 6) == "%{CWD}") return;
    path = (cwd.find('%') == std::string::npos ? cwd : "%{CWD}") + "/" + path;
}

void inherit_environment(v1::TaskSpec& task, const Surroundings& surroundings) {
    const auto given = task.env();
    task.clear_env();
    for (const char* name : kInherited) {
        const bool overridden = std::any_of(
            given.begin(), given.end(), [name](const auto& entry) { return entry.name() == name; });
        const char* value = surroundings.getenv(name);
        // Not asked for by name, so one that cannot be told is left out.
        if (overridden || value == nullptr || !is_utf8(value)) continue;
        auto* entry = task.add_env();
        entry->set_name(name);
        entry->set_value(value);
    }
    for (const auto& entry : given) *task.add_env() = entry;
}

// A gang of N is an array of elements 0 to N-1.
Status complete_gang(v1::JobSpec& spec) {
    if (spec.nodes() <= 1) {
        spec.clear_nodes();
        return {};
    }
    if (!spec.elements().empty() || spec.element_values_size() > 0) {
        return bad("nodes: a gang is no array; leave out --nodes, or the array and its values");
    }
    spec.add_elements()->set_last(spec.nodes() - 1);
    return {};
}

Status complete_elements(v1::JobSpec& spec) {
    const auto values = static_cast<std::uint64_t>(spec.element_values_size());
    if (values == 0) return {};
    if (spec.elements().empty()) {
        auto* all = spec.add_elements();
        all->set_first(1);
        all->set_last(values);
    } else if (elements_of(spec) != values) {
        return bad("the array has " + std::to_string(elements_of(spec)) + " elements but there " +
                   (values == 1 ? "is 1 value" : "are " + std::to_string(values) + " values") +
                   "; leave the array out or make them equal");
    }
    return {};
}

}  // namespace

bool uses_element_value(const JobDraft& draft) {
    if (draft.spec.element_values().empty() || draft.shell) return false;
    const auto braces = braces_of(draft);
    const auto& argv = draft.spec.task().argv();
    return std::any_of(argv.begin(), argv.end(), [&](const std::string& word) {
        return word.find(braces) != std::string::npos;
    });
}

namespace {

// A function has no command, files or environment; what an array varies is its data.
Status complete_function(JobDraft& draft) {
    auto& spec = draft.spec;
    auto* task = spec.mutable_task();
    if (spec.nodes() > 1) return bad("nodes: functions run alone; leave --nodes out");
    if (!task->argv().empty()) {
        return bad("a function and a command are both given; give one of them");
    }
    if (!task->env().empty() || !task->input().empty() || !task->stdin_data().empty()) {
        return bad("a function takes neither --env nor --input; use --data or --data-file");
    }
    if (spec.element_values_size() > 0 && !task->data().empty()) {
        return bad("--data does not go with --each-line or --param; the lines are the data");
    }
    REEVE_TRY(complete_elements(spec));
    for (auto& value : *spec.mutable_element_values()) {
        spec.add_element_data(std::move(value));
    }
    spec.clear_element_values();
    task->clear_element_variable();
    if (task->name().empty())
        task->set_name(spec.label().empty() ? task->function() : spec.label());
    return check_name(task->name());
}

}  // namespace

Status complete(JobDraft& draft, const Surroundings& surroundings) {
    auto& spec = draft.spec;
    auto* task = spec.mutable_task();
    if (!task->function().empty()) return complete_function(draft);
    if (!task->data().empty()) {
        return bad("--data goes to a function; name it with --function");
    }
    if (!spec.element_values().empty() && task->element_variable().empty()) {
        task->set_element_variable(kDefaultVariable);
    }
    if (task->name().empty() && !task->argv().empty()) {
        // `sh -c 'sort a | uniq'` is named after sort, not after the shell.
        const auto first = task->argv(0).substr(0, task->argv(0).find_first_of(" \t\n"));
        std::string name = spec.label().empty() ? base_name(first) : spec.label();
        if (!check_name(name)) name = "job";
        task->set_name(name);
    }
    REEVE_TRY(check_name(task->name()));
    REEVE_TRY(shape_command(draft));
    REEVE_TRY(complete_gang(spec));
    REEVE_TRY(complete_elements(spec));
    if (task->resources().cpu_milli() == 0) task->mutable_resources()->set_cpu_milli(1000);
    if (task->cwd().empty()) task->set_cwd(surroundings.cwd);
    if (task->cwd().empty()) return bad("the current directory is gone; give --cwd DIR");
    if (task->cwd()[0] != '/') task->set_cwd(surroundings.cwd + "/" + task->cwd());
    if (task->cwd().find("%{CWD}") != std::string::npos) {
        return bad("cwd: %{CWD} cannot be part of itself; write the directory");
    }
    anchor(*task->mutable_input(), task->cwd());
    anchor(*task->mutable_output(), task->cwd());
    anchor(*task->mutable_error(), task->cwd());
    inherit_environment(*task, surroundings);
    return {};
}

Status check_text(const v1::JobSpec& spec) {
    const auto& task = spec.task();
    const auto checked = [](const std::string& field, const std::string& text) -> Status {
        if (is_utf8(text)) return {};
        return bad(field + " holds bytes that are not UTF-8: " + escape(text.substr(0, 80)) +
                   "; only file contents and --data may, rename it or pass it in a file");
    };
    for (const auto& word : task.argv()) REEVE_TRY(checked("the command", word));
    for (const auto& variable : task.env()) {
        REEVE_TRY(checked("--env", variable.name()));
        REEVE_TRY(checked("--env " + variable.name(), variable.value()));
    }
    REEVE_TRY(checked("--cwd", task.cwd()));
    REEVE_TRY(checked("--input", task.input()));
    REEVE_TRY(checked("--output", task.output()));
    REEVE_TRY(checked("--error", task.error()));
    REEVE_TRY(checked("--name", task.name()));
    REEVE_TRY(checked("--function", task.function()));
    REEVE_TRY(checked("--param", task.element_variable()));
    const bool parameter = task.element_variable() != kDefaultVariable;
    for (const auto& value : spec.element_values()) {
        REEVE_TRY(checked(parameter ? "--param" : "--each-line", value));
    }
    for (const auto& dependency : spec.after()) REEVE_TRY(checked("--after", dependency.label()));
    REEVE_TRY(checked("--label", spec.label()));
    REEVE_TRY(checked("--key", spec.key()));
    return checked("--node", spec.node_name());
}

namespace {

constexpr const char* kNoCheck = ", or pass --no-check when it exists only where the task runs";

bool is_directory(const std::string& path) {
    struct stat about {};
    return stat(path.c_str(), &about) == 0 && S_ISDIR(about.st_mode);
}

Status check_program(const v1::TaskSpec& task) {
    const std::string& program = task.argv(0);
    if (program.find('%') != std::string::npos || task.cwd().find('%') != std::string::npos) {
        return {};
    }
    const auto runnable = [](const std::string& path) {
        return access(path.c_str(), X_OK) == 0 && !is_directory(path);
    };
    if (program.find('/') != std::string::npos) {
        const auto path = program[0] == '/' ? program : task.cwd() + "/" + program;
        if (runnable(path)) return {};
        if (access(path.c_str(), F_OK) != 0) {
            return bad("command: " + path + " does not exist; correct the path" + kNoCheck);
        }
        return bad("command: " + path +
                   (is_directory(path) ? " is a directory; name a program"
                                       : " is not executable; chmod +x it") +
                   kNoCheck);
    }
    std::string search = "/usr/local/bin:/usr/bin:/bin";
    for (const auto& variable : task.env()) {
        if (variable.name() == "PATH") search = variable.value();
    }
    for (std::size_t at = 0; at <= search.size();) {
        const auto colon = std::min(search.find(':', at), search.size());
        auto directory = search.substr(at, colon - at);
        if (directory.empty()) directory = task.cwd();
        if (directory[0] != '/') directory = task.cwd() + "/" + directory;
        if (runnable(directory + "/" + program)) return {};
        at = colon + 1;
    }
    const bool beside = access((task.cwd() + "/" + program).c_str(), F_OK) == 0;
    return bad("command: there is no program " + shell_quote(program) + " in PATH; " +
               (beside ? "write ./" + program + " for the file in the working directory"
                : program.find(' ') != std::string::npos
                    ? "for a line of shell add --shell; else check its name"
                    : "check its name or write its full path") +
               kNoCheck);
}

// A file system of the kernel's own, where nobody can make a file, whatever its modes say.
bool takes_no_files(const std::string& directory) {
    struct statfs about {};
    if (statfs(directory.c_str(), &about) != 0) return false;
    constexpr long kKernels[] = {PROC_SUPER_MAGIC,    SYSFS_MAGIC,   CGROUP_SUPER_MAGIC,
                                 CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC, SECURITYFS_MAGIC,
                                 DEVPTS_SUPER_MAGIC,  TRACEFS_MAGIC};
    return std::find(std::begin(kKernels), std::end(kKernels), about.f_type) != std::end(kKernels);
}

// The part of a path that is there or has to be made: up to the first placeholder.
Status check_output(const char* field, const std::string& path, const std::string& cwd) {
    if (path.empty() || path == "none") return {};
    std::string fixed = path;
    if (fixed.substr(0, 6) == "%{CWD}") fixed = cwd + fixed.substr(6);
    const auto placeholder = fixed.find('%');
    const bool whole = placeholder == std::string::npos;
    if (!whole) fixed = fixed.substr(0, fixed.find_last_of('/', placeholder) + 1);
    if (whole && is_directory(fixed)) {
        return bad(std::string(field) + ": " + path + " is a directory; name a file in it");
    }
    if (whole && access(fixed.c_str(), F_OK) == 0) {
        if (access(fixed.c_str(), W_OK) == 0) return {};
        return bad(std::string(field) + ": " + path + " cannot be written: " +
                   std::strerror(errno) + "; choose another file" + kNoCheck);
    }
    // The nearest directory that exists has to let us make the rest.
    std::string above = fixed;
    while (above.size() > 1) {
        above = above.substr(0, std::max<std::size_t>(above.find_last_of('/'), 1));
        if (access(above.c_str(), F_OK) == 0 || errno == ENOTDIR) break;
    }
    const bool kernels = takes_no_files(above);
    if (!kernels && is_directory(above) && access(above.c_str(), W_OK | X_OK) == 0) return {};
    const int error = !is_directory(above) ? ENOTDIR : kernels ? EPERM : errno;
    return bad(std::string(field) + ": " + path + " cannot be made in " + above + ": " +
               std::strerror(error) + "; choose another place" + kNoCheck);
}

}  // namespace

Status check(const v1::JobSpec& spec) {
    const auto& task = spec.task();
    if (!task.function().empty()) return {};
    const bool fixed_cwd = task.cwd().find('%') == std::string::npos;
    if (fixed_cwd && !is_directory(task.cwd())) {
        return bad("cwd: " + task.cwd() + " is not a directory; make it" + kNoCheck);
    }
    REEVE_TRY(check_program(task));
    const auto& input = task.input();
    if (!input.empty() && input != "none" && input.find('%') == std::string::npos &&
        (access(input.c_str(), R_OK) != 0 || is_directory(input))) {
        return bad("input: " + input + " cannot be read: " +
                   (is_directory(input) ? "it is a directory" : std::strerror(errno)) +
                   "; correct the path" + kNoCheck);
    }
    REEVE_TRY(check_output("output", task.output(), task.cwd()));
    return check_output("error", task.error(), task.cwd());
}

}  // namespace reeve::cli
