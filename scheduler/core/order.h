// The one formula by which waiting jobs are ordered, with every term named for `explain`.
//
//   score = priority + sla points + waited / kAgeingSeconds - fair-share points - length points
//
// Higher first, ties by submission. Priority and SLA points never change and waiting grows at one
// speed for all, so without fair share the order of two jobs is fixed at submission: that is the
// static key of the class heaps. Fair share moves with usage and is applied to whole classes.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>

#include "scheduler/core/select_node.h"

namespace reeve::sched {

inline constexpr double kAgeingSeconds = 3600;  // waiting this long is worth one priority point
inline constexpr double kFairPointsMax = 10;    // most that past usage can cost
inline constexpr double kShortSeconds = 225;    // up to here learned run times cost nothing
inline constexpr double kLengthPointsMax = 4;   // from an hour on

// critical +20, standard 0, flexible -5, spot -10.
double sla_points(SlaClass sla);

// What being known as long costs: a point for each doubling of kShortSeconds. Nobody has seen it
// run (nullopt): nothing, so the first of its kind is not overtaken by the second.
double length_points(std::optional<double> expected_s);

struct OrderTerms {
    double priority = 0;
    double sla = 0;
    double age = 0;
    double fair_share = 0;  // subtracted, as is the next
    double length = 0;
    double score() const { return priority + sla + age - fair_share - length; }
    // "10.5 = priority 10 + sla 0 + age 3.5 - fair share 1 - length 2"
    std::string to_string() const;
};

// A job counts as critical from here on until its deadline has passed: a tenth of its limit before
// it has to start. Times in seconds.
std::int64_t urgent_from(std::int64_t deadline_s, std::int64_t limit_s);

// By how much its points put a job ahead of the time of its submission: the order of two scores is
// the order of (submission - head start), for waiting counts the same for all.
std::int64_t head_start_s(std::int32_t priority, SlaClass sla, double fair_points,
                          double length_points = 0);

OrderTerms order_terms(std::int32_t priority, SlaClass sla, double waited_s, double fair_points,
                       double length_points = 0);

// Decayed usage of users and groups: what was used a half-life ago counts half.
class FairShare {
public:
    explicit FairShare(double half_life_s = 7 * 86'400.0);

    // Weight of a user or group among its equals; default 1.
    void set_weight(const std::string& name, double weight);
    void charge(const std::string& user, const std::string& group, double amount, double now_s);
    // Decayed usage now, in the units charged.
    double usage(const std::string& name, double now_s) const;
    // 0 for who has used nothing or at most a fair share, up to kFairPointsMax for who has used it
    // all: user and group count half each.
    double points(const std::string& user, const std::string& group, double now_s) const;

    // All accounts as they are now, and back: users after a U, groups after a G.
    std::map<std::string, double> accounts(double now_s) const;
    void restore(const std::map<std::string, double>& accounts, double now_s);

private:
    struct Account {
        double amount = 0;  // as of `at`
        double at = 0;
    };
    struct Accounts {
        std::unordered_map<std::string, Account> by_name;
        double weights = 0;  // of all that have an account
    };

    double decayed(const Account& account, double now_s) const;
    void add(Accounts& accounts, const std::string& name, double amount, double now_s);
    double weight_of(const std::string& name) const;
    double excess(const Accounts& accounts, const std::string& name, double now_s) const;

    double half_life_s_;
    std::unordered_map<std::string, double> weights_;
    Accounts users_;
    Accounts groups_;
    Account total_;
};

}  // namespace reeve::sched
