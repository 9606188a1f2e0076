// The local half of submit.h: which words are a command, a script or a file, and what they ask for.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>
#include <string_view>

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/job_file.h"
#include "cli/submit.h"
#include "cli/text.h"
#include "cli/units.h"

namespace reeve::cli {

namespace {

constexpr std::size_t kProductMax = 65'536;
constexpr std::size_t kDirectiveLinesMax = 200;
constexpr std::size_t kStdinMax = 768U
                                  << 10;  // with command and environment below the 1M of a task
constexpr int kStdinLateMs = 2'000;

tl::unexpected<Error> bad(std::string message) {
    return fail(ErrorCode::kInvalidArgument, std::move(message));
}

// A file, or stdin for "-", up to `most` bytes.
Result<std::string> read_input(const std::string& path, std::size_t most,
                               const char* cure = "split it") {
    const bool standard = path == "-";
    const std::string name = standard ? "stdin" : path;
    const int fd = standard ? STDIN_FILENO : open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return bad(name + " cannot be read: " + std::strerror(errno) + "; correct the path");
    }
    std::string out;
    std::string chunk(1 << 16, '\0');
    Status problem;
    while (true) {
        const auto got = read(fd, chunk.data(), chunk.size());
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            problem = bad(name + " cannot be read: " + std::strerror(errno) + "; correct the path");
        }
        if (got <= 0) break;
        out.append(chunk, 0, static_cast<std::size_t>(got));
        if (out.size() > most) {
            problem = bad(name + " is larger than " + format_bytes(most) + "; " + cure);
            break;
        }
    }
    if (!standard) close(fd);
    if (!problem) return fail(problem.error());
    return out;
}

bool is_json(const std::string& path, const std::string& text) {
    const auto dot = path.find_last_of('.');
    if (dot != std::string::npos && path.substr(dot) == ".json") return true;
    const auto first = text.find_first_not_of(" \t\r\n");
    return first != std::string::npos && (text[first] == '{' || text[first] == '[') &&
           text.substr(0, 2) != "#!";
}

std::string flag_of(const OptionRule& rule) {
    const std::string flags = rule.flags;
    return flags.substr(flags.rfind(',') == std::string::npos ? 0 : flags.rfind(',') + 1);
}

Status apply_options(JobDraft& draft, const SubmitOptions& options) {
    for (const auto& [rule, text] : options.values) {
        if (auto set = rule->set(draft, text); !set) {
            return bad(flag_of(*rule) + ": " + set.error().message);
        }
    }
    for (const auto& entry : options.environment) {
        if (auto added = add_environment(draft, entry); !added) {
            return bad("--env: " + added.error().message);
        }
    }
    return {};
}

// How a script is started: by itself where it can be, else by its #! line, else by /bin/sh.
Status script_command(JobDraft& draft, const std::string& path, const std::string& text,
                      const std::vector<std::string>& arguments) {
    auto* task = draft.spec.mutable_task();
    std::string absolute = path[0] == '/' ? path : here().cwd + "/" + path;
    const bool marked = text.substr(0, 2) == "#!";
    if (!marked) {
        task->add_argv("/bin/sh");
    } else if (access(absolute.c_str(), X_OK) != 0) {
        const auto line = text.substr(
            2, text.find('\n') == std::string::npos ? std::string::npos : text.find('\n') - 2);
        auto words = split_command(line);
        if (!words) return bad(path + ": the #! line: " + words.error().message);
        for (auto& word : *words) task->add_argv(std::move(word));
    }
    task->add_argv(absolute);
    for (const auto& word : arguments) task->add_argv(word);
    if (task->name().empty()) {
        const auto slash = path.find_last_of('/');
        task->set_name(slash == std::string::npos ? path : path.substr(slash + 1));
    }
    return {};
}

Status script_from_stdin(JobDraft& draft, const std::string& text,
                         const std::vector<std::string>& arguments) {
    auto* task = draft.spec.mutable_task();
    std::vector<std::string> words{"/bin/sh"};
    if (text.substr(0, 2) == "#!") {
        REEVE_TRY_ASSIGN(words, split_command(text.substr(2, text.find('\n') - 2)));
    }
    for (auto& word : words) task->add_argv(std::move(word));
    if (!arguments.empty()) task->add_argv("-s");
    for (const auto& word : arguments) task->add_argv(word);
    task->set_stdin_data(text);
    if (task->name().empty()) task->set_name("stdin");
    return {};
}

Result<std::vector<std::string>> read_lines(const std::string& path) {
    REEVE_TRY_ASSIGN(const auto text, read_input(path, kJsonBytesMax));
    std::vector<std::string> lines;
    std::size_t number = 0;
    for (std::size_t at = 0; at < text.size();) {
        const auto end = std::min(text.find('\n', at), text.size());
        auto line = text.substr(at, end - at);
        ++number;
        if (!line.empty() && line.back() == '\r') line.pop_back();
        const bool nul = line.find('\0') != std::string::npos;
        if (nul || line.size() > kCommandBytesMax) {
            return bad(
                "--each-line: " + path + ", line " + std::to_string(number) +
                (nul ? " holds a NUL byte; remove it" : " has more than 128 KiB; shorten it"));
        }
        if (!line.empty()) lines.push_back(std::move(line));
        at = end + 1;
    }
    if (lines.empty()) return bad("--each-line: " + path + " has no lines; write one per task");
    return lines;
}

// A pipe that says nothing for a while may never end, and nobody would know what is waited for.
void tell_waiting_for_stdin() {
    pollfd entry{STDIN_FILENO, POLLIN, 0};
    if (poll(&entry, 1, kStdinLateMs) != 0) return;
    warn("waiting for the end of stdin, which the task is given; to give it none: < /dev/null");
}

// `--input -`, and what is piped into `run`: the stored input of the task.
Status take_stdin(JobDraft& draft, const SubmitOptions& options) {
    auto* task = draft.spec.mutable_task();
    const bool asked = task->input() == "-";
    const bool used =
        options.each_line == "-" || (!options.words.empty() && options.words[0] == "-");
    if (asked && used) return bad("--input: stdin is read already; write the input to a file");
    const bool forward =
        options.forward_stdin && !used && task->input().empty() && task->function().empty();
    if (!asked && !forward) return {};
    task->clear_input();
    tell_waiting_for_stdin();
    REEVE_TRY_ASSIGN(auto text, read_input("-", kStdinMax,
                                           "write it to a file and name that with --input FILE"));
    task->set_stdin_data(std::move(text));
    return {};
}

struct Parameter {
    std::string name;
    std::vector<std::string> values;
};

Result<Parameter> parse_parameter(const std::string& text) {
    const auto equals = text.find('=');
    if (equals == std::string::npos || equals == 0) {
        return bad("--param: \"" + text.substr(0, 80) + "\" has no values; write NAME=a,b,c");
    }
    Parameter out;
    out.name = text.substr(0, equals);
    std::string_view rest = std::string_view(text).substr(equals + 1);
    while (true) {
        const auto comma = rest.find(',');
        out.values.emplace_back(rest.substr(0, comma));
        if (comma == std::string_view::npos) return out;
        rest.remove_prefix(comma + 1);
    }
}

// One parameter makes an array whose elements see it; several make a job for each combination.
Result<std::vector<JobDraft>> apply_parameters(const JobDraft& draft,
                                               const std::vector<std::string>& texts) {
    std::vector<Parameter> parameters;
    std::set<std::string> names;
    std::size_t product = 1;
    for (const auto& text : texts) {
        REEVE_TRY_ASSIGN(auto parameter, parse_parameter(text));
        if (!names.insert(parameter.name).second) {
            return bad("--param: " + parameter.name +
                       " is given twice; join the values with commas");
        }
        product *= parameter.values.size();
        if (parameters.size() + 1 < texts.size() && product > kProductMax) {
            return bad("--param: more than 65536 combinations; submit them in parts");
        }
        parameters.push_back(std::move(parameter));
    }
    if (parameters.size() == 1) {
        JobDraft array = draft;
        array.parameter = true;
        if (auto set = set_element_values(array, parameters[0].name, parameters[0].values); !set) {
            return bad("--param: " + set.error().message);
        }
        return std::vector<JobDraft>{std::move(array)};
    }
    if (product > kProductMax) {
        return bad("--param: more than 65536 combinations; submit them in parts");
    }
    std::vector<JobDraft> out;
    for (std::size_t index = 0; index < product; ++index) {
        JobDraft one = draft;
        std::size_t rest = index;
        for (auto at = parameters.rbegin(); at != parameters.rend(); ++at) {
            const auto& value = at->values[rest % at->values.size()];
            rest /= at->values.size();
            if (auto added = add_environment(one, at->name + "=" + value); !added) {
                return bad("--param: " + added.error().message);
            }
            const auto braces = "{" + at->name + "}";
            for (auto& word : *one.spec.mutable_task()->mutable_argv()) {
                for (auto found = word.find(braces); found != std::string::npos;
                     found = word.find(braces, found + value.size())) {
                    word.replace(found, braces.size(), value);
                }
            }
        }
        out.push_back(std::move(one));
    }
    return out;
}

Result<std::vector<JobDraft>> from_file(const SubmitOptions& options, const std::string& path,
                                        const std::string& text) {
    std::string key;
    for (const auto& [rule, value] : options.values) {
        if (std::string_view(rule->field) == "key") {
            key = value;
            continue;
        }
        return bad(flag_of(*rule) + " does not go with a job file; write \"" + rule->field +
                   "\" into " + path);
    }
    if (!options.environment.empty() || !options.parameters.empty() || !options.each_line.empty() ||
        !options.command.empty() || options.words.size() > 1) {
        return bad("a job file takes no command, --env, --param or --each-line; write them into " +
                   path);
    }
    auto drafts = parse_job_file(text);
    if (!drafts) return bad(path + ": " + drafts.error().message);
    for (std::size_t i = 0; i < drafts->size() && !key.empty(); ++i) {
        auto& spec = (*drafts)[i].spec;
        if (!spec.key().empty()) continue;
        spec.set_key(key_of_draft(key, i, drafts->size()));
    }
    return drafts;
}

// A job given by words waits for jobs by their ids; labels are names within a job file.
Status check_dependencies(const v1::JobSpec& spec) {
    for (const auto& dependency : spec.after()) {
        const auto& word = dependency.label();
        if (word.empty() || word[0] == '@') continue;
        const auto dot = word.find('.');
        const bool element = dot != std::string::npos && dot > 0 &&
                             word.find_first_not_of("0123456789.-") == std::string::npos;
        return bad(
            "--after: " + shell_quote(word) +
            (element ? " names elements, and jobs wait for whole jobs; write " + word.substr(0, dot)
                     : " is no job id; write for example 12, afterany:13 or @"));
    }
    return {};
}

Result<std::vector<JobDraft>> from_words(const SubmitOptions& options) {
    JobDraft draft;
    REEVE_TRY(apply_options(draft, options));
    if (!options.words.empty()) {
        const auto& path = options.words[0];
        auto arguments = options.words;
        arguments.erase(arguments.begin());
        arguments.insert(arguments.end(), options.command.begin(), options.command.end());
        struct stat about {};
        if (path != "-" && stat(path.c_str(), &about) != 0) {
            const bool line = options.words.size() == 1 && path.find(' ') != std::string::npos;
            return bad("there is no file " + shell_quote(path) + "; to run a " +
                       (line ? "line of shell write it after --, like: reeve submit --shell -- "
                             : "program write it after --, like: reeve submit -- ") +
                       shell_join(options.words));
        }
        if (path != "-" && S_ISDIR(about.st_mode)) {
            return bad(path + " is a directory; name a script or a job file");
        }
        REEVE_TRY_ASSIGN(const auto text, read_input(path, kJsonBytesMax));
        if (text.find_first_not_of(" \t\r\n") == std::string::npos) {
            return bad((path == "-" ? std::string("stdin") : path) +
                       " is empty; write a script, or a job like {\"command\": \"echo hello\"}");
        }
        if (is_json(path, text)) return from_file(options, path == "-" ? "stdin" : path, text);
        if (path == "-") {
            REEVE_TRY(script_from_stdin(draft, text, arguments));
        } else {
            REEVE_TRY(script_command(draft, path, text, arguments));
        }
    } else {
        for (const auto& word : options.command) draft.spec.mutable_task()->add_argv(word);
    }
    REEVE_TRY(check_dependencies(draft.spec));
    REEVE_TRY(take_stdin(draft, options));
    if (!options.each_line.empty() && !options.parameters.empty()) {
        return bad("--each-line and --param do not go together; use one of them");
    }
    if (!options.each_line.empty()) {
        REEVE_TRY_ASSIGN(auto lines, read_lines(options.each_line));
        if (auto set = set_element_values(draft, "REEVE_VALUE", std::move(lines)); !set) {
            return fail(Error(set.error()).with("--each-line"));
        }
    }
    if (!options.parameters.empty()) return apply_parameters(draft, options.parameters);
    return std::vector<JobDraft>{std::move(draft)};
}

// "jobs.json: ", or nothing when the job was not read from a file.
std::string file_of(const SubmitOptions& options) {
    if (options.words.empty()) return "";
    return (options.words[0] == "-" ? std::string("stdin") : options.words[0]) + ": ";
}

}  // namespace

Result<std::vector<std::string>> script_directives(const std::string& text) {
    std::vector<std::string> words;
    std::size_t at = 0;
    for (std::size_t line_number = 1; at < text.size() && line_number <= kDirectiveLinesMax;
         ++line_number) {
        const auto end = std::min(text.find('\n', at), text.size());
        const auto line = text.substr(at, end - at);
        at = end + 1;
        if (line.empty() || line[0] != '#') {
            if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
            break;  // the first command ends the directives
        }
        if (line.substr(0, 6) != "#REEVE" || (line.size() > 6 && line[6] != ' ')) continue;
        if (line.find_first_not_of(" \t\r", 6) == std::string::npos) continue;
        auto found = split_command(line.substr(6));
        if (!found) {
            return bad("line " + std::to_string(line_number) + ": " + found.error().message);
        }
        words.insert(words.end(), found->begin(), found->end());
    }
    return words;
}

Result<std::vector<std::string>> directives_for(const SubmitOptions& options) {
    if (options.words.empty() || options.words[0] == "-") return std::vector<std::string>{};
    const auto& path = options.words[0];
    struct stat about {};
    if (stat(path.c_str(), &about) != 0 || !S_ISREG(about.st_mode)) {
        return std::vector<std::string>{};
    }
    REEVE_TRY_ASSIGN(const auto text, read_input(path, kJsonBytesMax));
    if (is_json(path, text)) return std::vector<std::string>{};
    auto words = script_directives(text);
    if (!words) return bad(path + ": " + words.error().message);
    return words;
}

Result<std::vector<JobDraft>> prepare(const SubmitOptions& options,
                                      std::vector<std::string>& warnings) {
    REEVE_TRY_ASSIGN(auto drafts, from_words(options));
    const auto surroundings = here();
    std::set<std::string> told;
    for (std::size_t i = 0; i < drafts.size(); ++i) {
        auto& draft = drafts[i];
        const auto& label = draft.spec.label();
        const auto place = drafts.size() == 1 ? file_of(options)
                           : label.empty() ? file_of(options) + "jobs[" + std::to_string(i) + "]: "
                                           : file_of(options) + "job \"" + label + "\": ";
        if (auto done = complete(draft, surroundings); !done) {
            return bad(place + done.error().message);
        }
        if (auto text = check_text(draft.spec); !text) return bad(place + text.error().message);
        if (options.check) {
            if (auto checked = check(draft.spec); !checked) {
                return bad(place + checked.error().message);
            }
        }
        for (auto& warning : placeholder_warnings(draft.spec)) {
            if (told.insert(warning).second) warnings.push_back(std::move(warning));
        }
    }
    return drafts;
}

Status check_named_once(const std::vector<std::pair<const OptionRule*, std::string>>& values) {
    std::set<std::pair<std::string_view, std::string_view>> named;
    for (const auto& [rule, text] : values) {
        const std::string_view flag(rule->flags);
        if (flag != "--resource" && flag != "--limit") continue;
        for (std::string_view rest = text; !rest.empty();) {
            const auto one = rest.substr(0, rest.find(','));
            const auto name = one.substr(0, one.find_first_of("=:"));
            if (!name.empty() && !named.emplace(flag, name).second) {
                return bad(std::string(flag) + ": " + std::string(name.substr(0, 80)) +
                           " is named twice; write one number");
            }
            rest.remove_prefix(std::min(one.size() + 1, rest.size()));
        }
    }
    return {};
}

namespace {

struct PathUse {
    bool element = false;    // another path for each element
    bool directory = false;  // holds the working directory
};

// What stands in a path; unknown placeholders are told.
PathUse look_at_path(const char* field, const std::string& path, std::vector<std::string>& out) {
    const std::set<std::string_view> words{"JOB_ID", "TASK_ID", "ATTEMPT", "CWD", "INSTANCE_ID"};
    const std::string_view letters = "jaAxuN%";
    PathUse use;
    for (std::size_t at = 0; (at = path.find('%', at)) != std::string::npos;) {
        const auto rest = std::string_view(path).substr(at + 1);
        std::optional<std::string> unknown;
        if (rest.substr(0, 1) == "{") {
            const auto word = rest.substr(1, rest.find('}') - 1);
            use.element |= word == "TASK_ID";
            use.directory |= word == "CWD";
            if (words.count(word) == 0) unknown = "{" + std::string(word) + "}";
        } else {
            use.element |= rest.substr(0, 1) == "a";
            const bool known = !rest.empty() && letters.find(rest[0]) != std::string_view::npos;
            if (!known) unknown = std::string(rest.substr(0, 1));
        }
        if (unknown) {
            out.push_back(std::string(field) + ": %" + *unknown +
                          " is no placeholder and stays as it is");
        }
        at += rest.substr(0, 1) == "%" ? 2 : 1;
    }
    return use;
}

}  // namespace

std::vector<std::string> placeholder_warnings(const v1::JobSpec& spec) {
    std::vector<std::string> out;
    const auto& task = spec.task();
    const auto elements = elements_of(spec);
    (void)look_at_path("input", task.input(), out);
    const bool apart = look_at_path("cwd", task.cwd(), out).element;
    for (const auto& [field, path] :
         {std::pair{"output", &task.output()}, std::pair{"error", &task.error()}}) {
        const auto use = look_at_path(field, *path, out);
        if (elements < 2 || path->empty() || *path == "none" || path->starts_with("/dev/"))
            continue;
        // A relative path starts at the working directory.
        const bool inside = use.directory || !path->starts_with("/");
        if (use.element || (inside && apart)) continue;
        out.push_back(std::string(field) + ": all " + std::to_string(elements) +
                      " elements write " + *path + "; add %a to give each its own file");
    }
    return out;
}

}  // namespace reeve::cli
