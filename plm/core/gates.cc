#include "plm/core/gates.h"

#include <algorithm>

#include "common/base/assert.h"

namespace reeve::plm {
namespace {

constexpr std::array<const char*, 4> kQuotaWords{"cpu", "memory", "gpus", "tasks"};

std::array<std::uint64_t, 4> quota_amounts(const Resources& request) {
    return {request.cpu_milli, request.memory_bytes, request.gpus, 1};
}

}  // namespace

void Gates::configure(CellPolicy policy, UserName user_name) {
    *this = Gates();
    policy_ = std::move(policy);
    user_name_ = std::move(user_name);
}

std::uint32_t Gates::add_gate(bool quota, const std::string& what, std::uint64_t capacity) {
    Gate gate;
    gate.quota = quota;
    gate.what = what;
    gate.capacity = capacity;
    gates_.push_back(std::move(gate));
    return static_cast<std::uint32_t>(gates_.size() - 1);
}

// A limit that was taken out of the policy lets nobody in.
std::uint32_t Gates::limit_gate(const std::string& name) {
    const auto found = limit_gates_.find(name);
    if (found != limit_gates_.end()) return found->second;
    const auto limit = policy_.limits.find(name);
    const auto gate = add_gate(false, name, limit == policy_.limits.end() ? 0 : limit->second);
    limit_gates_.emplace(name, gate);
    return gate;
}

const std::array<std::uint32_t, 4>& Gates::quota_gates(std::uint32_t uid) {
    const auto found = quota_gates_.find(uid);
    if (found != quota_gates_.end()) return found->second;
    std::array<std::uint32_t, 4> gates{kNoGate, kNoGate, kNoGate, kNoGate};
    auto quota = policy_.quotas.find(user_name_ ? user_name_(uid) : std::to_string(uid));
    if (quota == policy_.quotas.end()) quota = policy_.quotas.find(std::to_string(uid));
    if (quota == policy_.quotas.end()) quota = policy_.quotas.find("*");
    if (quota != policy_.quotas.end()) {
        const Quota& most = quota->second;
        const std::array<const std::optional<std::uint64_t>*, 4> all{
            &most.cpu_milli, &most.memory_bytes, &most.gpus, &most.tasks};
        for (std::size_t i = 0; i < all.size(); ++i) {
            if (*all[i]) gates[i] = add_gate(true, kQuotaWords[i], **all[i]);
        }
    }
    return quota_gates_.emplace(uid, gates).first->second;
}

Gates::Tolls Gates::tolls(std::uint32_t uid, const Resources& request,
                          const std::vector<LimitTaken>& limits) {
    Tolls out;
    for (const auto& limit : limits) out.push_back({limit_gate(limit.name), limit.count});
    if (!has_quotas()) return out;
    const auto& gates = quota_gates(uid);
    const auto amounts = quota_amounts(request);
    for (std::size_t i = 0; i < gates.size(); ++i) {
        if (gates[i] != kNoGate && amounts[i] != 0) out.push_back({gates[i], amounts[i]});
    }
    return out;
}

std::string Gates::impossible(std::uint32_t uid, const Resources& request,
                              const std::vector<LimitTaken>& limits, std::uint64_t tasks) {
    const std::string who = tasks == 1 ? "" : std::to_string(tasks) + " tasks at once: ";
    for (const auto& limit : limits) {
        const auto known = policy_.limits.find(limit.name);
        if (known == policy_.limits.end()) {
            std::string names;
            for (const auto& [name, count] : policy_.limits) {
                names += (names.empty() ? "" : ", ") + name;
            }
            return "limits: this cell has no limit \"" + limit.name + "\", it has " +
                   (names.empty() ? "none" : names) +
                   "; define it in the file of: reeve up --policy";
        }
        if (limit.count * tasks > known->second) {
            return "limits: " + who + "takes " + std::to_string(limit.count * tasks) + " of \"" +
                   limit.name + "\", there are " + std::to_string(known->second) + "; take less";
        }
    }
    for (const auto& toll : tolls(uid, request, {})) {
        const Gate& gate = gates_[toll.gate];
        if (toll.amount * tasks <= gate.capacity) continue;
        return std::string("resources.") + (gate.what == "gpus" ? "gpu" : gate.what) + ": " +
               (tasks == 1 ? "one task asks" : std::to_string(tasks) + " tasks at once ask") +
               " for more than the user's quota; ask for less";
    }
    return "";
}

void Gates::charge(const Tolls& tolls, std::uint64_t tasks) {
    for (const auto& toll : tolls) gates_[toll.gate].used += toll.amount * tasks;
}

void Gates::refund(const Tolls& tolls, std::uint64_t tasks) {
    for (const auto& toll : tolls) {
        auto& used = gates_[toll.gate].used;
        REEVE_ASSERT(used >= toll.amount * tasks);
        used -= toll.amount * tasks;
    }
}

std::uint64_t Gates::settle(JobId job, const Tolls& tolls, std::uint64_t in_use, std::uint64_t more,
                            std::uint64_t key, std::vector<JobId>& woken, std::uint64_t least) {
    Holder& mine = jobs_[job];
    refund(mine.tolls, mine.tokens);
    if (mine.waits_at != kNoGate) gates_[mine.waits_at].waiters.erase(mine.waiter);
    mine.waits_at = kNoGate;
    mine.tolls = tolls;
    mine.waiter = {key, job};
    charge(tolls, in_use);
    std::uint64_t room = more;
    std::uint32_t short_at = kNoGate;
    std::uint64_t short_toll = 0;
    for (const auto& toll : tolls) {
        const Gate& gate = gates_[toll.gate];
        const bool better = !gate.waiters.empty() && gate.waiters.begin()->first < mine.waiter;
        const auto here = better ? 0 : gate.free() / toll.amount;
        if (here >= room) continue;
        room = here;
        short_at = toll.gate;
        short_toll = toll.amount;
    }
    if (room < least) room = 0;
    charge(tolls, room);
    mine.tokens = in_use + room;
    if (short_at != kNoGate) {
        mine.waits_at = short_at;
        // What a policy made too small since is waited for beside the others, not before them.
        const auto needs = short_toll * std::max<std::uint64_t>(least, 1);
        if (needs <= gates_[short_at].capacity) {
            gates_[short_at].waiters.emplace(mine.waiter, needs);
        }
    }
    for (const auto& toll : tolls) {
        const Gate& gate = gates_[toll.gate];
        if (gate.waiters.empty()) continue;
        const auto& [first, amount] = *gate.waiters.begin();
        if (first.job != job && amount <= gate.free()) woken.push_back(first.job);
    }
    const auto tokens = mine.tokens;
    if (tokens == 0 && mine.waits_at == kNoGate) jobs_.erase(job);
    return tokens;
}

std::uint64_t Gates::tokens(JobId job) const {
    const auto found = jobs_.find(job);
    return found == jobs_.end() ? 0 : found->second.tokens;
}

std::optional<Gates::Blocked> Gates::blocked(JobId job) const {
    const auto found = jobs_.find(job);
    if (found == jobs_.end() || found->second.waits_at == kNoGate) return std::nullopt;
    const Gate& gate = gates_[found->second.waits_at];
    return Blocked{gate.quota, gate.what, gate.used, gate.capacity};
}

}  // namespace reeve::plm
