#include "cli/nodes.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "cli/gather.h"
#include "cli/json_writer.h"
#include "cli/render.h"
#include "cli/text.h"
#include "common/base/clock.h"

namespace reeve::cli {

namespace {

constexpr std::size_t kTopTasks = 15;

std::string ratio(const std::string& used, const std::string& all) {
    return used + "/" + all;
}

// "0.35 spot", "-" without a price.
std::string price_words(const WorkerView& worker) {
    if (worker.price_micro == 0 && !worker.spot) return "-";
    return format_price(worker.price_micro) + (worker.spot ? " spot" : "");
}

std::string label_words(const WorkerView& worker) {
    std::string out;
    for (const auto& label : worker.labels) out += (out.empty() ? "" : ",") + label;
    return out;
}

// "fpga=1/2,port=0/4": of how many how many are taken.
std::string named_ratios(const WorkerView& worker) {
    std::string out;
    for (std::size_t i = 0; i < NamedCounts::kNamedMax; ++i) {
        if (worker.capacity.named[i] == 0) continue;
        out +=
            (out.empty() ? "" : ",") + resource_name(i) + "=" +
            ratio(std::to_string(worker.used.named[i]), std::to_string(worker.capacity.named[i]));
    }
    return out.empty() ? "-" : out;
}

std::string state_words(const WorkerView& worker) {
    const bool silent = worker.lease_ns > 0 && worker.heartbeat_age_ns > worker.lease_ns;
    std::string out = shm::to_string(worker.state);
    if (silent && worker.state == shm::WorkerState::kAlive) out = "silent";
    return out;
}

Table worker_table(const std::vector<WorkerView>& workers) {
    // Columns that say nothing of any worker are left out.
    const bool priced = std::any_of(workers.begin(), workers.end(), [](const auto& worker) {
        return worker.price_micro != 0 || worker.spot;
    });
    const bool labelled = std::any_of(workers.begin(), workers.end(),
                                      [](const auto& worker) { return !worker.labels.empty(); });
    const bool named = std::any_of(workers.begin(), workers.end(), [](const auto& worker) {
        return worker.capacity.named.bytes != 0;
    });
    std::vector<Table::Column> columns{{"WORKER", true}, {"NAME"},           {"STATE"},
                                       {"CPUS", true},   {"MEMORY", true},   {"GPUS", true},
                                       {"TASKS", true},  {"HEARTBEAT", true}};
    if (priced) columns.push_back({"PRICE", true});
    columns.push_back({"HOST"});
    if (named) columns.push_back({"RESOURCES"});
    if (labelled) columns.push_back({"LABELS"});
    const auto last = columns.size() - 1;
    Table table(std::move(columns), last);
    table.colour_states_in(2);
    for (const auto& worker : workers) {
        std::vector<std::string> row{
            std::to_string(worker.number),
            worker.name,
            state_words(worker),
            ratio(format_cpus(worker.used.cpu_milli), format_cpus(worker.capacity.cpu_milli)),
            ratio(format_bytes(worker.used.memory_bytes),
                  format_bytes(worker.capacity.memory_bytes)),
            ratio(std::to_string(worker.used.gpus), std::to_string(worker.capacity.gpus)),
            std::to_string(worker.tasks),
            format_duration_ns(worker.heartbeat_age_ns)};
        if (priced) row.push_back(price_words(worker));
        row.push_back(worker.host);
        if (named) row.push_back(named_ratios(worker));
        if (labelled) row.push_back(label_words(worker));
        table.add(std::move(row));
    }
    return table;
}

std::vector<TaskView> tasks_on(const shm::Segment& segment, std::uint32_t worker_slot) {
    std::vector<TaskView> out;
    for_each_task(segment, [&](const TaskView& view) {
        if (view.word.owned_by_worker() && !view.ahead && view.word.worker_slot() == worker_slot) {
            out.push_back(view);
        }
    });
    std::sort(out.begin(), out.end(), [](const TaskView& a, const TaskView& b) {
        return std::pair(a.result.job(), a.result.element()) <
               std::pair(b.result.job(), b.result.element());
    });
    return out;
}

std::string since(std::uint64_t then_ns) {
    if (then_ns == 0) return "-";
    const auto now = wall_ns();
    return format_duration_ns(now > then_ns ? now - then_ns : 0);
}

Resources request_of(const shm::Segment& segment, const TaskView& view) {
    if (view.class_id >= segment.config().classes) return {};
    return segment.task_class(view.class_id).request;
}

void print_gpus(const WorkerView& worker) {
    if (worker.gpu_loads.empty()) return;
    Table table({{"GPU", true}, {"BUSY", true}, {"MEMORY", true}, {"GRANTED"}, {"UUID"}});
    for (std::size_t i = 0; i < worker.gpu_loads.size(); ++i) {
        const auto& gpu = worker.gpu_loads[i];
        const bool granted = i < 64 && (worker.gpu_used_mask >> i & 1) != 0;
        table.add({std::to_string(i), gpu.known ? std::to_string(gpu.busy_percent) + "%" : "-",
                   gpu.known ? ratio(format_bytes(gpu.memory_used_bytes),
                                     format_bytes(gpu.memory_total_bytes))
                             : "-",
                   granted ? "yes" : "no", gpu.uuid.empty() ? "-" : gpu.uuid});
    }
    write_out("\n");
    table.print();
}

void print_tasks(const shm::Segment& segment, const std::vector<TaskView>& tasks,
                 const std::vector<WorkerView>* workers, std::size_t most) {
    Table table({{"TASK", true},
                 {"STATE", false},
                 {"TRY", true},
                 {"CPUS", true},
                 {"MEMORY", true},
                 {"PID", true},
                 {"TIME", true},
                 {"WORKER", false},
                 {"NAME", false}},
                8);
    table.colour_states_in(1);
    for (std::size_t i = 0; i < tasks.size() && i < most; ++i) {
        const auto& task = tasks[i];
        const auto spec = task_spec(segment, task.slot);
        const auto request = request_of(segment, task);
        std::string worker;
        for (std::size_t w = 0; workers != nullptr && w < workers->size(); ++w) {
            if ((*workers)[w].slot == task.word.worker_slot()) worker = (*workers)[w].name;
        }
        table.add({task_id(task.result, false), task.result.state(),
                   std::to_string(task.result.attempt()), format_cpus(request.cpu_milli),
                   request.memory_bytes == 0 ? "-" : format_bytes(request.memory_bytes),
                   std::to_string(task.result.pid()), since(task.result.started_ns()), worker,
                   spec ? spec->name() : ""});
    }
    table.print();
    if (tasks.size() > most) {
        write_out("and " + std::to_string(tasks.size() - most) + " more\n");
    }
}

struct Counts {
    std::uint64_t held = 0;  // tasks, in slots or not
    std::uint64_t by_state[shm::kSlotStates]{};
    std::uint64_t jobs_live = 0;
    std::uint64_t jobs_ended = 0;
};

Counts count(const shm::Segment& segment) {
    Counts out;
    const auto now = wall_ns();
    for (std::uint32_t i = 0; i < segment.config().task_slots; ++i) {
        const auto& slot = segment.task(i);
        const auto word = shm::load_word(slot);
        const auto shown = waits_ahead(slot, word, now) ? shm::SlotState::kQueued : word.state();
        const auto state = static_cast<std::size_t>(shown);
        if (state < shm::kSlotStates) ++out.by_state[state];
    }
    for (const auto& job : segment_jobs(segment)) {
        (job.state() == "ended" ? out.jobs_ended : out.jobs_live) += 1;
        out.held += job.held();
    }
    return out;
}

std::uint64_t in_state(const Counts& counts, shm::SlotState state) {
    return counts.by_state[static_cast<std::size_t>(state)];
}

void write_counts(JsonWriter& json, const Counts& counts, const shm::Segment& segment) {
    json.key("slots").begin_object();
    for (int i = 0; i < shm::kSlotStates; ++i) {
        json.field(shm::to_string(static_cast<shm::SlotState>(i)), counts.by_state[i]);
    }
    json.end_object().field("backlog", segment.header().backlog_tasks.load());
    json.field("live_jobs", counts.jobs_live + segment.header().backlog_jobs.load());
    json.field("placed", segment.header().placed.load());
}

void print_top(const shm::Segment& segment, double rate) {
    const auto counts = count(segment);
    const auto workers = segment_workers(segment);
    std::vector<TaskView> running;
    for_each_task(segment, [&](const TaskView& view) {
        if (view.word.owned_by_worker() && !view.ahead &&
            view.word.state() != shm::SlotState::kEnded) {
            running.push_back(view);
        }
    });
    std::sort(running.begin(), running.end(), [](const TaskView& a, const TaskView& b) {
        return a.result.started_ns() < b.result.started_ns();
    });
    // What a held job keeps in its run is counted as backlog, too.
    const auto backlog = segment.header().backlog_tasks.load();
    const auto held_in_slots = in_state(counts, shm::SlotState::kHeld);
    const auto held_elsewhere = counts.held - std::min(counts.held, held_in_slots);
    const auto queued = in_state(counts, shm::SlotState::kQueued) +
                        in_state(counts, shm::SlotState::kClaimed) + backlog -
                        std::min(backlog, held_elsewhere);
    char rate_text[32];
    std::snprintf(rate_text, sizeof rate_text, "%.1f", rate);
    write_out("reeve " + format_time_ns(wall_ns()) + "  " +
              std::to_string(counts.jobs_live + segment.header().backlog_jobs.load()) +
              " live jobs, " + std::to_string(queued) + " queued, " +
              std::to_string(std::max(counts.held, held_in_slots)) + " held, " +
              std::to_string(running.size()) + " running, " + rate_text + " starts/s\n");
    if (segment.header().acknowledging.load() == 0) {
        write_out("the ledger cannot be written: nothing new is acknowledged\n");
    }
    write_out("\n");
    worker_table(workers).print();
    if (running.empty()) return;
    write_out("\n");
    print_tasks(segment, running, &workers, kTopTasks);
}

}  // namespace

int node_ls_command(const Context& context) {
    const auto segment = open_segment(context.cell);
    if (!segment) return report(segment.error());
    const auto workers = segment_workers(**segment);
    if (context.form() == Form::kJson) {
        JsonWriter json;
        json.begin_object().field("schema", "reeve.nodes.v1").key("nodes").begin_array();
        for (const auto& worker : workers) write_worker(json, worker);
        json.end_array().end_object().print();
    } else if (context.form() == Form::kParsable || context.quiet) {
        for (const auto& worker : workers) write_out(std::to_string(worker.number) + "\n");
    } else if (workers.empty()) {
        write_out("no workers\n");
    } else {
        worker_table(workers).print();
    }
    return finish(kExitOk);
}

int node_show_command(const Context& context, const std::string& worker) {
    const auto segment = open_segment(context.cell);
    if (!segment) return report(segment.error());
    const auto workers = segment_workers(**segment);
    const auto found = std::find_if(workers.begin(), workers.end(), [&](const WorkerView& one) {
        return one.name == worker || std::to_string(one.number) == worker;
    });
    if (found == workers.end()) {
        return report(Error{ErrorCode::kNotFound, "there is no worker " + worker +
                                                      "; see which are here with: reeve node ls"});
    }
    const auto tasks = tasks_on(**segment, found->slot);
    if (context.form() == Form::kJson) {
        JsonWriter json;
        json.begin_object().field("schema", "reeve.node.v1").key("node");
        write_worker(json, *found);
        json.key("tasks").begin_array();
        for (const auto& task : tasks) write_task(json, task.result);
        json.end_array().end_object().print();
        return finish(kExitOk);
    }
    worker_table({*found}).print();
    write_out("incarnation " + std::to_string(found->incarnation) + ", agent pid " +
              std::to_string(found->agent_pid) + ", launcher pid " +
              std::to_string(found->launcher_pid) + ", lease " +
              format_duration_ns(found->lease_ns) + ", joined " + format_time_ns(found->joined_ns) +
              "\n");
    if (found->notice_ns != 0) {
        write_out("it will vanish at " + format_time_ns(found->notice_ns) + "\n");
    }
    if (!found->cgroup.empty()) write_out("cgroup " + escape(found->cgroup) + "\n");
    print_gpus(*found);
    if (!tasks.empty()) {
        write_out("\n");
        print_tasks(**segment, tasks, nullptr, 1000);
    }
    return finish(kExitOk);
}

int top_command(const Context& context, const TopOptions& options) {
    std::uint64_t placed = 0;
    std::uint64_t then = 0;
    for (std::uint64_t shown = 0;; ++shown) {
        // Opened anew each time: the PLM may have made another one.
        const auto segment = open_segment(context.cell);
        if (!segment) return report(segment.error());
        const auto now_placed = (*segment)->header().placed.load();
        const auto now = boot_ns();
        const double rate =
            then == 0 || now_placed < placed
                ? 0.0
                : static_cast<double>(now_placed - placed) * 1e9 / static_cast<double>(now - then);
        placed = now_placed;
        then = now;
        if (context.form() == Form::kJson) {
            JsonWriter json;
            json.begin_object().field("schema", "reeve.top.v1");
            json.field("time", format_iso_ns(wall_ns())).field("starts_per_second", rate);
            write_counts(json, count(**segment), **segment);
            json.key("nodes").begin_array();
            for (const auto& worker : segment_workers(**segment)) write_worker(json, worker);
            json.end_array().end_object().print();
        } else {
            if (stdout_is_terminal()) write_out("\x1b[H\x1b[2J");
            print_top(**segment, rate);
        }
        if (finish(kExitOk) != kExitOk || std::ferror(stdout) != 0) return kExitOk;
        if (options.count != 0 && shown + 1 >= options.count) return kExitOk;
        std::this_thread::sleep_for(std::chrono::duration<double>(options.interval_seconds));
    }
}

}  // namespace reeve::cli
