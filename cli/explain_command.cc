// The command's half of explain.h: what is known about the job, and how the answer is told.
#include <algorithm>

#include "cli/catalogue.h"
#include "cli/explain.h"
#include "cli/forecast.h"
#include "cli/json_writer.h"
#include "cli/render.h"
#include "cli/text.h"
#include "common/rpc/wants.h"
#include "common/shm/resource_names.h"

namespace reeve::cli {

namespace {

constexpr std::size_t kHoldersShown = 8;

// A name that nobody has here stands at a place of its own, which no worker has anything of.
NamedCounts counts_of(const std::vector<NamedAmount>& amounts, const shm::Segment& segment) {
    auto names = shm::resource_names(segment);
    NamedCounts out;
    for (const auto& amount : amounts) {
        auto place = std::find(names.begin(), names.end(), amount.name);
        if (place == names.end()) place = std::find(names.begin(), names.end(), "");
        if (place == names.end()) return NamedCounts::nowhere();  // all are other names
        *place = amount.name;
        out.set(static_cast<std::size_t>(place - names.begin()),
                std::min(amount.count, NamedCounts::kCountMax));
    }
    know_resource_names(std::move(names));
    return out;
}

Result<ExplainJob> known_about(Gatherer& gatherer, const Selected& selected) {
    ExplainJob out;
    REEVE_TRY_ASSIGN(out.status, gatherer.status(selected.job));
    if (auto spec = gatherer.spec(selected.job)) {
        take_dependencies(out.status, *spec);
        *out.status.mutable_spec() = std::move(*spec);
    }
    out.request = resources_of(out.status.spec().task().resources());
    out.wants = rpc::wants_of(out.status.spec());
    out.nodes = std::max(out.status.spec().nodes(), 1U);
    if (gatherer.segment() != nullptr) {
        out.request.named = counts_of(out.wants.resources, *gatherer.segment());
    }
    if (!out.status.waits_for().empty()) out.gate = gatherer.waiting_words(selected.job);
    if (!selected.elements.empty()) out.element = selected.elements.front().first;
    for (const auto& dependency : out.status.after()) {
        std::optional<v1::JobStatus> state;
        if (auto found = gatherer.status(dependency.job())) state = std::move(*found);
        out.after.emplace_back(dependency, std::move(state));
    }
    return out;
}

void write_answer(JsonWriter& json, const Answer& answer, const ExplainJob& job) {
    json.begin_object().field("job", answer.job).field("state", answer.state);
    write_resources(json, "request", job.request);
    json.key("gang");
    if (answer.nodes > 1) {
        json.begin_object().field("nodes", answer.nodes).field("able", answer.nodes_able);
        json.field("free", answer.nodes_free).end_object();
    } else {
        json.null();
    }
    json.field("ahead", answer.ahead).field("ahead_alike", answer.ahead_alike);
    json.key("order");
    if (answer.order) {
        json.begin_object().field("score", answer.order->score());
        json.field("priority", answer.order->priority).field("sla", answer.order->sla);
        json.field("age", answer.order->age).field("fair_share", answer.order->fair_share);
        json.field("length", answer.order->length);
        json.field("urgent", answer.urgent).end_object();
    } else {
        json.null();
    }
    write_time(json, "deadline", answer.deadline_ns);
    write_time(json, "earliest_start", answer.earliest_start_ns);
    write_time(json, "likely_end", answer.likely_end_ns);
    json.key("reasons").begin_array();
    for (const auto& reason : answer.reasons) {
        json.begin_object().field("code", reason.code).field("text", reason.text);
        json.key("jobs").begin_array();
        for (const auto id : reason.jobs) json.value(id);
        json.end_array().end_object();
    }
    json.end_array().key("workers").begin_array();
    for (const auto& worker : answer.workers) {
        json.begin_object().field("worker", worker.worker->number);
        json.field("name", worker.worker->name).field("code", worker.code);
        json.key("refusals").begin_array();
        for (const auto refusal : worker.refusals) json.value(sched::to_string(refusal));
        json.end_array();
        write_resources(json, "capacity", worker.worker->capacity);
        write_resources(json, "free", worker.free);
        write_resources(json, "missing", worker.missing);
        json.key("held_by").begin_array();
        for (const auto& holder : worker.holders) {
            json.begin_object().field("job", holder.task->job);
            json.field("element", holder.task->element);
            json.field("task", task_id(holder.task->job, holder.task->element));
            write_resources(json, "holds", holder.task->request);
            json.field("enough", holder.enough).end_object();
        }
        json.end_array().end_object();
    }
    json.end_array().end_object();
}

std::string missing_words(const Resources& missing) {
    std::string out;
    const auto add = [&out](const std::string& part) { out += (out.empty() ? "" : ", ") + part; };
    if (missing.cpu_milli > 0) add(format_cpus(missing.cpu_milli) + " cpu");
    if (missing.memory_bytes > 0) add(format_bytes(missing.memory_bytes));
    if (missing.gpus > 0) add(std::to_string(missing.gpus) + " gpu");
    if (missing.named.bytes != 0) add(named_words(missing.named));
    return out;
}

std::string holder_words(const WorkerAnswer& worker) {
    std::string enough;
    std::string others;
    std::size_t shown = 0;
    for (const auto& holder : worker.holders) {
        if (++shown > kHoldersShown) break;
        auto& list = holder.enough ? enough : others;
        list += (list.empty() ? "" : ", ") + task_id(holder.task->job, holder.task->element);
    }
    std::string out;
    const bool several = enough.find(',') != std::string::npos;
    if (!enough.empty()) out = (several ? "any of " : "") + enough + " ending makes room";
    if (!others.empty()) out += (out.empty() ? "held by " : "; also held by ") + others;
    if (worker.holders.size() > kHoldersShown) {
        out += " and " + std::to_string(worker.holders.size() - kHoldersShown) + " more";
    }
    return out;
}

std::string worker_line(const WorkerAnswer& worker) {
    if (worker.code == "fits") return "has room: " + resource_words(worker.free) + " free";
    if (worker.code == "wrong-node") return "is not the node it asks for";
    if (worker.code == "draining") return "is draining and takes nothing new";
    if (worker.code == "not-alive") {
        return std::string("is ") + shm::to_string(worker.worker->state);
    }
    if (!worker.barrier.empty()) return worker.barrier;
    if (worker.code == "too-small") {
        return "is too small by " + missing_words(worker.missing) + " (it has " +
               resource_words(worker.worker->capacity) + ")";
    }
    const auto holders = holder_words(worker);
    return "lacks " + missing_words(worker.missing) + (holders.empty() ? "" : "; " + holders);
}

void print_answer(const Answer& answer, std::uint64_t now_ns) {
    write_out("job " + std::to_string(answer.job) + " " +
              coloured(answer.state, colour_of_state(answer.state)) + "\n");
    for (const auto& reason : answer.reasons) write_out("  " + escape(reason.text) + "\n");
    for (const auto& worker : answer.workers) {
        const auto name = worker.worker->name.empty() ? std::to_string(worker.worker->number)
                                                      : worker.worker->name;
        write_out("  " + escape(name) + " " + escape(worker_line(worker)) + "\n");
    }
    if (answer.ahead > 0) {
        write_out("  " + std::to_string(answer.ahead) + " queued before it, " +
                  std::to_string(answer.ahead_alike) + " of them asking for the same\n");
    }
    if (answer.order) {
        write_out("  score " + answer.order->to_string() + "\n");
    }
    if (answer.deadline_ns != 0) {
        write_out("  deadline " + format_time_ns(answer.deadline_ns) +
                  (answer.urgent ? ", so near that it counts as critical" : "") + "\n");
    }
    if (answer.earliest_start_ns > now_ns) {
        write_out("  " + forecast_words(answer.earliest_start_ns, now_ns) + "\n");
    }
    if (answer.likely_end_ns != 0) {
        write_out("  likely ends at " + format_time_ns(answer.likely_end_ns) +
                  ", as it took when it ran before\n");
    }
}

}  // namespace

int explain_command(const Context& context, const ExplainOptions& options) {
    const auto selectors = parse_selectors(options.selectors);
    if (!selectors) return report(selectors.error());
    Gatherer gatherer(context);
    if (gatherer.nothing()) return report(gatherer.segment_error());
    const bool down = gatherer.segment() == nullptr;
    const auto selected = select_jobs(context, *selectors, Scope::kKnown);
    if (!selected) return report(down ? gatherer.segment_error() : selected.error());
    if (auto there = gatherer.check_elements(*selected); !there) return report(there.error());
    const auto picture = down ? Picture::of_cell_down() : take_picture(*gatherer.segment());
    JsonWriter json;
    json.begin_object().field("schema", "reeve.explain.v1").key("jobs").begin_array();
    int code = kExitOk;
    for (const auto& one : *selected) {
        auto job = known_about(gatherer, one);
        if (!job) {
            code = report(job.error());
            continue;
        }
        const auto answer = explain_job(picture, *job);
        if (context.form() == Form::kJson) {
            write_answer(json, answer, *job);
        } else {
            print_answer(answer, picture.now_ns);
        }
    }
    if (context.form() == Form::kJson) json.end_array().end_object().print();
    return finish(code);
}

}  // namespace reeve::cli
