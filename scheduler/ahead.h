// Ahead gives a brief task that has just begun its follower: the next of its class, assigned to the
// same worker before there is room, so that the worker's launcher starts it the moment the first
// one ends. The way of an ending to us and of a start back costs more than some tasks run.
//
// A follower holds no resources (kClaimAhead in its claim). When the one it waits behind is over,
// that one's are handed on to it instead of given back (take()), so a worker never runs more than
// it has room for. A class is brief after its last kBriefEnds endings took at most kBriefNs each.
// One that has waited kAheadNs is taken back, for its class is brief no more.
//
// Private memory of the scheduler. Death: its successor takes back every follower that has not
// begun, and counts what has (Scheduler::take_over).
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/base/clock.h"
#include "common/shm/slot_word.h"
#include "scheduler/core/ports.h"

namespace reeve::sched {

inline constexpr std::uint64_t kBriefNs = 10 * kMillisecond;
inline constexpr std::uint32_t kBriefEnds = 4;
inline constexpr std::uint64_t kAheadNs = 100 * kMillisecond;
// Followers of one task, each behind the one before: as many as run in kBriefNs.
inline constexpr std::uint32_t kLineMin = 2;
inline constexpr std::uint32_t kLineMax = 8;

class Ahead {
public:
    struct Follower {
        std::uint32_t slot = 0;
        shm::SlotWord word;        // assigned
        std::uint32_t behind = 0;  // the slot of the one it waits for
        WorkerRef worker = 0;
        ClassRef cls = 0;
        std::uint64_t since_ns = 0;
        std::uint64_t key = 0;  // of a waiting task a smaller one comes before it
    };

    explicit Ahead(std::uint32_t classes) : seen_(classes) {}

    // A task of the class has ended by itself after so long; or the class is another one now.
    void ended(ClassRef cls, std::uint64_t run_ns) {
        auto& seen = seen_[cls];
        seen.brief_ends = run_ns > kBriefNs ? 0 : std::min(seen.brief_ends + 1, kBriefEnds);
        seen.run_ns =
            seen.brief_ends <= 1 ? run_ns : seen.run_ns + (run_ns >> 3) - (seen.run_ns >> 3);
    }
    void forget_class(ClassRef cls) { seen_[cls] = {}; }
    bool is_brief(ClassRef cls) const { return seen_[cls].brief_ends == kBriefEnds; }
    std::uint32_t line_of(ClassRef cls) const {
        const auto fit = kBriefNs / std::max<std::uint64_t>(seen_[cls].run_ns, 1);
        return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(fit, kLineMin, kLineMax));
    }

    bool empty() const { return given_.empty(); }
    void give(const Follower& one) { given_.push_back(one); }

    // A claim of `slot` ends: its follower, if it has one, which is one no more.
    bool take(std::uint32_t slot, Follower& out) {
        return remove([slot](const Follower& one) { return one.behind == slot; }, out);
    }
    // A claim of `slot` ends, and it was a follower itself: it held nothing. Who is behind it moves
    // up.
    void was_ahead(std::uint32_t slot) {
        Follower gone;
        if (!remove([slot](const Follower& one) { return one.slot == slot; }, gone)) return;
        for (auto& one : given_) {
            if (one.behind == slot) one.behind = gone.behind;
        }
    }
    // Who is behind this one, each behind the one before: how many, and the last of them.
    struct Line {
        std::uint32_t count = 0;
        std::uint32_t last = 0;  // with nobody behind it the one itself
    };
    Line line_behind(std::uint32_t slot) const {
        Line line{0, slot};
        while (line.count < kLineMax) {
            const auto next = std::find_if(given_.begin(), given_.end(), [&](const Follower& one) {
                return one.behind == line.last;
            });
            if (next == given_.end()) break;
            line.last = next->slot;
            ++line.count;
        }
        return line;
    }
    // What a worker's slots say was counted anew: all of it holds what it asks for.
    void forget_worker(WorkerRef worker) {
        std::erase_if(given_, [worker](const Follower& one) { return one.worker == worker; });
    }

    // Calls take_back(follower) for each that is unwanted(follower), or waited too long.
    template <typename Unwanted, typename TakeBack>
    void look(std::uint64_t now_ns, Unwanted unwanted, TakeBack take_back) {
        const auto given = given_;  // a few
        for (const auto& one : given) {
            const bool late = one.since_ns + kAheadNs <= now_ns;
            if (!late && !unwanted(one)) continue;
            if (late) forget_class(one.cls);
            take_back(one);
        }
    }

private:
    template <typename Which>
    bool remove(Which which, Follower& out) {
        const auto found = std::find_if(given_.begin(), given_.end(), which);
        if (found == given_.end()) return false;
        out = *found;
        given_.erase(found);
        return true;
    }

    struct Seen {
        std::uint32_t brief_ends = 0;  // in a row
        std::uint64_t run_ns = 0;      // smoothed
    };

    std::vector<Follower> given_;
    std::vector<Seen> seen_;  // by class
};

}  // namespace reeve::sched
