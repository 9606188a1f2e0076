// Gates keep tasks out of the heaps while a named limit or a user's quota is used up.
//
// A gate is one number that may be taken: a limit's count, or a quota's cpus, memory, GPUs or tasks
// of one user. A job's tasks need a token each: its toll at every gate that concerns it. Tokens are
// held for tasks that are queued in slots or run, and for those that are about to be; whoever has
// none waits at the gate that is short, in the order of the heap keys, and is passed over there by
// nobody who is worse. Nothing of it is durable: a restart, or another policy, counts anew what is
// in slots (in_use) and lets in what fits beside it.
//
// Pure; not thread-safe: core thread only.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "common/model/resources.h"
#include "plm/policy.h"

namespace reeve::plm {

class Gates {
public:
    using UserName = std::function<std::string(std::uint32_t uid)>;
    struct Toll {
        std::uint32_t gate = 0;
        std::uint64_t amount = 0;  // of one task
    };
    using Tolls = std::vector<Toll>;
    struct Blocked {
        bool quota = false;  // else a named limit
        std::string what;    // "licence", or "cpu", "memory", "gpus", "tasks"
        std::uint64_t used = 0;
        std::uint64_t capacity = 0;
    };

    // Forgets everything that was taken.
    void configure(CellPolicy policy, UserName user_name);
    bool has_quotas() const { return !policy_.quotas.empty(); }

    Tolls tolls(std::uint32_t uid, const Resources& request, const std::vector<LimitTaken>& limits);
    // Why so many tasks of this kind could never run at once; "" when they could.
    std::string impossible(std::uint32_t uid, const Resources& request,
                           const std::vector<LimitTaken>& limits, std::uint64_t tasks = 1);

    // Brings the job to hold a token for each task `in_use`, whatever is free, and for up to `more`
    // others as far as there is room and nobody better waits; `least` of them or none. Who is left
    // over waits under `key`.
    // Returns how many tokens it holds; jobs that should settle again are added to `woken`.
    std::uint64_t settle(JobId job, const Tolls& tolls, std::uint64_t in_use, std::uint64_t more,
                         std::uint64_t key, std::vector<JobId>& woken, std::uint64_t least = 1);

    bool knows(JobId job) const { return jobs_.contains(job); }
    std::uint64_t tokens(JobId job) const;
    std::optional<Blocked> blocked(JobId job) const;

private:
    static constexpr std::uint32_t kNoGate = ~0U;

    struct Waiter {
        std::uint64_t key = 0;
        JobId job = 0;
        auto operator<=>(const Waiter&) const = default;
    };
    struct Gate {
        bool quota = false;
        std::string what;
        std::uint64_t capacity = 0;
        std::uint64_t used = 0;
        std::map<Waiter, std::uint64_t> waiters;  // with the toll of the least it takes

        std::uint64_t free() const { return used < capacity ? capacity - used : 0; }
    };
    struct Holder {
        std::uint64_t tokens = 0;
        std::uint32_t waits_at = kNoGate;
        Waiter waiter;
        Tolls tolls;  // as charged
    };

    std::uint32_t add_gate(bool quota, const std::string& what, std::uint64_t capacity);
    std::uint32_t limit_gate(const std::string& name);
    const std::array<std::uint32_t, 4>& quota_gates(std::uint32_t uid);
    void charge(const Tolls& tolls, std::uint64_t tasks);
    void refund(const Tolls& tolls, std::uint64_t tasks);

    CellPolicy policy_;
    UserName user_name_;
    std::vector<Gate> gates_;
    std::map<std::string, std::uint32_t> limit_gates_;
    std::unordered_map<std::uint32_t, std::array<std::uint32_t, 4>> quota_gates_;  // by uid
    std::unordered_map<JobId, Holder> jobs_;
};

}  // namespace reeve::plm
