/* The witness of the kill tests as a function task: `witness` is given "FILE LOCKDIR MS HOLD" and
 * leaves the same evidence as witness.c. The kernel drops the locks when its runner dies. Its
 * worker is named by the launcher, its parent. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "holding.h"
#include "worker/include/reeve_task.h"

static int note(int fd, const reeve_call* call, const char* what) {
    struct timespec now;
    char line[256];
    clock_gettime(CLOCK_BOOTTIME, &now);
    const int size =
        snprintf(line, sizeof line, "%llu.%llu %u - %d %s %lld\n", (unsigned long long)call->job,
                 (unsigned long long)call->element, (unsigned)call->attempt, (int)getpid(), what,
                 (long long)now.tv_sec * 1000000000LL + now.tv_nsec);
    return write(fd, line, (size_t)size) == size ? 0 : -1;
}

static int witness(reeve_call* call, void* user) {
    char text[1024];
    char path[512];
    char locks[256];
    char lock_path[512];
    char words[64];
    char worker[32];
    unsigned milliseconds = 0;
    struct held held = {{0}, 0};
    (void)user;
    if (call->data_size >= sizeof text) return 98;
    memcpy(text, call->data, call->data_size);
    text[call->data_size] = '\0';
    if (sscanf(text, "%511s %255s %u %63s", path, locks, &milliseconds, words) != 4) return 98;
    snprintf(worker, sizeof worker, "launcher%d", (int)getppid());
    snprintf(lock_path, sizeof lock_path, "%s/%llu.%llu", locks, (unsigned long long)call->job,
             (unsigned long long)call->element);
    const int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    const int lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    int code = fd < 0 || lock < 0 ? 99 : 0;
    if (code == 0) {
        const int alone = flock(lock, LOCK_EX | LOCK_NB) == 0;
        if (note(fd, call, alone ? "start" : "overlap") != 0) code = 97;
        const int got = hold(&held, locks, worker, words);
        if (got < 0 || (got == 0 && note(fd, call, "over-cpu") != 0)) code = 96;
        usleep(milliseconds * 1000U);
        if (note(fd, call, "end") != 0) code = 97;
    }
    for (int i = 0; i < held.count; ++i) close(held.fds[i]);
    if (lock >= 0) close(lock);
    if (fd >= 0) close(fd);
    return code;
}

int reeve_task_register(reeve_host* host) {
    return reeve_add_handler(host, "witness", witness, NULL);
}
