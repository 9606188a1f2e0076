// EventSink pushes the register's events into its ring for the PLM, in order.
//
// Ring full: the register may wait, for the PLM drains it; it wakes the PLM and tries again, and
// keeps its own heartbeat fresh meanwhile. If the PLM is dead, or the segment retired, it waits no
// longer: the event is dropped and header.sweep_requested grows, so that the PLM sweeps the slots
// (they are the truth) when it is back.
#pragma once

#include <cstdint>

#include "common/base/ids.h"
#include "common/shm/ring.h"
#include "common/shm/segment.h"

namespace reeve::registry {

class EventSink {
public:
    explicit EventSink(const shm::Segment& segment);

    // false: dropped, as said above.
    bool push(const shm::Event& event);
    // A worker event: joined, dead, left, drained, undrained.
    bool push_worker(shm::EventKind kind, WorkerId id, std::uint32_t worker_slot,
                     std::int32_t code = 0, std::uint64_t sealed_tail = 0);
    void wake_plm();

private:
    bool plm_alive() const;

    const shm::Segment& segment_;
    shm::EventRing ring_;
};

}  // namespace reeve::registry
