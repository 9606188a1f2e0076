// The one size of a segment that people choose, `reeve up --slots`: what it may be.
#pragma once

#include <cstdint>

#include "common/base/result.h"

namespace reeve::shm {

// The error says what to write instead.
Status check_task_slots(std::uint64_t count);

}  // namespace reeve::shm
