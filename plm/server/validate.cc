#include "plm/server/validate.h"

#include <functional>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "common/model/resources.h"
#include "common/model/wants.h"

namespace reeve::plm {

namespace {

tl::unexpected<Error> refuse(std::string_view field, std::string_view problem) {
    return fail(ErrorCode::kInvalidArgument, std::string(field) + ": " + std::string(problem));
}

bool has_nul(std::string_view text) {
    return text.find('\0') != std::string_view::npos;
}

Status check_no_unknown(const google::protobuf::Message& message, std::string_view field) {
    const auto& unknown = message.GetReflection()->GetUnknownFields(message);
    if (unknown.empty()) return {};
    return refuse(field, "has field number " + std::to_string(unknown.field(0).number()) +
                             ", which this PLM does not know; use the client of its version");
}

Status check_name(std::string_view field, std::string_view name) {
    if (name.empty()) return {};
    if (name.size() > kNameBytesMax) {
        return refuse(field, "is " + std::to_string(name.size()) + " bytes long; at most " +
                                 std::to_string(kNameBytesMax) + " are allowed");
    }
    if (!printable_name(name)) return refuse(field, "holds a control character; remove it");
    return {};
}

Status check_path(std::string_view field, std::string_view path) {
    if (path.size() > kPathBytesMax) {
        return refuse(field, "is longer than " + std::to_string(kPathBytesMax) + " bytes");
    }
    if (has_nul(path)) return refuse(field, "holds a NUL byte; remove it");
    return {};
}

Status check_variable_name(std::string_view field, std::string_view name) {
    if (name.empty()) return refuse(field, "has an empty name; write NAME=value");
    if (name.find('=') != std::string_view::npos) {
        return refuse(field, "the name '" + std::string(name.substr(0, 64)) +
                                 "' holds '='; write NAME=value");
    }
    if (name.size() > kNameBytesMax || !printable_name(name)) {
        return refuse(field, "a name is too long or holds a control character");
    }
    return {};
}

Status check_argv(const v1::TaskSpec& task, std::size_t& bytes) {
    if (task.argv_size() == 0 || task.argv(0).empty()) {
        return refuse("task.argv", "is empty; give the program to run");
    }
    if (task.argv_size() > kArgumentsMax) {
        return refuse("task.argv", "has " + std::to_string(task.argv_size()) +
                                       " arguments; at most " + std::to_string(kArgumentsMax) +
                                       " are allowed, put the rest in a file");
    }
    for (const std::string& argument : task.argv()) {
        if (has_nul(argument)) return refuse("task.argv", "holds a NUL byte; remove it");
        bytes += argument.size() + 1;
    }
    return {};
}

Status check_env(const v1::TaskSpec& task, std::size_t& bytes) {
    std::unordered_set<std::string_view> seen;
    for (const v1::EnvVar& variable : task.env()) {
        REEVE_TRY(check_variable_name("task.env", variable.name()));
        if (has_nul(variable.value())) {
            return refuse("task.env", "the value of " + variable.name() + " holds a NUL byte");
        }
        if (!seen.insert(variable.name()).second) {
            return refuse("task.env", variable.name() + " is given twice; give it once");
        }
        bytes += variable.name().size() + variable.value().size() + 2;
    }
    return {};
}

Status check_command(const v1::TaskSpec& task) {
    std::size_t bytes = 0;
    REEVE_TRY(check_argv(task, bytes));
    REEVE_TRY(check_env(task, bytes));
    if (bytes > kArgumentBytesMax) {
        return refuse("task.argv and task.env", "are " + std::to_string(bytes) +
                                                    " bytes together; at most " +
                                                    std::to_string(kArgumentBytesMax) +
                                                    " are allowed, put the rest in a file");
    }
    return {};
}

Status check_files(v1::TaskSpec& task) {
    if (task.cwd().empty()) task.set_cwd("/");
    if (task.cwd().front() != '/') {
        return refuse("task.cwd", "'" + task.cwd().substr(0, 200) +
                                      "' is not absolute; start it "
                                      "with /");
    }
    REEVE_TRY(check_path("task.cwd", task.cwd()));
    REEVE_TRY(check_path("task.input", task.input()));
    REEVE_TRY(check_path("task.output", task.output()));
    REEVE_TRY(check_path("task.error", task.error()));
    if (!task.input().empty() && !task.stdin_data().empty()) {
        return refuse("task.input", "is given together with stdin; give one of them");
    }
    return {};
}

Status check_resources(v1::TaskSpec& task) {
    v1::ResourceRequest& want = *task.mutable_resources();
    REEVE_TRY(check_no_unknown(want, "task.resources"));
    if (want.cpu_milli() == 0) want.set_cpu_milli(1000);
    if (want.cpu_milli() > kCpuMilliMax) {
        return refuse("task.resources.cpu_milli", "asks for more than 4096 cores");
    }
    if (want.memory_bytes() > kMemoryBytesMax) {
        return refuse("task.resources.memory_bytes", "asks for more than 1 PiB");
    }
    if (want.gpus() > kGpusMax) {
        return refuse("task.resources.gpus", "asks for more than " + std::to_string(kGpusMax));
    }
    if (task.time_limit_ms() > kTimeLimitMsMax) {
        return refuse("task.time_limit_ms", "is over ten years; leave it out for no limit");
    }
    if (task.grace_ms() > kGraceMsMax) return refuse("task.grace_ms", "is over a day");
    if (!v1::RetryMode_IsValid(task.retry_mode())) {
        return refuse("task.retry_mode", "has a value this PLM does not know");
    }
    return {};
}

// A handler's name and bytes instead of a program. So many of them share a cpu unless more is asked
// for: they wait, ready, where they will run.
Status check_function(v1::TaskSpec& task) {
    const std::string& name = task.function();
    if (name.size() > kFunctionNameMax || !printable_name(name)) {
        return refuse("task.function", "is not a name of 1 to 64 bytes without control characters");
    }
    if (task.argv_size() != 0) {
        return refuse("task.argv", "does not go with a function; give one of them");
    }
    if (task.env_size() != 0 || !task.stdin_data().empty() || !task.input().empty()) {
        return refuse("task.function", "takes neither environment nor input; put them into data");
    }
    if (task.resources().gpus() != 0) {
        return refuse("task.resources.gpus", "a function task gets none; submit a program");
    }
    if (task.resources().cpu_milli() == 0) {
        task.mutable_resources()->set_cpu_milli(kFunctionCpuMilli);
    }
    return {};
}

Status check_task(v1::TaskSpec& task) {
    REEVE_TRY(check_no_unknown(task, "task"));
    if (!task.function().empty()) {
        REEVE_TRY(check_function(task));
    } else if (!task.data().empty()) {
        return refuse("task.data", "goes to a function; name it in task.function");
    } else {
        REEVE_TRY(check_command(task));
        REEVE_TRY(check_files(task));
    }
    REEVE_TRY(check_resources(task));
    REEVE_TRY(check_name("task.name", task.name()));
    const std::size_t bytes = task.ByteSizeLong();
    if (bytes > kTaskBytesMax) {
        return refuse("task", "is " + std::to_string(bytes) + " bytes; at most " +
                                  std::to_string(kTaskBytesMax) +
                                  " are allowed, put large data in a file");
    }
    return {};
}

// Returns how many elements the ranges hold.
Result<std::uint64_t> check_ranges(
    const google::protobuf::RepeatedPtrField<v1::ElementRange>& ranges, std::string_view field) {
    if (ranges.size() > kElementRangesMax) {
        return refuse(field, "has more than " + std::to_string(kElementRangesMax) + " ranges");
    }
    std::uint64_t total = 0;
    std::uint64_t next = 0;
    for (const v1::ElementRange& range : ranges) {
        const std::string text = std::to_string(range.first()) + "-" + std::to_string(range.last());
        if (range.last() < range.first()) return refuse(field, text + " runs backwards");
        if (range.last() > kElementIndexMax) {
            return refuse(field, text + " goes beyond " + std::to_string(kElementIndexMax));
        }
        if (range.first() < next) {
            return refuse(field, text + " overlaps or precedes the range before; sort them");
        }
        total += range.last() - range.first() + 1;
        next = range.last() + 1;
    }
    return total;
}

Status check_element_data(const v1::JobSpec& spec, std::uint64_t total) {
    if (spec.task().function().empty()) {
        return refuse("element_data", "goes to a function; name it in task.function");
    }
    if (!spec.task().data().empty() || spec.element_values_size() > 0) {
        return refuse("element_data", "is given together with data or element_values; give one");
    }
    if (static_cast<std::uint64_t>(spec.element_data_size()) != total) {
        return refuse("element_data", "are " + std::to_string(spec.element_data_size()) + " for " +
                                          std::to_string(total) + " elements; give one for each");
    }
    for (const std::string& data : spec.element_data()) {
        if (data.size() > kTaskBytesMax) {
            return refuse("element_data", "hold one over 1 MiB; put it in a file");
        }
    }
    return {};
}

Status check_elements(v1::JobSpec& spec) {
    // No ranges: one task, element 0.
    REEVE_TRY_ASSIGN(const std::uint64_t listed, check_ranges(spec.elements(), "elements"));
    const std::uint64_t total = spec.elements().empty() ? 1 : listed;
    if (total > kElementsMax) {
        return refuse("elements", "are " + std::to_string(total) + "; at most " +
                                      std::to_string(kElementsMax) + " are allowed in a job");
    }
    if (spec.element_data_size() > 0) return check_element_data(spec, total);
    const std::string& variable = spec.task().element_variable();
    if (spec.element_values().empty()) {
        if (!variable.empty()) return refuse("element_values", "are missing for " + variable);
        return {};
    }
    REEVE_TRY(check_variable_name("task.element_variable", variable));
    if (static_cast<std::uint64_t>(spec.element_values_size()) != total) {
        return refuse("element_values", "are " + std::to_string(spec.element_values_size()) +
                                            " for " + std::to_string(total) +
                                            " elements; give one for each");
    }
    for (const std::string& value : spec.element_values()) {
        if (has_nul(value)) return refuse("element_values", "hold a NUL byte; remove it");
        if (value.size() > kArgumentBytesMax) {
            return refuse("element_values", "hold one over 128 KiB; put it in a file");
        }
    }
    return {};
}

// A gang is an array of elements 0 to nodes - 1.
Status check_gang(v1::JobSpec& spec) {
    const auto nodes = spec.nodes();
    if (nodes > kGangNodesMax) {
        return refuse("nodes", std::to_string(nodes) + " is over " + std::to_string(kGangNodesMax));
    }
    if (nodes <= 1) {
        spec.clear_nodes();
        return {};
    }
    const auto refused = [](const char* what) {
        return refuse("nodes", std::string("does not go with ") + what + "; leave one of them out");
    };
    if (!spec.task().function().empty()) return refused("a function");
    if (spec.element_values_size() > 0) return refused("values of elements");
    if (spec.max_running() != 0) return refused("a limit of tasks at a time");
    if (spec.task().retry_mode() == v1::RETRY_NEVER) {
        return refused("retries never, as a gang may have to start again");
    }
    if (spec.elements().empty()) spec.add_elements()->set_last(nodes - 1);
    if (spec.elements_size() != 1 || spec.elements(0).first() != 0 ||
        spec.elements(0).last() != nodes - 1) {
        return refused("an array");
    }
    return {};
}

Status check_dependencies(const v1::JobSpec& spec) {
    if (spec.after_size() > kDependenciesMax) {
        return refuse("after", "names more than " + std::to_string(kDependenciesMax) + " jobs");
    }
    for (const v1::Dependency& dependency : spec.after()) {
        if ((dependency.job() != 0) == !dependency.label().empty()) {
            return refuse("after", "each entry names either a job or a label");
        }
        if (!v1::DependencyKind_IsValid(dependency.kind())) {
            return refuse("after", "has a kind this PLM does not know");
        }
    }
    return {};
}

Status check_policy(const v1::JobSpec& spec) {
    if (!v1::SlaClass_IsValid(spec.sla())) {
        return refuse("sla", "has a value this PLM does not know");
    }
    if (!v1::PreemptMode_IsValid(spec.preempt())) {
        return refuse("preempt", "has a value this PLM does not know");
    }
    if (spec.minimum_run_ms() > kMinimumRunMsMax) {
        return refuse("minimum_run", "is over 30 days; forbid it with preempt never");
    }
    if (spec.deadline_unix_ms() > kNotBeforeMsMax) {
        return refuse("deadline", "is after the year 2261; give an earlier one");
    }
    if (spec.limits_size() > kLimitsMax) {
        return refuse("limits", "names more than " + std::to_string(kLimitsMax) + " limits");
    }
    std::unordered_set<std::string_view> seen;
    for (const v1::LimitUse& limit : spec.limits()) {
        if (limit.name().empty()) return refuse("limits", "holds an empty name");
        REEVE_TRY(check_name("limits", limit.name()));
        if (!seen.insert(limit.name()).second) {
            return refuse("limits", limit.name() + " is named twice; write " + limit.name() + ":2");
        }
    }
    return {};
}

std::string place(const v1::SubmitRequest& request, int index) {
    if (request.jobs_size() == 1) return {};
    std::string text = "jobs[" + std::to_string(index) + "]";
    const std::string& label = request.jobs(index).label();
    if (!label.empty() && printable_name(label)) text += " '" + label.substr(0, 64) + "'";
    return text;
}

using Labels = std::unordered_map<std::string_view, int>;

Result<Labels> collect_labels(const v1::SubmitRequest& request) {
    Labels labels;
    for (int i = 0; i < request.jobs_size(); ++i) {
        const std::string& label = request.jobs(i).label();
        if (label.empty()) continue;
        if (!labels.emplace(label, i).second) {
            return refuse(place(request, i), "the label is given to two jobs; labels are unique");
        }
    }
    return labels;
}

// Kahn's algorithm over the labelled dependencies; what is left over lies on or behind a cycle.
Status check_acyclic(const v1::SubmitRequest& request, const Labels& labels) {
    const auto count = static_cast<std::size_t>(request.jobs_size());
    std::vector<std::vector<int>> followers(count);
    std::vector<int> waiting_for(count, 0);
    for (int i = 0; i < request.jobs_size(); ++i) {
        for (const v1::Dependency& dependency : request.jobs(i).after()) {
            if (dependency.label().empty()) continue;
            const auto found = labels.find(dependency.label());
            if (found == labels.end()) {
                return refuse(place(request, i).empty() ? "after" : place(request, i) + ": after",
                              "no job of this request has the label '" +
                                  dependency.label().substr(0, 64) + "'");
            }
            followers[static_cast<std::size_t>(found->second)].push_back(i);
            ++waiting_for[static_cast<std::size_t>(i)];
        }
    }
    std::vector<int> ready;
    for (std::size_t i = 0; i < count; ++i) {
        if (waiting_for[i] == 0) ready.push_back(static_cast<int>(i));
    }
    std::size_t done = 0;
    while (!ready.empty()) {
        const int job = ready.back();
        ready.pop_back();
        ++done;
        for (const int follower : followers[static_cast<std::size_t>(job)]) {
            if (--waiting_for[static_cast<std::size_t>(follower)] == 0) ready.push_back(follower);
        }
    }
    if (done == count) return {};
    int on_cycle = 0;
    while (waiting_for[static_cast<std::size_t>(on_cycle)] == 0) ++on_cycle;
    return refuse(request.jobs_size() == 1 ? "after" : place(request, on_cycle) + ": after",
                  "the jobs wait for each other in a circle; remove one dependency");
}

Status check_labels_wanted(const v1::JobSpec& spec) {
    std::size_t bytes = 0;
    for (const auto& label : spec.node_labels()) {
        if (!sound_label(label)) {
            return refuse("node_labels", "holds what is no label: letters, digits and _ - . / = +");
        }
        bytes += label.size() + 1;
    }
    if (bytes > kLabelsWantedBytesMax + 1) {
        return refuse("node_labels", "are longer than 255 bytes together");
    }
    if (spec.max_price_micro() > kPriceMicroMax) {
        return refuse("max_price_micro", "is over 4000 an hour; leave it out for any price");
    }
    return {};
}

Status check_resources_wanted(const v1::JobSpec& spec) {
    std::set<std::string_view> names;
    for (const auto& each : spec.resources()) {
        if (!sound_resource_name(each.name()) || reserved_resource_name(each.name())) {
            return refuse("resources",
                          "holds what is no name of a resource: a letter, then up to 30 letters, "
                          "digits and _ - . (not cpu, memory or gpu, nor named)");
        }
        if (each.count() == 0 || each.count() > NamedCounts::kCountMax) {
            return refuse("resources", each.name() + ": " + std::to_string(each.count()) +
                                           " is outside 1.." +
                                           std::to_string(NamedCounts::kCountMax));
        }
        if (!names.insert(each.name()).second) {
            return refuse("resources", each.name() + " is named twice; write one number");
        }
    }
    if (!resources_have_room(spec.resources(), std::mem_fn(&v1::NamedAmount::name),
                             std::mem_fn(&v1::NamedAmount::count))) {
        return refuse("resources", "are more than 8, or longer than 111 bytes together");
    }
    return {};
}

}  // namespace

bool printable_name(std::string_view name) {
    if (name.empty()) return false;
    for (std::size_t i = 0; i < name.size(); ++i) {
        const auto byte = static_cast<unsigned char>(name[i]);
        if (byte < 0x20 || byte == 0x7F) return false;
        if (byte == 0xC2 && i + 1 < name.size()) {  // U+0080..U+009F
            const auto next = static_cast<unsigned char>(name[i + 1]);
            if (next >= 0x80 && next <= 0x9F) return false;
        }
    }
    return true;
}

Status validate(v1::JobSpec& spec) {
    REEVE_TRY(check_no_unknown(spec, "job"));
    if (!spec.has_task()) return refuse("task", "is missing; give the program to run");
    REEVE_TRY(check_task(*spec.mutable_task()));
    REEVE_TRY(check_gang(spec));
    REEVE_TRY(check_elements(spec));
    REEVE_TRY(check_dependencies(spec));
    REEVE_TRY(check_name("label", spec.label()));
    REEVE_TRY(check_name("key", spec.key()));
    REEVE_TRY(check_name("node_name", spec.node_name()));
    if (spec.node_name().size() > kNodeNameBytesMax) {
        return refuse("node_name", "is longer than 63 bytes; no worker is called so");
    }
    if (spec.priority() > kPriorityMax || spec.priority() < -kPriorityMax) {
        return refuse("priority", std::to_string(spec.priority()) + " is outside -500000..500000");
    }
    REEVE_TRY(check_policy(spec));
    REEVE_TRY(check_labels_wanted(spec));
    REEVE_TRY(check_resources_wanted(spec));
    if (spec.retries() > kRetriesMax) {
        return refuse("retries",
                      std::to_string(spec.retries()) + " is over " + std::to_string(kRetriesMax));
    }
    if (spec.not_before_unix_ms() > kNotBeforeMsMax) {
        return refuse("not_before_unix_ms", "is after the year 2261; give an earlier begin time");
    }
    return {};
}

Status validate(v1::SubmitRequest& request) {
    if (request.jobs_size() == 0) return refuse("jobs", "is empty; give at least one job");
    if (request.jobs_size() > kJobsPerRequestMax) {
        return refuse("jobs", "are " + std::to_string(request.jobs_size()) + "; at most " +
                                  std::to_string(kJobsPerRequestMax) + " fit a request, split it");
    }
    for (int i = 0; i < request.jobs_size(); ++i) {
        auto checked = validate(*request.mutable_jobs(i));
        if (checked) continue;
        const std::string where = place(request, i);
        if (where.empty()) return checked;
        return fail(std::move(checked).error().with(where));
    }
    REEVE_TRY_ASSIGN(const Labels labels, collect_labels(request));
    return check_acyclic(request, labels);
}

Status validate(const v1::ActRequest& request) {
    if (!v1::ActionKind_IsValid(request.action())) {
        return refuse("action", "has a value this PLM does not know");
    }
    if (request.selections().empty()) return refuse("selections", "are empty; name a job");
    if (request.selections_size() > kJobsPerRequestMax) {
        return refuse("selections", "are more than " + std::to_string(kJobsPerRequestMax));
    }
    for (const v1::Selection& selection : request.selections()) {
        if (selection.job() == 0) return refuse("selections", "one names no job; ids start at 1");
        if (auto ranges = check_ranges(selection.elements(), "selections.elements"); !ranges) {
            return fail(std::move(ranges).error());
        }
    }
    if (request.reason().size() > kReasonBytesMax) {
        return refuse("reason", "is longer than " + std::to_string(kReasonBytesMax) + " bytes");
    }
    if (!request.reason().empty() && !printable_name(request.reason())) {
        return refuse("reason", "holds a control character; remove it");
    }
    if (request.set_priority() &&
        (request.priority() > kPriorityMax || request.priority() < -kPriorityMax)) {
        return refuse("priority",
                      std::to_string(request.priority()) + " is outside -500000..500000");
    }
    if (request.set_time_limit() && request.time_limit_ms() > kTimeLimitMsMax) {
        return refuse("time_limit_ms", "is over ten years; 0 means no limit");
    }
    return {};
}

}  // namespace reeve::plm
