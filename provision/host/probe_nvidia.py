"""NVIDIA GPUs when NVML does not answer: nvidia-smi, the driver's /proc files, Jetson's device tree."""

from __future__ import annotations

import re

from provision.host.cuda_tables import driver_cuda_version, parse_version
from provision.host.reader import Reader
from provision.host.types import Driver, Gpu, Version
from provision.units import MIB

_FULL = (
    "index,name,uuid,pci.bus_id,memory.total,memory.free,driver_version,compute_cap,mig.mode.current,ecc.mode.current,"
    "persistence_mode,pcie.link.gen.current,pcie.link.gen.max,pcie.link.width.current,pcie.link.width.max"
)
# Drivers before 510 do not know compute_cap, and one unknown field spoils the whole query.
_SHORT = "index,name,uuid,pci.bus_id,memory.total,memory.free,driver_version"
_WSL_SMI = "/usr/lib/wsl/lib/nvidia-smi"
# Module name on NVIDIA's device-tree model line to compute capability (sm_families of cuda-tables.json).
_JETSONS: tuple[tuple[str, Version], ...] = (
    ("Thor", (11, 0)),
    ("Orin", (8, 7)),
    ("Xavier", (7, 2)),
    ("TX2", (6, 2)),
    ("TX1", (5, 3)),
    ("Jetson Nano", (5, 3)),
)


def ask_nvidia_smi(reader: Reader) -> tuple[Driver, tuple[Gpu, ...]] | None:
    """Driver and GPUs by nvidia-smi; None when there is no such program. A program that fails gives a Driver with a problem."""
    program = reader.which("nvidia-smi") or (_WSL_SMI if reader.is_program(_WSL_SMI) else None)
    if program is None:
        return None
    for fields in (_FULL, _SHORT):
        done = reader.ask(program, f"--query-gpu={fields}", "--format=csv,noheader,nounits", timeout_s=8.0)
        if done is not None and done.returncode == 0:
            gpus = parse_csv(done.stdout, fields.split(","))
            version = next((version for line in done.stdout.splitlines() if (version := _driver_of(line, fields))), None)
            banner = reader.ask(program, timeout_s=8.0)
            said = re.search(r"CUDA Version:\s*(\d{1,3}\.\d{1,3})", banner.stdout) if banner else None
            cuda = parse_version(said.group(1)) if said else None
            return Driver(version=version, cuda_version=cuda, source="nvidia-smi"), gpus
    text = f"{done.stdout}\n{done.stderr}" if done is not None else ""
    return Driver(source="nvidia-smi", problem=smi_problem(text) if done is not None else "nvidia-smi hangs"), ()


def smi_problem(text: str) -> str:
    """The name of what nvidia-smi complains about."""
    if "version mismatch" in text:
        return "version mismatch"
    if "couldn't communicate with the NVIDIA driver" in text:
        return "not loaded"
    if "No devices were found" in text:
        return "no devices found"
    if "Insufficient Permissions" in text:
        return "no permission"
    first = next((line.strip() for line in text.splitlines() if line.strip()), "no answer")
    return first[:160]


def parse_csv(text: str, fields: list[str]) -> tuple[Gpu, ...]:
    """Rows of `--format=csv,noheader,nounits`. Names hold no commas; a row with another number of cells is left out."""
    gpus: list[Gpu] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        row = dict(zip(fields, cells, strict=False))
        index = _number(row.get("index"))
        if len(cells) != len(fields) or index is None:
            continue
        total, free = _number(row.get("memory.total")), _number(row.get("memory.free"))
        # Jetson and GB10 print [N/A] or "Not Supported" for memory: it is the host's.
        unified = total is None and any(word in row.get("memory.total", "").lower() for word in ("n/a", "not supported"))
        gpus.append(
            Gpu(
                index=index,
                name=row["name"] or "NVIDIA GPU",
                vendor="nvidia",
                source="nvidia-smi",
                compute_capability=_capability(row.get("compute_cap")),
                memory_total_bytes=total * MIB if total is not None else None,
                memory_free_bytes=free * MIB if free is not None else None,
                unified_memory=unified,
                integrated=unified,
                uuid=row.get("uuid") or None,
                pci_bus=row.get("pci.bus_id") or None,
                visible=row.get("mig.mode.current") != "Enabled",
                mig_mode=_switch(row.get("mig.mode.current")),
                ecc=_switch(row.get("ecc.mode.current")),
                persistence=_switch(row.get("persistence_mode")),
                pcie_generation=_number(row.get("pcie.link.gen.current")),
                pcie_generation_max=_number(row.get("pcie.link.gen.max")),
                pcie_width=_number(row.get("pcie.link.width.current")),
                pcie_width_max=_number(row.get("pcie.link.width.max")),
                notes=("MIG is on; nvidia-smi's table does not list its slices",)
                if row.get("mig.mode.current") == "Enabled"
                else (),
            )
        )
    return tuple(gpus)


def read_proc(reader: Reader) -> tuple[Driver, tuple[Gpu, ...]] | None:
    """Kernel module version and GPU names from /proc/driver/nvidia; None when the module is not loaded."""
    text = reader.text("/proc/driver/nvidia/version")
    if text is None:
        return None
    # "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu ..." or "... Open Kernel Module for x86_64  580.65.06 ..."
    said = re.search(r"Kernel Module\s+(?:for \S+\s+)?(\d{1,9}(?:\.\d{1,9})+)", text)
    version = parse_version(said.group(1)) if said else None
    gpus: list[Gpu] = []
    for bus in reader.names("/proc/driver/nvidia/gpus"):
        about = reader.text(f"/proc/driver/nvidia/gpus/{bus}/information") or ""
        fields = dict(re.findall(r"^([\w ]+?):[ \t]*(\S.*)$", about, re.MULTILINE))
        gpus.append(
            Gpu(
                index=len(gpus),
                name=fields.get("Model", "NVIDIA GPU").strip()[:200],
                vendor="nvidia",
                source="proc",
                uuid=_uuid(fields.get("GPU UUID")),
                pci_bus=bus,
                notes=("memory and compute capability unknown: only the kernel module answered",),
            )
        )
    problem = None if reader.exists("/dev/nvidiactl") or reader.exists("/dev/nvidia0") else "no device nodes"
    cuda = driver_cuda_version(version) if version else None
    return Driver(version=version, cuda_version=cuda, source="proc", problem=problem), tuple(gpus)


def read_jetson(reader: Reader) -> tuple[Gpu, ...]:
    """A Jetson by its device tree; JetPack 5 and older have no NVML."""
    model = (reader.line("/proc/device-tree/model") or "").strip("\0")
    if not (reader.exists("/etc/nv_tegra_release") or ("NVIDIA" in model and "Jetson" in model)):
        return ()
    capability = next((capability for name, capability in _JETSONS if name in model), None)
    return (
        Gpu(
            index=0,
            name=model or "NVIDIA Tegra",
            vendor="nvidia",
            source="device-tree",
            compute_capability=capability,
            unified_memory=True,
            integrated=True,
        ),
    )


def _driver_of(line: str, fields: str) -> Version | None:
    cells = line.split(",")
    position = fields.split(",").index("driver_version")
    return parse_version(cells[position]) if len(cells) > position else None


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 16 else None


def _switch(text: str | None) -> bool | None:
    return {"Enabled": True, "Disabled": False}.get(text or "")


def _capability(text: str | None) -> Version | None:
    return parse_version(text) if text and re.fullmatch(r"\d{1,3}\.\d{1,3}", text) else None


def _uuid(text: str | None) -> str | None:
    return text.strip() if text and re.fullmatch(r"GPU-[0-9a-fA-F-]{8,60}", text.strip()) else None
