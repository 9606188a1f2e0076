// Usage is what users and groups have used so far, for the fair-share points of what they submit.
//
// It is a part of the model: charged by the records of ended attempts, live and at a replay, and
// kept in snapshots; so a restart knows what was known. The formula is scheduler/core/order.h's, as
// in the simulator: cpu seconds, a GPU counting as eight cpus. Attempts of one user that end within
// the same half minute are charged together: a charge costs a few additions. Not thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "common/base/bytes.h"
#include "common/model/resources.h"
#include "scheduler/core/order.h"

namespace reeve::plm {

class Usage {
public:
    void charge(std::uint32_t uid, std::uint32_t gid, const Resources& held,
                std::uint64_t started_ns, std::uint64_t ended_ns);
    // In thousandths of a point.
    std::uint16_t points_milli(std::uint32_t uid, std::uint32_t gid, std::uint64_t now_ns);

    // Weights by user id and by group id; whoever is not named has 1.
    void configure(double half_life_s, const std::map<std::uint32_t, double>& users,
                   const std::map<std::uint32_t, double>& groups, std::uint64_t now_ns);

    void save(ByteWriter& out);
    void load(ByteReader& in);

private:
    void settle();

    struct Pending {
        std::uint32_t uid = 0;
        std::uint32_t gid = 0;
        std::uint64_t ended_ns = 0;
        double amount = 0;
    };

    double half_life_s_ = 7 * 86'400.0;
    std::map<std::string, double> weights_;
    sched::FairShare shares_{half_life_s_};
    Pending pending_;
};

}  // namespace reeve::plm
