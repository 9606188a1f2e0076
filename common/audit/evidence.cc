// The evidence of a reassignment: gathering it from a LogView, and judging it offline.
#include <algorithm>

#include "common/audit/log_view.h"
#include "common/merkle/proof.h"

namespace reeve::audit {
namespace {

bool takes(Kind kind) {
    return kind == Kind::kRequeued || kind == Kind::kReassigned;
}
bool assigns(Kind kind) {
    return kind == Kind::kAssigned || kind == Kind::kReassigned;
}

tl::unexpected<Error> broken(std::string what) {
    return fail(ErrorCode::kDataLoss, "proof: " + std::move(what));
}

// Positions in a task's history: the entry before the taking, the taking, the next assignment.
struct Passage {
    std::size_t before = 0;
    std::size_t taken = 0;
    std::size_t assigned = 0;
};

// A retry after FAILED is no passage from a holder, who had given the task back by failing.
std::optional<Passage> find_passage(const std::vector<Entry>& history,
                                    std::optional<std::uint16_t> attempt) {
    std::optional<Passage> found;
    for (std::size_t i = 1; i < history.size(); ++i) {
        if (!takes(history[i].kind) || history[i].peer.none()) continue;
        std::size_t next = i;
        while (next < history.size() && !assigns(history[next].kind)) ++next;
        if (next == history.size()) continue;
        if (!attempt || history[next].attempt == *attempt) found = Passage{i - 1, i, next};
    }
    return found;
}

struct Judge {
    std::vector<Entry> entries;  // as in the evidence, decoded
    std::vector<std::uint64_t> indices;
    Reassignment result;
    std::size_t taken = 0;

    // The chain before -> ... -> assigned, without the death.
    Status check_chain(const std::vector<std::size_t>& chain) {
        if (chain.size() < 2) return broken("fewer than two entries of the task");
        const Entry& first = entries[chain.front()];
        result.task = first.task;
        result.from = first.worker;
        for (std::size_t i = 1; i < chain.size(); ++i) {
            const Entry& here = entries[chain[i]];
            const Entry& before = entries[chain[i - 1]];
            if (here.task != first.task) return broken("entries of more than one task");
            if (here.seq != before.seq + 1 || here.prev != indices[chain[i - 1]]) {
                return broken("entry " + std::to_string(indices[chain[i]]) +
                              " is not the task's next after entry " +
                              std::to_string(indices[chain[i - 1]]));
            }
            const bool last = i + 1 == chain.size();
            if (assigns(here.kind) != last) return broken("the assignment is not the last entry");
        }
        taken = chain[1];
        const Entry& next = entries[chain.back()];
        result.to = next.worker;
        result.attempt = next.attempt;
        result.taken = indices[taken];
        result.assigned = indices[chain.back()];
        return check_taking(next);
    }

    Status check_taking(const Entry& next) {
        const Entry& taking = entries[taken];
        if (!takes(taking.kind)) return broken("the second entry takes nothing from a holder");
        if (taking.peer != result.from) {
            return broken("the task was taken from " + to_hex(taking.peer) + ", its entry before " +
                          "is of " + to_hex(result.from));
        }
        if (next.kind == Kind::kReassigned && next.worker == next.peer) {
            return broken("reassigned to the worker it was taken from");
        }
        return {};
    }

    Status check_death(std::optional<std::size_t> death) {
        const Entry& taking = entries[taken];
        if (!death) {
            if (taking.cause != kNoIndex) return broken("the cause of the taking is missing");
            return {};
        }
        const Entry& dead = entries[*death];
        if (dead.kind != Kind::kWorkerDead || dead.worker != result.from) {
            return broken("the death is not that of the old holder");
        }
        if (taking.cause != indices[*death] || indices[*death] >= result.taken) {
            return broken("the taking does not cite the death");
        }
        result.death = indices[*death];
        return {};
    }
};

}  // namespace

Result<Evidence> LogView::reassigned(Id task, std::optional<std::uint16_t> attempt) {
    REEVE_TRY_ASSIGN(auto found, history(task));
    std::vector<Entry> entries;
    for (const IndexedEntry& one : found) {
        auto entry = decode(one.bytes);
        if (!entry) return fail(ErrorCode::kDataLoss, entry.error().message);
        entries.push_back(*entry);
    }
    const auto passage = find_passage(entries, attempt);
    if (!passage) {
        return fail(ErrorCode::kNotFound,
                    attempt
                        ? "no passage to another holder led to attempt " + std::to_string(*attempt)
                        : "the task never went from one holder to another");
    }
    Evidence evidence;
    evidence.checkpoint = head_.text;
    const auto add = [&](const char* role, IndexedEntry one) {
        evidence.entries.push_back({role, one.index, std::move(one.bytes), std::move(one.proof)});
    };
    const std::uint64_t cause = entries[passage->taken].cause;
    for (std::size_t i = passage->before; i <= passage->assigned; ++i) {
        if (i == passage->taken && cause != kNoIndex) {
            REEVE_TRY_ASSIGN(auto death, entry(cause));
            add("death", std::move(death));
        }
        const char* role = "between";
        if (i == passage->before) role = "before";
        if (i == passage->taken) role = "taken";
        if (i == passage->assigned) role = "assigned";
        add(role, std::move(found[i]));
    }
    return evidence;
}

Result<Reassignment> check_evidence(const Evidence& evidence, const Policy& policy) {
    REEVE_TRY_ASSIGN(auto opened, open_under_policy(evidence.checkpoint, policy));
    const Checkpoint& head = opened.checkpoint;
    Judge judge;
    std::vector<std::size_t> chain;
    std::optional<std::size_t> death;
    for (std::size_t i = 0; i < evidence.entries.size(); ++i) {
        const ProvenEntry& one = evidence.entries[i];
        if (!merkle::verify_inclusion(one.index, head.size, merkle::leaf_hash(one.bytes),
                                      one.hashes, head.root)) {
            return broken("entry " + std::to_string(one.index) + " is not in the signed tree");
        }
        auto entry = decode(one.bytes);
        if (!entry) return broken(entry.error().message);
        judge.entries.push_back(*entry);
        judge.indices.push_back(one.index);
        // The roles are words for people; what an entry is, it says itself.
        if (subject_of(entry->kind) == Subject::kTask) {
            chain.push_back(i);
        } else if (death) {
            return broken("more than one cause");
        } else {
            death = i;
        }
    }
    REEVE_TRY(judge.check_chain(chain));
    REEVE_TRY(judge.check_death(death));
    judge.result.head = std::move(opened);
    return judge.result;
}

}  // namespace reeve::audit
