// The placement part of explain.h: which workers could run a job, and why none does now.
#include <algorithm>

#include "cli/explain.h"
#include "cli/render.h"
#include "cli/text.h"

namespace reeve::cli {

namespace {

constexpr std::size_t kWorkersNamed = 5;

// Where no worker that takes tasks may run the job: the one that comes nearest.
const WorkerAnswer* barred(const Answer& answer) {
    const WorkerAnswer* best = nullptr;
    const auto step = [](const WorkerAnswer& worker) { return worker.refusals.front(); };
    for (const auto& worker : answer.workers) {
        if (worker.barrier.empty()) continue;
        if (best == nullptr || step(worker) > step(*best)) best = &worker;
    }
    return best;
}

std::string barred_words(const WorkerAnswer& worker, const Wants& wants) {
    if (worker.code == "label-missing") {
        std::string labels;
        for (const auto& label : wants.labels) labels += (labels.empty() ? "" : ", ") + label;
        if (!wants.node_name.empty())
            labels += (labels.empty() ? "" : ", ") + ("node=" + wants.node_name);
        return "needs the label" + std::string(labels.find(',') == std::string::npos ? " " : "s ") +
               labels + ", which no worker has; it waits until one joins with " +
               (labels.find(',') == std::string::npos ? "it" : "them");
    }
    if (worker.code == "spot-not-allowed") {
        return "may not run on spot workers, and there is no other with what it needs; submit it "
               "with --sla flexible or add a worker";
    }
    return "pays at most " + format_price(wants.max_price_micro) +
           " an hour, and every worker with what it needs costs more";
}

bool outside(const Reason& reason) {
    return reason.code == "turn" || reason.code == "backlog";
}

std::string absent_words(const std::string& node) {
    return "may run only on " + node +
           ", which is not here; it waits until a worker of that name joins (see reeve node ls)";
}

// The workers that could run it if they were not drained.
std::vector<std::string> drained_workers(const Answer& answer) {
    std::vector<std::string> out;
    for (const auto& worker : answer.workers) {
        if (worker.drained) out.push_back(worker.worker->name);
    }
    return out;
}

std::string drained_words(const std::vector<std::string>& workers, const ExplainJob& job,
                          std::size_t able) {
    std::string out;
    if (job.nodes > 1) {
        out = "needs " + std::to_string(job.nodes) + " workers with " +
              resource_words(job.request) + " at once, " + std::to_string(able) + " of them " +
              (able == 1 ? "takes" : "take") + " tasks; ";
    }
    for (std::size_t i = 0; i < workers.size() && i < kWorkersNamed; ++i) {
        out += (i == 0 ? "" : ", ") + workers[i];
    }
    if (workers.size() > kWorkersNamed) out += " and others";
    const bool one = workers.size() == 1;
    return out + (one ? " is drained; let it" : " are drained; let them") +
           " take tasks again with: reeve node undrain " + (one ? workers.front() : "NAME");
}

}  // namespace

void add_placement_reasons(const Answer& answer, const ExplainJob& job,
                           std::vector<Reason>& reasons) {
    std::size_t fits = 0;
    std::size_t busy = 0;
    std::size_t alive = 0;
    std::size_t named = 0;
    std::vector<std::uint64_t> enough;
    for (const auto& worker : answer.workers) {
        named += worker.code != "wrong-node" ? 1U : 0U;
        alive +=
            worker.code == "fits" || worker.code == "busy" || worker.code == "too-small" ? 1U : 0U;
        fits += worker.code == "fits" ? 1U : 0U;
        busy += worker.code == "busy" ? 1U : 0U;
        for (const auto& holder : worker.holders) {
            if (holder.enough) enough.push_back(holder.task->job);
        }
    }
    const auto wants = resource_words(job.request);
    const auto& node = job.wants.node_name;
    if (!node.empty() && named == 0) {
        reasons.push_back({"node", absent_words(node), {}});
    } else if (const auto drained = drained_workers(answer);
               fits + busy < job.nodes && fits + busy + drained.size() >= job.nodes) {
        const bool none = alive == 0 && barred(answer) == nullptr;
        reasons.push_back(
            {none ? "no-worker" : "drained", drained_words(drained, job, fits + busy), {}});
    } else if (alive == 0 && barred(answer) != nullptr) {
        const auto& best = *barred(answer);
        reasons.push_back({best.code, barred_words(best, job.wants), {}});
    } else if (alive == 0) {
        reasons.push_back(
            {"no-worker", "there is no worker that takes tasks; see reeve node ls", {}});
    } else if (fits + busy == 0) {
        reasons.push_back({"impossible",
                           "asks for " + wants +
                               ", more than any worker has; submit it with less "
                               "or add a worker",
                           {}});
    } else if (fits + busy < job.nodes) {
        reasons.push_back({"impossible",
                           "needs " + std::to_string(job.nodes) + " workers with " + wants +
                               " at once, " + std::to_string(fits + busy) +
                               (fits + busy == 1 ? " has" : " have") +
                               " that much; submit it with fewer or add workers",
                           {}});
    } else if (fits < job.nodes && job.nodes > 1) {
        std::sort(enough.begin(), enough.end());
        enough.erase(std::unique(enough.begin(), enough.end()), enough.end());
        reasons.push_back({"resources",
                           "needs " + std::to_string(job.nodes) + " workers with " + wants +
                               " at once, " + std::to_string(fits) +
                               (fits == 1 ? " has" : " have") + " room now",
                           enough});
    } else if (fits == 0) {
        std::sort(enough.begin(), enough.end());
        enough.erase(std::unique(enough.begin(), enough.end()), enough.end());
        reasons.push_back(
            {"resources", "asks for " + wants + ", which no worker has free now", enough});
    } else if (answer.ahead > 0) {
        reasons.push_back({"ahead",
                           std::to_string(answer.ahead) +
                               (answer.ahead == 1 ? " task is" : " tasks are") + " ahead of it",
                           {}});
    } else if (std::none_of(reasons.begin(), reasons.end(), outside)) {
        reasons.push_back({"starting", "fits now and starts in a moment", {}});
    }
}

std::string no_worker_words(const std::vector<WorkerView>& workers, const Wants& wants,
                            const Resources& request) {
    const auto want = sched::request_for(wants, request);
    Answer answer;
    bool named = wants.node_name.empty();
    for (const auto& worker : workers) {
        if (worker.state != shm::WorkerState::kAlive &&
            worker.state != shm::WorkerState::kDraining) {
            continue;
        }
        auto offer = offer_of(worker);
        offer.open = true;
        named = named || worker.name == wants.node_name;
        const auto barrier = sched::barrier_of(want, offer);
        if (barrier == sched::Refusal::kNone) return "";
        auto& one = answer.workers.emplace_back();
        one.worker = &worker;
        one.code = sched::to_string(barrier);
        one.barrier = one.code;
        one.refusals = {barrier};
    }
    if (answer.workers.empty()) return "";
    if (!named) return absent_words(wants.node_name);
    return barred_words(*barred(answer), wants);
}

}  // namespace reeve::cli
