"""GPUs of every vendor as PCI, KFD or macOS show them: names and memory. None was tried by us on real hardware."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from provision.host.reader import Reader
from provision.host.types import Gpu, Memory, Version

Vendor = Literal["nvidia", "amd", "intel", "apple", "software", "other"]
PCI_VENDORS: dict[str, Vendor] = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}
_PCI_NAMES = ("/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids")


def read_pci(reader: Reader) -> tuple[tuple[Gpu, ...], dict[str, str]]:
    """Display controllers of sysfs, and per PCI bus id the kernel driver bound to it."""
    gpus: list[Gpu] = []
    bound: dict[str, str] = {}
    for bus in reader.names("/sys/bus/pci/devices"):
        folder = f"/sys/bus/pci/devices/{bus}"
        # PCI class 0x03: display controllers; 0x0302 are the 3D controllers of servers and laptops.
        if not (reader.line(f"{folder}/class") or "").startswith("0x03"):
            continue
        vendor_id, device_id = reader.line(f"{folder}/vendor") or "", reader.line(f"{folder}/device") or ""
        vendor = PCI_VENDORS.get(vendor_id)
        if vendor is None:
            continue
        driver = reader.real(f"{folder}/driver").rsplit("/", 1)[-1]
        if driver != "driver":
            bound[bus] = driver
        total, used = reader.number(f"{folder}/mem_info_vram_total"), reader.number(f"{folder}/mem_info_vram_used")
        integrated = vendor == "intel" and bus.endswith(":00:02.0")
        gpus.append(
            Gpu(
                index=len(gpus),
                name=_pci_name(reader, vendor_id, device_id) or f"{vendor.upper()} GPU [{vendor_id[2:]}:{device_id[2:]}]",
                vendor=vendor,
                source="sysfs",
                memory_total_bytes=total,
                memory_free_bytes=max(0, total - used) if total is not None and used is not None else None,
                integrated=integrated,
                unified_memory=integrated,
                pci_bus=bus,
            )
        )
    return tuple(gpus), bound


def read_kfd(reader: Reader) -> tuple[str, ...]:
    """AMD's gfx targets (`gfx1100`), one per GPU node of the kernel's compute topology."""
    targets = []
    base = "/sys/class/kfd/kfd/topology/nodes"
    for node in reader.names(base):
        text = reader.text(f"{base}/{node}/properties") or ""
        said = re.search(r"^gfx_target_version (\d{1,9})$", text, re.MULTILINE)
        number = int(said.group(1)) if said else 0
        if number:
            # 110001 is gfx1101, 90010 is gfx90a: major, minor and stepping, the last two in hexadecimal.
            targets.append(f"gfx{number // 10000}{number // 100 % 100:x}{number % 100:x}")
    return tuple(targets)


def ask_rocminfo(reader: Reader) -> tuple[str, ...]:
    """Names people know (`AMD Radeon RX 7900 XTX`), one per GPU agent of rocminfo, when that program is there."""
    program = reader.which("rocminfo") or ("/opt/rocm/bin/rocminfo" if reader.is_program("/opt/rocm/bin/rocminfo") else None)
    done = reader.ask(program, timeout_s=8.0) if program else None
    if done is None or done.returncode != 0:
        return ()
    names = []
    for agent in re.split(r"^Agent \d+", done.stdout, flags=re.MULTILINE)[1:]:
        fields = dict(re.findall(r"^\s+([\w ]+?):[ \t]+(\S.*?)[ \t]*$", agent, re.MULTILINE))
        if fields.get("Device Type") == "GPU":
            names.append(fields.get("Marketing Name", "")[:200])
    return tuple(names)


def ask_apple(reader: Reader, memory: Memory) -> tuple[Gpu, ...]:
    """Apple's GPU; its memory is the machine's."""
    if reader.os_name != "darwin":
        return ()
    done = reader.ask("system_profiler", "SPDisplaysDataType", "-json", timeout_s=8.0)
    try:
        answer: Any = json.loads(done.stdout) if done and done.returncode == 0 else {}
    except (ValueError, RecursionError):
        answer = {}
    rows = answer.get("SPDisplaysDataType") if isinstance(answer, dict) else None
    gpus: list[Gpu] = []
    for row in rows if isinstance(rows, list) else []:
        name = row.get("sppci_model") if isinstance(row, dict) else None
        if isinstance(name, str) and name:
            apple = "Apple" in name
            gpus.append(
                Gpu(
                    index=len(gpus),
                    name=name[:200],
                    vendor="apple" if apple else "other",
                    source="system_profiler",
                    memory_total_bytes=memory.total_bytes if apple else None,
                    memory_free_bytes=memory.available_bytes if apple else None,
                    unified_memory=apple,
                    integrated=apple,
                )
            )
    return tuple(gpus)


def gfx_note(target: str) -> str:
    """How a GPU's gfx target is written into its notes."""
    return f"ROCm target {target}"


def capability_from_name(name: str) -> Version | None:
    """Compute capability of an NVIDIA GPU nobody could ask, by well-known names; None for the others."""
    return next((capability for pattern, capability in _NAMES if re.search(pattern, name)), None)


# Product names to compute capability, as in sm_families of cuda-tables.json.
_NAMES: tuple[tuple[str, Version], ...] = (
    (r"RTX 50\d\d", (12, 0)),
    (r"GB10\b", (12, 1)),
    (r"RTX 40\d\d|\bL40S?\b|\bL4\b", (8, 9)),
    (r"RTX 30\d\d|RTX A[2456]\d00|\bA10G?\b|\bA40\b", (8, 6)),
    (r"RTX 20\d\d|GTX 16\d\d|\bT4\b|\bT4G\b", (7, 5)),
    (r"\bH100\b|\bH200\b|\bH20\b|\bGH200\b", (9, 0)),
    (r"\bA100\b|\bA30\b|\bA800\b", (8, 0)),
    (r"\bB200\b|\bGB200\b", (10, 0)),
    (r"\bV100S?\b", (7, 0)),
    (r"GTX 10\d\d", (6, 1)),
)


def _pci_name(reader: Reader, vendor_id: str, device_id: str) -> str | None:
    for path in _PCI_NAMES:
        text = reader.text(path)
        if text is None:
            continue
        block = re.search(rf"^{re.escape(vendor_id[2:])}  .*\n((?:[\t#].*\n|\n)*)", text, re.MULTILINE)
        row = re.search(rf"^\t{re.escape(device_id[2:])}  (.+)$", block.group(1), re.MULTILINE) if block else None
        return row.group(1).strip()[:200] if row else None
    return None
