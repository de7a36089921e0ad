// A libvulkan.so.1 for machines without one; structures and numbers as in vulkan_core.h. FAKE_VULKAN names the scenario.
//   two     an Intel GPU with memory of its own, and a renderer in software
//   none    a loader without a driver;   crash, hang   a driver that breaks
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, INCOMPATIBLE_DRIVER = -9 };
typedef struct { uint32_t api, driver, vendor, device, type; char name[256]; } properties;
typedef struct { uint32_t flags, heap; } type;
typedef struct { uint64_t size; uint32_t flags; } heap;
typedef struct { uint32_t types; type type[32]; uint32_t heaps; heap heap[16]; } memory;

static int is(const char * name) {
    const char * scenario = getenv("FAKE_VULKAN");
    return scenario && !strcmp(scenario, name);
}

int vkCreateInstance(const void * info, const void * allocator, void ** instance) {
    (void) allocator;
    if (*(const uint32_t *) info != 1) return -1;
    if (is("crash")) abort();
    if (is("hang")) sleep(60);
    *instance = (void *) 1;
    return is("none") ? INCOMPATIBLE_DRIVER : OK;
}

int vkEnumeratePhysicalDevices(void * instance, uint32_t * count, void ** devices) {
    (void) instance;
    for (uintptr_t at = 0; at < 2; at++) devices[at] = (void *) (at + 1);
    return *count = 2, OK;
}

void vkGetPhysicalDeviceProperties(void * device, properties * out) {
    int software = device != (void *) 1;
    out->vendor = software ? 0x10005 : 0x8086;
    out->device = 0x56a0;
    out->type = software ? 4 : 2;
    strcpy(out->name, software ? "llvmpipe" : "Intel(R) Arc(tm) A770 \xff Graphics");
}

void vkGetPhysicalDeviceMemoryProperties(void * device, memory * out) {
    (void) device;
    out->types = 1;
    out->heaps = 2;
    out->heap[0] = (heap) {16ull << 30, 1};
    out->heap[1] = (heap) {64ull << 30, 0};
}
