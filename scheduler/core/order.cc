#include "scheduler/core/order.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "common/base/assert.h"

namespace reeve::sched {

double sla_points(SlaClass sla) {
    switch (sla) {
        case SlaClass::kCritical:
            return 20;
        case SlaClass::kStandard:
            return 0;
        case SlaClass::kFlexible:
            return -5;
        case SlaClass::kSpot:
            return -10;
    }
    return 0;
}

std::string OrderTerms::to_string() const {
    std::array<char, 200> text{};
    std::snprintf(text.data(), text.size(),
                  "%.2f = priority %.0f + sla %.0f + age %.2f - fair share %.2f - length %.2f",
                  score(), priority, sla, age, fair_share, length);
    return text.data();
}

std::int64_t urgent_from(std::int64_t deadline_s, std::int64_t limit_s) {
    return deadline_s - limit_s - limit_s / 10;
}

double length_points(std::optional<double> expected_s) {
    if (!expected_s || *expected_s <= kShortSeconds) return 0;
    return std::min(std::log2(*expected_s / kShortSeconds), kLengthPointsMax);
}

std::int64_t head_start_s(std::int32_t priority, SlaClass sla, double fair_points,
                          double length_points) {
    return std::llround((priority + sla_points(sla) - fair_points - length_points) *
                        kAgeingSeconds);
}

OrderTerms order_terms(std::int32_t priority, SlaClass sla, double waited_s, double fair_points,
                       double length_points) {
    return OrderTerms{static_cast<double>(priority), sla_points(sla),
                      std::max(waited_s, 0.0) / kAgeingSeconds, fair_points, length_points};
}

FairShare::FairShare(double half_life_s) : half_life_s_(half_life_s) {
    REEVE_ASSERT(half_life_s > 0);
}

double FairShare::decayed(const Account& account, double now_s) const {
    return account.amount * std::exp2(-std::max(now_s - account.at, 0.0) / half_life_s_);
}

double FairShare::weight_of(const std::string& name) const {
    const auto found = weights_.find(name);
    return found == weights_.end() ? 1.0 : found->second;
}

void FairShare::set_weight(const std::string& name, double weight) {
    REEVE_ASSERT(weight >= 0);
    for (Accounts* accounts : {&users_, &groups_}) {
        if (accounts->by_name.contains(name)) accounts->weights += weight - weight_of(name);
    }
    weights_[name] = weight;
}

void FairShare::add(Accounts& accounts, const std::string& name, double amount, double now_s) {
    const auto [it, fresh] = accounts.by_name.try_emplace(name);
    if (fresh) accounts.weights += weight_of(name);
    it->second = Account{decayed(it->second, now_s) + amount, now_s};
}

void FairShare::charge(const std::string& user, const std::string& group, double amount,
                       double now_s) {
    REEVE_ASSERT(amount >= 0);
    add(users_, user, amount, now_s);
    add(groups_, group, amount, now_s);
    total_ = Account{decayed(total_, now_s) + amount, now_s};
}

double FairShare::usage(const std::string& name, double now_s) const {
    const auto found = users_.by_name.find(name);
    return found == users_.by_name.end() ? 0 : decayed(found->second, now_s);
}

// How far above its fair share an account is: 0 at or below, 1 when all usage is its own. The fair
// share is its weight among those that have used anything.
double FairShare::excess(const Accounts& accounts, const std::string& name, double now_s) const {
    const auto found = accounts.by_name.find(name);
    const double all = decayed(total_, now_s);
    if (found == accounts.by_name.end() || all <= 0 || accounts.by_name.size() < 2) return 0;
    const double fair = accounts.weights > 0 ? weight_of(name) / accounts.weights : 0;
    const double used = decayed(found->second, now_s) / all;
    return fair >= 1 ? 0 : std::clamp((used - fair) / (1 - fair), 0.0, 1.0);
}

std::map<std::string, double> FairShare::accounts(double now_s) const {
    std::map<std::string, double> out;
    for (const Accounts* accounts : {&users_, &groups_}) {
        for (const auto& [name, account] : accounts->by_name) {
            out[(accounts == &users_ ? "U" : "G") + name] = decayed(account, now_s);
        }
    }
    return out;
}

void FairShare::restore(const std::map<std::string, double>& accounts, double now_s) {
    users_ = groups_ = Accounts{};
    total_ = Account{};
    for (const auto& [name, amount] : accounts) {
        if (name.size() < 2) continue;
        const bool user = name[0] == 'U';
        add(user ? users_ : groups_, name.substr(1), amount, now_s);
        if (user) total_ = Account{total_.amount + amount, now_s};
    }
}

double FairShare::points(const std::string& user, const std::string& group, double now_s) const {
    const double user_excess = excess(users_, user, now_s);
    const double group_excess = excess(groups_, group, now_s);
    return kFairPointsMax * (user_excess + group_excess) / 2;
}

}  // namespace reeve::sched
