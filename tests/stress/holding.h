// What a witness holds of its worker, by numbered locks: more tasks at once than the worker has
// room for are caught by the one that finds no number free.
//
// "WHAT:NEED:HAVE" takes NEED of the HAVE locks of WHAT, without waiting. Only one at a time takes
// (a lock of its own), and the kernel drops the locks of a process that dies before anybody is told
// of its death: whoever is started then finds them free.
#pragma once

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

enum { kHeldMax = 64 };

struct held {
    int fds[kHeldMax];
    int count;
};

static int lock_of(const char* directory, const char* worker, const char* what, int number) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s.%s.%d", directory, worker, what, number);
    return open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
}

/* 1: all NEED are held now; 0: somebody else has too many; -1: no such words, or no file. */
static int hold(struct held* held, const char* directory, const char* worker, const char* words) {
    char what[64];
    int need = 0;
    int have = 0;
    if (sscanf(words, "%63[^:]:%d:%d", what, &need, &have) != 3) return -1;
    const int gate = lock_of(directory, worker, what, -1);
    if (gate < 0 || flock(gate, LOCK_EX) != 0) return -1;
    for (int number = 0; number < have && need > 0 && held->count < kHeldMax; ++number) {
        const int fd = lock_of(directory, worker, what, number);
        if (fd < 0) return -1;
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
            held->fds[held->count++] = fd;
            --need;
        } else {
            close(fd);
        }
    }
    close(gate);
    return need == 0;
}
