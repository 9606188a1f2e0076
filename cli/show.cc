// show: one job in full, with its tasks; the other half of ls.h.
#include <algorithm>

#include "cli/catalogue.h"
#include "cli/gather.h"
#include "cli/job_draft.h"
#include "cli/json_writer.h"
#include "cli/ls.h"
#include "cli/render.h"
#include "cli/text.h"
#include "cli/units.h"
#include "common/base/clock.h"
#include "common/process/users.h"
#include "common/rpc/wants.h"

namespace reeve::cli {

namespace {

void line(const char* name, const std::string& value) {
    if (value.empty()) return;
    std::string padded = name;
    padded.resize(12, ' ');
    write_out(padded + escape(value) + "\n");
}

std::string counts(const v1::JobStatus& status) {
    std::string out = std::to_string(status.elements());
    const auto add = [&out](std::uint64_t count, const char* word) {
        if (count > 0) out += ", " + std::to_string(count) + " " + word;
    };
    add(status.backlog() + status.queued(), "queued");
    add(status.held(), "held");
    add(status.running(), "running");
    add(status.succeeded(), "succeeded");
    add(status.failed(), "failed");
    add(status.cancelled(), "cancelled");
    return out;
}

std::string times(const v1::JobStatus& status) {
    std::string out = format_time_ns(status.submit_ns());
    if (status.start_ns() != 0) out += ", started " + format_time_ns(status.start_ns());
    if (status.end_ns() != 0) out += ", ended " + format_time_ns(status.end_ns());
    return out;
}

std::string retry_words(const v1::JobSpec& spec) {
    if (spec.task().retry_mode() == v1::RETRY_NEVER) return "never (at most one start)";
    return spec.retries() == 0 ? "" : std::to_string(spec.retries());
}

void print_spec(const v1::JobSpec& spec, bool environment) {
    const auto& task = spec.task();
    line("command", command_words(task));
    if (!task.function().empty()) {
        const auto data = spec.element_data_size() > 0 ? ", data for each element"
                          : task.data().empty()        ? ""
                                                       : ", " + format_bytes(task.data().size());
        line("function", task.function() + data);
    }
    line("cwd", task.cwd());
    line("input", task.input());
    line("output", task.output());
    line("error", task.error());
    const auto named = named_words(spec);
    line("resources",
         resource_words(resources_of(task.resources())) + (named.empty() ? "" : ", ") + named);
    line("time limit", task.time_limit_ms() == 0
                           ? "none"
                           : format_duration_ns(task.time_limit_ms() * kMillisecond));
    line("retries", retry_words(spec));
    if (spec.sla() != v1::SLA_STANDARD)
        line("sla", std::string(to_string(rpc::sla_of(spec.sla()))));
    if (spec.deadline_unix_ms() != 0) {
        line("deadline", format_time_ns(spec.deadline_unix_ms() * kMillisecond));
    }
    line("limits", limit_words(spec));
    if (spec.preempt() != v1::PREEMPT_REQUEUE) line("preempt", preempt_words(spec.preempt()));
    if (spec.has_minimum_run_ms()) {
        line("minimum run", format_duration_ns(spec.minimum_run_ms() * kMillisecond));
    }
    line("node", spec.node_name());
    for (const auto& label : spec.node_labels()) line("needs label", label);
    if (spec.max_price_micro() > 0) {
        line("max price", format_price(spec.max_price_micro()) + " an hour");
    }
    if (spec.spread()) line("spread", "yes");
    if (spec.nodes() > 1) line("gang", std::to_string(spec.nodes()) + " workers, a task on each");
    line("label", spec.label());
    if (spec.key().rfind(kOwnKeyPrefix, 0) != 0) line("key", spec.key());
    if (spec.max_running() > 0) line("at a time", std::to_string(spec.max_running()));
    if (spec.max_failures() > 0) line("max fails", std::to_string(spec.max_failures()));
    const bool only_zero = spec.elements_size() == 1 && spec.elements(0).last() == 0;
    if (!spec.elements().empty() && !only_zero) {
        std::vector<Range> ranges;
        for (const auto& range : spec.elements()) ranges.push_back({range.first(), range.last()});
        line("elements", shorten(format_ranges(ranges), 60));
    }
    if (!environment) return;
    for (const auto& entry : task.env()) line("env", entry.name() + "=" + entry.value());
}

std::string run_time(const v1::TaskResult& result) {
    if (result.started_ns() == 0) return "-";
    const bool ended = result.state() == "ended";
    const auto end = ended ? result.ended_ns() : wall_ns();
    return format_duration_ns(end > result.started_ns() ? end - result.started_ns() : 0);
}

std::string worker_words(const v1::TaskResult& result) {
    if (result.worker_number() == 0) return "";
    return result.worker_name().empty() ? std::to_string(result.worker_number())
                                        : result.worker_name();
}

void print_tasks(const JobDetail& detail) {
    if (detail.tasks.empty()) return;
    const bool priced = std::any_of(detail.tasks.begin(), detail.tasks.end(),
                                    [](const auto& task) { return task.price_micro() != 0; });
    std::vector<Table::Column> columns{{"TASK", true}, {"STATE"},       {"TRY", true},
                                       {"WORKER"},     {"PID", true},   {"TIME", true},
                                       {"CPU", true},  {"MEMORY", true}};
    if (priced) columns.push_back({"COST", true});
    columns.push_back({"NOTE"});
    const auto last = columns.size() - 1;
    Table table(std::move(columns), last);
    table.colour_states_in(1);
    const bool array = detail.status.elements() > 1;
    for (const auto& task : detail.tasks) {
        const auto cpu_us = task.user_us() + task.system_us();
        std::vector<std::string> row{
            task_id(task, array),
            task_state(task),
            std::to_string(task.attempt()),
            worker_words(task),
            task.pid() == 0 ? "" : std::to_string(task.pid()),
            run_time(task),
            cpu_us == 0 ? "" : format_duration_ns(cpu_us * 1000),
            task.max_rss_bytes() == 0 ? "" : format_bytes(task.max_rss_bytes())};
        if (priced) row.push_back(format_cost(cost_of(task)));
        row.push_back(note_words(task));
        table.add(std::move(row));
    }
    write_out("\n");
    table.print();
    if (detail.tasks_cut > 0) {
        write_out("more tasks are not shown; raise --limit or name elements, like " +
                  std::to_string(detail.status.job()) + ".1-100\n");
    }
}

// Which elements are in which state, as ranges: `failed 3,7-9`.
void print_ranges(const JobDetail& detail) {
    if (detail.status.elements() <= 1) return;
    for (const auto& [state, elements] : detail.states) {
        line(state.c_str(), shorten(format_ranges(elements), 60));
    }
}

void print_job(const JobDetail& detail, const ShowOptions& options) {
    const auto& status = detail.status;
    line("job", std::to_string(status.job()));
    line("name", status.name());
    line("state", job_state(status));
    line("reason", status.reason());
    line("user", user_name(status.uid()));
    line("priority", std::to_string(status.priority()));
    line("tasks", counts(status));
    line("submitted", times(status));
    if (status.cost_nano() > 0) line("cost", format_cost(status.cost_nano()));
    if (status.spec().not_before_unix_ms() > 0) {
        line("begin", format_time_ns(status.spec().not_before_unix_ms() * kMillisecond));
    }
    std::string after;
    for (const auto& dependency : status.after()) {
        after += (after.empty() ? "" : ", ") + dependency_words(dependency);
    }
    line("after", after);
    if (detail.has_spec) {
        print_spec(status.spec(), options.environment);
    } else if (status.has_spec()) {
        line("resources", resource_words(resources_of(status.spec().task().resources())));
    }
    print_ranges(detail);
    print_tasks(detail);
}

void write_detail(JsonWriter& json, const JobDetail& detail) {
    json.begin_object().key("job");
    write_job(json, detail.status);
    json.key("spec");
    if (detail.has_spec) {
        write_spec(json, detail.status.spec());
    } else {
        json.null();
    }
    json.field("tasks_cut", detail.tasks_cut).key("tasks").begin_array();
    for (const auto& task : detail.tasks) write_task(json, task);
    json.end_array().end_object();
}

}  // namespace

int show_command(const Context& context, const ShowOptions& options) {
    const auto selectors = parse_selectors(options.selectors);
    if (!selectors) return report(selectors.error());
    Gatherer gatherer(context);
    if (gatherer.nothing()) return report(gatherer.segment_error());
    const auto selected = select_jobs(context, *selectors, Scope::kKnown);
    if (!selected) return report(selected.error());
    if (auto there = gatherer.check_elements(*selected); !there) return report(there.error());
    JsonWriter json;
    json.begin_object().field("schema", "reeve.job.v1").key("jobs").begin_array();
    int code = kExitOk;
    bool first = true;
    for (const auto& one : *selected) {
        const auto detail = gatherer.detail(one, {options.attempts, options.limit, true});
        if (!detail) {
            // What can be shown is shown; the exit code tells that something was not found.
            code = report(detail.error());
            continue;
        }
        if (context.form() == Form::kJson) {
            write_detail(json, *detail);
        } else if (context.form() == Form::kParsable) {
            for (const auto& task : detail->tasks) {
                write_out(task_id(task, detail->status.elements() > 1) + "\n");
            }
        } else {
            if (!first) write_out("\n");
            print_job(*detail, options);
        }
        first = false;
    }
    if (context.form() == Form::kJson) json.end_array().end_object().print();
    return finish(code);
}

}  // namespace reeve::cli
