#include "plm/core/spend.h"

#include "common/model/wants.h"

namespace reeve::plm {
namespace {

template <typename Map>
void put_map(ByteWriter& out, const Map& map) {
    out.put(static_cast<std::uint64_t>(map.size()));
    for (const auto& [key, value] : map) {
        out.put(key);
        out.put(value);
    }
}

template <typename Map>
void get_map(ByteReader& in, Map& map) {
    const auto count = in.get<std::uint64_t>();
    for (std::uint64_t i = 0; i < count && in.ok(); ++i) {
        const auto key = in.get<typename Map::key_type>();
        map[key] = in.get<typename Map::mapped_type>();
    }
}

template <typename Map>
typename Map::mapped_type value_or_zero(const Map& map, typename Map::key_type key) {
    const auto found = map.find(key);
    return found == map.end() ? 0 : found->second;
}

}  // namespace

void Spend::note_worker(WorkerId worker, std::uint32_t price_micro) {
    if (price_micro != 0) prices_[worker.incarnation] = price_micro;
}

std::uint32_t Spend::price_of(WorkerId worker) const {
    return value_or_zero(prices_, worker.incarnation);
}

void Spend::note_attempt(std::uint32_t uid, const TaskEnded& ended) {
    if (prices_.empty()) return;
    const auto cost = cost_nano(price_of(ended.worker), ended.started_ns, ended.ended_ns);
    if (cost == 0) return;
    jobs_[ended.job] += cost;
    users_[uid] += cost;
}

std::uint64_t Spend::of_job(JobId job) const {
    return value_or_zero(jobs_, job);
}

std::uint64_t Spend::of_user(std::uint32_t uid) const {
    return value_or_zero(users_, uid);
}

void Spend::save(ByteWriter& out) const {
    put_map(out, prices_);
    put_map(out, jobs_);
    put_map(out, users_);
}

void Spend::load(ByteReader& in) {
    get_map(in, prices_);
    get_map(in, jobs_);
    get_map(in, users_);
}

}  // namespace reeve::plm
