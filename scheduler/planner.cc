#include "scheduler/planner.h"

#include <algorithm>
#include <optional>

#include "common/base/clock.h"
#include "common/shm/run_code.h"
#include "common/shm/used_slots.h"
#include "scheduler/core/run_bound.h"

namespace reeve::sched {
namespace {

constexpr std::uint64_t kPatienceNs = 600 * kSecond;  // then tasks without a limit keep away too

std::uint64_t since(const shm::TaskSlot& slot) {
    const auto started = slot.started_wall_ns.load();
    return started != 0 ? started : slot.assigned_wall_ns.load();
}

// How long it will likely have run in the end, never longer than its limit. 0: nobody knows.
std::uint64_t likely_run_ns(const shm::TaskSlot& slot, std::uint64_t now) {
    const auto began = since(slot);
    const auto elapsed = now > began ? whole_seconds(now - began) : 0;
    return sched::likely_run_ns(shm::run_ns_of(slot.expected), elapsed, slot.time_limit_ns);
}

}  // namespace

std::vector<Reservation> Planner::plan(const std::vector<ClassHead>& heads) const {
    const auto backfill = static_cast<Backfill>(segment_.header().backfill.load());
    std::vector<Reservation> out;
    if (backfill == Backfill::kNone) return out;
    const std::size_t most = backfill == Backfill::kConservative ? heads.size() : 1;
    const auto outlooks = look_ahead(false);
    std::optional<std::vector<WorkerOutlook>> guessed;
    const auto now = wall_ns();
    std::size_t served = 0;
    for (const auto& head : heads) {
        const auto waits_since = segment_.task(head.task).submit_wall_ns;
        const bool strict = waits_since + kPatienceNs <= now;
        auto kept = places_for(head, outlooks, out);
        // So many workers do not come free by themselves where nobody knows how long things run.
        if (kept.empty() && strict && queue_.shape(head.cls).gang()) {
            if (!guessed) guessed = look_ahead(true);
            kept = places_for(head, *guessed, out);
        }
        for (auto& reservation : kept) {
            reservation.cls = head.cls;
            reservation.key = head.key;
            reservation.strict = strict;
            out.push_back(reservation);
        }
        served += kept.empty() ? 0 : 1;
        if (served == most) break;
    }
    return out;
}

// Where it fits first, on workers that are kept for nobody yet: one, for a gang all of its own.
std::vector<Reservation> Planner::places_for(const ClassHead& head,
                                             const std::vector<WorkerOutlook>& outlooks,
                                             const std::vector<Reservation>& taken) const {
    const auto& shape = queue_.shape(head.cls);
    std::vector<WorkerOutlook> allowed;
    for (const auto& outlook : outlooks) {
        const bool kept = std::any_of(taken.begin(), taken.end(), [&](const auto& other) {
            return other.worker == outlook.worker;
        });
        if (!kept && workers_.allows(outlook.worker, shape)) allowed.push_back(outlook);
    }
    if (shape.gang()) return plan_gang(shape.request, shape.nodes, allowed);
    const auto one = plan_reservation(shape.request, allowed);
    return one ? std::vector{*one} : std::vector<Reservation>{};
}

// What is free on each worker, and what comes back when. Of what nobody knows the end of
// nothing does; with `guess` it is half over.
std::vector<WorkerOutlook> Planner::look_ahead(bool guess) const {
    std::vector<WorkerOutlook> out(segment_.config().workers);
    for (std::uint32_t i = 0; i < out.size(); ++i) {
        const auto& worker = segment_.worker(i);
        out[i].worker = i;
        if (worker.used.fits(worker.capacity)) {
            out[i].free = worker.capacity;
            out[i].free -= worker.used;
        }
    }
    const auto soon = wall_ns() + kSecond;
    shm::for_each_used_slot(segment_, [&](std::uint32_t, const shm::TaskSlot& slot) {
        const auto word = shm::load_word(slot);
        if (!word.held_by_worker() || word.worker_slot() >= out.size()) return;
        if ((slot.claim.load() & shm::kClaimAhead) != 0) return;  // holds nothing yet
        if (slot.class_id >= segment_.config().classes) return;
        auto run = likely_run_ns(slot, soon);
        if (run == 0 && guess) run = 2 * (soon - std::min(soon, since(slot)));
        if (run == 0) return;
        const auto end = std::max(since(slot) + run, soon);
        out[word.worker_slot()].ends.push_back(
            Ending{static_cast<std::int64_t>(end), segment_.task_class(slot.class_id).request});
    });
    return out;
}

}  // namespace reeve::sched
