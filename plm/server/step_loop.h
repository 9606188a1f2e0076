// StepLoop is how a streaming call goes on: whatever happens to it changes its state under its
// mutex and then steps; one thread at a time looks what is next and does it outside the lock.
//
// So a read or write is never started after the finish another thread decided on, and what is done
// may call back into the same object: that steps again afterwards. The caller keeps the object
// alive over the call.
#pragma once

#include <mutex>

namespace reeve::plm {

class StepLoop {
public:
    // decide() is called with `hold` held and says what to do, with copies of all it needs;
    // act(that) is called without. Where another thread is at it, that one looks again.
    template <typename Decide, typename Act>
    void run(std::unique_lock<std::mutex>& hold, Decide decide, Act act) {
        again_ = true;
        if (running_) return;
        running_ = true;
        while (again_) {
            again_ = false;
            const auto next = decide();
            hold.unlock();
            act(next);
            hold.lock();
        }
        running_ = false;
    }

private:
    bool running_ = false;
    bool again_ = false;
};

}  // namespace reeve::plm
