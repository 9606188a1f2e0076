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
    std::map<std::uint64_t, std::string> names;
    bool complete = false;  // every live job is in it
};

void from_segment(const Context& context, Scope scope, Gathered& out) {
    const auto segment = open_segment(context.cell);
    if (!segment) return;
    for (const auto& status : segment_jobs(**segment)) {
        out.last = std::max(out.last, status.job());
        if (status.state() == "ended" && scope == Scope::kLive) continue;
        out.names.emplace(status.job(), status.name());
    }
    out.complete = (*segment)->header().backlog_jobs.load() == 0;
}

void from_history(const Context& context, Scope scope, Gathered& out) {
    const auto history = History::open(context.cell);
    if (!history) return;
    out.last = std::max(out.last, (*history)->last_job());
    if (scope == Scope::kLive) return;
    History::JobQuery query;
    query.limit = kCatalogueEndedMax;
    const auto jobs = (*history)->jobs(query);
    if (!jobs) return;
    for (const auto& status : *jobs) out.names.emplace(status.job(), status.name());
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
        if (status.state() != "ended") out.names.emplace(status.job(), status.name());
    }
    out.complete = true;
}

}  // namespace

Result<std::vector<Selected>> select_jobs(const Context& context,
                                          const std::vector<Selector>& selectors, Scope scope) {
    Gathered gathered;
    if (needs_catalogue(selectors)) {
        // Who acts needs the PLM anyhow; who looks must not depend on it.
        // A stopped one is not waited for: the caller's own patience begins when it calls.
        const bool ask = scope == Scope::kLive && rpc::cell_is_run(context.cell) &&
                         !rpc::plm_is_stopped(context.cell);
        if (ask) from_plm(context, gathered);
        if (!gathered.complete) {
            from_segment(context, scope, gathered);
            from_history(context, scope, gathered);
        }
        if (scope == Scope::kKnown && !gathered.complete) from_plm(context, gathered);
    }
    Catalogue catalogue;
    catalogue.last_job = gathered.last;
    catalogue.jobs.reserve(gathered.names.size());
    for (auto& [job, name] : gathered.names) catalogue.jobs.push_back({job, std::move(name)});
    return resolve(selectors, catalogue);
}

}  // namespace reeve::cli
