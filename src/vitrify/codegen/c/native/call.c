/* One inference: arrays in as Python objects, arrays out.
 *
 * Only the native form is taken here: exactly numpy.ndarray, the expected dtype object, contiguous,
 * aligned to its element. Whatever else a caller may hand in, and every message about what is wrong
 * with it, is the business of the Python session, which normalises and calls again. */
#include "payload.h"

enum {
    CACHE_LINE = 64,
    MAX_KEPT = 64,
    HUGE_BYTES = 2 << 20, /* a transparent huge page, worth asking for from twice its size */
    ADVICE_HUGE_PAGES = 14,
    ARRAY_C_CONTIGUOUS = 0x1,
    ARRAY_ALIGNED = 0x100,
};

/* The fields of a NumPy array, which follow the object header. */
typedef struct {
    char *data;
    int rank;
    const intptr_t *dims;
    const intptr_t *strides;
    vt_object *base;
    vt_object *dtype;
    int flags;
} array_fields;

/* What one run needs; used by one run at a time, kept for the next. */
typedef struct {
    vt_run run;
    int64_t arena_capacity;
    char **inputs;
    vt_object **held; /* the input arrays */
    vt_object **made; /* the output arrays */
    vt_watch limits;  /* what a run with a limit of time is watched by */
} context;

struct vt_session {
    const vt_model *model;
    vt_host host;
    vt_config config;
    int32_t kept;
    _Alignas(CACHE_LINE) context *idle[MAX_KEPT];
};

/* The same for every session of the process; copies, since a run may outlive what the loader holds. */
static vt_os os_calls;
static vt_python python_calls;

/* ---- memory ---- */

static void *host_alloc(size_t alignment, size_t bytes) {
    void *block;
    int huge = bytes >= 2 * (size_t)HUGE_BYTES;
    if (huge && alignment < HUGE_BYTES) alignment = HUGE_BYTES;
    if (alignment < CACHE_LINE) alignment = CACHE_LINE;
    if (bytes > (size_t)PTRDIFF_MAX - alignment) return NULL;
    bytes = (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    if (os_calls.posix_memalign(&block, alignment, bytes ? bytes : CACHE_LINE)) return NULL;
    if (huge) os_calls.madvise(block, bytes / HUGE_BYTES * HUGE_BYTES, ADVICE_HUGE_PAGES);
    return block;
}

static void host_release(void *block) { os_calls.free(block); }

static void context_free(context *c) {
    host_release(c->run.arena);
    host_release(c->run.scratch);
    host_release(c);
}

/* The fixed part of a context is one block; `take` walks it. */
static void *take(char **at, int64_t bytes) {
    char *part = *at;
    *at += (bytes + 15) / 16 * 16;
    return part;
}

static context *context_new(vt_session *s) {
    const vt_model *m = s->model;
    int64_t words = m->n_inputs * 2 + m->n_outputs * 2 + m->n_dims + m->n_out_dims + m->n_late;
    size_t bytes = sizeof(context) + (size_t)words * 8 + 8 * 16;
    char *at = host_alloc(CACHE_LINE, bytes);
    if (!at) return NULL;
    memset(at, 0, bytes);
    context *c = take(&at, sizeof(context));
    c->inputs = take(&at, m->n_inputs * 8);
    c->held = take(&at, m->n_inputs * 8);
    c->made = take(&at, m->n_outputs * 8);
    c->run.outputs = take(&at, m->n_outputs * 8);
    c->run.dims = take(&at, m->n_dims * 8);
    c->run.out_shapes = take(&at, m->n_out_dims * 8);
    c->run.late = take(&at, m->n_late * 8);
    c->run.host = &s->host;
    c->run.weights = s->config.weights;
    c->run.inputs = c->inputs;
    c->run.threads = s->config.threads;
    if (m->scratch_bytes && !s->config.arenas) {
        c->run.scratch = host_alloc(CACHE_LINE, (size_t)m->scratch_bytes * (size_t)s->config.threads);
        if (!c->run.scratch) {
            context_free(c);
            return NULL;
        }
    }
    return c;
}

static context *context_acquire(vt_session *s) {
    for (int32_t i = 0; i < s->kept; i++) {
        if (!__atomic_load_n(&s->idle[i], __ATOMIC_RELAXED)) continue;
        context *c = __atomic_exchange_n(&s->idle[i], NULL, __ATOMIC_ACQUIRE);
        if (c) return c;
    }
    return context_new(s);
}

static void context_release(vt_session *s, context *c) {
    for (int32_t i = 0; i < s->kept; i++) {
        context *empty = NULL;
        if (__atomic_compare_exchange_n(&s->idle[i], &empty, c, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) return;
    }
    context_free(c);
}

/* ---- floating-point environment: IEEE defaults whatever the caller's thread was left in, so that
 * results depend neither on the thread nor on what other libraries did to it ---- */

#if defined(__x86_64__)
enum { FP_DEFAULT = 0x1f80, FP_STATUS = 0x3f };
static uint64_t fp_enter(void) {
    uint32_t saved = __builtin_ia32_stmxcsr();
    if ((saved & ~(uint32_t)FP_STATUS) != FP_DEFAULT) __builtin_ia32_ldmxcsr(FP_DEFAULT);
    return saved;
}
static void fp_leave(uint64_t saved) {
    if ((saved & ~(uint64_t)FP_STATUS) != FP_DEFAULT) __builtin_ia32_ldmxcsr((uint32_t)saved);
}
#elif defined(__aarch64__)
static uint64_t fp_enter(void) {
    uint64_t saved;
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved));
    if (saved) __asm__ volatile("msr fpcr, %0" ::"r"((uint64_t)0));
    return saved;
}
static void fp_leave(uint64_t saved) {
    if (saved) __asm__ volatile("msr fpcr, %0" ::"r"(saved));
}
#else
static uint64_t fp_enter(void) { return 0; }
static void fp_leave(uint64_t saved) { (void)saved; }
#endif

/* ---- inputs ---- */

static inline const array_fields *fields_of(const vt_python *py, vt_object *array) {
    return (const array_fields *)((const char *)array + py->object_size);
}

static inline vt_object *type_of(const vt_python *py, vt_object *object) {
    return *(vt_object **)((char *)object + py->object_size - sizeof(void *));
}

static int dims_match(const vt_arg *arg, const intptr_t *dims, int64_t *bound) {
    for (int32_t i = 0; i < arg->rank; i++) {
        int64_t want = arg->dims[i], have = dims[i];
        if (want < 0) {
            int64_t *slot = &bound[-1 - want];
            if (*slot < 0) *slot = have;
            want = *slot;
        }
        if (want != have) return 0;
    }
    return 1;
}

static void drop(const vt_python *py, vt_object **objects, int32_t count) {
    for (int32_t i = 0; i < count; i++) py->decref(objects[i]);
}

/* 1, or 0 when the feed is not in native form. Inputs are held until the run is over: another
 * thread may change the dict meanwhile. */
static int inputs_take(const vt_session *s, context *c, vt_object *feed) {
    const vt_python *py = &python_calls;
    const vt_model *m = s->model;
    if (type_of(py, feed) != py->dict_type || py->dict_size(feed) != m->n_inputs) return 0;
    for (int32_t i = 0; i < m->n_bound; i++) c->run.dims[i] = -1;
    for (int32_t i = 0; i < m->n_inputs; i++) {
        const vt_arg *arg = &m->inputs[i];
        vt_object *array = py->dict_get(feed, s->config.input_names[i]);
        if (!array) {
            py->error_clear();
            drop(py, c->held, i);
            return 0;
        }
        const array_fields *a = fields_of(py, array);
        int native = ARRAY_C_CONTIGUOUS | ARRAY_ALIGNED;
        if (type_of(py, array) != py->array_type || a->dtype != s->config.input_dtypes[i] || a->rank != arg->rank ||
            (a->flags & native) != native || !dims_match(arg, a->dims, c->run.dims)) {
            drop(py, c->held, i);
            return 0;
        }
        py->incref(array);
        c->held[i] = array;
        c->inputs[i] = a->data;
    }
    return 1;
}

/* ---- outputs ---- */

static vt_status memory_status(void) { return (vt_status)VT_ERR_MEMORY << 32; }

/* Bytes of an array, or -1 when its shape is negative or does not fit the address space. */
static int64_t array_bytes(const vt_arg *arg, const int64_t *dims) {
    int64_t bytes = arg->itemsize;
    int empty = 0;
    for (int32_t i = 0; i < arg->rank; i++) {
        if (dims[i] < 0) return -1;
        if (dims[i] == 0) empty = 1;
        else if (__builtin_mul_overflow(bytes, dims[i], &bytes)) return -1;
    }
    return empty ? 0 : bytes;
}

/* Arrays for the outputs that are late (after the run) or not (before it). */
static vt_status outputs_make(const vt_session *s, context *c, int late) {
    const vt_python *py = &python_calls;
    const vt_model *m = s->model;
    const int64_t *dims = c->run.out_shapes;
    for (int32_t i = 0; i < m->n_outputs; dims += m->outputs[i++].rank) {
        const vt_arg *arg = &m->outputs[i];
        if (arg->late != late) continue;
        int64_t bytes = array_bytes(arg, dims);
        if (bytes < 0) return (vt_status)VT_ERR_OVERFLOW << 32;
        vt_object *dtype = s->config.output_dtypes[i];
        py->incref(dtype);
        vt_object *array = py->array_new(py->array_type, dtype, arg->rank, (const intptr_t *)dims, NULL, NULL, 0, NULL);
        if (!array) {
            py->error_clear();
            return memory_status();
        }
        char *data = fields_of(py, array)->data;
        if (late)
            memcpy(data, c->run.outputs[i], (size_t)bytes);
        else
            c->run.outputs[i] = data;
        c->made[i] = array;
    }
    return VT_OK;
}

/* Hands over the outputs, or drops those made when the run failed. */
static vt_object *outputs_list(const vt_session *s, context *c, vt_status status) {
    const vt_python *py = &python_calls;
    int32_t count = s->model->n_outputs;
    vt_object *list = status ? NULL : py->list_new(count);
    if (!status && !list) {
        py->error_clear();
        status = memory_status();
    }
    for (int32_t i = 0; i < count; i++) {
        vt_object *array = c->made[i];
        c->made[i] = NULL;
        if (list)
            py->list_set(list, i, array);
        else if (array)
            py->decref(array);
    }
    return list ? list : py->long_from(status);
}

/* ---- the run ---- */

static vt_status over_limit(const vt_session *s, const context *c, int64_t arena) {
    const vt_model *m = s->model;
    int64_t need = m->weights_bytes, scratch = 0;
    int overflow = __builtin_mul_overflow(m->scratch_bytes, (int64_t)s->config.threads, &scratch);
    overflow |= __builtin_add_overflow(need, scratch, &need);
    overflow |= __builtin_add_overflow(need, arena, &need);
    const int64_t *dims = c->run.out_shapes;
    for (int32_t i = 0; i < m->n_outputs; dims += m->outputs[i++].rank) {
        int64_t bytes = m->outputs[i].late ? 0 : array_bytes(&m->outputs[i], dims);
        overflow |= bytes < 0 || __builtin_add_overflow(need, bytes, &need);
    }
    if (overflow) return (vt_status)VT_ERR_OVERFLOW << 32;
    return need > s->config.memory_limit ? -need : VT_OK;
}

/* A block that some session of the process does not need now, or a new one. Its capacity is in the line before
 * it; blocks that are too small are given back, so that those kept are the largest. */
static char *arena_borrow(void **arenas, int64_t bytes) {
    for (int32_t i = 0; i < VT_ARENAS; i++) {
        if (!__atomic_load_n(&arenas[i], __ATOMIC_RELAXED)) continue;
        int64_t *block = __atomic_exchange_n(&arenas[i], NULL, __ATOMIC_ACQUIRE);
        if (block && *block >= bytes) return (char *)block + CACHE_LINE;
        host_release(block);
    }
    int64_t *block = host_alloc(CACHE_LINE, (size_t)bytes + CACHE_LINE);
    if (!block) return NULL;
    *block = bytes;
    return (char *)block + CACHE_LINE;
}

static void arena_return(void **arenas, char *arena) {
    void *block = arena - CACHE_LINE;
    for (int32_t i = 0; i < VT_ARENAS; i++) {
        void *empty = NULL;
        if (__atomic_compare_exchange_n(&arenas[i], &empty, block, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED)) return;
    }
    host_release(block);
}

/* Memory for a run; the context's own is kept for the next one. */
static vt_status memory_take(const vt_session *s, context *c, int64_t arena) {
    if (s->config.arenas) {
        int64_t start, scratch, all;
        if (__builtin_add_overflow(arena, CACHE_LINE - 1, &start)) return memory_status();
        start = start / CACHE_LINE * CACHE_LINE;
        if (__builtin_mul_overflow(s->model->scratch_bytes, (int64_t)s->config.threads, &scratch) ||
            __builtin_add_overflow(start, scratch, &all) || all > INT64_MAX - CACHE_LINE)
            return memory_status();
        if (!all) return VT_OK;
        c->run.arena = arena_borrow(s->config.arenas, all);
        c->run.scratch = c->run.arena + start;
        return c->run.arena ? VT_OK : memory_status();
    }
    if (arena > c->arena_capacity) {
        host_release(c->run.arena);
        c->run.arena = host_alloc(CACHE_LINE, (size_t)arena);
        c->arena_capacity = c->run.arena ? arena : 0;
        if (!c->run.arena) return memory_status();
    }
    return VT_OK;
}

static void memory_give(const vt_session *s, context *c) {
    if (!s->config.arenas) return;
    if (c->run.arena) arena_return(s->config.arenas, c->run.arena);
    c->run.arena = c->run.scratch = NULL;
}

/* Derived dims, output shapes, arena. */
static vt_status prepare(const vt_session *s, context *c) {
    const vt_model *m = s->model;
    vt_status status = m->check(c->run.dims);
    if (status) return status;
    m->shapes(c->run.dims, c->run.out_shapes);
    int64_t arena = m->arena_bytes(c->run.dims);
    if (arena < 0) return (vt_status)VT_ERR_OVERFLOW << 32;
    if (s->config.memory_limit && (status = over_limit(s, c, arena))) return status;
    return memory_take(s, c, arena);
}

/* Whether a handler of a signal raised: asked by a run that gave the interpreter's lock away. */
static int interrupted(void *thread) {
    python_calls.restore_thread(*(void **)thread);
    int raised = python_calls.check_signals();
    *(void **)thread = python_calls.save_thread();
    return raised;
}

/* The same for a run that never had the lock; the exception is kept. */
static int request_interrupted(void *request) {
    vt_object **raised = ((vt_request *)request)->raised;
    int state = python_calls.state_ensure();
    int found = python_calls.check_signals();
    if (found) python_calls.error_fetch(&raised[0], &raised[1], &raised[2]);
    python_calls.state_release(state);
    return found;
}

static void guard_set(const vt_session *s, context *c, const vt_watch *watch) {
    int64_t time = watch ? watch->time_limit : s->config.time_limit;
    vt_guard_set(&c->run.guard, time, watch ? watch->trip_limit : s->config.trip_limit);
    if (!watch && time) c->run.watch = &c->limits; /* so that kernels look at the clock */
}

static void run_plan(const vt_session *s, context *c) {
    for (int32_t i = 0; i < s->model->n_late; i++) c->run.late[i] = NULL;
    c->run.status = VT_OK;
    uint64_t saved = fp_enter();
    s->model->run(&c->run);
    fp_leave(saved);
}

static void late_release(const vt_session *s, context *c) {
    for (int32_t i = 0; i < s->model->n_late; i++) host_release(c->run.late[i]);
}

static vt_status execute(const vt_session *s, context *c) {
    const vt_model *m = s->model;
    void *thread = NULL;
    if (!m->quick) { /* else it has no loop, and is over before any limit */
        thread = python_calls.save_thread();
        guard_set(s, c, NULL);
        c->run.guard.interrupted = interrupted;
        c->run.guard.caller = &thread;
    }
    run_plan(s, c);
    if (!m->quick) {
        python_calls.restore_thread(thread);
        c->run.watch = NULL;
    }
    vt_status status = c->run.status;
    if (m->n_late) {
        if (!status) status = outputs_make(s, c, 1);
        late_release(s, c);
    }
    return status;
}

static vt_object *call(vt_object *capsule, vt_object *feed) {
    const vt_python *py = &python_calls;
    vt_session *s = py->capsule_pointer(capsule, NULL);
    context *c = context_acquire(s);
    if (!c) return py->long_from(memory_status());
    vt_object *result = py->none;
    if (inputs_take(s, c, feed)) {
        vt_status status = prepare(s, c);
        if (!status) status = outputs_make(s, c, 0);
        if (!status) status = execute(s, c);
        memory_give(s, c);
        vt_object *raised[3] = {NULL, NULL, NULL}; /* nobody who is told of the end of an array must see it */
        int failed = status >> 32 == VT_ERR_INTERRUPTED;
        if (failed) py->error_fetch(&raised[0], &raised[1], &raised[2]);
        result = outputs_list(s, c, status);
        drop(py, c->held, s->model->n_inputs);
        if (failed) {
            py->decref(result);
            result = NULL;
            py->error_restore(raised[0], raised[1], raised[2]);
        }
    } else {
        py->incref(result);
    }
    context_release(s, c);
    return result;
}

/* ---- requests: the same without Python objects ---- */

static vt_status request_outputs(const vt_session *s, context *c, const vt_request *q, int late) {
    const vt_model *m = s->model;
    const int64_t *dims = c->run.out_shapes;
    for (int32_t i = 0; i < m->n_outputs; dims += m->outputs[i++].rank) {
        const vt_arg *arg = &m->outputs[i];
        if (arg->late != late) continue;
        int64_t bytes = array_bytes(arg, dims);
        if (bytes < 0) return (vt_status)VT_ERR_OVERFLOW << 32;
        char *data = q->output(q->caller, i, dims);
        if (!data) return memory_status();
        if (late)
            memcpy(data, c->run.outputs[i], (size_t)bytes);
        else
            c->run.outputs[i] = data;
    }
    return VT_OK;
}

static int request_inputs(const vt_session *s, context *c, const vt_request *q) {
    const vt_model *m = s->model;
    for (int32_t i = 0; i < m->n_bound; i++) c->run.dims[i] = -1;
    for (int32_t i = 0; i < m->n_inputs; i++) {
        c->inputs[i] = q->inputs[i];
        if (!dims_match(&m->inputs[i], (const intptr_t *)q->input_dims[i], c->run.dims)) return 0;
    }
    return 1;
}

static int64_t run_request(vt_session *s, vt_request *q) {
    context *c = context_acquire(s);
    if (!c) return memory_status();
    vt_status status = request_inputs(s, c, q) ? prepare(s, c) : (vt_status)VT_ERR_SHAPE << 32;
    if (!status) status = request_outputs(s, c, q, 0);
    if (!status) {
        c->run.watch = q->watch;
        guard_set(s, c, q->watch);
        c->run.guard.interrupted = s->config.python ? request_interrupted : NULL;
        c->run.guard.caller = q;
        if (q->watch) q->watch->start = vt_watch_now();
        run_plan(s, c);
        if (q->watch) q->watch->end = vt_watch_now();
        c->run.watch = NULL;
        status = c->run.status;
        if (!status) status = request_outputs(s, c, q, 1);
        late_release(s, c);
    }
    memory_give(s, c);
    context_release(s, c);
    return status;
}

/* ---- sessions ---- */

static void session_destroy(vt_session *s) {
    for (int32_t i = 0; i < s->kept; i++)
        if (s->idle[i]) context_free(s->idle[i]);
    host_release(s);
}

/* A destructor may run while an exception is on its way; the loader's Python code must not see it. */
static void capsule_end(vt_object *capsule) {
    vt_object *type, *value, *traceback;
    python_calls.error_fetch(&type, &value, &traceback);
    python_calls.session_end(capsule);
    python_calls.error_restore(type, value, traceback);
}

static void *provide(const vt_os *os, const vt_python *python, int32_t cpus) {
    os_calls = *os;
    if (python) python_calls = *python;
    return vt_pool_create(os, cpus);
}

static vt_session *session_create(const vt_config *config) {
    os_calls = *config->os;
    if (config->python) python_calls = *config->python;
    vt_watch_clock(config->os);
    vt_session *s = host_alloc(CACHE_LINE, sizeof(vt_session));
    if (!s) return NULL;
    memset(s, 0, sizeof *s);
    s->model = &vt_plan;
    s->config = *config;
    s->kept = config->kept_contexts < MAX_KEPT ? config->kept_contexts : MAX_KEPT;
    s->host = (vt_host){VT_ABI_VERSION, sizeof(vt_host), host_alloc, host_release, config->parallel_for, config->pool,
                        config->call};
    return s;
}

VT_EXPORT const vt_payload_table vt_payload = {
    .abi = VT_ABI_VERSION,
    .size = sizeof(vt_payload_table),
    .model = &vt_plan,
    .provide = provide,
    .pool_reset = vt_pool_reset,
    .parallel_for = vt_pool_parallel_for,
    .capsule_end = capsule_end,
    .session_create = session_create,
    .session_destroy = session_destroy,
    .call = call,
    .run = run_request,
    .probe = vt_probe,
};
