/* Runs a payload once, as a program without Python does: caller PAYLOAD WEIGHTS|- THREADS FOLDER [FILE:dims...]
 * Each FILE has the elements of an input; output number n is written to FOLDER/n, its dims to FOLDER/n.dims. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "payload.h"

enum { MOST = 16 };

#ifdef _WIN32
#include <malloc.h>
#include <windows.h>
static int aligned(void **block, size_t alignment, size_t bytes) {
    *block = _aligned_malloc(bytes, alignment);
    return *block == NULL;
}
static void release(void *block) { _aligned_free(block); }
static int advise(void *address, size_t bytes, int advice) { return 0; }
static int start(uintptr_t *thread, const void *attributes, void *(*run)(void *), void *argument) { return 1; }
static int detach(uintptr_t thread) { return 0; }
static int with_attributes(void *object, const void *attributes) { return 0; }
static int with_object(void *object) { return 0; }
static int wait_for(void *condition, void *mutex) { return 0; }
static int yield(void) { return 0; }
static int read_clock(int clock, void *time) { return 1; }
static const vt_os os = {aligned, release, advise, start, detach, with_attributes, with_object, with_object,
                         with_attributes, wait_for, with_object, yield, read_clock};
static void *load(const char *path) {
    HMODULE library = LoadLibraryA(path);
    return library ? (void *)GetProcAddress(library, "vt_payload") : NULL;
}
#else
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#define AS(member, function) .member = (__typeof__(((vt_os *)0)->member))function
static const vt_os os = {
    AS(posix_memalign, posix_memalign), AS(free, free), AS(madvise, madvise), AS(pthread_create, pthread_create),
    AS(pthread_detach, pthread_detach), AS(mutex_init, pthread_mutex_init), AS(mutex_lock, pthread_mutex_lock),
    AS(mutex_unlock, pthread_mutex_unlock), AS(cond_init, pthread_cond_init), AS(cond_wait, pthread_cond_wait),
    AS(cond_signal, pthread_cond_signal), AS(sched_yield, sched_yield), AS(clock_gettime, clock_gettime),
};
static void *load(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) fprintf(stderr, "%s\n", dlerror());
    return library ? dlsym(library, "vt_payload") : NULL;
}
#endif

static const vt_model *model;
static char *results[MOST];
static int64_t shapes[MOST][MOST];

static void fail(const char *what) {
    fprintf(stderr, "caller: %s\n", what);
    exit(1);
}

static char *place(size_t bytes) {
    void *block;
    if (os.posix_memalign(&block, 64, bytes ? bytes : 1)) fail("no memory");
    return block;
}

static char *output(void *caller, int32_t index, const int64_t *dims) {
    size_t bytes = (size_t)model->outputs[index].itemsize;
    for (int axis = 0; axis < model->outputs[index].rank; axis++) bytes *= (size_t)(shapes[index][axis] = dims[axis]);
    return results[index] = place(bytes);
}

static char *read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) fail(path);
    long size = ftell(file);
    char *data = place((size_t)size);
    rewind(file);
    if (fread(data, 1, (size_t)size, file) != (size_t)size) fail(path);
    fclose(file);
    return data;
}

static void write_results(const char *folder) {
    for (int32_t index = 0; index < model->n_outputs; index++) {
        char path[4096];
        size_t bytes = (size_t)model->outputs[index].itemsize;
        snprintf(path, sizeof path, "%s/%d.dims", folder, index);
        FILE *file = fopen(path, "wb");
        if (!file) fail(path);
        for (int axis = 0; axis < model->outputs[index].rank; axis++) {
            fprintf(file, "%lld ", (long long)shapes[index][axis]);
            bytes *= (size_t)shapes[index][axis];
        }
        fclose(file);
        snprintf(path, sizeof path, "%s/%d", folder, index);
        file = fopen(path, "wb");
        if (!file || fwrite(results[index], 1, bytes, file) != bytes) fail(path);
        fclose(file);
    }
}

int main(int count, char **arguments) {
    char *inputs[MOST];
    int64_t dims[MOST][MOST];
    const int64_t *input_dims[MOST];
    if (count < 5 || count - 5 > MOST) fail("usage");
    const vt_payload_table *table = load(arguments[1]);
    if (!table || table->abi != VT_ABI_VERSION || table->size != sizeof *table) fail("no payload of this interface");
    model = table->model;
    int32_t threads = atoi(arguments[3]);
    for (int index = 0; index + 5 < count; index++) {
        char *colon = strrchr(arguments[index + 5], ':');
        int axis = 0;
        *colon = 0;
        for (char *word = strtok(colon + 1, ","); word; word = strtok(NULL, ",")) dims[index][axis++] = atoll(word);
        inputs[index] = read_file(arguments[index + 5]);
        input_dims[index] = dims[index];
    }
    void *pool = table->provide(&os, NULL, threads);
    if (!pool) fail("no pool");
    vt_config config = {.os = &os, .parallel_for = table->parallel_for, .pool = pool, .threads = threads};
    config.weights = strcmp(arguments[2], "-") ? read_file(arguments[2]) : NULL;
    config.kept_contexts = 1;
    vt_session *session = table->session_create(&config);
    if (!session) fail("no session");
    vt_request request = {.inputs = inputs, .input_dims = input_dims, .output = output};
    int64_t status = table->run(session, &request);
    if (status) {
        fprintf(stderr, "caller: status %lld\n", (long long)status);
        return 1;
    }
    write_results(arguments[4]);
    table->session_destroy(session);
    return 0;
}
