#include "common/base/failpoint.h"

#include <atomic>
#include <charconv>
#include <cstdlib>
#include <deque>
#include <random>
#include <string>
#include <string_view>

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

namespace reeve {
namespace {

struct Failpoint {
    std::string name;
    std::string action;
    std::atomic<long> passes_left{1};
};

std::deque<Failpoint>& failpoints() {
    static std::deque<Failpoint> list;
    return list;
}

std::string_view next_part(std::string_view& text, char separator) {
    const auto end = text.find(separator);
    const auto part = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
    return part;
}

// "120": the 120th pass; "1-500": one of these, another in each process.
long parse_passes(std::string_view text) {
    long first = 1;
    long last = 0;
    const auto end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data(), end, first);
    if (parsed.ptr != end && *parsed.ptr == '-') std::from_chars(parsed.ptr + 1, end, last);
    if (last <= first) return first;
    std::minstd_rand random(static_cast<unsigned>(getpid()) * 2'654'435'761U);
    random.discard(8);
    return std::uniform_int_distribution<long>(first, last)(random);
}

// Tells a test which point it was: one line in $REEVE_FP_LOG.
void note_hit(const std::string& name) {
    const char* path = std::getenv("REEVE_FP_LOG");
    if (path == nullptr) return;
    const int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    const auto line = name + " " + std::to_string(getpid()) + "\n";
    if (fd >= 0 && write(fd, line.data(), line.size()) < 0) return;
    if (fd >= 0) close(fd);
}

bool arm_from_environment() {
    const char* variable = std::getenv("REEVE_FP");
    if (variable == nullptr) return false;
    std::string_view rest = variable;
    while (!rest.empty()) {
        std::string_view one = next_part(rest, ',');
        auto& point = failpoints().emplace_back();
        point.name = next_part(one, ':');
        point.action = next_part(one, ':');
        point.passes_left = parse_passes(one);
    }
    return !failpoints().empty();
}

}  // namespace

bool failpoints_armed = arm_from_environment();

void failpoint_hit(const char* name) {
    for (auto& point : failpoints()) {
        if (point.name != name || point.passes_left.fetch_sub(1) != 1) continue;
        note_hit(point.name);
        if (point.action == "kill") {
            kill(getpid(), SIGKILL);
            pause();
        } else if (point.action == "exit") {
            _exit(70);
        } else if (point.action.starts_with("sleep=")) {
            usleep(static_cast<useconds_t>(std::atol(point.action.c_str() + 6)) * 1000);
        }
    }
}

bool failpoint_skips(const char* name) {
    for (const auto& point : failpoints()) {
        if (point.name == name && point.action == "skip") return true;
    }
    return false;
}

}  // namespace reeve
