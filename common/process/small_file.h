// Reads and writes of /proc and cgroup files: short, in one call, no allocation on writing.
//
// Files of the kernel answer a read of 4 KiB at most each, so read_whole() loops to the end.
// Thread-safe; every fd is close-on-exec.
#pragma once

#include <string>
#include <string_view>

#include "common/base/result.h"

namespace reeve {

// At most `limit` bytes; a longer file is cut there.
Result<std::string> read_whole(const std::string& path, std::size_t limit = 1 << 20);
Result<std::string> read_whole_at(int dir_fd, const char* path, std::size_t limit = 1 << 20);

// 0, or the errno of the first step that failed. Never creates the file.
int write_text_at(int dir_fd, const char* path, std::string_view text);

}  // namespace reeve
