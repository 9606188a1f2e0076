// reeve_task.h: the C interface of reeve's function tasks.
//
// A plug-in is a shared object that exports reeve_task_register(). Each runner process of
// `reeve worker --plugin libmine.so` loads it once, calls that function once, and then calls the
// handlers it registered, one call at a time, for as long as the runner lives:
//
//   static int sum(reeve_call *call, void *user) {
//       ... read call->data, call->data_size ...
//       return reeve_set_result(call, text, length) ? 0 : 1;
//   }
//   int reeve_task_register(reeve_host *host) {
//       return reeve_add_handler(host, "sum", sum, NULL);
//   }
//
// A handler returns 0 for success; any other value fails the task with that exit code. If it
// crashes or overruns its time limit its runner is replaced and the task fails; nobody else
// notices. What it prints goes to the runner's log. It may use threads, but only the thread that
// was called may use the call.
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define REEVE_TASK_ABI 1u
#define REEVE_RESULT_MAX ((size_t)1 << 20) /* bytes */
#define REEVE_NAME_MAX 64                  /* bytes of a handler's name */

typedef struct reeve_host reeve_host;
typedef struct reeve_call reeve_call;
typedef int (*reeve_handler)(reeve_call *call, void *user);

/* One call. Fields are only ever added at the end; `abi` says which are there. */
struct reeve_call {
    uint32_t abi;
    uint32_t attempt;
    uint64_t job;
    uint64_t element;
    const void *data; /* what the task carries; 8-byte aligned or not */
    size_t data_size;
    const reeve_host *host;
    const void *cancel_flag; /* use reeve_cancelled() */
};

/* What the runner offers. */
struct reeve_host {
    uint32_t abi;
    uint32_t reserved;
    int (*add_handler)(reeve_host *host, const char *name, reeve_handler handler, void *user);
    int (*cancelled)(const reeve_call *call);
    void *(*result_buffer)(reeve_call *call, size_t size);
    void (*set_error)(reeve_call *call, const char *text);
};

/* Exported by the plug-in. 0: fine; anything else: the runner does not start. */
int reeve_task_register(reeve_host *host);

/* 0, or -1: the name is empty, too long, or taken. */
static inline int reeve_add_handler(reeve_host *host, const char *name, reeve_handler handler,
                                    void *user) {
    return host->add_handler(host, name, handler, user);
}

/* 1 once the task was cancelled or its time is up: give up soon, or be killed after its grace. */
static inline int reeve_cancelled(const reeve_call *call) {
    return call->host->cancelled(call);
}

/* Room for the result, to be filled before returning; the last call counts. NULL: too large. */
static inline void *reeve_result_buffer(reeve_call *call, size_t size) {
    return call->host->result_buffer(call, size);
}

/* A copy of `bytes` becomes the result. 1, or 0: too large. */
static inline int reeve_set_result(reeve_call *call, const void *bytes, size_t size) {
    void *room = call->host->result_buffer(call, size);
    if (room == NULL) return 0;
    if (size != 0) __builtin_memcpy(room, bytes, size);
    return 1;
}

/* Why it failed, for people: the first 63 bytes are kept with the task. */
static inline void reeve_set_error(reeve_call *call, const char *text) {
    call->host->set_error(call, text);
}

#ifdef __cplusplus
}
#endif
