// LateNotice says once, after two seconds, that an answer of the PLM is awaited, and from whom.
//
// A process that is stopped or busy is no error yet, and a silent terminal tells nothing. The
// notice is given by a thread of its own, which ends with the object.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "common/process/cell.h"

namespace reeve::rpc {

inline constexpr std::chrono::milliseconds kLateAfter{2'000};

// Where the line goes; empty: nobody wants to know.
using TellLate = std::function<void(std::string_view)>;

// "the PLM (pid 7) is stopped", "the PLM (pid 7) does not answer", "the PLM is not running".
std::string plm_words(const Cell& cell);
// True while somebody keeps it stopped (SIGSTOP, a debugger): it will not answer soon.
bool plm_is_stopped(const Cell& cell);

class LateNotice {
public:
    // `limit` is how long will be waited in all; 0: for ever.
    LateNotice(const Cell& cell, const TellLate& tell, std::chrono::milliseconds limit);
    ~LateNotice();
    LateNotice(const LateNotice&) = delete;
    LateNotice& operator=(const LateNotice&) = delete;

    // The answer is there: nothing is told any more.
    void answered();

private:
    std::mutex mutex_;
    std::condition_variable wake_;
    bool answered_ = false;
    std::thread thread_;
};

}  // namespace reeve::rpc
