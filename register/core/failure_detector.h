// FailureDetector decides who is dead. Pure: no clock, no shared memory, no I/O.
//
// Intuition first. A worker is two processes, agent and launcher. The agent's heartbeat word
// changes many times per lease. If both processes are provably gone, the worker is dead at once. If
// only the agent is gone, its launcher keeps the tasks running and a new agent may adopt them, so
// we wait. If the word has not changed for one lease, the worker is dead, whatever its processes
// look like; the caller must then kill both before it gives their tasks away.
//
// Only time during which the detector itself was running counts as silence: of a gap between two
// calls at most kGapCountedMaxNs are counted. So neither a paused register nor a paused machine
// kills anybody who answers within one lease after it, and a fresh detector (a restarted register)
// grants everybody a full lease.
//
// Orphans are attempts that a rebuilt segment knows from the ledger and that no worker has adopted
// yet: their holder has lease + margin to come back.
//
// INVARIANT 1  tick() names a worker at most once between worker_seen() and forget().
// INVARIANT 2  with both processes alive or unknown, nobody is named before one lease of counted
//              silence.
// INVARIANT 3  counted time never exceeds real time.
// Tested in tests/unit/register/failure_detector_test.cc.
#pragma once

#include <cstdint>
#include <map>
#include <string_view>
#include <vector>

#include "common/base/clock.h"
#include "common/base/ids.h"

namespace reeve::registry {

// The register's loop sleeps at most this long, so a longer gap is its own stall.
inline constexpr std::uint64_t kGapCountedMaxNs = 500 * kMillisecond;
inline constexpr std::uint64_t kLeaseMinNs = 50 * kMillisecond;
inline constexpr std::uint64_t kLeaseMaxNs = 3'600 * kSecond;

enum class DeathReason : std::uint8_t {
    kProcessesGone,  // agent and launcher both provably gone
    kLeaseRanOut,    // silent for a lease; the caller kills what is left of it
    kNeverReturned,  // an orphan's holder did not come back after a rebuild
};
std::string_view to_string(DeathReason reason);

struct Death {
    std::uint32_t index = 0;  // the worker slot; meaningless for kNeverReturned
    WorkerId id;
    DeathReason reason = DeathReason::kProcessesGone;
    std::uint64_t silence_ns = 0;  // counted
    bool operator==(const Death&) const = default;
};

struct DetectorOptions {
    std::uint64_t lease_default_ns = 3 * kSecond;
    std::uint64_t margin_ns = kSecond;
};

class FailureDetector {
public:
    explicit FailureDetector(const DetectorOptions& options) : options_(options) {}

    // A worker occupies slot `index`. Another id in the same slot replaces the old one. The lease
    // is untrusted: 0 means the default, anything else is cut to [kLeaseMinNs, kLeaseMaxNs].
    void worker_seen(std::uint32_t index, WorkerId id, std::uint64_t lease_ns, std::uint64_t now);
    // The heartbeat word as read; a change is a sign of life, its value means nothing.
    void heartbeat(std::uint32_t index, std::uint64_t value, std::uint64_t now);
    // Provably gone, or known to be there again (a new agent took the slot over).
    void agent_gone(std::uint32_t index, bool gone, std::uint64_t now);
    void launcher_gone(std::uint32_t index, bool gone, std::uint64_t now);
    void forget(std::uint32_t index);

    void orphan_seen(WorkerId holder, std::uint64_t now);  // repeatable; the first time counts
    void orphan_returned(WorkerId holder);

    // Verdicts reached by now. Each is final; the caller buries and then forgets.
    std::vector<Death> tick(std::uint64_t now);
    // From `now` until the next deadline, if nothing changes; ~0 when there is none.
    std::uint64_t ns_to_next_deadline() const;

    std::size_t watched() const { return workers_.size(); }

private:
    struct Watched {
        WorkerId id;
        std::uint64_t lease_ns = 0;
        std::uint64_t heartbeat = 0;
        std::uint64_t changed_at = 0;  // counted time
        bool agent_gone = false;
        bool launcher_gone = false;
        bool named = false;
    };
    struct Orphan {
        std::uint64_t seen_at = 0;  // counted time
        bool named = false;
    };

    void advance(std::uint64_t now);
    std::uint64_t clamp_lease(std::uint64_t lease_ns) const;
    std::uint64_t orphan_deadline(const Orphan& orphan) const {
        return orphan.seen_at + options_.lease_default_ns + options_.margin_ns;
    }

    DetectorOptions options_;
    std::uint64_t last_now_ = 0;
    std::uint64_t counted_ = 0;
    std::map<std::uint32_t, Watched> workers_;
    std::map<WorkerId, Orphan> orphans_;
};

}  // namespace reeve::registry
