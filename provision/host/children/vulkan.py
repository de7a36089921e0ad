"""Vulkan devices by name, kind and memory, as one JSON line. In a child, because a driver can hang the caller or take it down.

Only the loader is needed (libvulkan.so.1 comes with every driver), no vulkaninfo. Numbers are those of vulkan_core.h 1.3.
"""

import ctypes
import json
import struct
import sys
from typing import Any

LOADERS = {
    "darwin": ("libvulkan.1.dylib", "/opt/homebrew/lib/libvulkan.1.dylib", "libMoltenVK.dylib"),
    "win32": ("vulkan-1.dll",),
}
KINDS = {0: "other", 1: "integrated", 2: "discrete", 3: "virtual", 4: "cpu"}  # VkPhysicalDeviceType
MOST = 16
DEVICE_LOCAL = 1  # VK_MEMORY_HEAP_DEVICE_LOCAL_BIT


class InstanceInfo(ctypes.Structure):
    """VkInstanceCreateInfo; its type number is 1, and no application, layer or extension is named."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("next", ctypes.c_void_p),
        ("flags", ctypes.c_uint32),
        ("application", ctypes.c_void_p),
        ("layer_count", ctypes.c_uint32),
        ("layers", ctypes.c_void_p),
        ("extension_count", ctypes.c_uint32),
        ("extensions", ctypes.c_void_p),
    )


def main() -> None:
    sys.stdin.read()
    loader = load()
    if loader is None:
        answer({"absent": True})
        return
    instance = ctypes.c_void_p()
    failed = loader.vkCreateInstance(ctypes.byref(InstanceInfo(type=1)), None, ctypes.byref(instance))
    if failed:
        # -9 is VK_ERROR_INCOMPATIBLE_DRIVER: a loader without any driver.
        answer({"absent": True} if failed == -9 else {"error": f"vkCreateInstance gave {failed}"})
        return
    count = ctypes.c_uint32(MOST)
    devices = (ctypes.c_void_p * MOST)()
    loader.vkEnumeratePhysicalDevices(instance, ctypes.byref(count), devices)
    answer({"devices": [read_device(loader, ctypes.c_void_p(device)) for device in devices[: count.value]]})


def load() -> Any:
    for name in LOADERS.get(sys.platform, ("libvulkan.so.1",)):
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def read_device(loader: Any, device: ctypes.c_void_p) -> dict[str, Any]:
    """VkPhysicalDeviceProperties begins with five 32-bit numbers and 256 bytes of name; 824 bytes in all."""
    properties = ctypes.create_string_buffer(4096)
    loader.vkGetPhysicalDeviceProperties(device, properties)
    _, _, vendor, number, kind = struct.unpack_from("=5I", properties.raw)
    name = properties.raw[20:276].split(b"\0", 1)[0].decode("utf-8", "replace")
    return {
        "name": name,
        "vendor": f"0x{vendor:04x}",
        "device": f"0x{number:04x}",
        "kind": KINDS.get(kind, "other"),
        "memory": local_memory(loader, device),
    }


def local_memory(loader: Any, device: ctypes.c_void_p) -> int:
    """Bytes of the heaps local to the device: VkPhysicalDeviceMemoryProperties has 16 heaps from byte 264."""
    memory = ctypes.create_string_buffer(1024)
    loader.vkGetPhysicalDeviceMemoryProperties(device, memory)
    (count,) = struct.unpack_from("=I", memory.raw, 260)
    heaps = [struct.unpack_from("=QI", memory.raw, 264 + 16 * at) for at in range(min(count, 16))]
    return sum(size for size, flags in heaps if flags & DEVICE_LOCAL)


def answer(found: dict[str, Any]) -> None:
    print("@provision " + json.dumps(found), flush=True)


main()
