#include "common/shm/transitions.h"

namespace reeve::shm {
namespace {

using S = SlotState;
using R = Role;
using A = AuditKind;

constexpr Transition kTable[] = {
    {S::kFree, S::kInit, R::kPlm, 0, A::kNothing, "allocate"},
    {S::kInit, S::kFree, R::kPlm, 0, A::kNothing, "give up an unfinished allocation"},
    {S::kInit, S::kQueued, R::kPlm, 0, A::kNothing, "publish a queued task"},
    {S::kInit, S::kHeld, R::kPlm, 0, A::kNothing, "publish a held task"},
    {S::kInit, S::kRunning, R::kPlm, 0, A::kNothing, "rebuild: an attempt whose worker may return"},
    {S::kHeld, S::kQueued, R::kPlm, 0, A::kReleased, "release"},
    {S::kQueued, S::kHeld, R::kPlm, 0, A::kHeld, "hold"},
    {S::kQueued, S::kInit, R::kPlm, 0, A::kNothing, "swap out to the backlog, or update"},
    {S::kHeld, S::kInit, R::kPlm, 0, A::kNothing, "swap out to the backlog, or update"},
    {S::kQueued, S::kEnded, R::kPlm, 0, A::kCancelled, "cancel"},
    {S::kHeld, S::kEnded, R::kPlm, 0, A::kCancelled, "cancel"},
    {S::kEnded, S::kQueued, R::kPlm, 0, A::kRequeued, "retry"},
    {S::kEnded, S::kHeld, R::kPlm, 0, A::kRequeued, "requeue and hold"},
    {S::kEnded, S::kFree, R::kPlm, 0, A::kNothing, "free: ending durable, claim clear"},

    {S::kQueued, S::kClaimed, R::kScheduler, 0, A::kNothing, "claim"},
    {S::kClaimed, S::kQueued, R::kScheduler, 0, A::kNothing, "claim given back"},
    {S::kClaimed, S::kAssigned, R::kScheduler, 1, A::kAssigned, "place on a worker"},
    {S::kAssigned, S::kQueued, R::kScheduler, 0, A::kRequeued, "retract"},

    {S::kClaimed, S::kQueued, R::kRegister, 0, A::kNothing, "the scheduler died holding it"},
    {S::kAssigned, S::kQueued, R::kRegister, 0, A::kRequeued, "its worker died"},
    {S::kRunning, S::kQueued, R::kRegister, 0, A::kRequeued, "its worker died"},
    {S::kSuspended, S::kQueued, R::kRegister, 0, A::kRequeued, "its worker died"},
    {S::kEnding, S::kQueued, R::kRegister, 0, A::kRequeued, "its worker died"},
    {S::kAssigned, S::kEnded, R::kRegister, 0, A::kEnded, "its worker died: lost or poison"},
    {S::kRunning, S::kEnded, R::kRegister, 0, A::kEnded, "its worker died: lost or poison"},
    {S::kSuspended, S::kEnded, R::kRegister, 0, A::kEnded, "its worker died: lost or poison"},
    {S::kEnding, S::kEnded, R::kRegister, 0, A::kEnded, "its worker died: lost or poison"},

    {S::kAssigned, S::kRunning, R::kWorker, 0, A::kStarted, "start"},
    {S::kAssigned, S::kEnded, R::kWorker, 0, A::kEnded, "could not start, or cancelled before"},
    {S::kRunning, S::kSuspended, R::kWorker, 0, A::kPreempted, "freeze"},
    {S::kSuspended, S::kRunning, R::kWorker, 0, A::kResumed, "thaw"},
    {S::kRunning, S::kEnded, R::kWorker, 0, A::kEnded, "ended"},
    {S::kRunning, S::kRunning, R::kWorker, 0, A::kNothing, "adopt an orphan after a rebuild"},
};

}  // namespace

const char* to_string(SlotState state) {
    switch (state) {
        case S::kFree: return "free";
        case S::kInit: return "init";
        case S::kHeld: return "held";
        case S::kQueued: return "queued";
        case S::kClaimed: return "claimed";
        case S::kAssigned: return "assigned";
        case S::kRunning: return "running";
        case S::kSuspended: return "suspended";
        case S::kEnding: return "ending";
        case S::kEnded: return "ended";
    }
    return "damaged";
}

const char* to_string(Role role) {
    switch (role) {
        case R::kPlm: return "plm";
        case R::kScheduler: return "scheduler";
        case R::kRegister: return "register";
        case R::kWorker: return "worker";
    }
    return "unknown";
}

std::span<const Transition> transition_table() { return kTable; }

const Transition* find_transition(Role role, SlotWord from, SlotWord to) {
    const bool reuse = from.state() == S::kFree && to.state() == S::kInit;
    if (!reuse && from.generation() != to.generation()) return nullptr;
    for (const auto& row : kTable) {
        if (row.role != role || row.from != from.state() || row.to != to.state()) continue;
        if (!reuse && to.attempt() != from.attempt() + row.attempt_step) continue;
        return &row;
    }
    return nullptr;
}

}  // namespace reeve::shm
