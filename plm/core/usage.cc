#include "plm/core/usage.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace reeve::plm {
namespace {

constexpr double kGpuInCpus = 8;  // as the simulator counts
constexpr std::uint64_t kTogetherNs = 30'000'000'000;

double seconds(std::uint64_t ns) {
    return static_cast<double>(ns) / 1e9;
}

std::string user(std::uint32_t uid) {
    return "u" + std::to_string(uid);
}
std::string group(std::uint32_t gid) {
    return "g" + std::to_string(gid);
}

}  // namespace

void Usage::charge(std::uint32_t uid, std::uint32_t gid, const Resources& held,
                   std::uint64_t started_ns, std::uint64_t ended_ns) {
    if (started_ns == 0 || ended_ns <= started_ns) return;
    const bool together =
        pending_.uid == uid && pending_.gid == gid && ended_ns < pending_.ended_ns + kTogetherNs;
    if (!together) {
        settle();
        pending_ = Pending{uid, gid, ended_ns, 0};
    }
    pending_.amount +=
        (held.cpu_milli / 1000.0 + kGpuInCpus * held.gpus) * seconds(ended_ns - started_ns);
}

void Usage::settle() {
    if (pending_.amount <= 0) return;
    shares_.charge(user(pending_.uid), group(pending_.gid), pending_.amount,
                   seconds(pending_.ended_ns));
    pending_.amount = 0;
}

std::uint16_t Usage::points_milli(std::uint32_t uid, std::uint32_t gid, std::uint64_t now_ns) {
    settle();
    const double points = shares_.points(user(uid), group(gid), seconds(now_ns));
    return static_cast<std::uint16_t>(std::lround(std::clamp(points, 0.0, 60.0) * 1000));
}

void Usage::configure(double half_life_s, const std::map<std::uint32_t, double>& users,
                      const std::map<std::uint32_t, double>& groups, std::uint64_t now_ns) {
    settle();
    std::map<std::string, double> fresh;
    for (const auto& [uid, weight] : users) fresh[user(uid)] = weight;
    for (const auto& [gid, weight] : groups) fresh[group(gid)] = weight;
    if (half_life_s != half_life_s_) {
        const auto accounts = shares_.accounts(seconds(now_ns));
        half_life_s_ = half_life_s;
        shares_ = sched::FairShare(half_life_s);
        shares_.restore(accounts, seconds(now_ns));
        weights_.clear();
    }
    for (const auto& [name, weight] : weights_) {
        if (!fresh.contains(name)) shares_.set_weight(name, 1);
    }
    for (const auto& [name, weight] : fresh) shares_.set_weight(name, weight);
    weights_ = std::move(fresh);
}

void Usage::save(ByteWriter& out) {
    settle();
    const double at = seconds(pending_.ended_ns);
    const auto accounts = shares_.accounts(at);
    out.put(pending_.ended_ns);
    out.put(static_cast<std::uint64_t>(accounts.size()));
    for (const auto& [name, amount] : accounts) {
        out.put_bytes(name);
        out.put(static_cast<std::uint64_t>(std::llround(amount * 1000)));
    }
}

void Usage::load(ByteReader& in) {
    pending_ = Pending{};
    pending_.ended_ns = in.get<std::uint64_t>();
    const auto count = in.get<std::uint64_t>();
    std::map<std::string, double> accounts;
    for (std::uint64_t i = 0; i < count && in.ok(); ++i) {
        const std::string name(in.get_bytes());
        accounts[name] = static_cast<double>(in.get<std::uint64_t>()) / 1000;
    }
    shares_.restore(accounts, seconds(pending_.ended_ns));
}

}  // namespace reeve::plm
