#include "cli/replay.h"

#include <algorithm>
#include <map>

#include "cli/look.h"
#include "cli/render.h"
#include "common/base/clock.h"
#include "common/rpc/wants.h"
#include "common/shm/resource_names.h"

namespace reeve::cli {

namespace {

constexpr std::size_t kTasksMax = 2'000'000;
constexpr std::uint64_t kPage = 1'000;

struct Ran {
    v1::JobStatus job;  // with its spec
    v1::TaskResult task;
    std::uint64_t ready_ns = 0;
};

// All jobs, the oldest first, and for each the tasks that ran.
Result<std::vector<Ran>> tasks_that_ran(History& history) {
    std::vector<std::uint64_t> ids;
    History::JobQuery query;
    query.limit = kPage;
    while (true) {
        REEVE_TRY_ASSIGN(const auto page, history.jobs(query));
        for (const auto& job : page) ids.push_back(job.job());
        if (page.size() < kPage) break;
        query.before = ids.back();
    }
    std::sort(ids.begin(), ids.end());
    std::map<std::uint64_t, std::uint64_t> ended;
    std::vector<Ran> out;
    for (const std::uint64_t id : ids) {
        const auto job = history.job(id, true);
        if (!job) continue;
        ended[id] = job->end_ns();
        std::uint64_t ready =
            std::max(job->submit_ns(), job->spec().not_before_unix_ms() * kMillisecond);
        for (const auto& dependency : job->spec().after()) {
            ready = std::max(ready, ended[dependency.job()]);
        }
        REEVE_TRY_ASSIGN(const auto attempts, history.attempts(Selected{id, {}}, kTasksMax));
        for (const auto& attempt : attempts) {
            const auto& task = attempt.result;
            if (!attempt.terminal || task.started_ns() == 0) continue;
            if (task.ended_ns() < task.started_ns()) continue;
            out.push_back(Ran{*job, task, std::min(ready, task.started_ns())});
        }
        if (out.size() > kTasksMax) {
            return fail(ErrorCode::kResourceExhausted,
                        "the history holds more than " + std::to_string(kTasksMax) + " tasks");
        }
    }
    return out;
}

Result<std::vector<sim::SimNode>> workers_of(const Cell& cell, sim::NamedNumbers& names) {
    std::vector<sim::SimNode> out;
    if (const auto segment = open_segment(cell)) {
        for (auto& name : shm::resource_names(**segment)) {
            if (!name.empty()) names.push_back(std::move(name));
        }
        for (const WorkerView& worker : segment_workers(**segment)) {
            sim::SimNode node;
            node.offer = offer_of(worker);
            node.offer.used = Resources{};
            node.offer.open = true;
            out.push_back(std::move(node));
        }
    }
    if (!out.empty()) return out;
    return fail(ErrorCode::kInvalidArgument,
                "the cell has no workers now; name the nodes: reeve sim --replay NODES.json");
}

sim::SimJob job_of(const Ran& ran, std::uint64_t origin_ns, sim::NamedNumbers& names) {
    const auto seconds = [](std::uint64_t ns) {
        return static_cast<std::int64_t>((ns + kSecond - 1) / kSecond);
    };
    const auto& spec = ran.job.spec();
    sim::SimJob out;
    out.id = task_id(ran.task.job(), ran.task.element());
    out.run = std::max<std::int64_t>(1, seconds(ran.task.ended_ns() - ran.task.started_ns()));
    sched::ClusterJob& job = out.job;
    job.submit = static_cast<std::int64_t>((ran.ready_ns - origin_ns) / kSecond);
    job.want = sched::request_for(rpc::wants_of(spec), resources_of(spec.task().resources()));
    for (const auto& each : rpc::wants_of(spec).resources) {
        const auto number = sim::number_of(names, each.name);
        if (number) job.want.request.named.set(*number, each.count);
    }
    job.priority = ran.job.priority();
    job.user = std::to_string(ran.job.uid());
    job.name = ran.job.name();
    const std::int64_t limit = seconds(spec.task().time_limit_ms() * kMillisecond);
    job.limit = limit > 0 ? std::max(limit, out.run) : out.run;
    return out;
}

}  // namespace

Result<Replay> read_replay(const Cell& cell, const std::string& nodes_file) {
    REEVE_TRY_ASSIGN(const auto history, History::open(cell));
    REEVE_TRY_ASSIGN(auto ran, tasks_that_ran(*history));
    if (ran.empty()) return fail(ErrorCode::kNotFound, "this cell has run nothing yet");
    std::stable_sort(ran.begin(), ran.end(),
                     [](const Ran& a, const Ran& b) { return a.ready_ns < b.ready_ns; });
    Replay out;
    sim::NamedNumbers names;
    if (nodes_file.empty()) {
        REEVE_TRY_ASSIGN(out.workload.nodes, workers_of(cell, names));
    } else {
        REEVE_TRY_ASSIGN(out.workload.nodes, sim::read_nodes(nodes_file, names));
    }
    const std::uint64_t origin = ran.front().ready_ns;
    std::vector<sim::JobRecord> records;
    for (const Ran& one : ran) {
        sim::SimJob job = job_of(one, origin, names);
        const auto start = static_cast<std::int64_t>((one.task.started_ns() - origin) / kSecond);
        records.push_back(sim::JobRecord{static_cast<std::int64_t>(records.size()), job.job.submit,
                                         start, start + job.run, job.run,
                                         job.job.want.request.cpu_milli});
        out.workload.jobs.push_back(std::move(job));
    }
    std::int64_t capacity = 0;
    for (const auto& node : out.workload.nodes) capacity += node.offer.capacity.cpu_milli;
    out.recorded.policy = "recorded";
    summarise(records, std::max<std::int64_t>(capacity, 1), out.recorded);
    return out;
}

}  // namespace reeve::cli
