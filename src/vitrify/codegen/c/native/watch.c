/* Watched runs: kernels are timed, and a run can be stopped between two of them. */
#include "payload.h"

enum { CLOCK_MONOTONIC_ID = 1 };

static int (*clock_of_os)(int clock, void *timespec);

void vt_watch_clock(const vt_os *os) { clock_of_os = os->clock_gettime; }

int64_t vt_watch_now(void) {
    int64_t time[2] = {0, 0};
    clock_of_os(CLOCK_MONOTONIC_ID, time);
    return time[0] * 1000000000 + time[1];
}

int vt_watch_begin(vt_run *run) {
    vt_watch *w = run->watch;
    if (w->stop && __atomic_load_n(w->stop, __ATOMIC_RELAXED)) {
        if (!run->status) run->status = (vt_status)VT_ERR_STOPPED << 32;
        return 1;
    }
    if (w->counts) w->began = vt_watch_now();
    return 0;
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
