// What an action on a job's elements says of those it could not be done to.
#pragma once

#include <cstdint>
#include <string>

#include "reeve/v1/reeve.pb.h"

namespace reeve::plm {

// The first reason stands for all.
inline void refuse(v1::ActResult& result, const std::string& why, std::uint64_t count = 1) {
    result.set_refused(result.refused() + count);
    if (result.message().empty()) result.set_message(why);
}

// The job as a whole has nothing the action applies to.
inline void nothing_to_do(v1::ActResult& result, const std::string& why) {
    refuse(result, why);
    result.set_idle(result.changed() == 0);
}

}  // namespace reeve::plm
