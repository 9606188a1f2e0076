#include "scheduler/core/predictor.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace reeve::sched {
namespace {

// Marks the coarser keys; no real size is negative.
constexpr std::int64_t kAnySize = -2;
constexpr std::int64_t kAnyLimit = -3;

}  // namespace

double RunTimePredictor::History::mean() const {
    const std::size_t n = std::min(count, kRemembered);
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += last[i];
    return sum / static_cast<double>(n);
}

std::size_t RunTimePredictor::KeyHash::operator()(const Key& key) const {
    std::uint64_t hash = 0x9E3779B97F4A7C15ULL;
    for (const std::int64_t part : key) {
        hash = (hash ^ static_cast<std::uint64_t>(part)) * 0xFF51AFD7ED558CCDULL;
        hash ^= hash >> 32;
    }
    return static_cast<std::size_t>(hash);
}

RunTimePredictor::Key RunTimePredictor::exact(const RunKey& key) {
    return {key.user, key.size, key.limit, key.program};
}
RunTimePredictor::Key RunTimePredictor::by_limit(const RunKey& key) {
    return {key.user, kAnySize, key.limit, 0};
}
RunTimePredictor::Key RunTimePredictor::by_user(const RunKey& key) {
    return {key.user, kAnySize, kAnyLimit, 0};
}

const RunTimePredictor::History* RunTimePredictor::find(const Key& key) const {
    for (const Histories* half : {&young_, &old_}) {
        const auto found = half->find(key);
        if (found != half->end()) return &found->second;
    }
    return nullptr;
}

double RunTimePredictor::mean_of(const Key& key) const {
    const History* history = find(key);
    return history == nullptr ? -1 : history->mean();
}

std::optional<double> RunTimePredictor::known(const RunKey& key) const {
    const History* history = find(exact(key));
    if (history == nullptr) return std::nullopt;
    return history->mean();
}

RunTimePredictor::History& RunTimePredictor::entry(const Key& key) {
    const auto known = young_.find(key);
    if (known != young_.end()) return known->second;
    if (young_.size() >= histories_max_ / 2) {
        old_ = std::move(young_);
        young_.clear();
    }
    History history;
    if (const auto before = old_.find(key); before != old_.end()) history = before->second;
    return young_.emplace(key, history).first->second;
}

double RunTimePredictor::predict(const RunKey& key) const {
    const auto limit = static_cast<double>(key.limit);
    double guess = mean_of(exact(key));
    if (guess < 0) guess = mean_of(by_limit(key));
    if (guess < 0) {
        const double share = mean_of(by_user(key));
        guess = share < 0 ? limit : share * limit;
    }
    return std::clamp(guess, 1.0, std::max(limit, 1.0));
}

void RunTimePredictor::learn(const RunKey& key, std::int64_t run) {
    const auto seconds = static_cast<double>(std::max<std::int64_t>(run, 1));
    remember(exact(key), seconds);
    remember(by_limit(key), seconds);
    remember(by_user(key), seconds / static_cast<double>(key.limit));
}

}  // namespace reeve::sched
