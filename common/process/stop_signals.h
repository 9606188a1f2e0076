// What asks a role, or the supervisor, to stop.
#pragma once

#include <signal.h>

namespace reeve {

// SIGTERM and SIGINT, for those that block, unblock or wait for them.
inline sigset_t stop_signals() {
    sigset_t out;
    sigemptyset(&out);
    sigaddset(&out, SIGTERM);
    sigaddset(&out, SIGINT);
    return out;
}

}  // namespace reeve
