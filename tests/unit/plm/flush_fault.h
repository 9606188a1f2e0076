// Makes flushes of this test program fail: the program's own fsync and fdatasync stand before
// libc's.
#pragma once

#include <atomic>

namespace reeve::test {

// While above zero, this many further flushes succeed and then all fail with EIO; -1: all succeed.
extern std::atomic<int> flushes_left;
extern std::atomic<long> flush_count;
// True: flushes succeed without touching the disk (for tests that open thousands of ledgers).
extern std::atomic<bool> flushes_free;

}  // namespace reeve::test
