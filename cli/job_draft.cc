#include "cli/job_draft.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>

#include "cli/units.h"
#include "common/rpc/wants.h"

namespace reeve::cli {

namespace {

tl::unexpected<Error> bad(std::string message) {
    return fail(ErrorCode::kInvalidArgument, std::move(message));
}

Result<std::int64_t> parse_signed(const std::string& text, std::int64_t most) {
    std::int64_t value = 0;
    const char* first = text.data();
    const char* last = first + text.size();
    const auto [end, error] = std::from_chars(first, last, value);
    if (error != std::errc{} || end != last || value < -most || value > most) {
        return bad("\"" + text + "\" is not a whole number from -" + std::to_string(most) + " to " +
                   std::to_string(most) + "; write for example 10");
    }
    return value;
}

Status set_flag(const std::string& text, bool& flag) {
    if (text != "true" && text != "false")
        return bad("\"" + text + "\" is neither; write true or false");
    flag = text == "true";
    return {};
}

Status set_cpus(JobDraft& draft, const std::string& text) {
    REEVE_TRY_ASSIGN(const std::uint32_t milli, parse_cpus(text));
    draft.spec.mutable_task()->mutable_resources()->set_cpu_milli(milli);
    return {};
}

Status set_memory(JobDraft& draft, const std::string& text) {
    if (!text.empty() && text.find_first_not_of("0.") == std::string::npos) {
        return bad("\"" + text + "\" asks for no memory; leave it out, or write for example 512M");
    }
    REEVE_TRY_ASSIGN(const std::uint64_t bytes, parse_size(text));
    draft.spec.mutable_task()->mutable_resources()->set_memory_bytes(bytes);
    return {};
}

Status set_gpus(JobDraft& draft, const std::string& text) {
    const auto gpus = parse_count(text, 64);
    if (!gpus)
        return bad("\"" + text +
                   "\" is not a number of whole GPUs from 0 to 64; write for example 1");
    draft.spec.mutable_task()->mutable_resources()->set_gpus(static_cast<std::uint32_t>(*gpus));
    return {};
}

Status set_nodes(JobDraft& draft, const std::string& text) {
    const auto nodes = parse_count(text, kGangNodesMax);
    if (!nodes || *nodes == 0) {
        return bad("\"" + text + "\" is no number of workers from 1 to " +
                   std::to_string(kGangNodesMax) + "; write for example 4");
    }
    draft.spec.set_nodes(static_cast<std::uint32_t>(*nodes));
    return {};
}

Status set_time(JobDraft& draft, const std::string& text) {
    REEVE_TRY_ASSIGN(const std::uint64_t ms, parse_time_ms(text));
    draft.spec.mutable_task()->set_time_limit_ms(ms);
    return {};
}

Status set_grace(JobDraft& draft, const std::string& text) {
    REEVE_TRY_ASSIGN(const std::uint64_t ms, parse_time_ms(text));
    if (ms > kGraceMaxMs) return bad("\"" + text + "\" is too long; at most 1d");
    draft.spec.mutable_task()->set_grace_ms(ms);
    return {};
}

Status set_priority(JobDraft& draft, const std::string& text) {
    REEVE_TRY_ASSIGN(const std::int64_t value, parse_signed(text, kPriorityMost));
    draft.spec.set_priority(static_cast<std::int32_t>(value));
    return {};
}

Status set_retries(JobDraft& draft, const std::string& text) {
    if (text == "never") {
        draft.spec.mutable_task()->set_retry_mode(v1::RETRY_NEVER);
        draft.spec.set_retries(0);
        return {};
    }
    const auto retries = parse_count(text, 10'000);
    if (!retries)
        return bad("\"" + text +
                   "\" is neither a count up to 10000 nor \"never\"; write for example 3");
    draft.spec.set_retries(static_cast<std::uint32_t>(*retries));
    draft.spec.mutable_task()->set_retry_mode(v1::RETRY_DEFAULT);
    return {};
}

Status set_array(JobDraft& draft, const std::string& text) {
    REEVE_TRY_ASSIGN(const auto array, parse_array(text));
    draft.spec.clear_elements();
    for (const auto& range : array.ranges) {
        auto* element = draft.spec.add_elements();
        element->set_first(range.first);
        element->set_last(range.last);
    }
    draft.spec.set_max_running(array.max_running);
    return {};
}

Status set_begin(JobDraft& draft, const std::string& text) {
    REEVE_TRY_ASSIGN(const std::uint64_t ms, parse_begin_ms(text, here().now_ms));
    draft.spec.set_not_before_unix_ms(ms);
    return {};
}

Status set_label(JobDraft& draft, const std::string& text) {
    const auto plain = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '_' || c == '-' || c == '.' || c == '/' || (c & 0x80) != 0;
    };
    if (text.empty() || text.size() > kLabelMax || !std::all_of(text.begin(), text.end(), plain)) {
        return bad("\"" + text.substr(0, 80) +
                   "\" is not a job_id; use 1 to 128 letters, digits, and _ - . /");
    }
    draft.spec.set_label(text);
    return {};
}

Status set_key(JobDraft& draft, const std::string& text) {
    if (text.empty() || text.size() > 255)
        return bad("a key has 1 to 255 bytes; write for example nightly-7");
    draft.spec.set_key(text);
    return {};
}

Status set_output_limit(JobDraft& draft, const std::string& text) {
    REEVE_TRY_ASSIGN(const std::uint64_t bytes, parse_size(text));
    draft.spec.mutable_task()->set_output_limit_bytes(bytes);
    return {};
}

Status set_max_failures(JobDraft& draft, const std::string& text) {
    REEVE_TRY_ASSIGN(const std::uint64_t count, parse_count(text, kElementMax));
    if (count == 0)
        return bad("0 lets none fail; write 1 for the first, or leave it out for no limit");
    draft.spec.set_max_failures(count);
    return {};
}

template <auto Setter>
Status set_text(JobDraft& draft, const std::string& text) {
    if (text.empty()) return bad("the text is empty; write something or leave it out");
    if (text.size() > 4095) return bad("the text is longer than 4095 bytes; shorten it");
    if (text.find('\0') != std::string::npos) return bad("the text holds a NUL byte; remove it");
    (draft.spec.mutable_task()->*Setter)(std::string(text));
    return {};
}

Status set_function(JobDraft& draft, const std::string& text) {
    if (text.empty() || text.size() > kFunctionNameMax) {
        return bad("a function's name has 1 to 64 bytes; write for example echo");
    }
    draft.spec.mutable_task()->set_function(text);
    return {};
}

Status set_data(JobDraft& draft, const std::string& text) {
    draft.spec.mutable_task()->set_data(text);
    return {};
}

Status set_data_file(JobDraft& draft, const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string bytes(kFunctionDataMax + 1, '\0');
    file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    if (!file.is_open() || file.bad()) return bad(path + " cannot be read; correct the path");
    bytes.resize(static_cast<std::size_t>(file.gcount()));
    if (bytes.size() > kFunctionDataMax) return bad(path + " is larger than 1020K; pass its name");
    draft.spec.mutable_task()->set_data(std::move(bytes));
    return {};
}

Status set_hold(JobDraft& draft, const std::string& text) {
    bool hold = false;
    REEVE_TRY(set_flag(text, hold));
    draft.spec.set_hold(hold);
    return {};
}

template <auto Setter>
Status set_task_flag(JobDraft& draft, const std::string& text) {
    bool wanted = false;
    REEVE_TRY(set_flag(text, wanted));
    (draft.spec.mutable_task()->*Setter)(wanted);
    return {};
}

Status set_node(JobDraft& draft, const std::string& text) {
    if (text.empty() || text.size() > 63)
        return bad("a node name has 1 to 63 bytes; see them with: reeve node ls");
    draft.spec.set_node_name(text);
    return {};
}

Status set_sla(JobDraft& draft, const std::string& text) {
    const auto sla = parse_sla(text);
    if (!sla)
        return bad("\"" + text +
                   "\" is none of critical, standard, flexible, spot; write one of them");
    draft.spec.set_sla(rpc::sla_field(*sla));
    return {};
}

// One label more; several are given one by one.
Status add_label(JobDraft& draft, const std::string& text) {
    if (!names_a_value(text)) {
        return bad("\"" + text.substr(0, 80) +
                   "\" is no label; write KEY=VALUE, 3 to 63 letters, digits and "
                   "_ - . / +");
    }
    std::size_t bytes = text.size();
    for (const auto& label : draft.spec.node_labels()) {
        if (label == text) return {};
        bytes += label.size() + 1;
    }
    if (bytes > kLabelsWantedBytesMax)
        return bad("the labels are longer than 255 bytes together; ask for fewer");
    draft.spec.add_node_labels(text);
    return {};
}

Status set_max_price(JobDraft& draft, const std::string& text) {
    REEVE_TRY_ASSIGN(const std::uint32_t micro, parse_price(text));
    if (micro == 0) return bad("0 leaves no worker; leave it out for any price");
    draft.spec.set_max_price_micro(micro);
    return {};
}

Status set_spread(JobDraft& draft, const std::string& text) {
    bool spread = false;
    REEVE_TRY(set_flag(text, spread));
    draft.spec.set_spread(spread);
    return {};
}

Status set_deadline(JobDraft& draft, const std::string& text) {
    const auto now_ms = here().now_ms;
    const bool digit = !text.empty() && text[0] >= '0' && text[0] <= '9';
    const bool date = text.find('-') != std::string::npos;
    auto when = parse_begin_ms(digit && !date ? "+" + text : text, now_ms);
    if (!when) {
        return bad("\"" + text + "\" is not a deadline; write 2h (from now) or 2026-11-22T18:00");
    }
    if (*when <= now_ms) return bad("\"" + text + "\" has passed; give a later one");
    draft.spec.set_deadline_unix_ms(*when);
    return {};
}

Status set_preempt(JobDraft& draft, const std::string& text) {
    const auto mode = preempt_of(text);
    if (!mode) return bad("\"" + text + "\" is none of requeue, cancel, never; write one of them");
    draft.spec.set_preempt(*mode);
    return {};
}

Status set_minimum_run(JobDraft& draft, const std::string& text) {
    std::uint64_t ms = 0;
    if (text != "0" && text != "0s") {
        REEVE_TRY_ASSIGN(ms, parse_time_ms(text));
    }
    if (ms > kMinimumRunMaxMs) return bad("\"" + text + "\" is over 30d; write --preempt never");
    draft.spec.set_minimum_run_ms(ms);
    return {};
}

using Task = v1::TaskSpec;
using Setter = void (Task::*)(std::string&&);

// How it stands among others: order, preemption, limits.
std::vector<OptionRule> policy_rules() {
    using Kind = OptionKind;
    return {
        {"sla", "--sla", "CLASS", Kind::kText,
         "critical, standard (default), flexible or spot; the last two may run on spot workers",
         set_sla, "flexible"},
        {"deadline", "--deadline", "WHEN", Kind::kText,
         "should have ended by then: 2h from now, or 2026-11-22T18:00", set_deadline, "2h"},
        {"preempt", "--preempt", "MODE", Kind::kText,
         "when a better task needs the room: requeue (default), cancel or never", set_preempt,
         "cancel"},
        {"minimum_run", "--minimum-run", "TIME", Kind::kText,
         "is not preempted before it ran so long (default 60s)", set_minimum_run, "10m"},
        {"limits", "--limit", "NAME[:N]", Kind::kText,
         "each task takes one (N) of this named limit of the cell", add_limits, "licence:2"},
    };
}

// Where it may run.
std::vector<OptionRule> wants_rules() {
    using Kind = OptionKind;
    return {
        {"node", "--node", "NAME", Kind::kText, "run only on this node", set_node, "gpu1"},
        {"labels", "--label", "KEY=VALUE", Kind::kList,
         "run only on workers with this label; may be given several times", add_label, "gpu=a100"},
        {"resources.named", "--resource", "NAME[=N]", Kind::kText,
         "N (1) of this named resource of its worker per task; several with commas", add_resources,
         "fpga=2"},
        {"nodes", "--nodes", "N", Kind::kCount,
         "a gang: N tasks, each on a worker of its own, started together or not at all", set_nodes,
         "4"},
        {"max_price", "--max-price", "PRICE", Kind::kNumber,
         "run only on workers that cost at most this an hour", set_max_price, "1.5"},
        {"spread", "--spread", "", Kind::kFlag, "on the emptiest worker that fits, not the fullest",
         set_spread, "true"},
    };
}

std::vector<OptionRule> plain_rules() {
    using Kind = OptionKind;
    return {
        {"resources.cpu", "-c,--cpus", "N", Kind::kNumber, "cpus per task (default 1)", set_cpus,
         "2"},
        {"resources.memory", "--mem", "SIZE", Kind::kText, "memory per task, like 8G", set_memory,
         "8G"},
        {"resources.gpu", "--gpus", "N", Kind::kCount, "whole GPUs per task", set_gpus, "1"},
        {"time_limit", "-t,--time", "TIME", Kind::kText, "time limit per attempt, like 30m",
         set_time, "30m"},
        {"grace", "--grace", "TIME", Kind::kText, "from TERM to KILL (default 5s)", set_grace,
         "5s"},
        {"priority", "-p,--priority", "N", Kind::kCount, "higher starts first (default 0)",
         set_priority, "10"},
        {"name", "--name", "NAME", Kind::kText, "what tables call it",
         set_text<static_cast<Setter>(&Task::set_name<std::string>)>, "train"},
        {"cwd", "--cwd", "DIR", Kind::kText, "working directory (default: here)",
         set_text<static_cast<Setter>(&Task::set_cwd<std::string>)>, "/data"},
        {"input", "--input", "FILE", Kind::kText, "file for stdin (default: empty)",
         set_text<static_cast<Setter>(&Task::set_input<std::string>)>, "in.txt"},
        {"output", "--output", "FILE", Kind::kText,
         "file for stdout, or none (%j job, %a element, %x attempt)",
         set_text<static_cast<Setter>(&Task::set_output<std::string>)>, "out/%j.%a.txt"},
        {"error", "--error", "FILE", Kind::kText, "file for stderr (default: with stdout)",
         set_text<static_cast<Setter>(&Task::set_error<std::string>)>, "out/%j.%a.err"},
        {"output_limit", "--output-limit", "SIZE", Kind::kText,
         "keep only the newest output of this size", set_output_limit, "1G"},
        {"delete_output", "--delete-output", "", Kind::kFlag,
         "delete the output files of tasks that succeed",
         set_task_flag<&v1::TaskSpec::set_delete_output>, "true"},
        {"private_tmp", "--private-tmp", "", Kind::kFlag,
         "a $TMPDIR of its own for each task, removed when it ends",
         set_task_flag<&v1::TaskSpec::set_private_tmp>, "true"},
        {"retries", "--retries", "N|never", Kind::kTextOrCount,
         "further attempts after a failure; never: at most one start", set_retries, "3"},
        {"max_failures", "--max-fails", "N", Kind::kCount,
         "cancel the rest of an array after N failures", set_max_failures, "1"},
        {"hold", "--hold", "", Kind::kFlag, "queue it held; start it with reeve release", set_hold,
         "true"},
        {"begin", "--begin", "WHEN", Kind::kText, "not before: +30m or 2026-11-22T18:00", set_begin,
         "+30m"},
        {"array", "--array", "RANGES", Kind::kText, "elements, like 1-1000%10 (10 at a time)",
         set_array, "1-1000%10"},
        {"after", "--after", "JOBS", Kind::kText,
         "start after 12, afterok:13, afterany:14, afternotok:15", add_dependencies, "afterok:12"},
        {"key", "--key", "KEY", Kind::kText, "submit only once under this key", set_key,
         "nightly-7"},
        {"pin", "--pin", "", Kind::kFlag, "bind each task to as many cores as it asks for",
         set_task_flag<&v1::TaskSpec::set_pin_cpus>, "true"},
        {"shell", "--shell", "", Kind::kFlag, "give the command to /bin/sh -c",
         [](JobDraft& draft, const std::string& text) { return set_flag(text, draft.shell); },
         "true"},
        {"function", "--function", "NAME", Kind::kText,
         "call a worker's handler instead of a program: noop, echo, sleep, or a plug-in's",
         set_function, "echo"},
        {"data", "--data", "TEXT", Kind::kText, "what the function is given", set_data, "hello"},
        {"data_file", "--data-file", "FILE", Kind::kText, "the same, from a file", set_data_file,
         "in.bin"},
        {"job_id", "", "ID", Kind::kTextOrCount, "", set_label, "prepare"},
    };
}

const std::vector<OptionRule>& rules() {
    static const std::vector<OptionRule> all = [] {
        auto out = plain_rules();
        for (auto& rule : policy_rules()) out.push_back(std::move(rule));
        for (auto& rule : wants_rules()) out.push_back(std::move(rule));
        return out;
    }();
    return all;
}

// "afterok" and friends; nullopt for anything else.
std::optional<v1::DependencyKind> dependency_kind(std::string_view word) {
    if (word == "afterok") return v1::AFTER_OK;
    if (word == "afterany") return v1::AFTER_ANY;
    if (word == "afternotok") return v1::AFTER_NOT_OK;
    return std::nullopt;
}

Status add_dependency(JobDraft& draft, v1::DependencyKind kind, std::string_view target) {
    if (target.empty()) return bad("a job is missing; write for example 12 or afterok:12");
    auto* dependency = draft.spec.add_after();
    dependency->set_kind(kind);
    const bool digits = target.find_first_not_of("0123456789") == std::string_view::npos;
    if (!digits) {
        dependency->set_label(std::string(target));
        return {};
    }
    REEVE_TRY_ASSIGN(const std::uint64_t job, parse_count(target, kJobIdMax));
    if (job == 0) return bad("job ids start at 1; see them with: reeve ls --all");
    dependency->set_job(job);
    return {};
}

}  // namespace

const char* preempt_words(v1::PreemptMode mode) {
    switch (mode) {
        case v1::PREEMPT_CANCEL:
            return "cancel";
        case v1::PREEMPT_NEVER:
            return "never";
        default:
            return "requeue";
    }
}

std::optional<v1::PreemptMode> preempt_of(std::string_view text) {
    for (const auto mode : {v1::PREEMPT_REQUEUE, v1::PREEMPT_CANCEL, v1::PREEMPT_NEVER}) {
        if (text == preempt_words(mode)) return mode;
    }
    return std::nullopt;
}

std::string limit_words(const v1::JobSpec& spec) {
    std::string out;
    for (const auto& limit : spec.limits()) {
        out += (out.empty() ? "" : ",") + limit.name();
        if (limit.count() > 1) out += ":" + std::to_string(limit.count());
    }
    return out;
}

Status add_limits(JobDraft& draft, const std::string& text) {
    std::string_view rest = text;
    do {
        const auto comma = std::min(rest.find(','), rest.size());
        const auto one = rest.substr(0, comma);
        rest.remove_prefix(std::min(comma + 1, rest.size()));
        const auto colon = std::min(one.find(':'), one.size());
        const std::string name(one.substr(0, colon));
        std::uint64_t count = 1;
        if (colon < one.size()) {
            const auto parsed = parse_count(one.substr(colon + 1), 1'000'000);
            if (!parsed || *parsed == 0) {
                return bad("\"" + std::string(one) +
                           "\": after the : stands how many each task "
                           "takes, 1 to 1000000; write for example licence:2");
            }
            count = *parsed;
        }
        if (name.empty() || name.size() > kLabelMax) {
            return bad("\"" + text.substr(0, 80) +
                       "\" has no name of a limit; write for example licence or licence:2");
        }
        auto* limits = draft.spec.mutable_limits();
        auto known = std::find_if(limits->begin(), limits->end(),
                                  [&](const auto& limit) { return limit.name() == name; });
        auto& limit = known == limits->end() ? *limits->Add() : *known;
        limit.set_name(name);
        limit.set_count(static_cast<std::uint32_t>(count));
    } while (!rest.empty());
    return {};
}

Status add_resources(JobDraft& draft, const std::string& text) {
    std::string_view rest = text;
    std::vector<std::string> told;
    do {
        const auto comma = std::min(rest.find(','), rest.size());
        REEVE_TRY_ASSIGN(const auto amount, parse_amount_of(rest.substr(0, comma), true));
        rest.remove_prefix(std::min(comma + 1, rest.size()));
        if (std::find(told.begin(), told.end(), amount.name) != told.end()) {
            return bad(amount.name + " is named twice; write one number");
        }
        told.push_back(amount.name);
        auto* all = draft.spec.mutable_resources();
        auto known = std::find_if(all->begin(), all->end(),
                                  [&](const auto& each) { return each.name() == amount.name; });
        auto& each = known == all->end() ? *all->Add() : *known;
        each.set_name(amount.name);
        each.set_count(amount.count);
    } while (!rest.empty());
    return {};
}

std::span<const OptionRule> option_rules() {
    return rules();
}

Status add_dependencies(JobDraft& draft, const std::string& text) {
    std::string_view rest = text;
    while (true) {
        const auto comma = rest.find(',');
        auto part = rest.substr(0, comma);
        auto kind = v1::AFTER_OK;
        if (const auto colon = part.find(':'); colon != std::string_view::npos) {
            const auto found = dependency_kind(part.substr(0, colon));
            if (!found) {
                return bad("\"" + std::string(part.substr(0, colon)) +
                           "\" is no kind of dependency; use afterok, afterany or afternotok");
            }
            kind = *found;
            part.remove_prefix(colon + 1);
        }
        while (true) {
            const auto colon = part.find(':');
            REEVE_TRY(add_dependency(draft, kind, part.substr(0, colon)));
            if (colon == std::string_view::npos) break;
            part.remove_prefix(colon + 1);
        }
        if (comma == std::string_view::npos) return {};
        rest.remove_prefix(comma + 1);
    }
}

Status add_environment(JobDraft& draft, const std::string& text) {
    const auto equals = text.find('=');
    const auto name = text.substr(0, equals);
    if (name.empty() || name.find('\0') != std::string::npos) {
        return bad("\"" + text.substr(0, 80) + "\" has no name; write NAME=VALUE");
    }
    std::string value;
    if (equals != std::string::npos) {
        value = text.substr(equals + 1);
    } else if (const char* found = here().getenv(name.c_str()); found != nullptr) {
        value = found;
    } else {
        return bad(name + " is not set here; write " + name + "=VALUE");
    }
    if (value.find('\0') != std::string::npos) {
        return bad(name + " holds a NUL byte; remove it");
    }
    for (auto& variable : *draft.spec.mutable_task()->mutable_env()) {
        if (variable.name() != name) continue;
        variable.set_value(value);
        return {};
    }
    auto* variable = draft.spec.mutable_task()->add_env();
    variable->set_name(name);
    variable->set_value(value);
    return {};
}

Status set_element_values(JobDraft& draft, const std::string& variable,
                          std::vector<std::string> values) {
    if (values.empty()) return bad("there are no values; write at least one");
    if (values.size() > kElementValuesMax) {
        return bad("there are more than 1000000 values; split them into several jobs");
    }
    const auto letter = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    };
    const auto plain = [&](char c) { return letter(c) || (c >= '0' && c <= '9'); };
    if (variable.empty() || !letter(variable[0]) ||
        !std::all_of(variable.begin(), variable.end(), plain)) {
        return bad("\"" + variable.substr(0, 80) +
                   "\" cannot name a variable; use letters, digits and _");
    }
    draft.spec.mutable_task()->set_element_variable(variable);
    draft.spec.clear_element_values();
    for (auto& value : values) {
        const bool nul = value.find('\0') != std::string::npos;
        if (nul) return bad("a value holds a NUL byte; remove it");
        if (value.size() > kCommandBytesMax) {
            return bad("a value has more than 128 KiB; shorten it");
        }
        draft.spec.add_element_values(std::move(value));
    }
    return {};
}

std::string key_of_draft(const std::string& key, std::size_t index, std::size_t drafts) {
    return drafts == 1 ? key : key + "#" + std::to_string(index);
}

std::uint64_t elements_of(const v1::JobSpec& spec) {
    if (spec.elements().empty()) return 1;
    std::uint64_t total = 0;
    for (const auto& range : spec.elements()) total += range.last() - range.first() + 1;
    return total;
}

}  // namespace reeve::cli
