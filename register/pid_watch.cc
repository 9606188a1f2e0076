#include "register/pid_watch.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/assert.h"

namespace reeve::registry {

PidWatch::PidWatch(shm::WakeWord& wake)
    : wake_(wake), epoll_(epoll_create1(EPOLL_CLOEXEC)), stop_(eventfd(0, EFD_CLOEXEC)) {
    REEVE_ASSERT(epoll_ >= 0);
    REEVE_ASSERT(stop_ >= 0);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = stop_;
    REEVE_ASSERT(epoll_ctl(epoll_, EPOLL_CTL_ADD, stop_, &event) == 0);
    thread_ = std::thread([this] { run(); });
}

PidWatch::~PidWatch() {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = write(stop_, &one, sizeof one);
    thread_.join();
    close(stop_);
    close(epoll_);
}

void PidWatch::run() {
    for (;;) {
        epoll_event events[16];
        const int count = epoll_wait(epoll_, events, 16, -1);
        for (int i = 0; i < count; ++i) {
            if (events[i].data.fd == stop_) return;
        }
        if (count > 0) shm::wake(wake_);
    }
}

PidWatch::Entry& PidWatch::entry(const ProcessId& id) {
    auto& found = entries_[id];
    if (found.process.valid() || found.gone) return found;
    auto opened = PidFd::open(id.pid, id.start_ticks);
    if (!opened) {
        found.gone = opened.error().code == ErrorCode::kNotFound;
        return found;
    }
    found.process = std::move(*opened);
    epoll_event event{};
    event.events = EPOLLIN | EPOLLONESHOT;  // told once; the loop asks gone() itself
    event.data.fd = found.process.fd();
    epoll_ctl(epoll_, EPOLL_CTL_ADD, found.process.fd(), &event);
    return found;
}

bool PidWatch::gone(const ProcessId& id) {
    auto& found = entry(id);
    if (!found.gone && found.process.valid()) found.gone = found.process.ended();
    return found.gone;
}

void PidWatch::send(const ProcessId& id, int signal_number) {
    const auto& found = entry(id);
    if (!found.process.valid()) return;
    [[maybe_unused]] const auto sent = found.process.signal(signal_number);  // gone already: fine
}

}  // namespace reeve::registry
