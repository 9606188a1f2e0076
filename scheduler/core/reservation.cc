#include "scheduler/core/reservation.h"

#include <algorithm>

namespace reeve::sched {

std::optional<FirstRoom> first_room(const Resources& request, Resources free,
                                    std::span<Ending> endings) {
    std::sort(endings.begin(), endings.end(),
              [](const Ending& a, const Ending& b) { return a.at < b.at; });
    for (std::size_t i = 0; i < endings.size(); ++i) {
        free += endings[i].gives;
        const bool more = i + 1 < endings.size() && endings[i + 1].at == endings[i].at;
        if (!more && request.fits(free)) return FirstRoom{endings[i].at, free};
    }
    return std::nullopt;
}

std::optional<Reservation> plan_reservation(const Resources& request,
                                            std::span<WorkerOutlook> outlooks) {
    std::optional<Reservation> best;
    for (WorkerOutlook& outlook : outlooks) {
        const auto room = first_room(request, outlook.free, outlook.ends);
        if (!room) continue;
        const auto at_ns = static_cast<std::uint64_t>(room->at);
        if (best && best->at_ns <= at_ns) continue;
        best.emplace();
        best->worker = outlook.worker;
        best->at_ns = at_ns;
        best->spare = room->free;
        best->spare -= request;
    }
    return best;
}

}  // namespace reeve::sched
