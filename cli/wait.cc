#include "cli/wait.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <thread>

#include "cli/catalogue.h"
#include "cli/client/own_client.h"
#include "cli/json_writer.h"
#include "cli/gather.h"
#include "cli/look.h"
#include "cli/render.h"
#include "cli/text.h"
#include "common/base/clock.h"

namespace reeve::cli {

namespace {

constexpr std::uint64_t kElementPollNs = 100 * kMillisecond;

struct Totals {
    std::uint64_t tasks = 0;
    std::uint64_t succeeded = 0;
    std::uint64_t failed = 0;
    std::uint64_t cancelled = 0;
    std::uint64_t running = 0;
    std::uint64_t done() const { return succeeded + failed + cancelled; }
};

Totals totals_of(const JobStates& jobs) {
    Totals out;
    for (const auto& [id, status] : jobs) {
        out.tasks += status.elements();
        out.succeeded += status.succeeded();
        out.failed += status.failed();
        out.cancelled += status.cancelled();
        out.running += status.running();
    }
    return out;
}

// Draws the bar on stderr, at most ten times a second; on no terminal a line each five seconds.
class ProgressBar {
public:
    ProgressBar(bool wanted, std::size_t expected) : wanted_(wanted), expected_(expected) {}
    ~ProgressBar() { clear(); }

    void draw(const JobStates& jobs) {
        if (!wanted_) return;
        const auto now = boot_ns();
        const bool terminal = stderr_is_terminal();
        const auto interval = terminal ? 100 * kMillisecond : 5 * kSecond;
        if (drawn_ns_ != 0 && now - drawn_ns_ < interval) return;
        drawn_ns_ = now;
        const auto line = progress_line(jobs, expected_, now - start_ns_, terminal_columns() - 1);
        std::fprintf(stderr, terminal ? "\r\x1b[K%s" : "%s\n", line.c_str());
        std::fflush(stderr);
        shown_ = terminal;
    }
    void clear() {
        if (!shown_) return;
        std::fputs("\r\x1b[K", stderr);
        shown_ = false;
    }

private:
    bool wanted_;
    std::size_t expected_;
    std::uint64_t start_ns_ = boot_ns();
    std::uint64_t drawn_ns_ = 0;
    bool shown_ = false;
};

bool succeeded(const v1::JobStatus& status) {
    return status.state() == "ended" && status.failed() == 0 && status.cancelled() == 0;
}

void tell(const Context& context, const JobStates& jobs) {
    if (context.form() == Form::kJson) {
        JsonWriter json;
        json.begin_object().field("schema", "reeve.wait.v1").key("jobs").begin_array();
        for (const auto& [id, status] : jobs) write_job(json, status);
        json.end_array().end_object().print();
        return;
    }
    if (context.form() == Form::kParsable) {
        for (const auto& [id, status] : jobs) write_out(std::to_string(id) + "\n");
        return;
    }
    if (context.quiet) return;
    if (jobs.size() == 1) {
        const auto& status = jobs.begin()->second;
        std::string line = "job " + std::to_string(status.job()) + " " + job_state(status);
        if (status.elements() > 1) {
            line += " (" + std::to_string(status.succeeded()) + " of " +
                    std::to_string(status.elements()) + " tasks succeeded)";
        } else if (!status.reason().empty()) {
            line += ": " + escape(status.reason());
        } else if (status.failed() > 0 && status.exit_code() != 0) {
            line += ": " + exit_words(status.exit_code());
        }
        write_out(line + "\n");
        return;
    }
    std::size_t good = 0;
    std::size_t failed = 0;
    for (const auto& [id, status] : jobs) {
        good += succeeded(status) ? 1U : 0U;
        failed += status.failed() > 0 ? 1U : 0U;
    }
    std::string line =
        std::to_string(jobs.size()) + " jobs ended: " + std::to_string(good) + " succeeded";
    if (failed > 0) line += ", " + std::to_string(failed) + " failed";
    if (good + failed < jobs.size()) {
        line += ", " + std::to_string(jobs.size() - good - failed) + " cancelled";
    }
    write_out(line + "\n");
}

int verdict(const Context& context, const JobStates& jobs) {
    tell(context, jobs);
    const bool good = std::all_of(jobs.begin(), jobs.end(),
                                  [](const auto& entry) { return succeeded(entry.second); });
    return finish(good ? kExitOk : kExitFailed);
}

// Elements of a job are waited for by looking: a slot tells who lives, the history file who ended.
struct ElementsSeen {
    bool open = false;
    bool good = true;
};

ElementsSeen look_at_elements(const Context& context, const Selected& selected) {
    Gatherer gatherer(context);
    ElementsSeen out;
    if (gatherer.history() == nullptr) return {true, false};
    if (selected.elements.empty()) {
        const auto status = gatherer.status(selected.job);
        return {!status || status->state() != "ended", status && succeeded(*status)};
    }
    if (gatherer.segment() != nullptr) {
        for (const auto& view : tasks_of_job(*gatherer.segment(), selected.job)) {
            const bool wanted = contains(selected, view.result.element());
            if (wanted && view.word.state() != shm::SlotState::kEnded) return {true, false};
        }
    }
    const auto endings = gatherer.history()->endings(selected);
    std::uint64_t wanted = 0;
    for (const auto& range : selected.elements) wanted += range.size();
    for (const auto& ending : endings) out.good &= ending.succeeded;
    if (endings.size() >= wanted) return out;
    out.good = false;
    const auto job = gatherer.history()->job(selected.job);
    out.open = !job || job->state() != "ended";
    return out;
}

void tell_elements(const Context& context, const std::vector<Selected>& selected) {
    Gatherer gatherer(context);
    JobStates jobs;
    std::vector<v1::TaskResult> tasks;
    std::uint64_t never = 0;  // cancelled with many others, of which there is no row each
    for (const auto& one : selected) {
        auto detail = gatherer.detail(one, {false, kElementsLookedAt, false});
        if (!detail) continue;
        std::uint64_t wanted = 0;
        for (const auto& range : one.elements) wanted += range.size();
        if (wanted > detail->tasks.size()) never += wanted - detail->tasks.size();
        jobs[one.job] = std::move(detail->status);
        for (auto& task : detail->tasks) tasks.push_back(std::move(task));
    }
    if (context.form() == Form::kJson) {
        JsonWriter json;
        json.begin_object().field("schema", "reeve.wait.v1").key("jobs").begin_array();
        for (const auto& [id, status] : jobs) write_job(json, status);
        json.end_array().key("tasks").begin_array();
        for (const auto& task : tasks) write_task(json, task);
        json.end_array().end_object().print();
        return;
    }
    if (context.form() == Form::kParsable) {
        for (const auto& task : tasks) write_out(task_id(task, true) + "\n");
        return;
    }
    if (context.quiet) return;
    if (tasks.size() == 1 && never == 0) {
        const auto note = note_words(tasks[0]);
        write_out("task " + task_id(tasks[0], true) + " " + task_state(tasks[0]) +
                  (note.empty() ? "" : ": " + escape(note)) + "\n");
        return;
    }
    std::uint64_t good = 0;
    std::uint64_t cancelled = never;
    for (const auto& task : tasks) {
        good += task.outcome() == to_string(Outcome::kSucceeded) ? 1U : 0U;
        cancelled += task.outcome() == to_string(Outcome::kCancelled) ? 1U : 0U;
    }
    const auto all = tasks.size() + never;
    std::string line = std::to_string(all) + (all == 1 ? " task" : " tasks") +
                       " ended: " + std::to_string(good) + " succeeded";
    if (const auto failed = all - good - cancelled; failed > 0) {
        line += ", " + std::to_string(failed) + " failed";
    }
    if (cancelled > 0) line += ", " + std::to_string(cancelled) + " cancelled";
    write_out(line + "\n");
}

Result<bool> wait_for_elements(const Context& context, const std::vector<Selected>& selected,
                               std::uint64_t end_ns) {
    while (true) {
        ElementsSeen all;
        for (const auto& one : selected) {
            const auto seen = look_at_elements(context, one);
            all.open |= seen.open;
            all.good &= seen.good;
        }
        if (!all.open) return all.good;
        if (end_ns != 0 && boot_ns() >= end_ns) {
            return fail(ErrorCode::kDeadlineExceeded,
                        "the time is up and some tasks have not ended; wait longer");
        }
        if (!rpc::cell_is_run(context.cell)) {
            return fail(rpc::unreachable(context.cell, "no cell is running"));
        }
        std::this_thread::sleep_for(std::chrono::nanoseconds(kElementPollNs));
    }
}

}  // namespace

bool stderr_is_terminal_for(const Context& context) {
    return stderr_is_terminal() && !context.quiet;
}

std::string progress_line(const JobStates& jobs, std::size_t expected, std::uint64_t elapsed_ns,
                          std::size_t columns) {
    const auto totals = totals_of(jobs);
    const double part =
        totals.tasks == 0 ? 0.0
                          : static_cast<double>(totals.done()) / static_cast<double>(totals.tasks);
    std::string right = " " + std::to_string(static_cast<int>(part * 100)) + "% " +
                        std::to_string(totals.done()) + "/" + std::to_string(totals.tasks);
    if (jobs.size() < expected) right += "+";
    if (totals.running > 0) right += ", " + std::to_string(totals.running) + " running";
    if (totals.failed > 0) right += ", " + std::to_string(totals.failed) + " failed";
    if (totals.cancelled > 0) right += ", " + std::to_string(totals.cancelled) + " cancelled";
    if (part > 0.01 && part < 1) {
        const double left = static_cast<double>(elapsed_ns) * (1 - part) / part;
        right += ", " + format_duration_ns(static_cast<std::uint64_t>(left)) + " left";
    }
    if (right.size() + 12 > columns) return shorten(right.substr(1), columns);
    const std::size_t width = std::min<std::size_t>(columns - right.size() - 2, 40);
    const auto filled = static_cast<std::size_t>(part * static_cast<double>(width));
    std::string bar(filled, '#');
    bar.resize(width, '.');
    return "[" + bar + "]" + right;
}

int wait_and_tell(const Context& context, Client& client, const std::vector<Selected>& selected,
                  const WaitOptions& options) {
    ProgressBar bar(options.progress, selected.size());
    auto jobs = client.calls().watch(selected, options.timeout_ms, [&bar](const JobStates& known) {
        bar.draw(known);
        return true;
    });
    bar.clear();
    if (!jobs) return report(jobs.error());
    return verdict(context, *jobs);
}

int wait_command(const Context& context, const WaitCommand& command) {
    WaitOptions options;
    if (!command.timeout.empty()) {
        const auto timeout = parse_time_ms(command.timeout);
        if (!timeout) return report(Error(timeout.error()).with("--timeout"));
        options.timeout_ms = *timeout;
    }
    options.progress =
        command.progress || (stderr_is_terminal_for(context) && !command.no_progress);
    const auto selectors = parse_selectors(command.selectors);
    if (!selectors) return report(selectors.error());
    auto selected = select_jobs(context, *selectors, Scope::kWait);
    if (!selected) return report(selected.error());
    const bool elements = std::any_of(selected->begin(), selected->end(),
                                      [](const Selected& one) { return !one.elements.empty(); });
    if (elements) {
        if (auto there = Gatherer(context).check_elements(*selected); !there) {
            return report(there.error());
        }
        const auto end_ns =
            options.timeout_ms == 0 ? 0 : boot_ns() + options.timeout_ms * kMillisecond;
        const auto good = wait_for_elements(context, *selected, end_ns);
        if (!good) return report(good.error());
        tell_elements(context, *selected);
        return finish(*good ? kExitOk : kExitFailed);
    }
    auto client = connect_client(context);
    if (!client) {
        // With the cell down, what has ended has ended.
        JobStates ended;
        fill_from_history(context, *selected, ended);
        if (!all_ended(ended, *selected)) return report(client.error());
        return verdict(context, ended);
    }
    return wait_and_tell(context, **client, *selected, options);
}

}  // namespace reeve::cli
