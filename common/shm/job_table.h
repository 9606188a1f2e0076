// Reading and writing JobEntry: a seqlock with one writer (the PLM) and any number of readers.
//
//   write:  (1) sequence odd  (2) the words, relaxed      (3) sequence even, release
//   read:   (4) sequence, acquire, even? (5) the words, relaxed (6) sequence again: the same?
//
// Order    (3) pairs with (4): an even sequence is seen with the words before it. (2) is release
//          behind (1) and (5) acquire before (6), so a reader that met a word of (2) meets (1) too.
// Death    a writer killed between (1) and (3) leaves the entry unreadable (read_job: nothing)
// until
//          the next write_job(); the PLM writes all live entries when it starts.
// Progress write_job: wait-free. read_job: gives up after kReadTriesMax tries.
// Untrusted the copy has a terminated name, a known state, a bounded dependency count.
#pragma once

#include <optional>

#include "common/shm/layout.h"

namespace reeve::shm {

inline constexpr int kReadTriesMax = 64;

// Nothing when the entry is being written, again and again, or its writer died in the middle.
std::optional<JobRecord> read_job(const JobEntry& entry);
void write_job(JobEntry& entry, const JobRecord& record);

// For the writer: change(JobRecord&) on a copy, then written.
template <typename Change>
void update_job(JobEntry& entry, Change change) {
    JobRecord record = static_cast<const JobRecord&>(entry);  // only we write it
    change(record);
    write_job(entry, record);
}

}  // namespace reeve::shm
