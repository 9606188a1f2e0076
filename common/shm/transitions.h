// The transition table: who may move a task from where to where, and what the audit log calls it.
//
// This table is the centre of docs/ARCHITECTURE.md. is_lawful() is asserted by everybody who moves
// a slot; the PLM uses audit_kind() to write the record.
#pragma once

#include <cstdint>
#include <span>

#include "common/shm/slot_word.h"

namespace reeve::shm {

enum class Role : std::uint8_t { kPlm, kScheduler, kRegister, kWorker };
const char* to_string(Role role);

// Kinds of AUDIT.md that a slot transition can produce; kNothing leaves no entry of its own.
enum class AuditKind : std::uint8_t {
    kNothing = 0,
    kSubmitted = 1,
    kAssigned = 2,
    kStarted = 3,
    kPreempted = 4,
    kResumed = 5,
    kEnded = 6,  // FINISHED, FAILED or CANCELLED: the outcome in the slot decides
    kCancelled = 8,
    kRequeued = 10,
    kHeld = 11,
    kReleased = 12,
};

struct Transition {
    SlotState from;
    SlotState to;
    Role role;
    std::int8_t attempt_step;  // 0, or 1 where the attempt number grows
    AuditKind audit;
    const char* why;
};

std::span<const Transition> transition_table();

// nullptr when no row of the table allows it (wrong role, wrong attempt step, generation changed).
const Transition* find_transition(Role role, SlotWord from, SlotWord to);
inline bool is_lawful(Role role, SlotWord from, SlotWord to) {
    return find_transition(role, from, to) != nullptr;
}

}  // namespace reeve::shm
