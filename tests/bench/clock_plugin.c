/* `clock` answers with the wall clock at its first line, in nanoseconds. */
#include <stdio.h>
#include <time.h>

#include "worker/include/reeve_task.h"

static int clock_now(reeve_call* call, void* user) {
    struct timespec now;
    char text[32];
    (void)user;
    clock_gettime(CLOCK_REALTIME, &now);
    const int size = snprintf(text, sizeof text, "%lld",
                              (long long)now.tv_sec * 1000000000LL + now.tv_nsec);
    return reeve_set_result(call, text, (size_t)size) ? 0 : 1;
}

int reeve_task_register(reeve_host* host) {
    return reeve_add_handler(host, "clock", clock_now, NULL);
}
