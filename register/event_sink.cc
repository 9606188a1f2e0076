#include "register/event_sink.h"

#include <ctime>

#include "common/base/clock.h"
#include "common/process/proc_info.h"
#include "common/shm/wake.h"

namespace reeve::registry {
namespace {

constexpr std::uint64_t kPlmAbsentMaxNs = 2 * kSecond;  // a PLM being restarted is waited for

void nap(std::uint64_t duration_ns) {
    const timespec pause{0, static_cast<long>(duration_ns)};
    nanosleep(&pause, nullptr);
}

}  // namespace

EventSink::EventSink(const shm::Segment& segment)
    : segment_(segment), ring_(shm::event_ring(segment, shm::kEventRingRegister)) {}

bool EventSink::plm_alive() const {
    const auto& plm = segment_.participant(shm::kParticipantPlm);
    return process_alive(static_cast<pid_t>(plm.pid.load()), plm.start_ticks.load());
}

void EventSink::wake_plm() { shm::wake(segment_.participant(shm::kParticipantPlm).wake); }

bool EventSink::push(const shm::Event& event) {
    if (ring_.try_push(event)) return true;
    auto& own = segment_.participant(shm::kParticipantRegister);
    std::uint64_t absent_since = 0;
    for (;;) {
        wake_plm();
        nap(kMillisecond);
        if (ring_.try_push(event)) return true;
        const auto now = boot_ns();
        own.heartbeat_ns.store(now);
        if (segment_.retired()) break;
        if (plm_alive()) {
            absent_since = 0;
        } else if (absent_since == 0) {
            absent_since = now;
        } else if (now - absent_since > kPlmAbsentMaxNs) {
            break;
        }
    }
    segment_.header().sweep_requested.fetch_add(1);
    return false;
}

bool EventSink::push_worker(shm::EventKind kind, WorkerId id, std::uint32_t worker_slot,
                            std::int32_t code, std::uint64_t sealed_tail) {
    shm::Event event;
    event.kind = kind;
    event.wall_ns = wall_ns();
    event.worker_number = id.number;
    event.worker_incarnation = id.incarnation;
    event.worker_slot = worker_slot;
    event.code = code;
    event.new_word = sealed_tail;
    return push(event);
}

}  // namespace reeve::registry
