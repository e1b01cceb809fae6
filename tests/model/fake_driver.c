/* A driver of CUDA for machines without one: what it says is in the variables FAKE_*. It computes nothing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int number(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}

int cuInit(unsigned flags) { return number("FAKE_INIT", 0); }
int cuDriverGetVersion(int *version) { *version = number("FAKE_CUDA", 13000); return 0; }
int cuDeviceGetCount(int *count) { *count = number("FAKE_COUNT", 2); return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return number("FAKE_GET", 0); }
int cuDeviceGetName(char *name, int length, int device) {
    const char *text = getenv("FAKE_NAME");
    snprintf(name, length, "%s", text ? text : "NVIDIA L4");
    return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    int capability = number("FAKE_CAPABILITY", 89);
    *value = attribute == 75 ? capability / 10 : attribute == 76 ? capability % 10 : -1;
    return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)24 << 30; return 0; }
int cuGetErrorString(int error, const char **text) {
    *text = error == 999 ? "unknown error" : 0;
    return *text ? 0 : 1;
}
/* What libonnxruntime_providers_cuda.so takes from the driver. */
int cuTensorMapEncodeTiled(void) { return 1; }
