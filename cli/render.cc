#include "cli/render.h"

#include <cstdlib>
#include <cstring>

#include "cli/job_draft.h"
#include "cli/text.h"
#include "common/base/clock.h"
#include "common/process/users.h"
#include "common/rpc/wants.h"

namespace reeve::cli {

std::string job_state(const v1::JobStatus& status) {
    if (status.state() == "ended") {
        if (status.failed() > 0) return "failed";
        return status.cancelled() > 0 ? "cancelled" : "succeeded";
    }
    if (status.state() == "active") {
        if (status.running() > 0) return "running";
        const bool all_held = status.held() > 0 && status.backlog() + status.queued() == 0;
        return all_held ? "held" : "queued";
    }
    return status.state();
}

std::string task_state(const v1::TaskResult& result) {
    return result.state() == "ended" && !result.outcome().empty() ? result.outcome()
                                                                  : result.state();
}

std::string exit_words(std::int32_t code) {
    if (code == 0) return "";
    if (code > 0) return "exit " + std::to_string(code);
    const auto number = "signal " + std::to_string(-code);
    const char* name = sigabbrev_np(-code);
    return name == nullptr ? number : number + " (SIG" + name + ")";
}

std::string note_words(const v1::TaskResult& result) {
    std::string out = result.state() == "ended" ? exit_words(result.exit_code()) : "";
    if (result.core_dumped()) out += ", core dumped";
    // The worker's own words repeat a plain exit status, or the signal.
    const auto& detail = result.detail();
    if (detail.empty() || detail == "exit status " + std::to_string(result.exit_code())) return out;
    return out.empty() || detail.starts_with(out) ? detail : out + ": " + detail;
}

std::string task_id(std::uint64_t job, std::uint64_t element) {
    return element == 0 ? std::to_string(job) : std::to_string(job) + "." + std::to_string(element);
}

std::string task_id(const v1::TaskResult& result, bool array) {
    if (!array) return task_id(result.job(), result.element());
    return std::to_string(result.job()) + "." + std::to_string(result.element());
}

std::string worker_id(std::uint64_t number, std::uint64_t incarnation) {
    if (number == 0) return "";
    return std::to_string(number) + "/" + std::to_string(incarnation);
}

std::string dependency_words(const v1::Dependency& dependency) {
    const std::string target =
        dependency.label().empty() ? std::to_string(dependency.job()) : dependency.label();
    switch (dependency.kind()) {
        case v1::AFTER_ANY:
            return "afterany:" + target;
        case v1::AFTER_NOT_OK:
            return "afternotok:" + target;
        default:
            return "afterok:" + target;
    }
}

std::string command_words(const v1::TaskSpec& task) {
    return shell_join({task.argv().begin(), task.argv().end()});
}

Resources resources_of(const v1::ResourceRequest& request) {
    Resources out;
    out.cpu_milli = request.cpu_milli();
    out.memory_bytes = request.memory_bytes();
    out.gpus = request.gpus();
    return out;
}

std::string resource_words(const Resources& resources) {
    std::string out =
        format_cpus(resources.cpu_milli) + (resources.cpu_milli == 1000 ? " cpu" : " cpus");
    if (resources.memory_bytes > 0) out += ", " + format_bytes(resources.memory_bytes);
    if (resources.gpus > 0) {
        out += ", " + std::to_string(resources.gpus) + (resources.gpus == 1 ? " gpu" : " gpus");
    }
    if (const auto named = named_words(resources.named); !named.empty()) out += ", " + named;
    return out;
}

namespace {

shm::ResourceNames& names() {
    static shm::ResourceNames known;
    return known;
}

void write_amounts(JsonWriter& json, const Resources& resources) {
    json.field("cpu", static_cast<double>(resources.cpu_milli) / 1000);
    json.field("memory_bytes", resources.memory_bytes).field("gpu", resources.gpus);
    json.key("named").begin_object();
}

}  // namespace

void know_resource_names(shm::ResourceNames known) {
    names() = std::move(known);
}

std::string resource_name(std::size_t number) {
    const auto& name = names()[number];
    return name.empty() ? "resource-" + std::to_string(number) : name;
}

std::string named_words(const NamedCounts& counts) {
    std::string out;
    for (std::size_t i = 0; i < NamedCounts::kNamedMax; ++i) {
        if (counts[i] == 0) continue;
        out += (out.empty() ? "" : ",") + resource_name(i) + "=" + std::to_string(counts[i]);
    }
    return out;
}

std::string named_words(const v1::JobSpec& spec) {
    std::string out;
    for (const auto& each : spec.resources()) {
        out += (out.empty() ? "" : ",") + each.name() + "=" +
               std::to_string(std::max(each.count(), 1U));
    }
    return out;
}

void write_resources(JsonWriter& json, std::string_view key, const Resources& resources) {
    json.key(key).begin_object();
    write_amounts(json, resources);
    for (std::size_t i = 0; i < NamedCounts::kNamedMax; ++i) {
        if (resources.named[i] != 0) json.field(resource_name(i), resources.named[i]);
    }
    json.end_object().end_object();
}

void write_time(JsonWriter& json, std::string_view name, std::uint64_t wall_ns) {
    json.key(name);
    if (wall_ns == 0) {
        json.null();
    } else {
        json.value(format_iso_ns(wall_ns));
    }
}

namespace {

// So many of each name, into an object that is open.
template <typename Amounts>
void write_counts(JsonWriter& json, const Amounts& amounts) {
    for (const auto& each : amounts) json.field(each.name(), std::max(each.count(), 1U));
    json.end_object();
}

template <typename T>
void value_or_null(JsonWriter& json, std::string_view name, bool known, T value) {
    json.key(name);
    if (known) {
        json.value(value);
    } else {
        json.null();
    }
}

// A code is an exit status, or -signal.
void write_exit(JsonWriter& json, bool known, std::int32_t code) {
    value_or_null(json, "exit_code", known && code >= 0, code);
    value_or_null(json, "signal", known && code < 0, -code);
}

// The history does not tell how far a job is that lives.
bool counted(const v1::JobStatus& status) {
    const auto done = status.succeeded() + status.failed() + status.cancelled();
    const auto live = status.backlog() + status.held() + status.queued() + status.running();
    return status.state() == "ended" || live > 0 || done >= status.elements();
}

void write_job_fields(JsonWriter& json, const v1::JobStatus& status) {
    json.field("job", status.job()).field("name", status.name());
    json.field("state", job_state(status)).field("priority", status.priority());
    json.field("user", user_name(status.uid())).field("uid", status.uid());
    json.key("tasks").begin_object().field("total", status.elements());
    const bool known = counted(status);
    value_or_null(json, "backlog", known, status.backlog());
    value_or_null(json, "held", known, status.held());
    value_or_null(json, "queued", known, status.queued());
    value_or_null(json, "running", known, status.running());
    json.field("succeeded", status.succeeded()).field("failed", status.failed());
    json.field("cancelled", status.cancelled()).end_object();
    write_time(json, "submitted", status.submit_ns());
    write_time(json, "started", status.start_ns());
    write_time(json, "ended", status.end_ns());
    write_exit(json, status.failed() > 0 && status.exit_code() != 0, status.exit_code());
    json.field("reason", status.reason());
    json.key("cost").decimal(status.cost_nano(), 9);
    json.key("after").begin_array();
    for (const auto& dependency : status.after()) json.value(dependency_words(dependency));
    json.end_array();
}

// Nobody saw the end of what never started, or was taken from its worker.
bool has_exit(const v1::TaskResult& result) {
    if (result.exit_code() != 0 || result.outcome() == to_string(Outcome::kSucceeded)) return true;
    return result.started_ns() != 0 && result.outcome() != to_string(Outcome::kRequeued) &&
           result.outcome() != to_string(Outcome::kLost) &&
           result.outcome() != to_string(Outcome::kPoison);
}

}  // namespace

void write_job(JsonWriter& json, const v1::JobStatus& status) {
    json.begin_object();
    write_job_fields(json, status);
    json.end_object();
}

void write_listed_job(JsonWriter& json, const v1::JobStatus& status) {
    json.begin_object();
    write_job_fields(json, status);
    if (status.has_spec()) {
        const auto& spec = status.spec();
        json.field("sla", to_string(rpc::sla_of(spec.sla())));
        write_time(json, "deadline", spec.deadline_unix_ms() * kMillisecond);
        json.key("limits").begin_object();
        write_counts(json, spec.limits());
        json.key("named_resources").begin_object();
        write_counts(json, spec.resources());
    } else {
        json.key("sla").null().key("deadline").null().key("limits").null();
        json.key("named_resources").null();
    }
    json.end_object();
}

void write_spec(JsonWriter& json, const v1::JobSpec& spec) {
    const auto& task = spec.task();
    json.begin_object().key("command").begin_array();
    for (const auto& word : task.argv()) json.value(word);
    json.end_array().field("name", task.name()).field("cwd", task.cwd());
    json.field("input", task.input()).field("output", task.output()).field("error", task.error());
    json.key("resources").begin_object();
    write_amounts(json, resources_of(task.resources()));
    write_counts(json, spec.resources());
    json.end_object();
    json.key("env").begin_object();
    for (const auto& entry : task.env()) json.field(entry.name(), entry.value());
    json.end_object();
    json.field("time_limit_ms", task.time_limit_ms()).field("grace_ms", task.grace_ms());
    json.field("retries", spec.retries());
    json.field("at_most_once", task.retry_mode() == v1::RETRY_NEVER);
    json.field("priority", spec.priority()).field("hold", spec.hold());
    json.key("labels").begin_array();
    for (const auto& label : spec.node_labels()) json.value(label);
    json.end_array().key("max_price");
    spec.max_price_micro() == 0 ? json.null() : json.decimal(spec.max_price_micro(), 6);
    json.field("spread", spec.spread()).field("nodes", std::max(spec.nodes(), 1U));
    json.field("sla", to_string(rpc::sla_of(spec.sla())));
    write_time(json, "deadline", spec.deadline_unix_ms() * kMillisecond);
    json.field("preempt", preempt_words(spec.preempt())).key("minimum_run_ms");
    spec.has_minimum_run_ms() ? json.value(spec.minimum_run_ms()) : json.null();
    json.key("limits").begin_object();
    write_counts(json, spec.limits());
    json.field("max_running", spec.max_running()).field("max_failures", spec.max_failures());
    json.field("not_before_ms", spec.not_before_unix_ms()).field("node", spec.node_name());
    json.field("label", spec.label());
    json.field("key", spec.key().rfind(kOwnKeyPrefix, 0) == 0 ? "" : spec.key());
    json.field("pin", task.pin_cpus()).field("output_limit_bytes", task.output_limit_bytes());
    json.field("delete_output", task.delete_output()).field("private_tmp", task.private_tmp());
    json.key("elements").begin_array();
    for (const auto& range : spec.elements()) {
        json.begin_array().value(range.first()).value(range.last()).end_array();
    }
    json.end_array().field("element_variable", task.element_variable());
    json.field("element_values", spec.element_values_size()).end_object();
}

std::uint64_t cost_of(const v1::TaskResult& result) {
    const auto until = result.ended_ns() != 0 ? result.ended_ns() : wall_ns();
    return cost_nano(result.price_micro(), result.started_ns(), until);
}

void write_task(JsonWriter& json, const v1::TaskResult& result) {
    json.begin_object().field("job", result.job()).field("element", result.element());
    json.field("state", task_state(result)).field("attempt", result.attempt());
    write_exit(json, result.state() == "ended" && has_exit(result), result.exit_code());
    json.field("core_dumped", result.core_dumped()).field("detail", result.detail());
    write_time(json, "submitted", result.submit_ns());
    write_time(json, "assigned", result.assigned_ns());
    write_time(json, "started", result.started_ns());
    write_time(json, "ended", result.ended_ns());
    json.field("user_us", result.user_us()).field("system_us", result.system_us());
    json.field("max_rss_bytes", result.max_rss_bytes());
    json.field("worker", result.worker_number());
    json.field("worker_incarnation", result.worker_incarnation());
    json.field("worker_name", result.worker_name());
    json.field("pid", result.pid()).field("deaths", result.deaths());
    json.key("price").decimal(result.price_micro(), 6);
    json.key("cost").decimal(cost_of(result), 9).end_object();
}

void write_worker(JsonWriter& json, const WorkerView& worker) {
    json.begin_object().field("worker", worker.number).field("incarnation", worker.incarnation);
    json.field("name", worker.name).field("host", worker.host);
    json.field("state", shm::to_string(worker.state));
    json.field("drain_wanted", worker.drain_wanted);
    write_resources(json, "capacity", worker.capacity);
    write_resources(json, "used", worker.used);
    json.field("gpu_used_mask", worker.gpu_used_mask).field("tasks", worker.tasks);
    json.field("agent_pid", worker.agent_pid).field("launcher_pid", worker.launcher_pid);
    json.field("heartbeat_age_ms", worker.heartbeat_age_ns / kMillisecond);
    json.field("lease_ms", worker.lease_ns / kMillisecond).field("cgroup", worker.cgroup);
    write_time(json, "joined", worker.joined_ns);
    json.key("labels").begin_array();
    for (const auto& label : worker.labels) json.value(label);
    json.end_array().key("price").decimal(worker.price_micro, 6);
    json.key("on_demand_price").decimal(worker.on_demand_micro, 6).field("spot", worker.spot);
    write_time(json, "notice", worker.notice_ns);
    json.key("gpus").begin_array();
    for (const auto& gpu : worker.gpu_loads) {
        json.begin_object().field("uuid", gpu.uuid).key("busy_percent");
        gpu.known ? json.value(gpu.busy_percent) : json.null();
        json.field_or_null("memory_used", gpu.known ? gpu.memory_used_bytes : 0);
        json.field_or_null("memory_total", gpu.known ? gpu.memory_total_bytes : 0).end_object();
    }
    json.end_array().end_object();
}

}  // namespace reeve::cli
