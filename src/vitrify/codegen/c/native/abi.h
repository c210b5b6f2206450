/* The contract between a generated plan, its kernels, and the process that hosts them.
 *
 * A payload is freestanding: it imports nothing. Whatever it needs from the process (memory,
 * threads, CPython) arrives as function pointers in vt_host, filled by the loader.
 */
#ifndef VT_ABI_H
#define VT_ABI_H

#include <stddef.h>
#include <stdint.h>

#define VT_ABI_VERSION 5u
#define VT_EXPORT __attribute__((visibility("default")))

/* One unit of work of one kernel. `task` is in [0, tasks); what a task covers is fixed by the
 * kernel and its dims, never by the number of threads. `scratch` belongs to the calling worker
 * and is 64-byte aligned. A kernel that can fail writes a vt_status through one of its bufs. */
typedef void (*vt_kernel)(char *const *bufs, const int64_t *dims, int64_t task, char *scratch);

/* Status words: 0 is success; otherwise (code << 32) | node, where node indexes the manifest's
 * table of source nodes. The first failure wins. */
typedef int64_t vt_status;
enum {
    VT_OK = 0,
    VT_ERR_INDEX = 1,    /* gather index out of range */
    VT_ERR_SHAPE = 2,    /* run-time shape contradicts the model */
    VT_ERR_OVERFLOW = 3, /* shape arithmetic overflowed int64 */
    VT_ERR_MEMORY = 4,   /* allocation refused */
    VT_ERR_DIVIDE = 5,   /* integer division by zero */
    VT_ERR_RAISED = 6,   /* an op in Python raised, which the loader knows */
    VT_ERR_CUSTOM = 7,   /* C of the user gave another number than 0, which is in bits 40 to 54 */
    VT_ERR_SIZE = 11,        /* a size that the run computed is negative */
    VT_ERR_INTERRUPTED = 12, /* a signal's handler raised an exception */
    VT_ERR_TRIPS = 13,       /* loops made as many trips as a run may make */
    VT_ERR_TIME = 14,        /* the run took longer than it may; the low word has the milliseconds */
    VT_ERR_STOPPED = 15,     /* the caller asked for the run to end */
};
#define VT_ERR_DIMS ((vt_status)VT_ERR_SHAPE << 32 | UINT32_MAX) /* of the inputs, at no node */

/* A process-wide pool. Runs tasks 0..tasks-1 on the caller and at most `threads - 1` workers and
 * returns when all are done; when the pool is busy with another caller, runs them all inline.
 * Worker w uses scratch + w * scratch_stride; w < threads. */
typedef void (*vt_parallel_for)(void *pool, vt_kernel kernel, char *const *bufs, const int64_t *dims,
                                int64_t tasks, char *scratch, int64_t scratch_stride, int32_t threads);

/* An op that runs in Python: `number` is that of the manifest's call; operands are contiguous, `dims` those of
 * each input, then of each result. Takes the interpreter's lock. 0, or another number where it raised. */
typedef int (*vt_call)(int64_t number, char *const *bufs, const int64_t *dims);

typedef struct vt_host {
    uint32_t abi;  /* VT_ABI_VERSION */
    uint32_t size; /* sizeof(vt_host) */
    void *(*alloc)(size_t alignment, size_t bytes); /* NULL when refused */
    void (*release)(void *block);
    vt_parallel_for parallel_for;
    void *pool;
    vt_call call; /* NULL where no op of the plan is in Python */
} vt_host;

/* One kernel call as it was timed: which of the manifest's kernels, and nanoseconds of a monotonic clock. */
typedef struct vt_span {
    int64_t kernel, start, end;
} vt_span;

/* What a run is watched by. NULL in vt_run, which is the usual case, costs one test for each kernel. */
typedef struct vt_watch {
    const int32_t *stop;     /* the run ends before its next kernel once this is not 0; may be NULL */
    int64_t *counts, *nanos; /* by kernel, added up; NULL: not timed */
    vt_span *spans;          /* the first `capacity` calls */
    int64_t capacity, seen;
    int64_t start, end;      /* of the whole run */
    int64_t began;           /* the kernel at work */
    int64_t time_limit;      /* nanoseconds that the run may take; 0: any time */
    int64_t trip_limit;      /* trips that all its loops may make together; 0: any number */
} vt_watch;

/* What loops ask at the head of each trip. All but few trips cost a decrement: `step` is so chosen that the
 * questions take next to no time. */
typedef struct vt_guard {
    int64_t left;     /* trips until the next question */
    int64_t step;     /* trips between two questions */
    int64_t trips;    /* trips that the run may make beyond `left` */
    int64_t start;    /* of the run, by the monotonic clock in nanoseconds; 0 without a limit of time */
    int64_t deadline; /* INT64_MAX: none */
    int64_t asked;    /* when the last question was */
    int64_t signals;  /* when signals are looked at next */
    int (*interrupted)(void *caller); /* whether the handler of a signal raised an exception; NULL: nobody asks */
    void *caller;
} vt_guard;

/* State of one run, private to one thread at a time. */
typedef struct vt_run {
    const vt_host *host;
    char *arena;         /* vt_model.arena_bytes(dims) bytes, 64-byte aligned */
    const char *weights; /* the packed constants, mapped read-only, 64-byte aligned */
    char *scratch;       /* threads * vt_model.scratch_bytes */
    char *const *inputs;
    char **outputs;      /* set by the caller; entries of late outputs are set by the plan */
    int64_t *dims;       /* vt_model.n_dims; the first n_bound come from the inputs */
    int64_t *out_shapes; /* all outputs' dims, concatenated; late outputs' are set by the plan */
    void **late;         /* late blocks: vt_model.n_late entries, NULL at the start, released by the caller */
    vt_status status;
    int32_t threads;
    vt_watch *watch;
    vt_guard guard;
} vt_run;

/* Around each kernel call, in a function that returns void. */
int vt_watch_begin(vt_run *run); /* whether the run is to end; its status says so */
void vt_watch_end(vt_run *run, int64_t kernel);
#define VT_STOPS(r) \
    if (__builtin_expect((r)->watch != NULL, 0) && vt_watch_begin(r)) return
#define VT_DONE(r, kernel) \
    if (__builtin_expect((r)->watch != NULL, 0)) vt_watch_end(r, kernel)

/* At the head of the body of a loop of `node`, in a function that returns void. */
int vt_guard_ask(vt_run *run, int64_t node); /* whether the run is to end; its status says so */
#define VT_TRIP(r, node) \
    VT_STOPS(r);         \
    if (__builtin_expect(--(r)->guard.left < 0, 0) && vt_guard_ask(r, node)) return

/* A dim of an input: >= 0 a constant; < 0 names dim -1 - d, bound by its first appearance and checked at every later
 * one. vt_model.check compares those that stand for an expression with its value. */
typedef struct vt_arg {
    const char *name;
    int32_t dtype; /* code of vitrify.ir.dtypes, = index in its table */
    int32_t itemsize;
    int32_t rank;
    int32_t late; /* outputs only: shape known only after the run */
    const int64_t *dims; /* inputs only */
} vt_arg;

typedef struct vt_model {
    uint32_t abi;
    int32_t n_inputs, n_outputs;
    int32_t n_bound, n_dims, n_late;
    int32_t n_out_dims; /* sum of the outputs' ranks */
    int32_t quick;      /* 1: cheaper than releasing the interpreter lock around it */
    int64_t scratch_bytes; /* per worker, multiple of 64 */
    int64_t weights_bytes;
    const vt_arg *inputs, *outputs;
    /* 0, or a vt_status when the bound dims contradict the model. Also computes derived dims. */
    vt_status (*check)(int64_t *dims);
    /* Shapes of all outputs that are not late, concatenated (late ones: zeros). */
    void (*shapes)(const int64_t *dims, int64_t *out_shapes);
    int64_t (*arena_bytes)(const int64_t *dims);
    void (*run)(vt_run *run);
} vt_model;

/* Every plan defines this. */
extern const vt_model vt_plan;

#endif
