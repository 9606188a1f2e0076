// The SHA-256 of what a task printed: stdout, then stderr when it has a file of its own.
//
// For the audit log's FINISHED entry. Nothing when together they are longer than 16 MiB, or are no
// regular files of the task's user (a device, something it replaced itself).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/merkle/hash.h"

namespace reeve::worker {

inline constexpr std::uint64_t kDigestBytesMax = 16ULL << 20;

// Empty paths are left out. Symlinks are not followed, fifos not waited for.
std::optional<merkle::Hash> digest_output(const std::string& output, const std::string& error,
                                          std::uint32_t uid);

}  // namespace reeve::worker
