/* The process-wide thread pool. The first payload that a process loads provides it; the others call
 * it through vt_host.
 *
 * One caller at a time owns the pool; a second one meanwhile runs its tasks by itself. The owner
 * opens a job by publishing one word, `gate`, and closes it when the tasks have run out: workers
 * that were still asleep are then neither needed nor waited for.
 *
 * Tasks are dealt out as one run of neighbours per place, the same worker beginning at the same run in
 * every job: what it wrote in one kernel it finds in its own cache in the next, and the weights it
 * fetched ahead are those it needs. Who has finished takes tasks from the ends of the others' runs. Who
 * takes which changes nothing in the results, since the kernel alone fixes what a task covers. */
#include "payload.h"

#if defined(__x86_64__)
#define CPU_RELAX() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define CPU_RELAX() __asm__ volatile("isb" ::: "memory")
#else
#define CPU_RELAX() ((void)0)
#endif

enum {
    MAX_WORKERS = 1023,
    LINE = 64,
    LOCK_BYTES = 128, /* room for any platform's mutex or condition variable */
    CLOCK_MONOTONIC_ID = 1,
    SPIN_NS = 40 * 1000,  /* a worker's wait for the next job before it sleeps */
    YIELD_NS = 8 * 1000,  /* between two offers of the CPU to others */
    PREEMPT_NS = 6 * 1000, /* a yield that took this long ran somebody else: the CPU is wanted */
    CHECKS_PER_CLOCK = 8,
};

/* gate: bits 0-15 workers inside, 16-31 places left, 32 open, 33-63 number of the job. */
#define INSIDE(gate) ((gate) & 0xffff)
#define PLACES(gate) (((gate) >> 16) & 0xffff)
#define OPEN_BIT ((uint64_t)1 << 32)
#define JOB_NUMBER(gate) ((gate) >> 33)
#define ONE_PLACE ((uint64_t)1 << 16)

typedef struct {
    vt_kernel kernel;
    char *const *bufs;
    const int64_t *dims;
    int64_t tasks;
    char *scratch;
    int64_t scratch_stride;
    int64_t runs;
    int64_t step; /* tasks that one unit of a run stands for */
} job;

/* What is left of a run: bits 0-31 the first unit, 32-63 the one after the last. */
typedef struct {
    _Alignas(LINE) uint64_t left;
} run;
#define FIRST(left) ((left) & 0xffffffff)
#define END(left) ((left) >> 32)
#define RUN(first, end) ((uint64_t)(end) << 32 | (uint64_t)(first))

typedef struct {
    _Alignas(LINE) uint64_t gate;
    _Alignas(LINE) job current; /* written only while nobody is inside */
    _Alignas(LINE) int32_t spinners;
    _Alignas(LINE) uint32_t busy;
    uint32_t owner_asleep;
    uint32_t sleepers;
    int32_t workers;
    int32_t cpus;
    vt_os os;
    _Alignas(16) char lock[LOCK_BYTES];
    _Alignas(16) char wake[LOCK_BYTES];
    _Alignas(16) char done[LOCK_BYTES];
    run runs[MAX_WORKERS + 1];
} pool;

typedef struct {
    pool *pool;
    int64_t number; /* from 1; the owner is 0 */
} worker;

static int64_t now_ns(const vt_os *os) {
    int64_t time[2] = {0, 0};
    os->clock_gettime(CLOCK_MONOTONIC_ID, time);
    return time[0] * 1000000000 + time[1];
}

static inline int joinable(uint64_t gate, uint64_t last_job) {
    return (gate & OPEN_BIT) && PLACES(gate) && JOB_NUMBER(gate) != last_job;
}

/* The next unit of a run, from its front or its back; -1 when none is left. */
static int64_t take(run *r, int back) {
    uint64_t left = __atomic_load_n(&r->left, __ATOMIC_RELAXED);
    while (FIRST(left) < END(left)) {
        uint64_t rest = back ? RUN(FIRST(left), END(left) - 1) : RUN(FIRST(left) + 1, END(left));
        if (__atomic_compare_exchange_n(&r->left, &left, rest, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            return (int64_t)(back ? END(rest) : FIRST(left));
    }
    return -1;
}

/* The tasks of one's own run, then those that others have not come to. */
static void run_tasks(pool *p, int64_t number, int64_t place) {
    const job *j = &p->current;
    vt_kernel kernel = j->kernel;
    char *const *bufs = j->bufs;
    const int64_t *dims = j->dims, tasks = j->tasks, step = j->step, runs = j->runs;
    char *scratch = j->scratch + place * j->scratch_stride;
    int64_t own = number % runs;
    for (int64_t i = 0; i < runs; i++) {
        run *r = &p->runs[own + i < runs ? own + i : own + i - runs];
        for (int64_t unit; (unit = take(r, i != 0)) >= 0;) {
            int64_t end = (unit + 1) * step < tasks ? (unit + 1) * step : tasks;
            for (int64_t task = unit * step; task < end; task++) kernel(bufs, dims, task, scratch);
        }
    }
}

/* Sleep until a job can be joined. The owner publishes the gate and then reads `sleepers`; here the
 * order is the reverse, so one of the two always sees the other. */
static void sleep_for_job(pool *p, uint64_t last_job) {
    p->os.mutex_lock(p->lock);
    __atomic_fetch_add(&p->sleepers, 1, __ATOMIC_SEQ_CST);
    while (!joinable(__atomic_load_n(&p->gate, __ATOMIC_SEQ_CST), last_job)) p->os.cond_wait(p->wake, p->lock);
    __atomic_fetch_sub(&p->sleepers, 1, __ATOMIC_SEQ_CST);
    p->os.mutex_unlock(p->lock);
}

/* Spin while that is cheaper than being woken, and no longer than until another thread turns out to
 * want this CPU. Returns whether a job came. */
static int spin_for_job(pool *p, uint64_t last_job) {
    const vt_os *os = &p->os;
    int64_t start = now_ns(os), yielded = start;
    for (;;) {
        for (int i = 0; i < CHECKS_PER_CLOCK; i++) {
            if (joinable(__atomic_load_n(&p->gate, __ATOMIC_RELAXED), last_job)) return 1;
            CPU_RELAX();
        }
        int64_t now = now_ns(os);
        if (now - start > SPIN_NS) return 0;
        if (now - yielded > YIELD_NS) {
            os->sched_yield();
            yielded = now_ns(os);
            if (yielded - now > PREEMPT_NS) return 0;
        }
    }
}

/* At most as many workers spin as there are CPUs besides the owner's. */
static void wait_for_job(pool *p, uint64_t last_job) {
    int32_t others = __atomic_fetch_add(&p->spinners, 1, __ATOMIC_RELAXED);
    int found = others < p->cpus - 1 && spin_for_job(p, last_job);
    __atomic_fetch_sub(&p->spinners, 1, __ATOMIC_RELAXED);
    if (!found) sleep_for_job(p, last_job);
}

static void leave(pool *p) {
    uint64_t gate = __atomic_sub_fetch(&p->gate, 1, __ATOMIC_SEQ_CST);
    if (INSIDE(gate) || (gate & OPEN_BIT) || !__atomic_load_n(&p->owner_asleep, __ATOMIC_SEQ_CST)) return;
    p->os.mutex_lock(p->lock);
    p->os.mutex_unlock(p->lock);
    p->os.cond_signal(p->done);
}

static void *worker_main(void *argument) {
    worker self = *(worker *)argument;
    pool *p = self.pool;
    p->os.free(argument);
    uint64_t last_job = UINT64_MAX;
    for (;;) {
        wait_for_job(p, last_job);
        uint64_t gate = __atomic_load_n(&p->gate, __ATOMIC_RELAXED);
        while (joinable(gate, last_job)) {
            if (!__atomic_compare_exchange_n(&p->gate, &gate, gate - ONE_PLACE + 1, 0, __ATOMIC_ACQUIRE,
                                             __ATOMIC_RELAXED))
                continue;
            last_job = JOB_NUMBER(gate);
            run_tasks(p, self.number, (int64_t)PLACES(gate));
            leave(p);
            break;
        }
    }
    return NULL;
}

/* Called by the owner. A thread that cannot be started only makes the pool smaller. */
static void grow(pool *p, int32_t workers) {
    if (workers > MAX_WORKERS) workers = MAX_WORKERS;
    while (p->workers < workers) {
        uintptr_t thread;
        void *block;
        if (p->os.posix_memalign(&block, LINE, sizeof(worker))) return;
        *(worker *)block = (worker){p, p->workers + 1};
        if (p->os.pthread_create(&thread, NULL, worker_main, block)) {
            p->os.free(block);
            return;
        }
        p->os.pthread_detach(thread);
        __atomic_store_n(&p->workers, p->workers + 1, __ATOMIC_RELAXED);
    }
}

static void open_job(pool *p, const job *j, int64_t places) {
    const vt_os *os = &p->os;
    uint64_t number = (JOB_NUMBER(__atomic_load_n(&p->gate, __ATOMIC_RELAXED)) + 1) & 0x7fffffff;
    p->current = *j;
    int64_t units = (j->tasks + j->step - 1) / j->step;
    for (int64_t i = 0; i < j->runs; i++)
        __atomic_store_n(&p->runs[i].left, RUN(units * i / j->runs, units * (i + 1) / j->runs), __ATOMIC_RELAXED);
    __atomic_store_n(&p->gate, number << 33 | OPEN_BIT | (uint64_t)places << 16, __ATOMIC_SEQ_CST);
    int64_t asleep = __atomic_load_n(&p->sleepers, __ATOMIC_SEQ_CST);
    int64_t missing = places - (p->workers - asleep);
    if (!asleep || missing <= 0) return;
    os->mutex_lock(p->lock);
    os->mutex_unlock(p->lock);
    for (int64_t i = 0; i < missing; i++) os->cond_signal(p->wake);
}

static void close_job(pool *p) {
    const vt_os *os = &p->os;
    uint64_t gate = __atomic_and_fetch(&p->gate, ~OPEN_BIT, __ATOMIC_SEQ_CST);
    if (INSIDE(gate)) {
        int64_t start = now_ns(os);
        do {
            for (int i = 0; i < CHECKS_PER_CLOCK; i++) {
                if (!INSIDE(__atomic_load_n(&p->gate, __ATOMIC_ACQUIRE))) return;
                CPU_RELAX();
            }
            if (p->workers >= p->cpus) os->sched_yield();
        } while (now_ns(os) - start < SPIN_NS);
        os->mutex_lock(p->lock);
        __atomic_store_n(&p->owner_asleep, 1, __ATOMIC_SEQ_CST);
        while (INSIDE(__atomic_load_n(&p->gate, __ATOMIC_SEQ_CST))) os->cond_wait(p->done, p->lock);
        __atomic_store_n(&p->owner_asleep, 0, __ATOMIC_SEQ_CST);
        os->mutex_unlock(p->lock);
    }
}

void vt_pool_parallel_for(void *handle, vt_kernel kernel, char *const *bufs, const int64_t *dims, int64_t tasks,
                          char *scratch, int64_t scratch_stride, int32_t threads) {
    pool *p = handle;
    if (tasks > 1 && threads > 1 && !__atomic_exchange_n(&p->busy, 1, __ATOMIC_ACQUIRE)) {
        int64_t places = (tasks < threads ? tasks : threads) - 1;
        grow(p, (int32_t)places);
        if (places > p->workers) places = p->workers;
        job j = {kernel, bufs, dims, tasks, scratch, scratch_stride, places + 1, (tasks >> 31) + 1};
        open_job(p, &j, places);
        run_tasks(p, 0, 0);
        close_job(p);
        __atomic_store_n(&p->busy, 0, __ATOMIC_RELEASE);
        return;
    }
    for (int64_t task = 0; task < tasks; task++) kernel(bufs, dims, task, scratch);
}

/* A forked child has none of the workers, and inherits the locks in whatever state they were. */
void vt_pool_reset(void *handle) {
    pool *p = handle;
    vt_os saved = p->os;
    int32_t cpus = p->cpus;
    memset(p, 0, sizeof *p);
    p->os = saved;
    p->cpus = cpus;
    const vt_os *os = &p->os;
    os->mutex_init(p->lock, NULL);
    os->cond_init(p->wake, NULL);
    os->cond_init(p->done, NULL);
}

void *vt_pool_create(const vt_os *os, int32_t cpus) {
    void *block;
    if (os->posix_memalign(&block, LINE, sizeof(pool))) return NULL;
    pool *p = block;
    p->os = *os;
    p->cpus = cpus;
    vt_pool_reset(p);
    return p;
}
