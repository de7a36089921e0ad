// A libnvidia-ml.so.1 for machines without a GPU. FAKE_NVML names the scenario; return codes as in nvml.h.
//   two       an RTX 4090 (throttled by heat, one process on it) and a Tesla T4 with ECC
//   mig       an H200 divided into two slices
//   unified   a GB10, which answers "not supported" where discrete GPUs have an answer
//   lost      two GPUs, the second fallen off the bus
//   new       one RTX 5090 with a driver that serves CUDA 13.0
//   garbage   names that are no UTF-8, sizes and versions that make no sense
//   mismatch, unloaded, denied   the driver refuses;   hang, crash   it never answers
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, SMALL = 7, UNLOADED = 9, LOST = 15, MISMATCH = 18 };
typedef struct { int index, slice; } device;
static device devices[2] = {{0, -1}, {1, -1}}, slices[2] = {{0, 0}, {0, 1}};

static int is(const char * name) {
    const char * scenario = getenv("FAKE_NVML");
    return scenario && !strcmp(scenario, name);
}

static int text(char * out, unsigned size, const char * value) {
    strncpy(out, value, size);
    return OK;
}

int nvmlInitWithFlags(unsigned flags) {
    (void) flags;
    if (is("hang")) sleep(60);
    if (is("crash")) abort();
    return is("mismatch") ? MISMATCH : is("unloaded") ? UNLOADED : is("denied") ? NO_PERMISSION : OK;
}
int nvmlShutdown(void) { return OK; }
int nvmlSystemGetDriverVersion(char * out, unsigned size) { return text(out, size, is("garbage") ? "\xff\xfe" : is("new") ? "580.65.06" : "550.54.14"); }
int nvmlSystemGetCudaDriverVersion_v2(int * version) { return *version = is("garbage") ? -7 : is("new") ? 13000 : 12040, OK; }
int nvmlDeviceGetCount_v2(unsigned * count) { return *count = is("two") || is("lost") ? 2 : 1, OK; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device ** out) {
    if (is("lost") && index == 1) return LOST;
    return *out = &devices[index], OK;
}

int nvmlDeviceGetName(device * at, char * out, unsigned size) {
    if (is("garbage")) return text(out, size, "\xc3\x28\x80 \x1b[31mGPU");
    if (is("mig")) return text(out, size, at->slice < 0 ? "NVIDIA H200" : "NVIDIA H200 MIG 3g.71gb");
    if (is("unified")) return text(out, size, "NVIDIA GB10");
    if (is("new")) return text(out, size, "NVIDIA GeForce RTX 5090");
    return text(out, size, at->index ? "Tesla T4" : "NVIDIA GeForce RTX 4090");
}

int nvmlDeviceGetUUID(device * at, char * out, unsigned size) {
    static const char * whole[2] = {"GPU-aaaa0000-0000-0000-0000-000000000000", "GPU-bbbb0000-0000-0000-0000-000000000000"};
    static const char * parts[2] = {"MIG-cccc0000-0000-0000-0000-000000000000", "MIG-dddd0000-0000-0000-0000-000000000000"};
    return text(out, size, at->slice < 0 ? whole[at->index] : parts[at->slice]);
}

typedef struct { char legacy[16]; unsigned domain, bus, number, id, subsystem; char bus_id[32]; } pci;
int nvmlDeviceGetPciInfo_v3(device * at, pci * info) {
    memset(info, 0, sizeof *info);
    return text(info->bus_id, 32, at->index ? "00000000:02:00.0" : "00000000:01:00.0");
}

int nvmlDeviceGetCudaComputeCapability(device * at, int * major, int * minor) {
    *major = is("garbage") ? -1 : is("mig") ? 9 : is("unified") || is("new") ? 12 : at->index ? 7 : 8;
    *minor = is("garbage") ? 1 << 30 : is("mig") || is("new") ? 0 : is("unified") ? 1 : at->index ? 5 : 9;
    return OK;
}

typedef struct { uint64_t total, free, used; } memory;
int nvmlDeviceGetMemoryInfo(device * at, memory * info) {
    if (is("unified")) return NOT_SUPPORTED;
    info->total = is("garbage") ? ~0ull : is("mig") ? (at->slice < 0 ? 143771ull : 71424ull) << 20 : at->index ? 15360ull << 20 : 24564ull << 20;
    info->used = 1ull << 30;
    info->free = info->total - info->used;
    return OK;
}

int nvmlDeviceGetEccMode(device * at, int * current, int * pending) {
    return at->index ? (*current = *pending = 1, OK) : NOT_SUPPORTED;
}
int nvmlDeviceGetPersistenceMode(device * at, int * mode) { return *mode = at->index, OK; }
int nvmlDeviceGetCurrPcieLinkGeneration(device * at, unsigned * out) { (void) at; return is("unified") ? NOT_SUPPORTED : (*out = 1, OK); }
int nvmlDeviceGetMaxPcieLinkGeneration(device * at, unsigned * out) { (void) at; return is("unified") ? NOT_SUPPORTED : (*out = 4, OK); }
int nvmlDeviceGetCurrPcieLinkWidth(device * at, unsigned * out) { return is("unified") ? NOT_SUPPORTED : (*out = at->index ? 8 : 16, OK); }
int nvmlDeviceGetMaxPcieLinkWidth(device * at, unsigned * out) { (void) at; return is("unified") ? NOT_SUPPORTED : (*out = 16, OK); }
int nvmlDeviceGetCurrentClocksThrottleReasons(device * at, unsigned long long * out) { return *out = at->index ? 0x1 : 0x44, OK; }

typedef struct { unsigned pid; unsigned long long used; unsigned instance, compute; } process;
int nvmlDeviceGetComputeRunningProcesses_v3(device * at, unsigned * count, process * out) {
    if (at->index || is("mig") || is("unified")) return *count = 0, OK;
    if (*count < 1 || !out) return *count = 1, SMALL;
    memset(out, 0, sizeof *out);
    out->pid = 4242;
    return *count = 1, OK;
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(device * at, unsigned * count, process * out) {
    return nvmlDeviceGetComputeRunningProcesses_v3(at, count, out);
}

int nvmlDeviceGetMigMode(device * at, unsigned * current, unsigned * pending) {
    (void) at;
    return is("mig") ? (*current = *pending = 1, OK) : NOT_SUPPORTED;
}
int nvmlDeviceGetMaxMigDeviceCount(device * at, unsigned * count) { (void) at; return *count = 7, OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(device * at, unsigned index, device ** out) {
    (void) at;
    return index < 2 ? (*out = &slices[index], OK) : NOT_FOUND;
}
typedef struct { unsigned gpu, memory; } utilization;
int nvmlDeviceGetUtilizationRates(device * at, utilization * out) {
    if (is("unified")) return NOT_SUPPORTED;
    return out->gpu = at->index ? 7 : 63, out->memory = 20, OK;
}

const char * nvmlErrorString(int code) { (void) code; return "an error of the fake"; }
