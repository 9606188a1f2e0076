// shm stat and shm watch: counters of the segment, and its slots as they move.
#include <chrono>
#include <cstdio>
#include <map>
#include <thread>

#include "cli/json_writer.h"
#include "cli/look.h"
#include "cli/render.h"
#include "cli/shm_command.h"
#include "cli/text.h"
#include "common/base/clock.h"
#include "common/shm/ring.h"

namespace reeve::cli {

namespace {

struct Figures {
    std::uint64_t slots[shm::kSlotStates]{};
    std::uint64_t damaged = 0;
    std::uint64_t chunks_owned = 0;
    std::uint64_t classes = 0;
    std::uint64_t jobs = 0;
    std::uint64_t workers = 0;
    std::uint64_t events_waiting = 0;
    std::uint64_t hints_waiting = 0;
    std::uint64_t events = 0;  // ever pushed
};

Figures count(const shm::Segment& segment) {
    Figures out;
    for (std::uint32_t i = 0; i < segment.config().task_slots; ++i) {
        const auto state = static_cast<std::size_t>(shm::load_word(segment.task(i)).state());
        ++(state < shm::kSlotStates ? out.slots[state] : out.damaged);
    }
    for (std::uint32_t i = 0; i < segment.layout().chunks; ++i) {
        out.chunks_owned += segment.chunk_owner(i).load() != shm::kNone32 ? 1U : 0U;
    }
    for (std::uint32_t i = 0; i < segment.config().classes; ++i) {
        out.classes += segment.task_class(i).live.load() != 0 ? 1U : 0U;
    }
    for (const auto& job : segment_jobs(segment)) out.jobs += job.state() != "ended" ? 1U : 0U;
    out.workers = segment_workers(segment).size();
    for (std::uint32_t i = 0; i < shm::event_ring_count(segment); ++i) {
        const auto ring = shm::event_ring(segment, i);
        out.events_waiting += ring.size();
        out.events += ring.tail();
    }
    for (std::uint32_t i = 0; i < segment.config().workers; ++i) {
        out.hints_waiting += shm::dispatch_ring(segment, i).size();
        out.hints_waiting += shm::completion_ring(segment, i).size();
    }
    return out;
}

void write_figures(JsonWriter& json, const shm::Segment& segment, const Figures& figures) {
    const auto& header = segment.header();
    json.begin_object().field("schema", "reeve.shm-stat.v1");
    json.field("time", format_iso_ns(wall_ns())).field("segment", segment.name());
    json.field("epoch", header.epoch.load()).field("bytes", header.total_bytes);
    json.key("slots").begin_object();
    for (int i = 0; i < shm::kSlotStates; ++i) {
        json.field(shm::to_string(static_cast<shm::SlotState>(i)), figures.slots[i]);
    }
    json.field("damaged", figures.damaged).end_object();
    json.field("chunks_owned", figures.chunks_owned).field("classes", figures.classes);
    json.field("live_jobs", figures.jobs).field("workers", figures.workers);
    json.field("backlog_tasks", header.backlog_tasks.load());
    json.field("backlog_jobs", header.backlog_jobs.load());
    json.field("events", figures.events).field("events_waiting", figures.events_waiting);
    json.field("hints_waiting", figures.hints_waiting).field("placed", header.placed.load());
    json.field("fenced_reports", header.fenced_reports.load());
    json.field("healed_nodes", header.healed_nodes.load());
    json.field("sweep_requested", header.sweep_requested.load());
    json.field("acknowledging", header.acknowledging.load() != 0).end_object();
}

void print_figures(const shm::Segment& segment, const Figures& figures) {
    const auto& header = segment.header();
    const auto line = [](const char* name, const std::string& value) {
        std::string padded = name;
        padded.resize(16, ' ');
        write_out(padded + value + "\n");
    };
    line("segment", escape(segment.name()) + " " + format_bytes(header.total_bytes));
    std::string slots = std::to_string(segment.config().task_slots);
    for (int i = 0; i < shm::kSlotStates; ++i) {
        if (figures.slots[i] == 0) continue;
        slots += std::string(", ") + shm::to_string(static_cast<shm::SlotState>(i)) + " " +
                 std::to_string(figures.slots[i]);
    }
    if (figures.damaged > 0) slots += ", damaged " + std::to_string(figures.damaged);
    line("slots", slots);
    line("chunks", std::to_string(figures.chunks_owned) + " owned of " +
                       std::to_string(segment.layout().chunks));
    line("classes", std::to_string(figures.classes));
    line("live jobs", std::to_string(figures.jobs) + ", " +
                          std::to_string(header.backlog_jobs.load()) + " beyond the table");
    line("backlog", std::to_string(header.backlog_tasks.load()) + " tasks");
    line("workers", std::to_string(figures.workers));
    line("events", std::to_string(figures.events) + ", " + std::to_string(figures.events_waiting) +
                       " waiting");
    line("hints", std::to_string(figures.hints_waiting) + " waiting");
    line("placed", std::to_string(header.placed.load()));
    line("fenced", std::to_string(header.fenced_reports.load()));
    line("healed", std::to_string(header.healed_nodes.load()));
}

void pause(double seconds) {
    flush_out();
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

// One line for a slot that moved between two looks.
void print_move(const Context& context, const shm::Segment& segment, std::uint32_t slot,
                shm::SlotWord before, shm::SlotWord after) {
    const auto& task = segment.task(slot);
    if (context.form() == Form::kJson) {
        JsonWriter json;
        json.begin_object().field("schema", "reeve.shm-move.v1");
        json.field("time", format_iso_ns(wall_ns())).field("slot", slot);
        json.field("job", task.job).field("element", task.element);
        json.field("from", shm::to_string(before.state()));
        json.field("to", shm::to_string(after.state())).field("attempt", after.attempt());
        json.field("owner", after.owner()).end_object().print();
        return;
    }
    std::string line = format_clock_ns(wall_ns()) + "  " + task_id(task.job, task.element) + "  " +
                       shm::to_string(before.state()) + " -> " + shm::to_string(after.state()) +
                       "  attempt " + std::to_string(after.attempt());
    if (after.owned_by_worker()) line += "  worker slot " + std::to_string(after.worker_slot());
    write_out(line + "\n");
}

}  // namespace

int shm_stat_command(const Context& context, const ShmOptions& options) {
    for (std::uint64_t shown = 0;; ++shown) {
        const auto segment = open_for(context, options);
        if (!segment) return report(segment.error());
        const auto figures = count(**segment);
        if (context.form() == Form::kJson) {
            JsonWriter json;
            write_figures(json, **segment, figures);
            json.print();
        } else {
            if (shown > 0) write_out("\n");
            print_figures(**segment, figures);
        }
        if (options.count != 0 && shown + 1 >= options.count) return finish(kExitOk);
        pause(options.interval_seconds);
        if (std::ferror(stdout) != 0) return finish(kExitOk);
    }
}

int shm_watch_command(const Context& context, const ShmOptions& options) {
    auto segment = open_for(context, options);
    if (!segment) return report(segment.error());
    std::vector<std::uint64_t> words;
    const auto until = options.for_seconds == 0 ? 0 : boot_ns() + options.for_seconds * kSecond;
    bool first = true;
    auto look_ns = boot_ns() + kSecond;
    while (true) {
        const auto slots = (*segment)->config().task_slots;
        words.resize(slots, 0);
        for (std::uint32_t i = 0; i < slots; ++i) {
            const auto word = shm::load_word((*segment)->task(i));
            if (word.raw == words[i]) continue;
            // Another generation is another task: its slot was free before.
            auto before = shm::SlotWord{words[i]};
            if (before.generation() != word.generation()) before = shm::SlotWord{};
            if (!first && before.state() != word.state()) {
                print_move(context, **segment, i, before, word);
            }
            words[i] = word.raw;
        }
        first = false;
        if (until != 0 && boot_ns() >= until) return finish(kExitOk);
        pause(options.interval_seconds);
        if (std::ferror(stdout) != 0) return finish(kExitOk);
        const bool look = boot_ns() >= look_ns;
        if (!look && !(*segment)->retired()) continue;
        look_ns = boot_ns() + kSecond;
        // A cell that goes down takes its segment away. A new generation: its slots are others.
        auto next = open_for(context, options);
        if (!next) return report(next.error());
        if ((*next)->name() == (*segment)->name() && !(*segment)->retired()) continue;
        segment = std::move(next);
        words.clear();
        first = true;
    }
}

}  // namespace reeve::cli
