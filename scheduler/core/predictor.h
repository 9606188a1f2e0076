// RunTimePredictor guesses how long a job will run from the same user's ended jobs.
//
// Never an oracle: learn() is called when a job has ended, predict() when one is submitted. The
// most similar history wins: the same (user, size, limit, program), else the same (user, limit),
// else the share of their limits this user's recent jobs used; with no history, the limit. The
// user's limit is always the hard bound. Backfill safety never rests on a prediction, only order
// does.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <unordered_map>

namespace reeve::sched {

struct RunKey {
    std::int64_t user = -1;
    std::int64_t size = 1;
    std::int64_t limit = 1;     // seconds the user asked for, at least 1
    std::int64_t program = -1;  // job name or executable; -1: unknown
};

class RunTimePredictor {
public:
    static constexpr std::size_t kRemembered = 5;
    using Key = std::array<std::int64_t, 4>;

    // The last runs of one kind of job.
    struct History {
        std::array<double, kRemembered> last{};
        std::size_t count = 0;
        void add(double value) { last[count++ % kRemembered] = value; }
        double mean() const;
    };

    // Beyond so many kinds those that were not learned of for longest are forgotten.
    explicit RunTimePredictor(std::size_t histories_max = 1U << 20)
        : histories_max_(histories_max) {}

    // Seconds, at least 1 and at most the limit.
    double predict(const RunKey& key) const;
    void learn(const RunKey& key, std::int64_t run);

    // The same without guesses from jobs that are only similar: the mean of the last runs of just
    // this kind, in seconds. Not bounded by the limit.
    std::optional<double> known(const RunKey& key) const;
    void note(const RunKey& key, double seconds) { remember(exact(key), seconds); }

    // Everything remembered, with the half it is in, and back: what is restored forgets what this
    // one would.
    template <typename Visit>
    void for_each(Visit&& visit) const {
        for (const auto& [key, history] : old_) {
            if (!young_.contains(key)) visit(key, history, false);
        }
        for (const auto& [key, history] : young_) visit(key, history, true);
    }
    void restore(const Key& key, const History& history, bool young) {
        (young ? young_ : old_)[key] = history;
    }
    bool empty() const { return young_.empty() && old_.empty(); }

private:
    struct KeyHash {
        std::size_t operator()(const Key& key) const;
    };
    using Histories = std::unordered_map<Key, History, KeyHash>;

    static Key exact(const RunKey& key);
    static Key by_limit(const RunKey& key);
    static Key by_user(const RunKey& key);
    const History* find(const Key& key) const;
    double mean_of(const Key& key) const;  // < 0: no history
    History& entry(const Key& key);
    void remember(const Key& key, double value) { entry(key).add(value); }

    std::size_t histories_max_;
    // Half of what may be kept; when it is full it is the old half, and what was old is forgotten.
    Histories young_;
    Histories old_;
};

}  // namespace reeve::sched
