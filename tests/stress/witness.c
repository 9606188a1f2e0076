/* witness FILE LOCKDIR MS [WHAT:NEED:HAVE...]: the task of the kill tests, and its own evidence.
 *
 * Appends "task attempt worker pid start|overlap|end boottime_ns" to FILE, one write each, and
 * holds a lock file for as long as it runs. The kernel drops the lock when the process dies,
 * however it dies, so a second attempt that meets the lock taken has caught two attempts of one
 * task alive.
 *
 * What it holds of its worker it takes by numbered locks (holding.h), the GPUs it was given and the
 * cores it is bound to each by its name; where another task has them, "over-WHAT" is appended. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "holding.h"

static const char* variable(const char* name) {
    const char* value = getenv(name);
    return value != NULL ? value : "-";
}

static void note(int fd, const char* what) {
    struct timespec now;
    char line[256];
    clock_gettime(CLOCK_BOOTTIME, &now);
    const int size =
        snprintf(line, sizeof line, "%s.%s %s %s %d %s %lld\n", variable("REEVE_JOB_ID"),
                 variable("REEVE_TASK_ID"), variable("REEVE_ATTEMPT"), variable("REEVE_INSTANCE"),
                 (int)getpid(), what, (long long)now.tv_sec * 1000000000LL + now.tv_nsec);
    if (write(fd, line, (size_t)size) != size) _exit(97);
}

static struct held held;

static void hold_or_note(int fd, const char* locks, const char* words) {
    char what[80];
    const int got = hold(&held, locks, variable("REEVE_INSTANCE"), words);
    if (got < 0) _exit(96);
    snprintf(what, sizeof what, "over-%.*s", (int)strcspn(words, ":"), words);
    if (got == 0) note(fd, what);
}

/* Each by its name: none may be another's. */
static void hold_gpus(int fd, const char* locks) {
    char ids[256];
    char words[80];
    snprintf(ids, sizeof ids, "%s",
             atoi(variable("REEVE_GPUS")) > 0 ? variable("CUDA_VISIBLE_DEVICES") : "");
    for (char* id = strtok(ids, ","); id != NULL; id = strtok(NULL, ",")) {
        snprintf(words, sizeof words, "gpu%.40s:1:1", id);
        hold_or_note(fd, locks, words);
    }
}

/* Bound to as many cores as it asks for, and not to all there are. */
static void hold_cores(int fd, const char* locks) {
    cpu_set_t set;
    char words[80];
    const int asked = atoi(variable("REEVE_CPUS"));
    if (sched_getaffinity(0, sizeof set, &set) != 0) _exit(95);
    if (CPU_COUNT(&set) != asked || asked >= sysconf(_SC_NPROCESSORS_ONLN)) return;
    for (int core = 0; core < CPU_SETSIZE; ++core) {
        snprintf(words, sizeof words, "core%d:1:1", core);
        if (CPU_ISSET(core, &set)) hold_or_note(fd, locks, words);
    }
}

int main(int argc, char** argv) {
    char lock_path[512];
    if (argc < 4) return 98;
    const int fd = open(argv[1], O_WRONLY | O_CREAT | O_APPEND, 0600);
    snprintf(lock_path, sizeof lock_path, "%s/%s.%s", argv[2], variable("REEVE_JOB_ID"),
             variable("REEVE_TASK_ID"));
    const int lock = open(lock_path, O_RDWR | O_CREAT, 0600);
    if (fd < 0 || lock < 0) return 99;
    const int alone = flock(lock, LOCK_EX | LOCK_NB) == 0;
    note(fd, alone ? "start" : "overlap");
    for (int i = 4; i < argc; ++i) hold_or_note(fd, argv[2], argv[i]);
    hold_gpus(fd, argv[2]);
    hold_cores(fd, argv[2]);
    usleep((unsigned)atoi(argv[3]) * 1000U);
    note(fd, "end");
    return 0;
}
