// RunTimes is what is known of how long tasks run: by user, request and the job's name.
//
// It is a part of the model, as Usage is: learned from the records of attempts that ended by
// themselves or at their limit, live and at a replay, and kept in snapshots; so a restart knows
// what was known. The rules are scheduler/core/predictor.h's. Not thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "common/base/bytes.h"
#include "common/model/outcome.h"
#include "common/model/resources.h"
#include "scheduler/core/predictor.h"

namespace reeve::plm {

struct WorkKind {
    std::uint32_t uid = 0;
    Resources request;
    std::string_view name;
};

class RunTimes {
public:
    void learn(const WorkKind& kind, Outcome outcome, std::uint64_t started_ns,
               std::uint64_t ended_ns);
    // In seconds, within the time limit if there is one (0: none).
    std::optional<double> expected_s(const WorkKind& kind, std::uint64_t time_limit_ns) const;

    void save(ByteWriter& out) const;
    void load(ByteReader& in);

private:
    static constexpr std::size_t kKindsMax = 4'096;

    sched::RunTimePredictor predictor_{kKindsMax};
};

}  // namespace reeve::plm
