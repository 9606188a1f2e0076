#include "common/role/role.h"

#include <cerrno>
#include <csignal>
#include <ctime>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/failpoint.h"
#include "common/log/log.h"
#include "common/process/proc_info.h"
#include "common/process/stop_signals.h"

namespace reeve {
namespace {

volatile std::sig_atomic_t stop_asked = 0;

void on_stop_signal(int) {
    stop_asked = 1;
}

// nullptr: not there yet, or just being replaced.
std::unique_ptr<shm::Segment> try_attach(const Cell& cell, std::string& last_error) {
    const auto name = read_segment_name(cell);
    if (!name) return nullptr;
    auto segment = shm::Segment::open(*name, true);
    if (segment) return (*segment)->retired() ? nullptr : std::move(*segment);
    const auto& error = segment.error();
    const bool passing =
        error.code == ErrorCode::kNotFound || error.code == ErrorCode::kFailedPrecondition;
    if (!passing && error.message != last_error) {
        log::warn("cannot attach", {{"segment", *name}, {"why", error.message}});
        last_error = error.message;
    }
    return nullptr;
}

}  // namespace

void catch_stop_signals() {
    struct sigaction action {};
    action.sa_handler = on_stop_signal;
    sigaction(SIGTERM, &action, nullptr);
    sigaction(SIGINT, &action, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
    // The supervisor starts us with them blocked: one that came before the handlers arrives now.
    const auto heard = stop_signals();
    sigprocmask(SIG_UNBLOCK, &heard, nullptr);
}

bool stop_wanted() {
    return stop_asked != 0;
}

Status lock_role(const Cell& cell, const std::string& role) {
    const auto path = cell.run + "/" + role + ".lock";
    const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return fail_errno("open " + path, errno);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return {};
    close(fd);
    return fail(ErrorCode::kFailedPrecondition, "another " + role + " serves the cell in " +
                                                    cell.dir + "; stop it first (reeve down)");
}

std::unique_ptr<shm::Segment> wait_for_segment(const Cell& cell) {
    std::string last_error;
    const auto since = boot_ns();
    while (!stop_wanted()) {
        if (auto segment = try_attach(cell, last_error)) return segment;
        const long pause_ms = boot_ns() - since < 5 * kSecond ? 10 : 100;
        const timespec pause{0, pause_ms * 1'000'000};
        nanosleep(&pause, nullptr);
    }
    return nullptr;
}

bool SegmentHold::holds() {
    if (segment_.retired()) return false;
    const auto now = boot_ns();
    if (now < next_look_ns_) return true;
    next_look_ns_ = now + kSecond;
    const auto name = read_segment_name(cell_);
    return !name || *name == segment_.name();
}

void announce(const shm::Segment& segment, shm::Participant& own) {
    own.intent_slot.store(shm::kNone32);
    own.start_ticks.store(start_ticks(getpid()).value_or(0));
    own.pid.store(static_cast<std::uint32_t>(getpid()));
    own.epoch.store(segment.header().epoch.load());
    own.heartbeat_ns.store(boot_ns());
}

int start_role(const Cell& cell, const std::string& role) {
    log::init(role);
    REEVE_FAILPOINT("role.starting");
    catch_stop_signals();
    auto ready = create_cell_directories(cell);
    if (ready) ready = lock_role(cell, role);
    if (ready) return 0;
    log::error("cannot start", {{"why", ready.error().message}});
    return ready.error().code == ErrorCode::kFailedPrecondition ? 5 : 7;
}

}  // namespace reeve
