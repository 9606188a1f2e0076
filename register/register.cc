#include "register/register.h"

#include "common/log/log.h"
#include "common/role/role.h"
#include "common/shm/segment.h"
#include "common/shm/wake.h"
#include "register/registry.h"

namespace reeve {
namespace {

// Until the segment is retired or we are to stop.
void serve(const shm::Segment& segment, const Cell& cell, const RegisterOptions& options) {
    auto& own = segment.participant(shm::kParticipantRegister);
    announce(segment, own);
    own.intent_slot.store(shm::kNone32);
    log::info("register attached",
              {{"segment", segment.name()}, {"epoch", segment.header().epoch.load()}});
    registry::Registry registry(segment, cell, options);
    SegmentHold hold(cell, segment);
    while (!stop_wanted() && hold.holds()) {
        const auto ticket = shm::prepare_sleep(own.wake);
        const auto now = boot_ns();
        own.heartbeat_ns.store(now);
        const auto patience = registry.step(now);
        if (stop_wanted()) break;
        shm::sleep(own.wake, ticket, patience);
    }
    shm::cancel_sleep(own.wake);
    own.pid.store(0);  // left in order: nobody need wait for us
}

}  // namespace

int register_main(const Cell& cell, const RegisterOptions& options) {
    return run_role(cell, "register",
                    [&](const shm::Segment& segment) { serve(segment, cell, options); });
}

}  // namespace reeve
