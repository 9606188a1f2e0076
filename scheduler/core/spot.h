// SpotPlanner runs one job with a deadline on spot and on-demand machines for the least money.
//
// At every tick the caller says which zones have spot capacity now, the planner answers where to
// run for this tick: nowhere, on spot in some zone, or on demand. It never risks the deadline: it
// goes on demand while the rest of the work still fits, launch included. Pure; what it knows of a
// zone is what observe() was told, so history may be fed in before the job starts.
//
//   kOnDemand  from the first minute           kGreedy   spot whenever there is any, else wait
//   kUniform   keeps abreast of even progress  kReeve    least expected cost under learned rates of
//              towards the deadline                      losing and regaining spot (docs/policy.md)
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace reeve::sched {

enum class SpotPolicy : std::uint8_t { kOnDemand, kGreedy, kUniform, kReeve };
std::string_view to_string(SpotPolicy policy);
std::optional<SpotPolicy> parse_spot_policy(std::string_view name);

// Hours and prices per hour.
struct SpotTask {
    double work = 48;
    double deadline = 60;
    double launch = 0.1;  // each launch: time without progress, paid
    double on_demand_price = 1;
    double spot_price = 0.3;
};

enum class SpotMode : std::uint8_t { kIdle, kSpot, kOnDemand };
inline constexpr std::uint32_t kNoZone = 0xFFFFFFFFU;

struct SpotPlace {
    SpotMode mode = SpotMode::kIdle;
    std::uint32_t zone = kNoZone;  // with kSpot
    bool operator==(const SpotPlace&) const = default;
};

// How often something goes and comes back, per hour; learned with a little doubt. What has lasted a
// while tends to last: the first kYoungHours of a state are counted apart.
class OnOffRate {
public:
    void observe(bool on, double hours);
    // Of the state as old as it is now; of a young one for the other state.
    double loss() const { return on_[age_of(true)].rate(); }
    double regain() const { return off_[age_of(false)].rate(); }

private:
    static constexpr double kYoungHours = 1;
    static constexpr double kDoubtEvents = 1;
    static constexpr double kDoubtHours = 3;
    struct Count {
        double hours = 0, changes = 0;
        double rate() const { return (changes + kDoubtEvents) / (hours + kDoubtHours); }
    };
    std::size_t age_of(bool on) const {
        return last_ && *last_ == on && age_hours_ >= kYoungHours ? 1 : 0;
    }
    std::array<Count, 2> on_, off_;  // young, old
    double age_hours_ = 0;
    std::optional<bool> last_;
};

// Least expected cost to go, in steps of one launch time. One table per triple of rates.
class SpotTable {
public:
    struct Rates {
        double zone_loss = 0;  // the machine we run on is taken, per step
        double all_loss = 0;   // ... and no other zone has one
        double regain = 0;
    };
    SpotTable(const SpotTask& task, const Rates& rates);

    // The best mode with `left` steps to the deadline and `work` steps to do.
    SpotMode best(std::int64_t left, std::int64_t work, SpotMode mode, bool available) const;

private:
    enum State : std::size_t { kIdleOff, kDemandOff, kIdleOn, kSpotOn, kDemandOn, kStates };
    static State state_of(SpotMode mode, bool available);
    float value(std::int64_t left, std::int64_t work, State state) const;
    float cost_of(SpotMode action, std::int64_t left, std::int64_t work, SpotMode mode,
                  bool available) const;

    SpotTask task_;
    Rates rates_;
    std::int64_t work_steps_;
    std::vector<float> values_;  // [left][work][state]
};

class SpotPlanner {
public:
    SpotPlanner(const SpotTask& task, SpotPolicy policy, std::size_t zones);

    // One tick of history: which zones had capacity for `hours`. Call it for every tick, also those
    // before the job starts.
    void observe(std::span<const bool> available, double hours);

    // Where to run for the next `tick` hours. `work_left` includes a launch that is under way.
    SpotPlace decide(double time_left, double work_left, double tick, SpotPlace place,
                     std::span<const bool> available);

    // The same knowledge for another job.
    SpotPlanner fork() const { return *this; }
    const SpotTask& task() const { return task_; }

private:
    SpotPlace spot_place(SpotPlace place, std::span<const bool> available) const;
    SpotMode decide_uniform(double time_left, double work_left, SpotMode mode, bool any) const;
    SpotMode decide_own(double time_left, double work_left, SpotPlace place, bool any);
    const SpotTable& table(std::uint32_t zone);

    SpotTask task_;
    SpotPolicy policy_;
    std::vector<OnOffRate> zones_;
    OnOffRate all_;
    // Shared by forks: tables depend on rates only.
    std::shared_ptr<std::map<std::vector<int>, std::unique_ptr<SpotTable>>> tables_;
};

}  // namespace reeve::sched
