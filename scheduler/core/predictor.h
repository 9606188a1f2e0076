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
    // Seconds, at least 1 and at most the limit.
    double predict(const RunKey& key) const;
    void learn(const RunKey& key, std::int64_t run);

private:
    static constexpr std::size_t kRemembered = 5;
    static constexpr std::size_t kHistoriesMax = 1U << 20;  // then everything is forgotten once

    struct History {
        std::array<double, kRemembered> last{};
        std::size_t count = 0;
        void add(double value) { last[count++ % kRemembered] = value; }
        double mean() const;
    };
    struct KeyHash {
        std::size_t operator()(const std::array<std::int64_t, 4>& key) const;
    };
    using Histories = std::unordered_map<std::array<std::int64_t, 4>, History, KeyHash>;

    static std::array<std::int64_t, 4> exact(const RunKey& key);
    static std::array<std::int64_t, 4> by_limit(const RunKey& key);
    static std::array<std::int64_t, 4> by_user(const RunKey& key);
    double mean_of(const std::array<std::int64_t, 4>& key) const;  // < 0: no history
    void remember(const std::array<std::int64_t, 4>& key, double value);

    Histories histories_;
};

}  // namespace reeve::sched
