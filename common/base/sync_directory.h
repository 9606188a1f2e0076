// What was made, renamed or removed in a directory is durable once the directory is flushed.
// Thread-safe.
#pragma once

#include <string>

#include "common/base/result.h"

namespace reeve {

// fsync(2) of the directory. Errors name it.
Status sync_directory(const std::string& path);

}  // namespace reeve
