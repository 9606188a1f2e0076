// EndTimes knows what is expected to end when, and walks through it in the order of time.
//
// Many more jobs come and go than are ever walked past, so they lie in slots of kSlotSeconds,
// unsorted until a walk comes by, and what was removed stays where it lies until its slot is put
// in order: to add or to remove one is to find its slot, a few hundred of which are in use. A
// sorted tree of all jobs costs several lines of cache each time, none of them looked at lately.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include <absl/container/btree_map.h>

namespace reeve::sched {

class EndTimes {
public:
    static constexpr std::int64_t kSlotSeconds = 64;

    // A job is known once at most, and is called by a small number.
    void add(std::int64_t time, std::uint32_t job);
    void remove(std::int64_t time, std::uint32_t job);

private:
    struct Entry {
        std::int64_t time = 0;
        std::uint32_t job = 0;
        auto operator<=>(const Entry&) const = default;
    };
    struct Slot {
        std::vector<Entry> entries;
        std::size_t known = 0;  // of them; the others were removed
        bool in_order = true;   // sorted, each once, all known
    };
    using Slots = absl::btree_map<std::int64_t, std::uint32_t>;  // start / kSlotSeconds -> index

public:
    // From the earliest on. What is added or removed ends the walk.
    class Walk {
    public:
        explicit Walk(EndTimes& times) : times_(times), at_(times.slots_.begin()) { open(); }
        // From the first that does not end before `from`.
        Walk(EndTimes& times, std::int64_t from);
        // When the next one ends; nullopt: there is none.
        std::optional<std::int64_t> time() const {
            if (at_ == times_.slots_.end()) return std::nullopt;
            return entry().time;
        }
        // Its job, and on to the one after it.
        std::uint32_t take();

    private:
        const Entry& entry() const { return times_.pool_[at_->second].entries[next_]; }
        void open();
        void next_slot();

        EndTimes& times_;
        Slots::const_iterator at_;
        std::size_t next_ = 0;
    };

private:
    static constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::min();

    static std::int64_t slot_of(std::int64_t time);
    void put_in_order(Slot& slot);

    Slots slots_;
    std::vector<Slot> pool_;
    std::vector<std::uint32_t> unused_;  // of the pool
    std::vector<std::int64_t> end_of_;   // by job; kNever: not known
};

}  // namespace reeve::sched
