#include "common/shm/job_table.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

namespace reeve::shm {
namespace {

constexpr std::size_t kWords = sizeof(JobRecord) / sizeof(std::uint64_t);
static_assert(sizeof(JobRecord) % sizeof(std::uint64_t) == 0);
static_assert(std::is_trivially_copyable_v<JobRecord>);

using AliasedWord __attribute__((may_alias)) = std::uint64_t;

void tidy(JobRecord& record) {
    record.name[kNameBytes - 1] = '\0';
    record.dependency_count = std::min(record.dependency_count, kJobDependenciesShown);
    if (record.state > JobState::kEnded) record.state = JobState::kFree;
}

}  // namespace

std::optional<JobRecord> read_job(const JobEntry& entry) {
    const auto* words = reinterpret_cast<const AliasedWord*>(static_cast<const JobRecord*>(&entry));
    std::uint64_t copy[kWords];
    for (int tries = 0; tries < kReadTriesMax; ++tries) {
        const auto before = entry.sequence.load(std::memory_order_acquire);  // (4)
        if (before % 2 != 0) continue;
        for (std::size_t i = 0; i < kWords; ++i) {
            copy[i] = __atomic_load_n(&words[i], __ATOMIC_ACQUIRE);  // (5) before (6)
        }
        if (entry.sequence.load(std::memory_order_relaxed) != before) continue;  // (6)
        JobRecord record;
        std::memcpy(static_cast<void*>(&record), copy, sizeof record);
        tidy(record);
        return record;
    }
    return std::nullopt;
}

void write_job(JobEntry& entry, const JobRecord& record) {
    std::uint64_t copy[kWords];
    std::memcpy(copy, &record, sizeof record);
    auto* words = reinterpret_cast<AliasedWord*>(static_cast<JobRecord*>(&entry));
    // Odd also when a writer died here: then it is odd already, and stays until (3).
    const auto odd = entry.sequence.load(std::memory_order_relaxed) | 1U;
    entry.sequence.store(odd, std::memory_order_relaxed);  // (1)
    for (std::size_t i = 0; i < kWords; ++i) {
        __atomic_store_n(&words[i], copy[i], __ATOMIC_RELEASE);  // (2) after (1)
    }
    entry.sequence.store(odd + 1, std::memory_order_release);  // (3)
}

}  // namespace reeve::shm
