// REEVE_ASSERT stops the process on a broken invariant, in every build.
//
// Only a bug may trip it; what a client, peer, disk or kernel can cause is a Result instead. The
// supervisor restarts the role and it recovers from the ledger. Async-signal-safe.
#pragma once

#include <cstdio>
#include <cstdlib>

#define REEVE_ASSERT(condition)                                                                \
    do {                                                                                       \
        if (!(condition)) [[unlikely]] {                                                       \
            std::fprintf(stderr, "%s:%d: broken invariant: %s\n", __FILE__, __LINE__,          \
                         #condition);                                                          \
            std::abort();                                                                      \
        }                                                                                      \
    } while (false)
