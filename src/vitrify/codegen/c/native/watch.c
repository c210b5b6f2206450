/* Watched runs: kernels are timed, and a run can be stopped between two of them, or between two trips. */
#include "payload.h"

enum {
    CLOCK_MONOTONIC_ID = 1,
    SOON = 1000000,          /* nanoseconds between two questions of a loop, about */
    SIGNALS = 100000000,     /* between two looks at signals, which take the interpreter's lock */
    MOST_TRIPS = 1 << 20,    /* between two questions */
};

static int (*clock_of_os)(int clock, void *timespec);

void vt_watch_clock(const vt_os *os) { clock_of_os = os->clock_gettime; }

int64_t vt_watch_now(void) {
    int64_t time[2] = {0, 0};
    clock_of_os(CLOCK_MONOTONIC_ID, time);
    return time[0] * 1000000000 + time[1];
}

static int stopped(vt_run *run, int64_t code, int64_t detail) {
    if (!run->status) run->status = code << 32 | detail;
    return 1;
}

static int late(vt_run *run, int64_t now) {
    const vt_guard *g = &run->guard;
    if (now < g->deadline) return 0;
    int64_t passed = (now - g->start) / 1000000;
    return stopped(run, VT_ERR_TIME, passed > UINT32_MAX ? UINT32_MAX : passed);
}

void vt_guard_set(vt_guard *g, int64_t time_limit, int64_t trip_limit) {
    g->left = 0;
    g->step = 1;
    g->trips = trip_limit ? trip_limit : INT64_MAX;
    g->start = time_limit ? vt_watch_now() : 0;
    g->deadline = time_limit && time_limit < INT64_MAX - g->start ? g->start + time_limit : INT64_MAX;
    g->asked = 0;
    g->interrupted = NULL;
}

int vt_guard_ask(vt_run *run, int64_t node) {
    vt_guard *g = &run->guard;
    if (!g->trips) return stopped(run, VT_ERR_TRIPS, node);
    int64_t now = vt_watch_now();
    if (!g->asked) g->asked = now, g->signals = now + SIGNALS;
    if (late(run, now)) return 1;
    if (now >= g->signals && g->interrupted) {
        if (g->interrupted(g->caller)) return stopped(run, VT_ERR_INTERRUPTED, 0);
        now = vt_watch_now();
        g->signals = now + SIGNALS;
    }
    if (now - g->asked > SOON) g->step = g->step > 8 ? g->step / 8 : 1;
    else if (g->step < MOST_TRIPS) g->step *= 2;
    g->asked = now;
    int64_t trips = g->step < g->trips ? g->step : g->trips;
    g->trips -= trips;
    g->left = trips - 1; /* this one is made already */
    return 0;
}

int vt_watch_begin(vt_run *run) {
    vt_watch *w = run->watch;
    if (w->stop && __atomic_load_n(w->stop, __ATOMIC_RELAXED)) return stopped(run, VT_ERR_STOPPED, 0);
    if (w->counts) w->began = vt_watch_now();
    return run->guard.deadline != INT64_MAX && late(run, vt_watch_now());
}

void vt_watch_end(vt_run *run, int64_t kernel) {
    vt_watch *w = run->watch;
    if (!w->counts) return;
    int64_t end = vt_watch_now();
    w->counts[kernel]++;
    w->nanos[kernel] += end - w->began;
    if (w->seen < w->capacity) w->spans[w->seen] = (vt_span){kernel, w->began, end};
    w->seen++;
}

/* ---- what the machine can do: independent multiply-adds in registers, two operations for each lane */

#if defined(__AVX512F__)
#define PROBE_BYTES 64
#elif defined(__AVX__)
#define PROBE_BYTES 32
#else
#define PROBE_BYTES 16
#endif
typedef float lanes __attribute__((vector_size(PROBE_BYTES)));

enum { PROBE_CHAINS = 12 };

int64_t vt_probe(int64_t rounds) {
    lanes factor = (lanes){0} + 0.5f, term = (lanes){0} + 1.0f;
    lanes a = term, b = term, c = term, d = term, e = term, f = term;
    lanes g = term, h = term, i = term, j = term, k = term, l = term;
    for (int64_t n = 0; n < rounds; n++) {
        a = a * factor + term, b = b * factor + term, c = c * factor + term, d = d * factor + term;
        e = e * factor + term, f = f * factor + term, g = g * factor + term, h = h * factor + term;
        i = i * factor + term, j = j * factor + term, k = k * factor + term, l = l * factor + term;
        /* The values are not known to the compiler, so the sums are not computed ahead. */
        __asm__ volatile("" ::: "memory");
    }
    volatile float sink = ((a + b) + (c + d) + (e + f) + (g + h) + (i + j) + (k + l))[0];
    (void)sink;
    return rounds * PROBE_CHAINS * 2 * (int64_t)(PROBE_BYTES / sizeof(float));
}
