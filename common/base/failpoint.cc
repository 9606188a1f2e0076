#include "common/base/failpoint.h"

#include <atomic>
#include <charconv>
#include <cstdlib>
#include <deque>
#include <string>
#include <string_view>

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

bool arm_from_environment() {
    const char* variable = std::getenv("REEVE_FP");
    if (variable == nullptr) return false;
    std::string_view rest = variable;
    while (!rest.empty()) {
        std::string_view one = next_part(rest, ',');
        auto& point = failpoints().emplace_back();
        point.name = next_part(one, ':');
        point.action = next_part(one, ':');
        long passes = 1;
        std::from_chars(one.data(), one.data() + one.size(), passes);
        point.passes_left = passes;
    }
    return !failpoints().empty();
}

}  // namespace

bool failpoints_armed = arm_from_environment();

void failpoint_hit(const char* name) {
    for (auto& point : failpoints()) {
        if (point.name != name || point.passes_left.fetch_sub(1) != 1) continue;
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

}  // namespace reeve
