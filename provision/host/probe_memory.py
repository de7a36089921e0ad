"""Main memory with its limits, and the folders we write to."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Literal

from provision.host.cgroups import memory_limit
from provision.host.reader import Reader
from provision.host.types import Disk, Memory
from provision.settings import Settings
from provision.units import KIB

Purpose = Literal["provision-home", "model-cache", "temporary", "environment"]


def probe_memory(reader: Reader) -> Memory:
    """Total, available and swap, and the tightest cgroup limit; `available_bytes` respects it."""
    if reader.os_name == "darwin":
        return _darwin_memory(reader)
    text = reader.text("/proc/meminfo") or ""
    found = {name: int(kib) * KIB for name, kib in re.findall(r"^(\w+):\s+(\d{1,15}) kB$", text, re.MULTILINE)}
    total, available = found.get("MemTotal"), found.get("MemAvailable", found.get("MemFree"))
    limit = memory_limit(reader)
    if limit is None or (total is not None and limit.limit_bytes >= total):
        return Memory(total_bytes=total, available_bytes=available, swap_total_bytes=found.get("SwapTotal"))
    left = max(0, limit.limit_bytes - max(0, (limit.used_bytes or 0) - limit.reclaimable_bytes))
    return Memory(
        total_bytes=total,
        available_bytes=left if available is None else min(available, left),
        swap_total_bytes=found.get("SwapTotal"),
        limit_bytes=limit.limit_bytes,
        limit_source=limit.source,
    )


def probe_disks(reader: Reader, settings: Settings, *, environment: str | None) -> tuple[Disk, ...]:
    """The folders an installation and a download write to. `environment` is the prefix of the target Python."""
    temporary = settings.environ.get("TMPDIR", "").strip() or tempfile.gettempdir()
    folders: list[tuple[Purpose, str]] = [
        ("provision-home", str(settings.provision_home)),
        ("model-cache", str(settings.hf_hub_cache)),
        ("temporary", temporary),
    ]
    if environment is not None:
        folders.append(("environment", environment))
    return tuple(_disk(reader, purpose, folder) for purpose, folder in folders)


def _disk(reader: Reader, purpose: Purpose, folder: str) -> Disk:
    """Of the nearest ancestor that exists: the folder itself is made when it is needed."""
    path = Path(folder)
    here = next((at for at in (path, *path.parents) if reader.exists(str(at))), None)
    if here is None:
        return Disk(purpose=purpose, path=folder)
    at = reader.at(str(here))
    try:
        usage = os.statvfs(at)
    except (OSError, AttributeError):
        return Disk(purpose=purpose, path=folder, writable=os.access(at, os.W_OK))
    return Disk(
        purpose=purpose,
        path=folder,
        free_bytes=usage.f_bavail * usage.f_frsize,
        total_bytes=usage.f_blocks * usage.f_frsize,
        writable=at.is_dir() and os.access(at, os.W_OK),
    )


def _darwin_memory(reader: Reader) -> Memory:
    size = reader.ask("sysctl", "-n", "hw.memsize")
    total = int(size.stdout) if size and size.stdout.strip().isdecimal() else None
    pages = reader.ask("vm_stat")
    said = pages.stdout if pages and pages.returncode == 0 else ""
    page = re.search(r"page size of (\d{1,9}) bytes", said)
    counts = dict(re.findall(r"^Pages ([\w ]+):\s+(\d{1,15})\.$", said, re.MULTILINE))
    # Free, inactive and purgeable pages are what a new process can have without anything being compressed.
    free = sum(int(counts.get(name, 0)) for name in ("free", "inactive", "purgeable"))
    return Memory(total_bytes=total, available_bytes=free * int(page.group(1)) if page and counts else None)
