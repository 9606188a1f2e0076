// When would this task start? The cell as it is, planned forward by time limits.
//
// Pure, over explain's picture: what runs ends at its time limit (without one: when learned run
// times say), what is queued ahead is planned one task after the other where it fits first, and
// then comes the task asked about. A bound, not a promise: tasks usually end before their limits,
// and later ones may come in front by priority.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "cli/explain.h"

namespace reeve::cli {

struct ForecastTask {
    Resources request;
    Wants wants;
    std::uint64_t time_limit_ns = 0;
    std::uint32_t nodes = 1;
    std::uint64_t key = std::numeric_limits<std::uint64_t>::max();  // behind everybody
};

// Wall time of the earliest start, not before now; nullopt: something that has no time limit is in
// the way, more is queued ahead than is planned, or no worker could ever take it.
std::optional<std::uint64_t> earliest_start_ns(const Picture& picture, const ForecastTask& task);

// When a running task of which a run time was learned will likely end, within its limit.
std::uint64_t likely_end_ns(const PictureTask& task, std::uint64_t now_ns);

// "can start at 2026-11-22 10:03:17 (in 5m00s) by the time limits of what is before it".
std::string forecast_words(std::uint64_t start_ns, std::uint64_t now_ns);

}  // namespace reeve::cli
