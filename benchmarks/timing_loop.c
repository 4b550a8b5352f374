/* The timing loop in C, for timing_loop.py: one query per pass on bound buffers, two clock reads, the times recorded.
 *
 * The wheel has ONNX Runtime's library but no header, so the few calls needed are named here by their place in the
 * function table OrtApi, whose order is fixed for good (onnxruntime_c_api.h: new calls are added at its end; the same
 * list stands in csharp/src/Microsoft.ML.OnnxRuntime/NativeMethods.shared.cs of microsoft/onnxruntime).
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum slot {
    GET_ERROR_MESSAGE = 2,
    CREATE_ENV = 3,
    CREATE_SESSION = 7,
    CREATE_SESSION_OPTIONS = 10,
    SET_GRAPH_OPTIMIZATION_LEVEL = 23,
    SET_INTRA_OP_THREADS = 24,
    SET_INTER_OP_THREADS = 25,
    CREATE_TENSOR_WITH_DATA = 49,
    CREATE_CPU_MEMORY_INFO = 69,
    RUN_WITH_BINDING = 133,
    CREATE_IO_BINDING = 134,
    BIND_INPUT = 136,
    BIND_OUTPUT = 137,
};

typedef struct OrtStatus OrtStatus;
typedef void *(*table)[]; /* OrtApi as an array of its functions */

struct base { /* OrtApiBase */
    table (*get_api)(uint32_t version);
    const char *(*get_version)(void);
};

struct loop {
    table api;
    void *session, *binding;
};

static void check(table api, OrtStatus *status) {
    if (status) {
        fprintf(stderr, "ONNX Runtime: %s\n", ((const char *(*)(OrtStatus *))(*api)[GET_ERROR_MESSAGE])(status));
        exit(1);
    }
}

static void *tensor(table api, void *memory, void *data, size_t bytes, const int64_t *shape, size_t rank) {
    void *value = NULL;
    const int float32 = 1; /* ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT */
    check(api, ((OrtStatus * (*)(void *, void *, size_t, const int64_t *, size_t, int, void **))(*api)
                    [CREATE_TENSOR_WITH_DATA])(memory, data, bytes, shape, rank, float32, &value));
    return value;
}

/* A session of one float input and one float output, bound to the caller's memory; one thread per query. */
struct loop *loop_open(const char *library, const char *model, const char *input, void *in, size_t in_bytes,
                       const int64_t *in_shape, size_t in_rank, const char *output, void *out, size_t out_bytes,
                       const int64_t *out_shape, size_t out_rank) {
    void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    struct base *base = ((struct base * (*)(void)) dlsym(handle, "OrtGetApiBase"))();
    table api = base->get_api(16);
    struct loop *loop = calloc(1, sizeof *loop);
    void *env = NULL, *options = NULL, *memory = NULL;
    check(api, ((OrtStatus * (*)(int, const char *, void **))(*api)[CREATE_ENV])(4, "timing_loop", &env));
    check(api, ((OrtStatus * (*)(void **))(*api)[CREATE_SESSION_OPTIONS])(&options));
    check(api, ((OrtStatus * (*)(void *, int))(*api)[SET_GRAPH_OPTIMIZATION_LEVEL])(options, 99));
    check(api, ((OrtStatus * (*)(void *, int))(*api)[SET_INTRA_OP_THREADS])(options, 1));
    check(api, ((OrtStatus * (*)(void *, int))(*api)[SET_INTER_OP_THREADS])(options, 1));
    check(api, ((OrtStatus * (*)(void *, const char *, void *, void **))(*api)[CREATE_SESSION])(env, model, options,
                                                                                               &loop->session));
    check(api, ((OrtStatus * (*)(int, int, void **))(*api)[CREATE_CPU_MEMORY_INFO])(0, 0, &memory));
    check(api, ((OrtStatus * (*)(void *, void **))(*api)[CREATE_IO_BINDING])(loop->session, &loop->binding));
    void *value = tensor(api, memory, in, in_bytes, in_shape, in_rank);
    check(api, ((OrtStatus * (*)(void *, const char *, void *))(*api)[BIND_INPUT])(loop->binding, input, value));
    value = tensor(api, memory, out, out_bytes, out_shape, out_rank);
    check(api, ((OrtStatus * (*)(void *, const char *, void *))(*api)[BIND_OUTPUT])(loop->binding, output, value));
    loop->api = api;
    return loop;
}

static int64_t now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

/* At least `queries` queries and `total_ns` of time, at most `room` queries; begin and end of each into `stamps`.
 * Returns how many there were; `cpu_ns` gets the thread's processor time. */
int64_t loop_run(struct loop *loop, int64_t queries, int64_t total_ns, int64_t room, int64_t *stamps, int64_t *cpu_ns) {
    OrtStatus *(*run)(void *, const void *, const void *) =
        (OrtStatus * (*)(void *, const void *, const void *))(*loop->api)[RUN_WITH_BINDING];
    int64_t cpu = now(CLOCK_THREAD_CPUTIME_ID), zero = now(CLOCK_MONOTONIC), elapsed = -1, done = 0;
    while ((done < queries || elapsed < total_ns) && done < room) {
        int64_t start = now(CLOCK_MONOTONIC);
        check(loop->api, run(loop->session, NULL, loop->binding));
        stamps[2 * done] = start;
        stamps[2 * done + 1] = now(CLOCK_MONOTONIC);
        if (start - zero > elapsed)
            elapsed = start - zero;
        done++;
    }
    *cpu_ns = now(CLOCK_THREAD_CPUTIME_ID) - cpu;
    return done;
}
