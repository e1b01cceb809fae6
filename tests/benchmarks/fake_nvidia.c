/* What gpu-check calls of NVIDIA's driver (libcuda) and of its management library (libnvidia-ml), of a GPU of 1 GiB. */
#include <stddef.h>
#include <string.h>

static size_t total = 1UL << 30, held = 100UL << 20;

int cuInit(unsigned flags) { return flags ? 1 : 0; }
int cuDeviceGet(int *device, int index) { *device = index; return index ? 101 : 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = &total; return device; }
int cuCtxSetCurrent(void *context) { return context == &total ? 0 : 201; }
int cuMemGetInfo_v2(size_t *free, size_t *all) { *free = total - held; *all = total; return 0; }
int cuMemAlloc_v2(void **address, size_t size)
{
    if (size > total - held) return 2;
    held += size;
    *address = &held;
    return 0;
}

typedef struct { unsigned long long total, free, used; } memory_t;
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) { *handle = &total; return index > 1 ? 6 : 0; }
int nvmlDeviceGetMemoryInfo(void *handle, memory_t *memory)
{
    if (handle != &total) return 2;
    memory->total = total; memory->used = held; memory->free = total - held;
    return 0;
}
int nvmlDeviceGetName(void *handle, char *name, unsigned size) { strncpy(name, "NVIDIA Fake 1", size); return handle != &total; }
int nvmlSystemGetDriverVersion(char *version, unsigned size) { strncpy(version, "580.95.05", size); return 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13020; return 0; }
int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor)
{
    *major = 8; *minor = 7;
    return handle != &total;
}
