// Spend is what running tasks has cost: per live job and per user, from the price each worker had
// when it joined and the wall time of every attempt on it.
//
// A part of the Model: it changes through the same records, so a replay comes to the same sums.
// Money is counted in billionths, prices in millionths an hour. Jobs and workers that cost nothing
// take no room.
#pragma once

#include <cstdint>
#include <map>
#include <unordered_map>

#include "common/base/bytes.h"
#include "common/base/ids.h"
#include "plm/core/records.h"

namespace reeve::plm {

class Spend {
public:
    void note_worker(WorkerId worker, std::uint32_t price_micro);
    // 0 for a worker without a price.
    std::uint32_t price_of(WorkerId worker) const;
    void note_attempt(std::uint32_t uid, const TaskEnded& ended);
    void forget_job(JobId job) { jobs_.erase(job); }

    std::uint64_t of_job(JobId job) const;
    std::uint64_t of_user(std::uint32_t uid) const;

    void save(ByteWriter& out) const;
    void load(ByteReader& in);

private:
    std::map<std::uint64_t, std::uint32_t> prices_;  // by incarnation
    std::unordered_map<JobId, std::uint64_t> jobs_;
    std::map<std::uint32_t, std::uint64_t> users_;
};

}  // namespace reeve::plm
