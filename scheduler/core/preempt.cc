#include "scheduler/core/preempt.h"

#include <algorithm>
#include <tuple>

#include "scheduler/core/order.h"

namespace reeve::sched {
namespace {

bool may_be_pushed(const Victim& victim, double importance) {
    const bool keeps =
        victim.mode == PreemptMode::kSuspend || victim.mode == PreemptMode::kCheckpoint;
    const double gap = importance - victim.importance;
    return victim.mode != PreemptMode::kNever && victim.ran_s >= victim.minimum_run_s &&
           (keeps ? gap > 0 : gap >= kGapToLoseWork);
}

// The victims of one node, least important and least lost first; empty when they do not suffice.
std::vector<Victim> victims_on(const Resources& request, double importance,
                               const NodeVictims& node) {
    std::vector<Victim> able;
    for (const Victim& victim : node.running) {
        if (may_be_pushed(victim, importance)) able.push_back(victim);
    }
    std::stable_sort(able.begin(), able.end(), [](const Victim& a, const Victim& b) {
        return std::tuple(a.importance, a.lost_work_s, a.job) <
               std::tuple(b.importance, b.lost_work_s, b.job);
    });
    std::vector<Victim> chosen;
    Resources room = node.free;
    for (const Victim& victim : able) {
        if (request.fits(room)) break;
        chosen.push_back(victim);
        room += victim.holds;
    }
    if (!request.fits(room)) return {};
    // Give back, most important first, whoever turned out not to be needed.
    for (std::size_t i = chosen.size(); i-- > 0;) {
        Resources without = room;
        without -= chosen[i].holds;
        if (!request.fits(without)) continue;
        room = without;
        chosen.erase(chosen.begin() + static_cast<std::ptrdiff_t>(i));
    }
    return chosen;
}

}  // namespace

double importance(std::int32_t priority, SlaClass sla, std::uint32_t times_pushed) {
    return priority + sla_points(sla) + kPushedPoints * times_pushed;
}

std::optional<PreemptChoice> choose_victims(const Resources& request, double importance,
                                            std::span<const NodeVictims> nodes) {
    std::optional<PreemptChoice> best;
    std::tuple<double, double> best_rank;
    for (const NodeVictims& node : nodes) {
        const std::vector<Victim> victims = victims_on(request, importance, node);
        if (victims.empty()) continue;
        double most = victims.front().importance;
        double lost = 0;
        for (const Victim& victim : victims) {
            most = std::max(most, victim.importance);
            lost += victim.lost_work_s;
        }
        const std::tuple rank{most, lost};
        if (best && !(rank < best_rank)) continue;
        best_rank = rank;
        best = PreemptChoice{node.node, {}};
        for (const Victim& victim : victims) best->jobs.push_back(victim.job);
    }
    return best;
}

}  // namespace reeve::sched
