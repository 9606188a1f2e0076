// The launcher: the small, single-threaded process that starts tasks and outlives its agent.
//
// fork_launcher() must be called before the caller has threads. The child listens on a unix socket
// so that a restarted agent can take it over; it ends itself, and everything it started, when no
// agent came for a lease and a margin, or when told to.
//
// Death   a SIGKILLed launcher takes its direct children with it (PDEATHSIG); what they left behind
//         is in the cgroup subtree named in the worker slot, and ended by the register.
#pragma once

#include <cstdint>
#include <string>

#include <sys/types.h>

#include "common/base/result.h"

namespace reeve::worker {

struct ForkedLauncher {
    pid_t pid = 0;
    int socket_fd = -1;  // SOCK_SEQPACKET, as if just connected: a welcome is waiting
};

// The socket of the worker `name` below the cell's runtime directory; long names are hashed.
std::string launcher_socket_path(const std::string& runtime_dir, const std::string& name);

Result<ForkedLauncher> fork_launcher(const std::string& socket_path);

// Connects to a living launcher. kNotFound / kUnavailable: there is none.
Result<int> connect_launcher(const std::string& socket_path);

// The launcher's own loop, in the process that is to be it (fork_launcher calls it; tests too).
// Returns its exit status.
int run_launcher(int agent_fd, const std::string& socket_path);

}  // namespace reeve::worker
