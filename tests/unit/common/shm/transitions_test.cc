#include "common/shm/transitions.h"

#include <set>
#include <tuple>

#include "common/shm/slot_word.h"
#include "tests/support/catch.h"

namespace reeve::shm {
namespace {

using S = SlotState;

SlotWord word(S state, std::uint16_t attempt = 1, std::uint16_t owner = 0) {
    return SlotWord::make(7, attempt, owner, state);
}

}  // namespace

TEST_CASE("SlotWord: fields come out as they went in", "[shm]") {
    const auto made = SlotWord::make(0xABCDEF, 0x1234, 0x5678, S::kEnding);
    CHECK(made.generation() == 0xABCDEF);
    CHECK(made.attempt() == 0x1234);
    CHECK(made.owner() == 0x5678);
    CHECK(made.state() == S::kEnding);
    CHECK(SlotWord::make(0x1000001, 0, 0, S::kFree).generation() == 1);  // 24 bits
    CHECK(made.next_attempt(S::kAssigned, 16).attempt() == 0x1235);
    CHECK(SlotWord::make(1, 0, kOwnerFirstWorker + 3, S::kRunning).worker_slot() == 3);
    CHECK_FALSE(SlotWord::make(1, 0, kOwnerOrphan, S::kRunning).owned_by_worker());
}

TEST_CASE("SlotWord: rank grows along every lawful move within a generation", "[shm]") {
    for (const auto& row : transition_table()) {
        const auto from = word(row.from);
        const auto to = word(row.to, static_cast<std::uint16_t>(1 + row.attempt_step));
        INFO(row.why);
        const bool frozen_and_back = (row.from == S::kRunning || row.from == S::kSuspended) &&
                                     (row.to == S::kRunning || row.to == S::kSuspended);
        const bool leaves_generation = row.to == S::kFree || row.to == S::kInit ||
                                       row.from == S::kInit || row.from == S::kFree;
        const bool among_waiting =
            from.rank() == to.rank();  // held, queued, claimed: no attempt yet
        if (leaves_generation) continue;
        if (frozen_and_back || among_waiting) {
            CHECK(from.rank() == to.rank());
        } else if (row.to == S::kEnded && (row.from == S::kQueued || row.from == S::kHeld)) {
            CHECK(row.role == Role::kPlm);  // cancelled while waiting: the PLM's own move
        } else {
            CHECK(from.rank() < to.rank());
        }
    }
}

TEST_CASE("Transitions: no row is said twice, and every row is found", "[shm]") {
    std::set<std::tuple<S, S, Role>> seen;
    for (const auto& row : transition_table()) {
        INFO(row.why);
        CHECK(seen.insert({row.from, row.to, row.role}).second);
        const auto from = word(row.from);
        const auto to = word(row.to, static_cast<std::uint16_t>(1 + row.attempt_step));
        CHECK(find_transition(row.role, from, to) == &row);
    }
}

TEST_CASE("Transitions: exactly the table's rows are lawful", "[shm]") {
    std::set<std::tuple<S, S, Role>> rows;
    for (const auto& row : transition_table()) rows.insert({row.from, row.to, row.role});
    for (int from = 0; from < kSlotStates; ++from) {
        for (int to = 0; to < kSlotStates; ++to) {
            for (const auto role : {Role::kPlm, Role::kScheduler, Role::kRegister, Role::kWorker}) {
                const auto a = static_cast<S>(from);
                const auto b = static_cast<S>(to);
                const bool lawful =
                    is_lawful(role, word(a), word(b)) || is_lawful(role, word(a), word(b, 2));
                CHECK(lawful == (rows.count({a, b, role}) != 0));
            }
        }
    }
}

TEST_CASE("Transitions: the attempt grows at claimed to assigned and nowhere else", "[shm]") {
    CHECK(is_lawful(Role::kScheduler, word(S::kClaimed, 4), word(S::kAssigned, 5, 16)));
    CHECK_FALSE(is_lawful(Role::kScheduler, word(S::kClaimed, 4), word(S::kAssigned, 4, 16)));
    CHECK_FALSE(is_lawful(Role::kScheduler, word(S::kClaimed, 4), word(S::kAssigned, 6, 16)));
    CHECK_FALSE(is_lawful(Role::kWorker, word(S::kAssigned, 4), word(S::kRunning, 5)));
    CHECK_FALSE(is_lawful(Role::kRegister, word(S::kRunning, 4), word(S::kQueued, 5)));
    CHECK_FALSE(is_lawful(Role::kScheduler, word(S::kClaimed, kAttemptMax), word(S::kAssigned, 0)));
}

TEST_CASE("Transitions: the generation changes only when a free slot is taken", "[shm]") {
    const auto old_life = SlotWord::make(7, 1, 0, S::kRunning);
    const auto new_life = SlotWord::make(8, 1, 0, S::kEnded);
    CHECK_FALSE(is_lawful(Role::kWorker, old_life, new_life));
    CHECK(is_lawful(Role::kPlm, SlotWord::make(7, 3, 0, S::kFree),
                    SlotWord::make(8, 0, kOwnerPlm, S::kInit)));
}

TEST_CASE("Transitions: each role keeps to its own", "[shm]") {
    CHECK_FALSE(is_lawful(Role::kWorker, word(S::kQueued), word(S::kAssigned, 2)));
    CHECK_FALSE(is_lawful(Role::kScheduler, word(S::kRunning), word(S::kEnded)));
    CHECK_FALSE(is_lawful(Role::kPlm, word(S::kRunning), word(S::kEnded)));
    CHECK_FALSE(is_lawful(Role::kPlm, word(S::kQueued), word(S::kClaimed)));
    CHECK_FALSE(is_lawful(Role::kRegister, word(S::kEnded), word(S::kFree)));
    for (const auto& row : transition_table()) {
        if (row.to == S::kClaimed) CHECK(row.role == Role::kScheduler);  // one claimer
        if (row.to == S::kFree) CHECK(row.role == Role::kPlm);
    }
}

TEST_CASE("Transitions: names of damaged values do not crash", "[shm]") {
    CHECK(std::string(to_string(static_cast<S>(200))) == "damaged");
    CHECK(std::string(to_string(S::kSuspended)) == "suspended");
    CHECK(std::string(to_string(Role::kRegister)) == "register");
}

}  // namespace reeve::shm
