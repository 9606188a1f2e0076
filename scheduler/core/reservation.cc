#include "scheduler/core/reservation.h"

#include <algorithm>

namespace reeve::sched {

std::optional<Reservation> plan_reservation(const Resources& request,
                                            std::span<const WorkerOutlook> outlooks) {
    std::optional<Reservation> best;
    for (const WorkerOutlook& outlook : outlooks) {
        auto ends = outlook.ends;
        std::stable_sort(ends.begin(), ends.end(),
                         [](const auto& a, const auto& b) { return a.first < b.first; });
        Resources free = outlook.free;
        for (std::size_t i = 0; i < ends.size(); ++i) {
            free += ends[i].second;
            const bool more = i + 1 < ends.size() && ends[i + 1].first == ends[i].first;
            if (more || !request.fits(free)) continue;
            if (!best || ends[i].first < best->at_ns) {
                best.emplace();
                best->worker = outlook.worker;
                best->at_ns = ends[i].first;
                best->spare = free;
                best->spare -= request;
            }
            break;
        }
    }
    return best;
}

}  // namespace reeve::sched
