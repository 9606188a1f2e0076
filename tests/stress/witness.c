/* witness FILE LOCKDIR MS: the task of the kill tests, and its own evidence.
 *
 * Appends "task attempt worker pid start|overlap|end boottime_ns" to FILE, one write each, and holds
 * a lock file for as long as it runs. The kernel drops the lock when the process dies, however it
 * dies, so a second attempt that meets the lock taken has caught two attempts of one task alive. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

static const char* variable(const char* name) {
    const char* value = getenv(name);
    return value != NULL ? value : "-";
}

static void note(int fd, const char* what) {
    struct timespec now;
    char line[256];
    clock_gettime(CLOCK_BOOTTIME, &now);
    const int size = snprintf(line, sizeof line, "%s.%s %s %s %d %s %lld\n",
                              variable("REEVE_JOB_ID"), variable("REEVE_TASK_ID"),
                              variable("REEVE_ATTEMPT"), variable("REEVE_INSTANCE"), (int)getpid(),
                              what, (long long)now.tv_sec * 1000000000LL + now.tv_nsec);
    if (write(fd, line, (size_t)size) != size) _exit(97);
}

int main(int argc, char** argv) {
    char lock_path[512];
    if (argc != 4) return 98;
    const int fd = open(argv[1], O_WRONLY | O_CREAT | O_APPEND, 0600);
    snprintf(lock_path, sizeof lock_path, "%s/%s.%s", argv[2], variable("REEVE_JOB_ID"),
             variable("REEVE_TASK_ID"));
    const int lock = open(lock_path, O_RDWR | O_CREAT, 0600);
    if (fd < 0 || lock < 0) return 99;
    const int alone = flock(lock, LOCK_EX | LOCK_NB) == 0;
    note(fd, alone ? "start" : "overlap");
    usleep((unsigned)atoi(argv[3]) * 1000U);
    note(fd, "end");
    return 0;
}
