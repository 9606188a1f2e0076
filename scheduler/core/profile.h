// FreeProfile is the free capacity of one pool as a step function of future time.
//
// Made from the expected ends of what runs; reservations are cut out of it. A reservation for the
// head of a queue (EASY), for every job (conservative) or for the job that has waited too long (the
// starvation guard) are the same operation. Only capacity held until an expected end is modelled,
// so free capacity grows with time except where reservations stand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace reeve::sched {

class FreeProfile {
public:
    // Starts over at `now` with so much free.
    void reset(std::int64_t now, std::int64_t free);
    // `size` comes free at `time`; calls come in order of time, all before the first reservation.
    void add_release(std::int64_t time, std::int64_t size);

    // Whether `size` fits from now for `duration` without touching a reservation.
    bool fits_now(std::int64_t duration, std::int64_t size) const;
    // The first time at which `size` is free for `duration`.
    std::int64_t earliest(std::int64_t duration, std::int64_t size) const;
    // Takes `size` in [start, start + duration).
    void reserve(std::int64_t start, std::int64_t duration, std::int64_t size);

    std::int64_t now() const { return steps_.front().time; }

private:
    struct Step {
        std::int64_t time;
        std::int64_t free;          // from here to the next step
        std::int64_t least_so_far;  // minimum of `free` from now to the next step
    };
    // Index of the step beginning at `time`, made if need be.
    std::size_t cut(std::int64_t time);
    std::size_t first_at_or_after(std::int64_t time) const;

    std::vector<Step> steps_;
};

}  // namespace reeve::sched
