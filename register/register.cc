#include "register/register.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "common/log/log.h"
#include "common/process/proc_info.h"
#include "common/shm/segment.h"
#include "common/shm/wake.h"
#include "register/registry.h"

namespace reeve {
namespace {

std::atomic<bool> stop_wanted{false};

void on_stop_signal(int) { stop_wanted.store(true); }

void catch_stop_signals() {
    struct sigaction action {};
    action.sa_handler = on_stop_signal;  // no SA_RESTART: the futex wait is to end
    sigaction(SIGTERM, &action, nullptr);
    sigaction(SIGINT, &action, nullptr);
    signal(SIGPIPE, SIG_IGN);
}

// Two registers on one cell would judge twice: the second is refused. Held until the process ends.
Status lock_role(const Cell& cell) {
    const auto path = cell.run + "/register.lock";
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return fail_errno("open " + path, errno);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return {};
    close(fd);
    return fail(ErrorCode::kFailedPrecondition,
                "another register serves this cell; stop it first (reeve down)");
}

// nullptr: not there yet, or just being replaced. Errors are told once each.
std::unique_ptr<shm::Segment> try_attach(const Cell& cell, std::string& last_error) {
    auto name = read_segment_name(cell);
    if (!name) return nullptr;
    auto segment = shm::Segment::open(*name, true);
    if (segment && !(*segment)->retired()) return std::move(*segment);
    if (segment) return nullptr;
    const auto& error = segment.error();
    const bool passing = error.code == ErrorCode::kNotFound ||
                         error.code == ErrorCode::kFailedPrecondition;
    if (!passing && error.message != last_error) {
        log::warn("cannot attach", {{"segment", *name}, {"why", error.message}});
        last_error = error.message;
    }
    return nullptr;
}

std::unique_ptr<shm::Segment> wait_for_segment(const Cell& cell) {
    std::string last_error;
    const auto since = boot_ns();
    while (!stop_wanted.load()) {
        if (auto segment = try_attach(cell, last_error)) return segment;
        const auto pause_ms = boot_ns() - since < 5 * kSecond ? 10 : 100;
        const timespec pause{0, pause_ms * 1'000'000};
        nanosleep(&pause, nullptr);
    }
    return nullptr;
}

void announce(shm::Segment& segment) {
    auto& own = segment.participant(shm::kParticipantRegister);
    own.intent_slot.store(shm::kNone32);
    own.start_ticks.store(start_ticks(getpid()).value_or(0));
    own.pid.store(static_cast<std::uint32_t>(getpid()));
    own.epoch.store(segment.header().epoch.load());
    own.heartbeat_ns.store(boot_ns());
}

// Until the segment is retired or we are to stop.
void serve(shm::Segment& segment, const Cell& cell, const RegisterOptions& options) {
    announce(segment);
    log::info("register attached", {{"segment", segment.name()},
                                    {"epoch", segment.header().epoch.load()}});
    auto& own = segment.participant(shm::kParticipantRegister);
    registry::Registry registry(segment, cell, options);
    while (!stop_wanted.load() && !segment.retired()) {
        const auto ticket = shm::prepare_sleep(own.wake);
        const auto now = boot_ns();
        own.heartbeat_ns.store(now);
        const auto patience = registry.step(now);
        if (stop_wanted.load()) break;
        shm::sleep(own.wake, ticket, patience);
    }
    own.pid.store(0);  // left in order: nobody need wait for us
}

}  // namespace

int register_main(const Cell& cell, const RegisterOptions& options) {
    log::init("register");
    catch_stop_signals();
    auto made = create_cell_directories(cell);
    if (made) made = lock_role(cell);
    if (!made) {
        log::error("the register cannot start", {{"why", made.error().message}});
        return made.error().code == ErrorCode::kFailedPrecondition ? 5 : 7;
    }
    while (!stop_wanted.load()) {
        const auto segment = wait_for_segment(cell);
        if (segment != nullptr) serve(*segment, cell, options);
    }
    log::info("register stopped");
    return 0;
}

}  // namespace reeve
