#include "scheduler/core/spot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "common/base/assert.h"

namespace reeve::sched {
namespace {

constexpr std::array<std::pair<SpotPolicy, std::string_view>, 4> kNames{{
    {SpotPolicy::kOnDemand, "on-demand"},
    {SpotPolicy::kGreedy, "greedy"},
    {SpotPolicy::kUniform, "uniform"},
    {SpotPolicy::kReeve, "reeve"},
}};

constexpr float kNever = std::numeric_limits<float>::max() / 4;
constexpr double kRateStep = 2.0;  // tables exist for rates on this geometric grid
constexpr std::size_t kTablesMax = 48;

int rate_index(double per_hour) {
    return static_cast<int>(std::lround(std::log(per_hour) / std::log(kRateStep)));
}
double rate_at(int index) {
    return std::pow(kRateStep, index);
}

}  // namespace

std::string_view to_string(SpotPolicy policy) {
    for (const auto& [value, name] : kNames) {
        if (value == policy) return name;
    }
    return "unknown";
}

std::optional<SpotPolicy> parse_spot_policy(std::string_view name) {
    for (const auto& [value, known] : kNames) {
        if (known == name) return value;
    }
    return std::nullopt;
}

void OnOffRate::observe(bool on, double hours) {
    if (last_ && *last_ != on) {
        (*last_ ? on_ : off_)[age_of(*last_)].changes += 1;
        age_hours_ = 0;
    }
    last_ = on;
    (on ? on_ : off_)[age_of(on)].hours += hours;
    age_hours_ += hours;
}

// Backwards from the deadline: with no time left only finished work is allowed.
SpotTable::SpotTable(const SpotTask& task, const Rates& rates)
    : task_(task),
      rates_(rates),
      work_steps_(static_cast<std::int64_t>(std::ceil(task.work / task.launch)) + 2) {
    const auto time_steps = static_cast<std::int64_t>(std::ceil(task.deadline / task.launch)) + 1;
    const auto cells = static_cast<std::size_t>((time_steps + 1) * (work_steps_ + 1)) * kStates;
    values_.assign(cells, kNever);
    constexpr std::array<std::pair<SpotMode, bool>, kStates> kStatesOf{
        {{SpotMode::kIdle, false},
         {SpotMode::kOnDemand, false},
         {SpotMode::kIdle, true},
         {SpotMode::kSpot, true},
         {SpotMode::kOnDemand, true}}};
    for (std::int64_t left = 0; left <= time_steps; ++left) {
        for (std::int64_t work = 0; work <= work_steps_; ++work) {
            float* cell =
                &values_[static_cast<std::size_t>(left * (work_steps_ + 1) + work) * kStates];
            for (std::size_t state = 0; state < kStates; ++state) {
                if (work == 0) cell[state] = 0;
                if (work == 0 || left == 0) continue;
                const auto [mode, available] = kStatesOf[state];
                for (const SpotMode action :
                     {SpotMode::kIdle, SpotMode::kSpot, SpotMode::kOnDemand}) {
                    cell[state] =
                        std::min(cell[state], cost_of(action, left, work, mode, available));
                }
            }
        }
    }
}

SpotTable::State SpotTable::state_of(SpotMode mode, bool available) {
    if (mode == SpotMode::kOnDemand) return available ? kDemandOn : kDemandOff;
    if (!available) return kIdleOff;
    return mode == SpotMode::kSpot ? kSpotOn : kIdleOn;
}

float SpotTable::value(std::int64_t left, std::int64_t work, State state) const {
    return values_[static_cast<std::size_t>(left * (work_steps_ + 1) +
                                            std::max<std::int64_t>(work, 0)) *
                       kStates +
                   state];
}

// One step under `action`, then the best from there on.
float SpotTable::cost_of(SpotMode action, std::int64_t left, std::int64_t work, SpotMode mode,
                         bool available) const {
    if (action == SpotMode::kSpot && !available) return kNever;
    const std::int64_t next = action != SpotMode::kIdle && action == mode ? work - 1 : work;
    const double price = action == SpotMode::kIdle       ? 0
                         : action == SpotMode::kOnDemand ? task_.on_demand_price
                                                         : task_.spot_price;
    const double stay = available ? 1 - rates_.all_loss : rates_.regain;
    const float off = value(left - 1, next, state_of(action, false));
    double on = value(left - 1, next, state_of(action, true));
    if (action == SpotMode::kSpot && stay > 0) {
        // The zone may be lost although another one has capacity: a new launch.
        const double moved = std::clamp((rates_.zone_loss - rates_.all_loss) / stay, 0.0, 1.0);
        on = (1 - moved) * on + moved * static_cast<double>(value(left - 1, next, kIdleOn));
    }
    if (off >= kNever || on >= static_cast<double>(kNever)) return kNever;
    return static_cast<float>(price * task_.launch + stay * on +
                              (1 - stay) * static_cast<double>(off));
}

SpotMode SpotTable::best(std::int64_t left, std::int64_t work, SpotMode mode,
                         bool available) const {
    if (left < 1 || work > work_steps_) return SpotMode::kOnDemand;
    SpotMode chosen = SpotMode::kOnDemand;
    float least = kNever;
    // Ties keep what runs.
    for (const SpotMode action : {mode, SpotMode::kIdle, SpotMode::kSpot, SpotMode::kOnDemand}) {
        const float cost = cost_of(action, left, work, mode, available);
        if (cost < least) {
            least = cost;
            chosen = action;
        }
    }
    return chosen;
}

SpotPlanner::SpotPlanner(const SpotTask& task, SpotPolicy policy, std::size_t zones)
    : task_(task),
      policy_(policy),
      zones_(zones),
      tables_(std::make_shared<std::map<std::vector<int>, std::unique_ptr<SpotTable>>>()) {
    REEVE_ASSERT(task.work > 0 && task.launch > 0 && zones > 0);
}

void SpotPlanner::observe(std::span<const bool> available, double hours) {
    REEVE_ASSERT(available.size() == zones_.size());
    bool any = false;
    for (std::size_t i = 0; i < zones_.size(); ++i) {
        zones_[i].observe(available[i], hours);
        any = any || available[i];
    }
    all_.observe(any, hours);
}

// Stay while the zone has capacity, else the zone that loses its machines most rarely.
SpotPlace SpotPlanner::spot_place(SpotPlace place, std::span<const bool> available) const {
    if (place.mode == SpotMode::kSpot && available[place.zone]) return place;
    SpotPlace best{SpotMode::kSpot, kNoZone};
    for (std::uint32_t zone = 0; zone < available.size(); ++zone) {
        if (!available[zone]) continue;
        if (best.zone == kNoZone || zones_[zone].loss() < zones_[best.zone].loss())
            best.zone = zone;
    }
    return best;
}

SpotMode SpotPlanner::decide_uniform(double time_left, double work_left, SpotMode mode,
                                     bool any) const {
    if (any) return SpotMode::kSpot;
    const double elapsed = task_.deadline - time_left;
    const double done = task_.work - work_left;
    const double ahead = mode == SpotMode::kOnDemand ? 2 * task_.launch : 0;
    const double due = (elapsed + ahead) * task_.work / task_.deadline;
    return done < due ? SpotMode::kOnDemand : SpotMode::kIdle;
}

const SpotTable& SpotPlanner::table(std::uint32_t zone) {
    const double loss = zone == kNoZone ? all_.loss() : zones_[zone].loss();
    const std::vector<int> key{rate_index(std::max(loss, all_.loss())), rate_index(all_.loss()),
                               rate_index(all_.regain())};
    auto& entry = (*tables_)[key];
    if (!entry) {
        if (tables_->size() > kTablesMax) {
            tables_->clear();
            return table(zone);
        }
        const auto per_step = [this](int index) {
            return 1 - std::exp(-rate_at(index) * task_.launch);
        };
        entry = std::make_unique<SpotTable>(
            task_, SpotTable::Rates{per_step(key[0]), per_step(key[1]), per_step(key[2])});
    }
    return *entry;
}

SpotMode SpotPlanner::decide_own(double time_left, double work_left, SpotPlace place, bool any) {
    const auto left = static_cast<std::int64_t>(std::floor(time_left / task_.launch));
    const auto work = static_cast<std::int64_t>(std::ceil(work_left / task_.launch));
    const SpotMode mode = place.mode == SpotMode::kSpot && !any ? SpotMode::kIdle : place.mode;
    return table(place.zone).best(left, work, mode, any);
}

SpotPlace SpotPlanner::decide(double time_left, double work_left, double tick, SpotPlace place,
                              std::span<const bool> available) {
    const bool any = std::find(available.begin(), available.end(), true) != available.end();
    const SpotPlace on_demand{SpotMode::kOnDemand, kNoZone};
    if (policy_ == SpotPolicy::kOnDemand) return on_demand;
    const SpotPlace spot = any ? spot_place(place, available) : SpotPlace{};
    // Could the work still be done on demand if this tick brings nothing (or, on spot, only what it
    // surely brings)? If not, on demand for good.
    const double slack = time_left - work_left - task_.launch;
    const bool progresses = spot.mode == SpotMode::kSpot && spot == place;
    const double needed = progresses ? 0 : tick;
    if (slack < needed) return on_demand;
    SpotMode mode = SpotMode::kIdle;
    switch (policy_) {
        case SpotPolicy::kOnDemand:
        case SpotPolicy::kGreedy:
            mode = any ? SpotMode::kSpot : SpotMode::kIdle;
            break;
        case SpotPolicy::kUniform:
            mode = decide_uniform(time_left, work_left, place.mode, any);
            break;
        case SpotPolicy::kReeve: {
            SpotPlace seen = place;
            if (seen.mode == SpotMode::kSpot && seen != spot) seen = SpotPlace{};
            if (seen.mode != SpotMode::kSpot) seen.zone = spot.zone;
            mode = decide_own(time_left, work_left, seen, any);
            break;
        }
    }
    if (mode == SpotMode::kSpot) return spot;
    return SpotPlace{mode, kNoZone};
}

}  // namespace reeve::sched
