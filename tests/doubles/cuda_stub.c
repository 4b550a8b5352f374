/* A stand-in for the NVIDIA driver library (libcuda.so.1) for one device that does everything at once, in host memory.
 *
 * It has what ptqbridge's three ways to the GPU call, with the signatures of the CUDA driver API (cuda.h), so that the
 * real pycuda and cuda-python can be run on it, and so that calling it from Python costs what calling the driver does.
 * pycuda links many more names: -DMORE=... adds empty ones (see compile_stub in tests/doubles/cuda_stub.py).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef unsigned long long ptr;
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec * 1e-6;
}

int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return index ? 101 : 0; }
int cuDeviceGetName(char *name, int size, int device) { snprintf(name, size, "Stand-in GPU"); return 0; }
int cuDeviceGetPCIBusId(char *name, int size, int device) { snprintf(name, size, "0000:17:00.0"); return 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)1 << 34; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = 1000 + attribute; return 0; }
int cuDeviceComputeCapability(int *major, int *minor, int device) { *major = 9; *minor = 0; return 0; }
int cuGetErrorName(int status, const char **text) { *text = status == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_UNKNOWN"; return 0; }
int cuGetErrorString(int status, const char **text) { *text = status == 2 ? "out of memory" : "unknown error"; return 0; }

static void *context;
int cuDevicePrimaryCtxRetain(void **made, int device) { *made = &context; return 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { return 0; }
int cuCtxPushCurrent_v2(void *made) { context = made; return 0; }
int cuCtxPopCurrent_v2(void **made) { *made = &context; return 0; }
int cuCtxGetCurrent(void **made) { *made = &context; return 0; }
int cuCtxGetDevice(int *device) { *device = 0; return 0; }
int cuCtxGetApiVersion(void *made, unsigned *version) { *version = 13000; return 0; }
int cuCtxSynchronize(void) { return 0; }

int cuStreamCreate(void **stream, unsigned flags) { *stream = malloc(16); return 0; }
int cuStreamDestroy_v2(void *stream) { free(stream); return 0; }
int cuStreamSynchronize(void *stream) { return 0; }
int cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return 0; }
int cuEventCreate(void **event, unsigned flags) { *event = calloc(1, sizeof(double)); return 0; }
int cuEventDestroy_v2(void *event) { free(event); return 0; }
int cuEventRecord(void *event, void *stream) { *(double *)event = now(); return 0; }
int cuEventSynchronize(void *event) { return 0; }
int cuEventElapsedTime(float *ms, void *a, void *b) { *ms = *(double *)b - *(double *)a; return 0; }
int cuEventElapsedTime_v2(float *ms, void *a, void *b) { return cuEventElapsedTime(ms, a, b); }

#define HUGE_SIZE ((size_t)1 << 40)
int cuMemAlloc_v2(ptr *made, size_t size) { if (size >= HUGE_SIZE) return 2; *made = (ptr)malloc(size); return 0; }
int cuMemFree_v2(ptr memory) { free((void *)memory); return 0; }
int cuMemAllocManaged(ptr *made, size_t size, unsigned flags) { return cuMemAlloc_v2(made, size); }
int cuMemHostAlloc(void **made, size_t size, unsigned flags) { if (size >= HUGE_SIZE) return 2; *made = malloc(size); return 0; }
int cuMemFreeHost(void *memory) { free(memory); return 0; }
int cuMemcpyHtoDAsync_v2(ptr to, const void *from, size_t size, void *stream) { if (COPIES) memcpy((void *)to, from, size); return 0; }
int cuMemcpyDtoHAsync_v2(void *to, ptr from, size_t size, void *stream) { if (COPIES) memcpy(to, (void *)from, size); return 0; }
int cuMemcpyDtoH_v2(void *to, ptr from, size_t size) { memcpy(to, (void *)from, size); return 0; }

int cuStreamBeginCapture_v2(void *stream, int mode) { return 0; }
int cuStreamEndCapture(void *stream, void **graph) { *graph = malloc(16); return 0; }
int cuGraphInstantiateWithFlags(void **made, void *graph, ptr flags) { *made = malloc(16); return 0; }
int cuGraphDestroy(void *graph) { free(graph); return 0; }
int cuGraphLaunch(void *graph, void *stream) { return 0; }
int cuGraphExecDestroy(void *graph) { free(graph); return 0; }

/* cuda-python asks for its functions here. */
int cuGetProcAddress_v2(const char *name, void **found, int version, ptr flags, int *status) {
    char longer[128];
    void *self = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
    snprintf(longer, sizeof longer, "%s_v2", name);
    *found = dlsym(self ? self : RTLD_DEFAULT, longer);
    if (!*found) *found = dlsym(self ? self : RTLD_DEFAULT, name);
    if (status) *status = *found ? 0 : 1;
    return *found ? 0 : 500;
}
/* Names that a module links and nobody calls. */
#define E(name) int name(void) { return 999; }
#ifdef MORE
MORE
#endif
