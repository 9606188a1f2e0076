#include "cli/catalogue.h"

#include <algorithm>
#include <chrono>
#include <map>

#include "cli/look.h"
#include "common/rpc/client.h"
#include "common/rpc/late.h"

namespace reeve::cli {

namespace {

struct Gathered {
    std::uint64_t last = 0;
    std::map<std::uint64_t, KnownJob> jobs;
    bool complete = false;  // every live job is in it
};

void add(Gathered& out, const v1::JobStatus& status, bool ended) {
    out.jobs.emplace(status.job(), KnownJob{status.job(), status.name(), ended});
}

// Where `live_known`, every live job is in `out` already.
void from_segment(const Context& context, bool with_ended, bool live_known, Gathered& out) {
    const auto segment = open_segment(context.cell);
    if (!segment) return;
    for (const auto& status : segment_jobs(**segment)) {
        out.last = std::max(out.last, status.job());
        const bool ended = live_known || status.state() == "ended";
        if (!ended || with_ended) add(out, status, ended);
    }
    out.complete |= (*segment)->header().backlog_jobs.load() == 0;
}

void from_history(const Context& context, bool with_ended, bool live_known, Gathered& out) {
    const auto history = History::open(context.cell);
    if (!history) return;
    out.last = std::max(out.last, (*history)->last_job());
    if (!with_ended) return;
    History::JobQuery query;
    query.limit = kCatalogueEndedMax;
    const auto jobs = (*history)->jobs(query);
    if (!jobs) return;
    for (const auto& status : *jobs) add(out, status, live_known || status.state() == "ended");
}

void from_plm(const Context& context, Gathered& out) {
    auto client = rpc::Client::connect(context.cell);
    if (!client) return;
    v1::GetRequest request;
    request.set_limit(kAllJobs);
    const auto reply = (*client)->call(&v1::Reeve::Stub::Get, request, std::chrono::seconds(5));
    if (!reply) return;
    out.last = std::max(out.last, reply->last_job_id());
    for (const auto& status : reply->jobs()) {
        if (status.state() != "ended") add(out, status, false);
    }
    out.complete = true;
}

}  // namespace

Result<std::vector<Selected>> select_jobs(const Context& context,
                                          const std::vector<Selector>& selectors, Scope scope) {
    Gathered gathered;
    if (needs_catalogue(selectors)) {
        const bool named = std::any_of(
            selectors.begin(), selectors.end(),
            [](const Selector& selector) { return selector.kind == Selector::Kind::kName; });
        const bool with_ended = scope == Scope::kKnown || named;
        // Who acts needs the PLM anyhow; who looks must not depend on it.
        // A stopped one is not waited for: the caller's own patience begins when it calls.
        const bool ask = scope != Scope::kKnown && rpc::cell_is_run(context.cell) &&
                         !rpc::plm_is_stopped(context.cell);
        if (ask) from_plm(context, gathered);
        if (const bool all_live = gathered.complete; !all_live || with_ended) {
            from_segment(context, with_ended, all_live, gathered);
            from_history(context, with_ended, all_live, gathered);
        }
        if (scope == Scope::kKnown && !gathered.complete) from_plm(context, gathered);
    }
    Catalogue catalogue;
    if (scope != Scope::kKnown) {
        catalogue.ended = scope == Scope::kWait ? Ended::kNamed : Ended::kOtherwise;
    }
    catalogue.last_job = gathered.last;
    catalogue.jobs.reserve(gathered.jobs.size());
    for (auto& [job, known] : gathered.jobs) catalogue.jobs.push_back(std::move(known));
    return resolve(selectors, catalogue);
}

}  // namespace reeve::cli
