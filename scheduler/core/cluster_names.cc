// What ClusterCore's jobs share: wants, accounts, classes and named limits, each under a number.
#include <functional>

#include "scheduler/core/cluster.h"

namespace reeve::sched {
namespace {

// Mixes one more value into a hash.
void mix(std::uint64_t& hash, std::uint64_t value) {
    hash = (hash ^ value) * 0x9E3779B97F4A7C15ULL;
    hash ^= hash >> 29;
}

void mix(std::uint64_t& hash, const std::vector<std::string>& words) {
    mix(hash, words.size());
    for (const std::string& word : words) mix(hash, std::hash<std::string>{}(word));
}

}  // namespace

std::size_t ClusterCore::ClassKey::Hash::operator()(const ClassKey& key) const {
    std::uint64_t hash = 1;
    mix(hash, std::uint64_t{key.account} << 32 | key.want);
    mix(hash, std::uint64_t{static_cast<std::uint32_t>(key.priority)} << 8 |
                  static_cast<std::uint8_t>(key.sla));
    mix(hash, static_cast<std::uint64_t>(key.limit));
    return static_cast<std::size_t>(hash);
}

std::uint32_t ClusterCore::named_limit_of(const std::string& name) {
    const auto [it, fresh] =
        named_ids_.try_emplace(name, static_cast<std::uint32_t>(named_.size()));
    if (fresh) {
        NamedLimit& limit = named_.emplace_back();
        const auto most = options_.named_limits.find(name);
        if (most != options_.named_limits.end()) limit.most = most->second;
    }
    return it->second;
}

std::uint32_t ClusterCore::want_of(const ClusterJob& request) {
    const JobRequest& want = request.want;
    std::vector<std::uint32_t> limits;
    for (const std::string& name : request.named_limits) limits.push_back(named_limit_of(name));
    std::uint64_t hash = request.nodes;
    mix(hash, std::uint64_t{want.request.cpu_milli} << 32 | want.request.gpus);
    mix(hash, want.request.memory_bytes);
    mix(hash, want.request.named.bytes);
    mix(hash, std::uint64_t{static_cast<std::uint8_t>(want.sla)} << 1 | (want.spread ? 1U : 0U));
    mix(hash, std::hash<double>{}(want.max_price_per_hour));
    mix(hash, want.labels);
    mix(hash, request.named_limits);
    const auto [begin, end] = want_ids_.equal_range(hash);
    for (auto it = begin; it != end; ++it) {
        const Want& known = wants_[it->second];
        if (known.want == want && known.nodes == request.nodes && known.named_limits == limits) {
            return it->second;
        }
    }
    const auto id = static_cast<std::uint32_t>(wants_.size());
    want_ids_.emplace(hash, id);
    Want& fresh = wants_.emplace_back();
    fresh.want = want;
    fresh.nodes = request.nodes;
    fresh.named_limits = std::move(limits);
    return id;
}

std::uint32_t ClusterCore::account_of(const ClusterJob& request) {
    std::uint64_t hash = std::hash<std::string>{}(request.user);
    mix(hash, std::hash<std::string>{}(request.group));
    const auto [begin, end] = account_ids_.equal_range(hash);
    for (auto it = begin; it != end; ++it) {
        const Account& known = accounts_[it->second];
        if (known.user == request.user && known.group == request.group) return it->second;
    }
    const auto [user, fresh] =
        user_ids_.try_emplace(request.user, static_cast<std::uint32_t>(users_.size()));
    if (fresh) {
        User& added = users_.emplace_back();
        const auto quota = options_.user_quota.find(request.user);
        if (quota != options_.user_quota.end()) added.quota = quota->second;
        const auto budget = options_.user_budget.find(request.user);
        if (budget != options_.user_budget.end()) added.budget = budget->second;
    }
    const auto id = static_cast<std::uint32_t>(accounts_.size());
    account_ids_.emplace(hash, id);
    accounts_.push_back(Account{request.user, request.group, user->second, 0, 0});
    return id;
}

std::uint32_t ClusterCore::program_of(const std::string& name) {
    if (name.empty()) return kNone;
    return program_ids_.try_emplace(name, static_cast<std::uint32_t>(program_ids_.size()))
        .first->second;
}

RunKey ClusterCore::run_key(const Job& job) const {
    return RunKey{accounts_[job.account].user_index, job.want, 1, job.program};
}

std::uint32_t ClusterCore::class_of(std::int64_t now, const Job& job) {
    const std::int64_t limit = options_.policy == ClusterPolicy::kEasySjbf ? job.limit : 0;
    const ClassKey key{job.account, job.want, job.priority, sla_of(now, job), limit};
    const auto [it, fresh] =
        class_ids_.try_emplace(key, static_cast<std::uint32_t>(classes_.size()));
    if (fresh) {
        classes_.push_back(Class{key.account,
                                 key.want,
                                 key.priority,
                                 key.sla,
                                 0,
                                 sched::importance(key.priority, key.sla, 0),
                                 {}});
    }
    return it->second;
}

}  // namespace reeve::sched
