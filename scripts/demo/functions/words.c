/* An example plug-in: what every part of reeve_task.h is for.
 *
 *   cc -shared -fPIC -O2 -I worker/include -o libwords.so scripts/demo/functions/words.c
 *   reeve up --plugin ./libwords.so
 *   reeve submit --wait --function words --data 'the quick brown fox'
 *   reeve result @                                        (4)
 *
 * words    counts the words of its data
 * reverse  gives its data back, last byte first
 * refuse   fails with its data as the reason
 * spin     works until it is cancelled or its time limit is up
 * crash    what a broken handler does: its runner dies, the worker does not
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "reeve_task.h"

static int words(reeve_call *call, void *user) {
    const char *text = call->data;
    size_t count = 0;
    char out[32];
    (void)user;
    for (size_t i = 0; i < call->data_size; ++i) {
        const int here = text[i] != ' ' && text[i] != '\n' && text[i] != '\t';
        const int before = i > 0 && text[i - 1] != ' ' && text[i - 1] != '\n' && text[i - 1] != '\t';
        if (here && !before) ++count;
    }
    const int size = snprintf(out, sizeof out, "%zu", count);
    return reeve_set_result(call, out, (size_t)size) ? 0 : 1;
}

static int reverse(reeve_call *call, void *user) {
    const char *text = call->data;
    char *room = reeve_result_buffer(call, call->data_size);
    (void)user;
    if (room == NULL) return 1;
    for (size_t i = 0; i < call->data_size; ++i) room[i] = text[call->data_size - 1 - i];
    return 0;
}

static int refuse(reeve_call *call, void *user) {
    char text[64];
    const size_t size = call->data_size < sizeof text - 1 ? call->data_size : sizeof text - 1;
    (void)user;
    memcpy(text, call->data, size);
    text[size] = '\0';
    reeve_set_error(call, text);
    return 3;
}

static int spin(reeve_call *call, void *user) {
    (void)user;
    while (!reeve_cancelled(call)) {
    }
    reeve_set_error(call, "told to stop");
    return 1;
}

static int crash(reeve_call *call, void *user) {
    (void)call;
    (void)user;
    abort();
}

int reeve_task_register(reeve_host *host) {
    return reeve_add_handler(host, "words", words, NULL) |
           reeve_add_handler(host, "reverse", reverse, NULL) |
           reeve_add_handler(host, "refuse", refuse, NULL) |
           reeve_add_handler(host, "spin", spin, NULL) |
           reeve_add_handler(host, "crash", crash, NULL);
}
