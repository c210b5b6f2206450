/* The C interface of Vitrify's payloads. Written by vitrify.codegen.c.headers from the headers that payloads are
 * compiled with; do not edit.
 *
 * An artifact's payload is a shared library that imports nothing and exports one symbol, `vt_payload`. A program
 *
 *   1. examines the artifact and the library (vitrify.hpp does; docs/artifacts.md says what that takes), and loads it;
 *   2. compares vt_payload.abi and .size with VT_ABI_VERSION and sizeof(vt_payload_table), and the manifest's "abi"
 *      with VT_ABI_DIGEST;
 *   3. once in a process: pool = vt_payload.provide(&os, NULL, cpus). That library is never unloaded; all sessions of
 *      all payloads get its `parallel_for` and this pool. After fork(), the child calls pool_reset(pool);
 *   4. vt_session *session = vt_payload.session_create(&config), with config.python NULL and `weights` the packed
 *      constants, aligned to 64 bytes;
 *   5. vt_payload.run(session, &request), from any number of threads. The dims of the inputs are compared with the
 *      model's; their element types and alignment are the caller's business. 0 is success, below 0 minus the bytes
 *      that a run over memory_limit would take, above 0 a vt_status;
 *   6. vt_payload.session_destroy(session), after the last run.
 *
 * Members that speak of Python objects (vt_python, input_names, input_dtypes, output_dtypes, capsule_end, call,
 * raised) are for Python's loader; other callers leave them NULL. The codes of element types in vt_arg.dtype are
 * those of VT_DTYPES.
 */
#ifndef VITRIFY_H
#define VITRIFY_H

#ifdef __cplusplus
extern "C" {
#endif

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


#endif

/* SHA-256 of abi.h: the `abi` of a manifest whose payloads are called in this way. */
#define VT_ABI_DIGEST "defa996bd5fb8d3c0a50ab0dd0efbbb195a731fd96198aeed4701982ec32fc7b"

/* Names of element types by code. */
#define VT_DTYPES "f64", "f32", "f16", "bf16", "f8e4m3fn", "f8e4m3fnuz", "f8e5m2", "f8e5m2fnuz", "i64", "i32", "i16", "i8", "u64", "u32", "u16", "u8", "i4", "u4", "bool", "i2", "u2"

/* What the loader and a payload hand each other. `vitrify.runtime.native` mirrors these structs. */
#ifndef VT_PAYLOAD_H
#define VT_PAYLOAD_H

/* Calls to the operating system, resolved by the loader: a payload imports nothing. Thread and
 * lock objects are opaque blocks of at least the size the platform's own take. */
typedef struct vt_os {
    int (*posix_memalign)(void **block, size_t alignment, size_t bytes);
    void (*free)(void *block);
    int (*madvise)(void *address, size_t bytes, int advice);
    int (*pthread_create)(uintptr_t *thread, const void *attributes, void *(*start)(void *), void *argument);
    int (*pthread_detach)(uintptr_t thread);
    int (*mutex_init)(void *mutex, const void *attributes);
    int (*mutex_lock)(void *mutex);
    int (*mutex_unlock)(void *mutex);
    int (*cond_init)(void *cond, const void *attributes);
    int (*cond_wait)(void *cond, void *mutex);
    int (*cond_signal)(void *cond);
    int (*sched_yield)(void);
    int (*clock_gettime)(int clock, void *timespec);
} vt_os;

typedef void vt_object; /* a PyObject */

/* CPython's functions, NumPy's array constructor, and the objects that the call path compares by
 * identity. `object_size` is sizeof(PyObject) of the running interpreter: NumPy's array fields
 * start there (the layout is part of NumPy's binary interface), the type pointer ends there. */
typedef struct vt_python {
    int64_t object_size;
    vt_object *none;
    vt_object *dict_type;
    vt_object *array_type;
    void (*incref)(vt_object *object);
    void (*decref)(vt_object *object);
    vt_object *(*dict_get)(vt_object *dict, vt_object *key); /* borrowed; may set an error */
    ptrdiff_t (*dict_size)(vt_object *dict);
    vt_object *(*list_new)(ptrdiff_t size);
    int (*list_set)(vt_object *list, ptrdiff_t index, vt_object *item); /* takes the reference */
    vt_object *(*long_from)(long long value);
    void *(*capsule_pointer)(vt_object *capsule, const char *name);
    void (*error_clear)(void);
    int (*check_signals)(void);
    void (*error_fetch)(vt_object **type, vt_object **value, vt_object **traceback);
    void (*error_restore)(vt_object *type, vt_object *value, vt_object *traceback);
    void *(*save_thread)(void);
    void (*restore_thread)(void *state);
    int (*state_ensure)(void);
    void (*state_release)(int state);
    /* PyArray_NewFromDescr: takes a reference to the dtype */
    vt_object *(*array_new)(vt_object *type, vt_object *dtype, int rank, const intptr_t *dims,
                            const intptr_t *strides, void *data, int flags, vt_object *base);
    void (*session_end)(vt_object *capsule); /* the loader's: destroys the session, may unload its payload */
} vt_python;

/* Everything one session fixes. Arrays are owned by the loader and outlive the session. */
typedef struct vt_config {
    const vt_os *os;
    const vt_python *python; /* NULL where the caller is no Python: then only `run` may be called */
    vt_parallel_for parallel_for;
    void *pool;
    const char *weights;
    vt_object *const *input_names;   /* str objects */
    vt_object *const *input_dtypes;  /* numpy.dtype objects, compared by identity */
    vt_object *const *output_dtypes;
    int64_t memory_limit; /* bytes; 0: none */
    int32_t threads;
    int32_t kept_contexts; /* idle run contexts kept for the next run */
    int64_t time_limit; /* nanoseconds of a run; 0: none */
    int64_t trip_limit; /* trips of a run's loops together; 0: none */
    void **arenas; /* VT_ARENAS blocks that sessions of the process lend each other; NULL: arenas are the session's */
    vt_call call;  /* NULL where no op of the plan is in Python */
} vt_config;

enum { VT_ARENAS = 64 };

typedef struct vt_session vt_session;

/* A run without Python objects. `output` is called once for each output, on the calling thread, and gives the memory
 * to write, NULL to end the run; for late outputs after the run, whose results are then copied there. Inputs are
 * contiguous and aligned to their elements, the memory for outputs too. */
typedef struct vt_request {
    char *const *inputs;
    const int64_t *const *input_dims;
    char *(*output)(void *caller, int32_t index, const int64_t *dims);
    void *caller;    /* for `output` */
    vt_watch *watch; /* or NULL; its limits take the place of the session's */
    vt_object *raised[3]; /* type, value, traceback of what ended the run, where the status says interrupted */
} vt_request;

/* The one symbol a payload exports. */
typedef struct vt_payload_table {
    uint32_t abi;
    uint32_t size;
    const vt_model *model;
    /* These four are used of the first payload that a process loads, which is never unloaded. */
    void *(*provide)(const vt_os *os, const vt_python *python, int32_t cpus); /* the pool, or NULL; python may be */
    void (*pool_reset)(void *pool); /* in a forked child, before any run */
    vt_parallel_for parallel_for;
    void (*capsule_end)(vt_object *capsule); /* the destructor of every session's capsule */
    vt_session *(*session_create)(const vt_config *config); /* NULL when memory is refused */
    void (*session_destroy)(vt_session *session);
    /* A METH_O builtin whose self is a capsule of the session: feed -> a list of all outputs; None
     * when the feed is not in native form; an int when the run failed: > 0 a vt_status, < 0 minus
     * the bytes that a run over the memory limit would take. Raises what a signal's handler raised. */
    vt_object *(*call)(vt_object *capsule, vt_object *feed);
    /* As `call`, outside the interpreter lock: 0, a vt_status, or minus the bytes over the limit. */
    int64_t (*run)(vt_session *session, vt_request *request);
    int64_t (*probe)(int64_t rounds); /* multiplies and adds; how many operations that were */
} vt_payload_table;

#endif

#ifdef __cplusplus
}
#endif

#endif
