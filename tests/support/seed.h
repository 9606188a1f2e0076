// The seed of a test with random input: REEVE_SEED to replay, else a new one each run.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <random>

namespace reeve::test {

inline std::uint64_t seed() {
    if (const char* given = std::getenv("REEVE_SEED")) return std::strtoull(given, nullptr, 10);
    return std::random_device{}();
}

}  // namespace reeve::test
