// How long something will likely run, from what was learned of its kind (predictor.h) and the
// user's limit, which is always the hard bound. The same for the live scheduler, for explain and
// for the simulator.
#pragma once

#include <algorithm>
#include <cstdint>

namespace reeve::sched {

// Seconds that what has run for `elapsed` will have run in the end. Whoever outlives what was
// expected is expected to run half as long again. limit 0: none.
inline std::int64_t likely_run_s(std::int64_t expected, std::int64_t elapsed, std::int64_t limit) {
    const std::int64_t likely = elapsed < expected ? expected : elapsed + elapsed / 2 + 60;
    return limit > 0 ? std::min(likely, limit) : likely;
}

// What a task that has not started is taken to need where it may be in somebody's way: its limit,
// without one twice what was learned. 0: nobody knows.
inline std::int64_t backfill_bound_s(std::int64_t expected, std::int64_t limit) {
    if (limit > 0) return limit;
    return 2 * expected;
}

// Nanoseconds as whole seconds, the next larger.
inline std::int64_t whole_seconds(std::uint64_t ns) {
    return static_cast<std::int64_t>(ns / 1'000'000'000 + (ns % 1'000'000'000 != 0 ? 1 : 0));
}

// likely_run_s() in nanoseconds, within the limit. expected_ns 0: nothing was learned, so the
// limit; limit_ns 0: none. 0: nobody knows.
inline std::uint64_t likely_run_ns(std::uint64_t expected_ns, std::int64_t elapsed_s,
                                   std::uint64_t limit_ns) {
    if (expected_ns == 0) return limit_ns;
    const auto likely_s = likely_run_s(whole_seconds(expected_ns), elapsed_s, 0);
    const auto likely_ns = static_cast<std::uint64_t>(likely_s) * 1'000'000'000;
    return limit_ns == 0 ? likely_ns : std::min(likely_ns, limit_ns);
}

}  // namespace reeve::sched
