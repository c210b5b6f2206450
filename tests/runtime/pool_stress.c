/* Three callers share one pool: every task runs once, on a scratch of its own, whatever else happens. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "payload.h"

enum { CALLERS = 3, ROUNDS = 20000, MAX_TASKS = 64, MAX_THREADS = 8, LINE = 64 };

static const vt_os os = {
    posix_memalign, free, madvise, (void *)pthread_create, (void *)pthread_detach, (void *)pthread_mutex_init,
    (void *)pthread_mutex_lock, (void *)pthread_mutex_unlock, (void *)pthread_cond_init, (void *)pthread_cond_wait,
    (void *)pthread_cond_signal, sched_yield, (void *)clock_gettime,
};
static void *pool;

static void kernel(char *const *bufs, const int64_t *dims, int64_t task, char *scratch) {
    *(int64_t *)scratch += 1;
    ((int64_t *)bufs[0])[task] += dims[0] + task;
}

static void check(const int64_t *out, const char *scratch, int64_t round, int64_t tasks, int threads) {
    int64_t ran = 0;
    for (int i = 0; i <= MAX_THREADS; i++) {
        int64_t here = *(const int64_t *)(scratch + LINE * i);
        if (i >= threads && here) abort();
        ran += here;
    }
    if (ran != tasks) abort();
    for (int i = 0; i < MAX_TASKS; i++)
        if (out[i] != (i < tasks ? round + i : 0)) abort();
}

static void *caller(void *argument) {
    unsigned seed = (unsigned)(size_t)argument;
    int64_t out[MAX_TASKS];
    char *bufs[] = {(char *)out};
    char *scratch = malloc((MAX_THREADS + 1) * LINE);
    for (int64_t round = 0; round < ROUNDS; round++) {
        int64_t tasks = rand_r(&seed) % MAX_TASKS;
        int threads = 1 + rand_r(&seed) % MAX_THREADS;
        memset(out, 0, sizeof out);
        memset(scratch, 0, (MAX_THREADS + 1) * LINE);
        vt_pool_parallel_for(pool, kernel, bufs, &round, tasks, scratch, LINE, threads);
        check(out, scratch, round, tasks, threads);
        struct timespec pause = {0, 100000}; /* long enough for workers to fall asleep */
        if (rand_r(&seed) % 200 == 0) nanosleep(&pause, NULL);
    }
    free(scratch);
    return NULL;
}

int main(int count, char **arguments) {
    if (count != 2 || !(pool = vt_pool_create(&os, atoi(arguments[1])))) return 1;
    pthread_t threads[CALLERS];
    for (size_t i = 0; i < CALLERS; i++) pthread_create(&threads[i], NULL, caller, (void *)(i + 1));
    for (size_t i = 0; i < CALLERS; i++) pthread_join(threads[i], NULL);
    puts("every task ran once");
    return 0;
}
