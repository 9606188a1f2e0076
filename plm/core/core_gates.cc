// Limits and quotas at work: who may enter the heaps at all, and what the cell's policy says of it.

#include <sys/stat.h>

#include "common/base/clock.h"
#include "common/log/log.h"
#include "common/process/users.h"
#include "plm/core/core.h"

namespace reeve::plm {

namespace {

// Changes when the file is another one; 0 when there is none.
std::uint64_t stamp_of(const std::string& path) {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) return 0;
    const auto ns = static_cast<std::uint64_t>(info.st_mtim.tv_sec) * 1'000'000'000 +
                    static_cast<std::uint64_t>(info.st_mtim.tv_nsec);
    return (ns ^ (info.st_ino << 20) ^ static_cast<std::uint64_t>(info.st_size)) | 1;
}

}  // namespace

// Everything that is taken is counted anew: first what holds its place whatever the policy says.
void Core::apply_policy(CellPolicy policy) {
    slots_->set_minimum_run(policy.minimum_run_s);
    segment_->header().backfill.store(static_cast<std::uint64_t>(policy.backfill));
    std::map<std::uint32_t, double> users;
    std::map<std::uint32_t, double> groups;
    for (const auto& [name, weight] : policy.shares) {
        const auto uid = user_id(name);
        const auto gid = group_id(name);
        if (uid) users[*uid] = weight;
        if (gid) groups[*gid] = weight;
        if (!uid && !gid) {
            log::warn("shares names nobody of this machine", {{"name", name}});
        }
    }
    model_.usage.configure(policy.half_life_s, users, groups, wall_ns());
    gates_.configure(std::move(policy), user_name);
    gated_ = gates_.has_quotas();
    std::vector<JobId> woken;
    for (auto& [id, job] : model_.jobs()) {
        if (job.ended) continue;
        gangs_ = gangs_ || job.gang();
        gated_ = gated_ || !job.extras->policy.limits.empty();
        const auto tolls = tolls_of(job);
        const auto in_use = taken_by(job);
        if (!tolls.empty() && in_use > 0) (void)gates_.settle(id, tolls, in_use, 0, 0, woken);
    }
    for (auto& [id, job] : model_.jobs()) {
        if (!job.ended) model_.mark(job);
    }
}

// Once a second: a policy that was changed is taken over; one that is wrong is told, and not.
void Core::watch_policy() {
    if (!options_.read_policy) return;
    const auto stamp = stamp_of(cell_.policy);
    const bool first = !policy_stamp_;  // what the options hold was read a moment ago
    const bool same = policy_stamp_ == stamp;
    policy_stamp_ = stamp;
    if (first || same) return;
    auto policy = options_.read_policy();
    if (!policy) {
        log::warn("the new policy is wrong; the one before stays in force",
                  {{"why", policy.error().message}});
        return;
    }
    apply_policy(std::move(*policy));
    log::info("policy taken over", {{"path", cell_.policy}});
}

Gates::Tolls Core::tolls_of(const Job& job) {
    return gates_.tolls(job.uid, job.request, job.extras->policy.limits);
}

// Tasks that hold a token whatever else. Those of a gang do from when it may start, which it does
// as a whole, until the last has left the heaps; a part of one cannot start and holds none.
std::uint64_t Core::taken_by(const Job& job) const {
    if (!job.gang()) return job.in_use();
    const auto all = job.count - job.ended_count();
    return job.running != 0 || job.queued_in_slots == all ? all : 0;
}

// Lets through what the job has tokens for. Tasks in slots have theirs; then come loose ones, then
// those in the run.
void Core::pass_gates(Job& job, std::uint64_t& run_key, std::uint64_t& loose_key) {
    job.waits_for = shm::WaitsFor::kNothing;
    const auto tolls = tolls_of(job);
    if (tolls.empty() && !gates_.knows(job.id)) return;
    const auto in_use = taken_by(job);
    const auto key = std::min(run_key, loose_key);
    if (job.gang()) {
        const auto all = job.count - job.ended_count();
        const bool waits = in_use == 0 && key != kNotIndexed && job.all_held() == 0;
        const auto tokens = gates_.settle(job.id, tolls, in_use, waits ? all : 0, key, woken_, all);
        if (tokens < all) run_key = loose_key = kNotIndexed;
        tell_gate(job, tokens == in_use);
        return;
    }
    const auto loose = loose_key == kNotIndexed ? 0 : job.tasks->loose_count();
    std::uint64_t in_run = 0;
    if (run_key != kNotIndexed) {
        in_run = std::min(job.waiting_tasks() - job.tasks->loose_count(), kRunWindow);
        in_run = std::min(in_run, job.room_beside(job.admitted()));
    }
    const auto tokens = gates_.settle(job.id, tolls, in_use, loose + in_run, key, woken_);
    if (tokens <= in_use) loose_key = kNotIndexed;
    if (tokens <= in_use + loose) run_key = kNotIndexed;
    tell_gate(job, tokens == in_use);
}

// At which it waits, if nothing more of it may start.
void Core::tell_gate(Job& job, bool stopped) {
    if (const auto blocked = gates_.blocked(job.id); blocked && stopped) {
        job.waits_for = blocked->quota ? shm::WaitsFor::kQuota : shm::WaitsFor::kNamedLimit;
    }
}

bool Core::has_token(const Job& job) const {
    return !gates_.knows(job.id) || gates_.tokens(job.id) > job.in_use();
}

// What no state of the cell would ever let start is refused.
Status Core::check_gates(const v1::JobSpec& spec, std::uint32_t uid) {
    if (spec.limits().empty() && !gates_.has_quotas()) return {};
    const auto& wanted = spec.task().resources();
    const Resources request{wanted.cpu_milli(), wanted.gpus(), wanted.memory_bytes()};
    std::vector<LimitTaken> limits;
    for (const auto& limit : spec.limits()) {
        limits.push_back({limit.name(), std::max(limit.count(), 1U)});
    }
    const auto why = gates_.impossible(uid, request, limits, std::max(spec.nodes(), 1U));
    if (why.empty()) return {};
    return fail(ErrorCode::kInvalidArgument, why);
}

}  // namespace reeve::plm
