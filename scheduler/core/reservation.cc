#include "scheduler/core/reservation.h"

#include <algorithm>
#include <utility>

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

std::vector<Reservation> plan_gang(const Resources& request, std::uint32_t nodes,
                                   std::span<WorkerOutlook> outlooks) {
    std::vector<std::pair<std::int64_t, std::size_t>> fits;  // when, and where
    for (std::size_t i = 0; i < outlooks.size(); ++i) {
        WorkerOutlook& outlook = outlooks[i];
        const auto room = request.fits(outlook.free)
                              ? std::optional(FirstRoom{})
                              : first_room(request, outlook.free, outlook.ends);
        if (room) fits.emplace_back(room->at, i);
    }
    std::vector<Reservation> out;
    if (nodes == 0 || fits.size() < nodes) return out;
    std::sort(fits.begin(), fits.end());
    fits.resize(nodes);
    const auto at = fits.back().first;
    for (const auto& [when, i] : fits) {
        Reservation one;
        one.worker = outlooks[i].worker;
        one.at_ns = static_cast<std::uint64_t>(at);
        one.spare = outlooks[i].free;
        for (const Ending& ending : outlooks[i].ends) {
            if (ending.at <= at) one.spare += ending.gives;
        }
        one.spare -= request;
        out.push_back(one);
    }
    return out;
}

}  // namespace reeve::sched
