#include "cli/ls.h"

#include <algorithm>
#include <map>

#include "cli/catalogue.h"
#include "cli/gather.h"
#include "cli/json_writer.h"
#include "cli/render.h"
#include "cli/text.h"
#include "common/base/clock.h"
#include "common/process/users.h"

namespace reeve::cli {

namespace {

constexpr std::string_view kStates[] = {"waiting",   "held",   "queued",    "running",
                                        "succeeded", "failed", "cancelled", "ended"};

bool ended_word(std::string_view word) {
    return word == "succeeded" || word == "failed" || word == "cancelled" || word == "ended";
}

bool has_ended(const v1::JobStatus& status) {
    return status.state() == "ended";
}

struct Listing {
    std::map<std::uint64_t, v1::JobStatus> jobs;
    std::uint64_t ended_hidden = 0;
    std::uint64_t beyond = 0;  // live jobs nobody could tell about
};

Status gather(Gatherer& gatherer, const LsOptions& options, const std::vector<std::string>& states,
              Listing& out) {
    const bool ended = options.all || std::any_of(states.begin(), states.end(), ended_word);
    if (gatherer.segment() != nullptr) {
        for (auto& status : segment_jobs(*gatherer.segment())) {
            out.jobs.emplace(status.job(), std::move(status));
        }
    }
    for (auto& status : gatherer.beyond_segment(out.beyond)) {
        out.jobs.emplace(status.job(), std::move(status));
    }
    if (auto* history = gatherer.history(); history != nullptr) {
        // Without shared memory the history is all there is, live jobs too.
        if (ended || gatherer.segment() == nullptr) {
            History::JobQuery query;
            query.limit = options.limit;
            auto jobs = history->jobs(query);
            if (!jobs) return fail(jobs.error());
            for (auto& status : *jobs) out.jobs.emplace(status.job(), std::move(status));
        }
        out.ended_hidden = history->count_ended();
    }
    std::uint64_t ended_shown = 0;
    for (const auto& [id, status] : out.jobs) ended_shown += has_ended(status) ? 1U : 0U;
    out.ended_hidden = std::max(out.ended_hidden, ended_shown);
    return {};
}

// A job that was named by its number is told, or said to be unknown.
int find_named(Gatherer& gatherer, const std::vector<Selector>& selectors, Listing& out) {
    int code = kExitOk;
    for (const auto& selector : selectors) {
        const auto job = selector.jobs.first;
        if (selector.kind != Selector::Kind::kJobs || selector.jobs.last != job) continue;
        if (out.jobs.contains(job)) continue;
        if (auto status = gatherer.status(job)) {
            out.jobs.emplace(job, std::move(*status));
        } else {
            code = report(status.error());
        }
    }
    return code;
}

bool wanted(const v1::JobStatus& status, const LsOptions& options,
            const std::vector<std::string>& states) {
    if (states.empty()) return options.all || !has_ended(status);
    const auto word = job_state(status);
    return std::any_of(states.begin(), states.end(), [&](const std::string& state) {
        return state == word || (state == "ended" && has_ended(status));
    });
}

std::string elapsed(const v1::JobStatus& status) {
    if (status.start_ns() == 0) return "-";
    const auto end = status.end_ns() != 0 ? status.end_ns() : wall_ns();
    return format_duration_ns(end > status.start_ns() ? end - status.start_ns() : 0);
}

void print_table(const std::vector<v1::JobStatus*>& jobs) {
    Table table({{"JOB", true},
                 {"NAME", false},
                 {"STATE", false},
                 {"USER", false},
                 {"PRIO", true},
                 {"DONE", true},
                 {"RUN", true},
                 {"FAILED", true},
                 {"SUBMITTED", false},
                 {"TIME", true}},
                1);
    table.colour_states_in(2);
    std::map<std::uint32_t, std::string> users;
    for (const auto* status : jobs) {
        auto& user = users[status->uid()];
        if (user.empty()) user = user_name(status->uid());
        const auto done = status->succeeded() + status->failed() + status->cancelled();
        table.add({std::to_string(status->job()), shorten(escape(status->name()), 32),
                   job_state(*status), user, std::to_string(status->priority()),
                   std::to_string(done) + "/" + std::to_string(status->elements()),
                   std::to_string(status->running()), std::to_string(status->failed()),
                   format_clock_ns(status->submit_ns()), elapsed(*status)});
    }
    table.print();
}

}  // namespace

Result<std::vector<std::string>> parse_states(const std::string& text) {
    std::vector<std::string> out;
    std::string_view rest = text;
    while (!rest.empty()) {
        const auto comma = rest.find(',');
        const auto word = rest.substr(0, comma);
        const bool known =
            std::find(std::begin(kStates), std::end(kStates), word) != std::end(kStates);
        if (!known) {
            const auto guess = closest(word, {std::begin(kStates), std::end(kStates)});
            return fail(ErrorCode::kInvalidArgument,
                        "--state: \"" + std::string(word) + "\" is no state; " +
                            (guess.empty() ? std::string("use waiting, held, queued, running, "
                                                         "succeeded, failed, cancelled or ended")
                                           : "did you mean \"" + guess + "\"?"));
        }
        out.emplace_back(word);
        rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
    }
    return out;
}

int ls_command(const Context& context, const LsOptions& options) {
    const auto states = parse_states(options.states);
    if (!states) return report(states.error());
    const auto selectors = parse_selectors(options.selectors);
    if (!selectors) return report(selectors.error());
    Gatherer gatherer(context);
    if (gatherer.nothing()) return report(gatherer.segment_error());
    Listing listing;
    auto shown_options = options;
    std::vector<Selected> selected;
    if (!selectors->empty()) {
        auto found = select_jobs(context, *selectors, Scope::kKnown);
        if (!found) return report(found.error());
        if (auto there = gatherer.check_elements(*found); !there) return report(there.error());
        selected = std::move(*found);
        shown_options.all = options.all || states->empty();
        shown_options.limit = 1'000'000;
    }
    if (auto done = gather(gatherer, shown_options, *states, listing); !done) {
        return report(done.error());
    }
    const int code = find_named(gatherer, *selectors, listing);
    std::vector<v1::JobStatus*> jobs;
    std::uint64_t ended_shown = 0;
    for (auto& [id, status] : listing.jobs) {
        const bool chosen =
            selected.empty() ||
            std::binary_search(selected.begin(), selected.end(), Selected{id, {}},
                               [](const auto& a, const auto& b) { return a.job < b.job; });
        if (!chosen || !wanted(status, shown_options, *states)) continue;
        ended_shown += has_ended(status) ? 1U : 0U;
        jobs.push_back(&status);
    }
    // Shared memory keeps ended jobs, too: the newest of all of them are listed.
    if (ended_shown > shown_options.limit) {
        auto surplus = ended_shown - shown_options.limit;
        ended_shown = shown_options.limit;
        std::erase_if(jobs, [&surplus](const v1::JobStatus* status) {
            return has_ended(*status) && surplus > 0 && surplus-- > 0;
        });
    }
    const auto hidden = listing.ended_hidden > ended_shown ? listing.ended_hidden - ended_shown : 0;
    if (context.form() == Form::kJson) {
        JsonWriter json;
        json.begin_object().field("schema", "reeve.jobs.v1").field("ended_hidden", hidden);
        json.field("untold", listing.beyond).key("jobs").begin_array();
        gatherer.add_policies(jobs);
        for (const auto* status : jobs) write_listed_job(json, *status);
        json.end_array().end_object().print();
        return finish(code);
    }
    if (context.form() == Form::kParsable || context.quiet) {
        for (const auto* status : jobs) write_out(std::to_string(status->job()) + "\n");
        return finish(code);
    }
    if (!jobs.empty()) print_table(jobs);
    if (jobs.empty() && code == kExitOk) write_out("no jobs\n");
    flush_out();
    if (hidden > 0 && states->empty() && selected.empty()) {
        std::fprintf(stderr, "%llu ended %s not shown; see them with: reeve ls --all\n",
                     static_cast<unsigned long long>(hidden), hidden == 1 ? "job is" : "jobs are");
    }
    if (listing.beyond > 0) {
        warn(std::to_string(listing.beyond) +
             " more jobs are queued beyond shared memory; only the PLM can list them");
    }
    return finish(code);
}

}  // namespace reeve::cli
