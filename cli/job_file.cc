#include "cli/job_file.h"

#include <algorithm>
#include <cctype>
#include <unordered_map>
#include <unordered_set>

#include "cli/text.h"
#include "common/model/wants.h"

namespace reeve::cli {

namespace {

using Kind = JsonNode::Kind;

tl::unexpected<Error> bad_at(const std::string& path, const JsonNode& node,
                             const std::string& message) {
    return fail(ErrorCode::kInvalidArgument,
                path + " (line " + std::to_string(node.line) + "): " + message);
}

std::string join(const std::string& path, std::string_view name) {
    return path.empty() ? std::string(name) : path + "." + std::string(name);
}

// What nodes other than plain options may hold; everything else is in option_rules().
constexpr std::string_view kSpecialFields[] = {"command", "resources", "env",   "after",
                                               "each",    "variable",  "stdin", "args"};

std::vector<std::string_view> known_fields(std::string_view prefix) {
    std::vector<std::string_view> out;
    for (const auto& rule : option_rules()) {
        const std::string_view field = rule.field;
        const auto dot = field.find('.');
        if (prefix.empty() && dot == std::string_view::npos) out.push_back(field);
        if (!prefix.empty() && field.substr(0, prefix.size()) == prefix) {
            out.push_back(field.substr(prefix.size()));
        }
    }
    if (prefix.empty()) out.insert(out.end(), std::begin(kSpecialFields), std::end(kSpecialFields));
    return out;
}

// Words people bring from elsewhere, and ours for them.
const std::unordered_map<std::string_view, std::string_view>& meant_words() {
    static const std::unordered_map<std::string_view, std::string_view> meant{
        {"cpus", "cpu"},           {"cores", "cpu"},       {"mem", "memory"},
        {"gpus", "gpu"},           {"time", "time_limit"}, {"timeout", "time_limit"},
        {"id", "job_id"},          {"cmd", "command"},     {"depends_on", "after"},
        {"dependencies", "after"}, {"stdout", "output"},   {"stderr", "error"},
        {"environment", "env"},    {"workdir", "cwd"},     {"max_fails", "max_failures"},
    };
    return meant;
}

// No word for cpus, memory or GPUs, rightly or wrongly spelt.
bool names_resource(std::string_view name) {
    return sound_resource_name(name) && !reserved_resource_name(name) &&
           !meant_words().contains(name) && closest(name, known_fields("resources.")).empty();
}

tl::unexpected<Error> unknown_field(const std::string& path, const JsonNode& node,
                                    std::string_view name, std::string_view prefix) {
    const auto& meant = meant_words();
    const auto found = meant.find(name);
    const auto word = found == meant.end() ? name : found->second;
    const auto has = [&](const std::vector<std::string_view>& fields) {
        return std::find(fields.begin(), fields.end(), word) != fields.end();
    };
    const auto known = known_fields(prefix);
    std::string cure = "remove it (the fields are listed in docs/formats/json.md)";
    if (has(known)) {
        cure = "did you mean \"" + std::string(word) + "\"?";
    } else if (prefix.empty() && has(known_fields("resources."))) {
        cure = "write it inside \"resources\" as \"" + std::string(word) + "\"";
    } else if (const auto guess = closest(name, known); !guess.empty()) {
        cure = "did you mean \"" + guess + "\"?";
    }
    return bad_at(join(path, name), node, "unknown field; " + cure);
}

// The text of a value for its rule, or an error that says what was expected.
Result<std::string> text_for(const OptionRule& rule, const std::string& path,
                             const JsonNode& node) {
    const bool number = node.kind == Kind::kInteger || node.kind == Kind::kReal;
    bool fits = false;
    const char* wanted = "";
    std::string example = std::string("\"") + rule.example + "\"";
    switch (rule.kind) {
        case OptionKind::kText:
            fits = node.kind == Kind::kString;
            wanted = "a string";
            // Where a unit is due, a bare number gets the rule's own words about it.
            if (number && std::isdigit(static_cast<unsigned char>(rule.example[0])) != 0) {
                return node.text;
            }
            break;
        case OptionKind::kNumber:
            fits = number;
            wanted = "a number";
            example = rule.example;
            break;
        case OptionKind::kCount:
            fits = node.kind == Kind::kInteger;
            wanted = "a whole number";
            example = rule.example;
            break;
        case OptionKind::kTextOrCount:
            fits = node.kind == Kind::kInteger || node.kind == Kind::kString;
            wanted = "a string or a whole number";
            break;
        case OptionKind::kList:
            fits = node.kind == Kind::kString;
            wanted = "a string";
            break;
        case OptionKind::kFlag:
            if (node.kind == Kind::kBool) return std::string(node.flag ? "true" : "false");
            wanted = "true or false";
            example = rule.example;
            break;
    }
    if (!fits) {
        return bad_at(path, node,
                      std::string("expected ") + wanted + ", found " + node.kind_name() +
                          "; write for example " + example);
    }
    return node.text;
}

Status take_command(JobDraft& draft, const std::string& path, const JsonNode& node) {
    auto* task = draft.spec.mutable_task();
    task->clear_argv();
    if (node.kind == Kind::kString) {
        // Split later: whether a shell is wanted may be said further down.
        task->add_argv(node.text);
        return {};
    }
    if (node.kind != Kind::kArray) {
        return bad_at(path, node,
                      std::string("expected a string or a list of strings, found ") +
                          node.kind_name() + "; write for example [\"echo\", \"hi\"]");
    }
    if (node.items.empty())
        return bad_at(path, node, "the list is empty; write the program to run");
    for (std::size_t i = 0; i < node.items.size(); ++i) {
        const auto& item = node.items[i];
        if (item.kind != Kind::kString) {
            return bad_at(path + "[" + std::to_string(i) + "]", item,
                          std::string("expected a string, found ") + item.kind_name() +
                              "; write it in quotes");
        }
        task->add_argv(item.text);
    }
    return {};
}

Status take_environment(JobDraft& draft, const std::string& path, const JsonNode& node) {
    if (node.kind != Kind::kObject) {
        return bad_at(path, node,
                      std::string("expected an object of names and strings, found ") +
                          node.kind_name() + "; write for example {\"SEED\": \"1\"}");
    }
    for (const auto& [name, value] : node.members) {
        if (value.kind != Kind::kString) {
            return bad_at(join(path, name), value,
                          std::string("expected a string, found ") + value.kind_name() +
                              "; write it in quotes");
        }
        if (name.empty() || name.find('=') != std::string::npos) {
            return bad_at(join(path, name), value, "a variable's name holds no = and is not empty");
        }
        if (auto added = add_environment(draft, name + "=" + value.text); !added) {
            return bad_at(join(path, name), value, added.error().message);
        }
    }
    return {};
}

Status take_after(JobDraft& draft, const std::string& path, const JsonNode& node) {
    std::vector<const JsonNode*> items;
    if (node.kind == Kind::kArray) {
        for (const auto& item : node.items) items.push_back(&item);
    } else {
        items.push_back(&node);
    }
    for (std::size_t i = 0; i < items.size(); ++i) {
        const auto& item = *items[i];
        const auto place = node.kind == Kind::kArray ? path + "[" + std::to_string(i) + "]" : path;
        if (item.kind != Kind::kString && item.kind != Kind::kInteger) {
            return bad_at(place, item,
                          std::string("expected a job_id or \"afterok:ID\", found ") +
                              item.kind_name() + "; write it in quotes");
        }
        if (auto added = add_dependencies(draft, item.text); !added) {
            return bad_at(place, item, added.error().message);
        }
    }
    return {};
}

Status take_limits(JobDraft& draft, const std::string& path, const JsonNode& node) {
    const bool list = node.kind == Kind::kArray;
    for (std::size_t i = 0; i < (list ? node.items.size() : 1); ++i) {
        const auto& item = list ? node.items[i] : node;
        const auto place = list ? path + "[" + std::to_string(i) + "]" : path;
        if (item.kind != Kind::kString) {
            return bad_at(place, item,
                          std::string("expected the name of a limit, found ") + item.kind_name() +
                              "; write for example \"licence:2\"");
        }
        if (auto added = add_limits(draft, item.text); !added) {
            return bad_at(place, item, added.error().message);
        }
    }
    return {};
}

Status take_each(JobDraft& draft, const std::string& path, const JsonNode& node) {
    if (node.kind != Kind::kArray || node.items.empty()) {
        return bad_at(path, node,
                      "expected a list with at least one string; write for example "
                      "[\"a.txt\", \"b.txt\"]");
    }
    std::vector<std::string> values;
    for (std::size_t i = 0; i < node.items.size(); ++i) {
        const auto& item = node.items[i];
        if (item.kind != Kind::kString && item.kind != Kind::kInteger && item.kind != Kind::kReal) {
            return bad_at(path + "[" + std::to_string(i) + "]", item,
                          std::string("expected a string, found ") + item.kind_name());
        }
        values.push_back(item.text);
    }
    const auto& given = draft.spec.task().element_variable();
    if (auto set =
            set_element_values(draft, given.empty() ? "REEVE_VALUE" : given, std::move(values));
        !set) {
        return bad_at(path, node, set.error().message);
    }
    return {};
}

Status take_special(JobDraft& draft, const std::string& path, std::string_view name,
                    const JsonNode& node, bool& known);

Status take_option(JobDraft& draft, const std::string& path, std::string_view field,
                   const JsonNode& node, bool& known) {
    for (const auto& rule : option_rules()) {
        if (rule.field != field) continue;
        known = true;
        if (rule.kind == OptionKind::kList && node.kind == Kind::kArray) {
            for (std::size_t i = 0; i < node.items.size(); ++i) {
                const auto at = path + "[" + std::to_string(i) + "]";
                REEVE_TRY_ASSIGN(const auto one, text_for(rule, at, node.items[i]));
                if (auto set = rule.set(draft, one); !set) {
                    return bad_at(at, node.items[i], set.error().message);
                }
            }
            return {};
        }
        REEVE_TRY_ASSIGN(const auto text, text_for(rule, path, node));
        if (auto set = rule.set(draft, text); !set) return bad_at(path, node, set.error().message);
        return {};
    }
    return {};
}

Status take_resources(JobDraft& draft, const std::string& path, const JsonNode& node) {
    if (node.kind != Kind::kObject) {
        return bad_at(path, node,
                      std::string("expected an object, found ") + node.kind_name() +
                          "; write for example {\"cpu\": 1, \"memory\": \"1G\"}");
    }
    for (const auto& [name, value] : node.members) {
        bool known = false;
        REEVE_TRY(take_option(draft, join(path, name), "resources." + name, value, known));
        if (known) continue;
        if (!names_resource(name)) return unknown_field(path, value, name, "resources.");
        if (value.kind != Kind::kInteger) {
            return bad_at(join(path, name), value,
                          std::string("expected a whole number, found ") + value.kind_name() +
                              "; write for example 1");
        }
        if (auto set = add_resources(draft, name + "=" + value.text); !set) {
            return bad_at(join(path, name), value, set.error().message);
        }
    }
    return {};
}

Status take_special(JobDraft& draft, const std::string& path, std::string_view name,
                    const JsonNode& node, bool& known) {
    known = true;
    if (name == "command") return take_command(draft, path, node);
    if (name == "resources") return take_resources(draft, path, node);
    if (name == "env") return take_environment(draft, path, node);
    if (name == "after") return take_after(draft, path, node);
    if (name == "limits") return take_limits(draft, path, node);
    if (name == "each") return take_each(draft, path, node);
    if (name == "args" || name == "variable" || name == "stdin") {
        const bool list = name == "args";
        if (list ? node.kind != Kind::kArray : node.kind != Kind::kString) {
            return bad_at(path, node,
                          std::string("expected ") + (list ? "a list of strings" : "a string") +
                              ", found " + node.kind_name());
        }
        if (name == "stdin") draft.spec.mutable_task()->set_stdin_data(node.text);
        if (name == "variable") {
            draft.spec.mutable_task()->set_element_variable(node.text);
        }
        return {};
    }
    known = false;
    return {};
}

// Splits a command given as one string, and appends "args".
Status settle_command(JobDraft& draft, const std::string& path, const JsonNode& job) {
    auto* task = draft.spec.mutable_task();
    const JsonNode* command = job.find("command");
    if (command != nullptr && command->kind == Kind::kString && !draft.shell) {
        auto words = split_command(command->text);
        if (!words) return bad_at(join(path, "command"), *command, words.error().message);
        task->clear_argv();
        for (auto& word : *words) task->add_argv(std::move(word));
    }
    const JsonNode* args = job.find("args");
    if (args == nullptr) return {};
    for (std::size_t i = 0; i < args->items.size(); ++i) {
        if (args->items[i].kind != Kind::kString) {
            return bad_at(join(path, "args") + "[" + std::to_string(i) + "]", args->items[i],
                          "expected a string; write it in quotes");
        }
        task->add_argv(args->items[i].text);
    }
    return {};
}

Status take_job(JobDraft& draft, const std::string& path, const JsonNode& job, bool is_default) {
    if (job.kind != Kind::kObject) {
        return bad_at(path.empty() ? "the file" : path, job,
                      std::string("expected a job object, found ") + job.kind_name() +
                          "; write {\"command\": ...}");
    }
    // "variable" names what "each" sets, whichever comes first.
    if (const auto* variable = job.find("variable"); variable != nullptr) {
        if (job.find("each") == nullptr && !is_default) {
            return bad_at(join(path, "variable"), *variable,
                          "there is no \"each\" to go with it; "
                          "add one or remove it");
        }
        bool known = false;
        REEVE_TRY(take_special(draft, join(path, "variable"), "variable", *variable, known));
    }
    for (const auto& [name, value] : job.members) {
        if (is_default && (name == "job_id" || name == "after" || name == "key" ||
                           name == "command" || name == "args")) {
            return bad_at(join(path, name), value, "cannot be a default; write it in each job");
        }
        const auto place = join(path, name);
        bool known = false;
        REEVE_TRY(take_special(draft, place, name, value, known));
        if (!known) REEVE_TRY(take_option(draft, place, name, value, known));
        if (!known) return unknown_field(path, value, name, "");
    }
    if (is_default) return {};
    if (draft.spec.task().argv().empty() && draft.spec.task().function().empty()) {
        return bad_at(join(path, "command"), job,
                      "missing; add \"command\": \"program arguments\"");
    }
    return settle_command(draft, path, job);
}

// "after": ["7"] means the job_id "7" of this file where there is one, else job 7 of the cell.
void prefer_labels(std::vector<JobDraft>& drafts) {
    std::unordered_set<std::string> labels;
    for (const auto& draft : drafts) labels.insert(draft.spec.label());
    for (auto& draft : drafts) {
        for (auto& dependency : *draft.spec.mutable_after()) {
            if (dependency.job() == 0) continue;
            auto label = std::to_string(dependency.job());
            if (labels.find(label) == labels.end()) continue;
            dependency.clear_job();
            dependency.set_label(std::move(label));
        }
    }
}

}  // namespace

Result<std::vector<JobDraft>> parse_job_file(std::string_view text) {
    REEVE_TRY_ASSIGN(const JsonNode root, parse_json(text));
    JobDraft defaults;
    const JsonNode* list = root.kind == Kind::kArray ? &root : nullptr;
    std::string prefix = "jobs";
    if (root.kind == Kind::kObject && root.find("jobs") != nullptr) {
        list = root.find("jobs");
        if (list->kind != Kind::kArray) {
            return bad_at("jobs", *list,
                          std::string("expected a list of jobs, found ") + list->kind_name() +
                              "; write [ ... ]");
        }
        for (const auto& [name, value] : root.members) {
            if (name == "jobs") continue;
            if (name != "defaults") {
                return bad_at(name, value,
                              "unknown field beside \"jobs\"; only \"defaults\" may "
                              "stand there");
            }
            REEVE_TRY(take_job(defaults, "defaults", value, true));
        }
    }
    std::vector<const JsonNode*> jobs;
    if (list == nullptr) {
        jobs.push_back(&root);
    } else {
        for (const auto& item : list->items) jobs.push_back(&item);
    }
    if (jobs.empty()) return bad_at("jobs", root, "the list is empty; write at least one job");
    if (jobs.size() > kJobsPerFileMax) {
        return bad_at("jobs", root, "more than 65536 jobs; split the file");
    }
    std::vector<JobDraft> drafts;
    std::vector<std::string> places;
    drafts.reserve(jobs.size());
    for (std::size_t i = 0; i < jobs.size(); ++i) {
        const auto path = list == nullptr ? "" : prefix + "[" + std::to_string(i) + "]";
        JobDraft draft = defaults;
        REEVE_TRY(take_job(draft, path, *jobs[i], false));
        drafts.push_back(std::move(draft));
        places.push_back((path.empty() ? "the job" : path) + " (line " +
                         std::to_string(jobs[i]->line) + ")");
    }
    prefer_labels(drafts);
    REEVE_TRY(check_labels(drafts, places));
    return drafts;
}

namespace {

using Labels = std::unordered_map<std::string, std::size_t>;

// A cycle's jobs in order, or nothing: a depth-first walk without recursion.
std::vector<std::size_t> find_cycle(const std::vector<JobDraft>& drafts, const Labels& labels) {
    enum class Mark : char { kNew, kOpen, kDone };
    std::vector<Mark> marks(drafts.size(), Mark::kNew);
    struct Step {
        std::size_t job;
        int next;
    };
    for (std::size_t start = 0; start < drafts.size(); ++start) {
        if (marks[start] != Mark::kNew) continue;
        std::vector<Step> path{{start, 0}};
        marks[start] = Mark::kOpen;
        while (!path.empty()) {
            auto& step = path.back();
            const auto& after = drafts[step.job].spec.after();
            if (step.next == after.size()) {
                marks[step.job] = Mark::kDone;
                path.pop_back();
                continue;
            }
            const auto& dependency = after[step.next++];
            const auto found = labels.find(dependency.label());
            if (dependency.label().empty() || found == labels.end()) continue;
            const auto target = found->second;
            if (marks[target] == Mark::kOpen) {
                std::vector<std::size_t> cycle;
                for (const auto& part : path) {
                    if (part.job == target || !cycle.empty()) cycle.push_back(part.job);
                }
                return cycle;
            }
            if (marks[target] == Mark::kNew) {
                marks[target] = Mark::kOpen;
                path.push_back({target, 0});
            }
        }
    }
    return {};
}

}  // namespace

Status check_labels(const std::vector<JobDraft>& drafts, const std::vector<std::string>& places) {
    Labels labels;
    const auto bad = [](const std::string& place, const std::string& message) {
        return fail(ErrorCode::kInvalidArgument, place + ": " + message);
    };
    for (std::size_t i = 0; i < drafts.size(); ++i) {
        const auto& label = drafts[i].spec.label();
        if (label.empty()) continue;
        const auto [known, fresh] = labels.emplace(label, i);
        if (!fresh) {
            return bad(places[i], "job_id \"" + label + "\" is already used by " +
                                      places[known->second] + "; give each job its own");
        }
    }
    for (std::size_t i = 0; i < drafts.size(); ++i) {
        for (const auto& dependency : drafts[i].spec.after()) {
            const auto& label = dependency.label();
            if (label.empty()) continue;
            if (labels.find(label) == labels.end()) {
                std::vector<std::string_view> known;
                for (const auto& [name, index] : labels) known.push_back(name);
                const auto guess = closest(label, known);
                return bad(places[i], "after: there is no job_id \"" + label + "\" in this file; " +
                                          (guess.empty() ? std::string("add that job or remove it")
                                                         : "did you mean \"" + guess + "\"?"));
            }
        }
    }
    const auto cycle = find_cycle(drafts, labels);
    if (cycle.empty()) return {};
    std::string chain;
    const std::size_t shown = std::min<std::size_t>(cycle.size(), 8);
    for (std::size_t i = 0; i < shown; ++i) chain += drafts[cycle[i]].spec.label() + " -> ";
    if (shown < cycle.size()) chain += "... -> ";
    chain += drafts[cycle[0]].spec.label();
    return bad(places[cycle[0]], "after: these jobs wait for each other for ever: " + chain +
                                     "; remove one of the dependencies");
}

}  // namespace reeve::cli
