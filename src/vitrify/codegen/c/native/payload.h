/* What the loader and a payload hand each other. `vitrify.runtime.native` mirrors these structs. */
#ifndef VT_PAYLOAD_H
#define VT_PAYLOAD_H

#include "abi.h"

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

void vt_watch_clock(const vt_os *os);
int64_t vt_watch_now(void);
void vt_guard_set(vt_guard *guard, int64_t time_limit, int64_t trip_limit);
int64_t vt_probe(int64_t rounds);

void *vt_pool_create(const vt_os *os, int32_t cpus);
void vt_pool_reset(void *pool);
void vt_pool_parallel_for(void *pool, vt_kernel kernel, char *const *bufs, const int64_t *dims, int64_t tasks,
                          char *scratch, int64_t scratch_stride, int32_t threads);

/* Supplied by mem.c, since clang emits calls to them. */
void *memcpy(void *restrict to, const void *restrict from, size_t bytes);
void *memmove(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);
int memcmp(const void *a, const void *b, size_t bytes);

#endif
