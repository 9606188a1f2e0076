// Named crash points for tests: REEVE_FP=name:action[:n] kills, exits or sleeps at the n-th pass.
//
// Actions: kill (SIGKILL to ourselves), exit (status 70), sleep=MS, skip (a negative control:
// leaves out the step that asks REEVE_FAILPOINT_SKIPS). Several are separated by commas. Without
// the variable a pass costs one load of a bool. The names stand where they are passed.
#pragma once

namespace reeve {

extern bool failpoints_armed;
void failpoint_hit(const char* name);
bool failpoint_skips(const char* name);

}  // namespace reeve

#ifdef REEVE_FAILPOINTS
#define REEVE_FAILPOINT(name)                                        \
    do {                                                             \
        if (::reeve::failpoints_armed) ::reeve::failpoint_hit(name); \
    } while (false)
#define REEVE_FAILPOINT_SKIPS(name) (::reeve::failpoints_armed && ::reeve::failpoint_skips(name))
#else
#define REEVE_FAILPOINT_SKIPS(name) false
#define REEVE_FAILPOINT(name) ((void)0)
#endif
