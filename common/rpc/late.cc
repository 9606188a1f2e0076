#include "common/rpc/late.h"

#include "common/process/proc_info.h"
#include "common/rpc/client.h"

namespace reeve::rpc {

namespace {

bool is_stopped(pid_t pid) {
    const auto stat = read_proc_stat(pid);
    return stat && (stat->state == 'T' || stat->state == 't');
}

}  // namespace

std::string plm_words(const Cell& cell) {
    const auto pid = plm_pid(cell);
    if (pid <= 0) return "the PLM is not running";
    return "the PLM (pid " + std::to_string(pid) + ") " +
           (is_stopped(pid) ? "is stopped" : "does not answer");
}

bool plm_is_stopped(const Cell& cell) {
    const auto pid = plm_pid(cell);
    return pid > 0 && is_stopped(pid);
}

LateNotice::LateNotice(const Cell& cell, const TellLate& tell, std::chrono::milliseconds limit) {
    if (!tell || (limit.count() != 0 && limit <= kLateAfter)) return;
    thread_ = std::thread([this, &cell, &tell, limit] {
        std::unique_lock hold(mutex_);
        if (wake_.wait_for(hold, kLateAfter, [this] { return answered_; })) return;
        const auto left = std::chrono::duration_cast<std::chrono::seconds>(limit - kLateAfter);
        tell(plm_words(cell) + "; waiting" +
             (limit.count() == 0 ? std::string(" for it")
                                 : " up to " + std::to_string(left.count()) + " s more"));
    });
}

LateNotice::~LateNotice() {
    answered();
    if (thread_.joinable()) thread_.join();
}

void LateNotice::answered() {
    {
        const std::lock_guard hold(mutex_);
        answered_ = true;
    }
    wake_.notify_all();
}

}  // namespace reeve::rpc
