// CellPolicy is what a cell's owner decided about shares, quotas and limits: DIR/policy.json.
//
// The file is read by the command line's parser (cli/policy_file.h), which names line and field of
// what is wrong; the PLM gets the values. docs/policy.md.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "scheduler/core/reservation.h"

namespace reeve::plm {

inline constexpr std::uint32_t kMinimumRunDefault = 60;

// What a job takes of a named limit for each of its tasks.
struct LimitTaken {
    std::string name;
    std::uint32_t count = 1;
};

// The most a user may hold at once; nullopt: no quota.
struct Quota {
    std::optional<std::uint64_t> cpu_milli;
    std::optional<std::uint64_t> memory_bytes;
    std::optional<std::uint64_t> gpus;
    std::optional<std::uint64_t> tasks;
};

struct CellPolicy {
    std::map<std::string, double> shares;              // of users and groups; others: 1
    std::map<std::string, Quota> quotas;               // by user; "*": everybody without their own
    std::map<std::string, std::uint64_t> limits;       // named limits: how many there are
    double half_life_s = 7 * 86'400.0;                 // of past usage
    std::uint32_t minimum_run_s = kMinimumRunDefault;  // before a task may be preempted
    sched::Backfill backfill = sched::Backfill::kEasy;
};

}  // namespace reeve::plm
