"""Limits of control groups, version 1 and 2: the tightest one on the way from our own group up to the mount."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from provision.host.reader import Reader

MOUNT = "/sys/fs/cgroup"
_UNLIMITED = 1 << 60
"""Version 1 says "no limit" with a number near 2**63 rounded down to pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryLimit:
    """One memory limit: its size, what is charged against it, how much of that can be dropped, and the file that says so."""

    limit_bytes: int
    used_bytes: int | None
    reclaimable_bytes: int
    source: str


def memory_limit(reader: Reader) -> MemoryLimit | None:
    """The tightest memory limit over this process, or None."""
    limits = []
    for folder, version in _folders(reader, "memory"):
        name = "memory.max" if version == 2 else "memory.limit_in_bytes"
        limit = reader.number(f"{folder}/{name}")
        if limit is None or limit >= _UNLIMITED:
            continue
        used = reader.number(f"{folder}/{'memory.current' if version == 2 else 'memory.usage_in_bytes'}")
        stat = _stat(reader.text(f"{folder}/memory.stat") or "")
        # Inactive page cache is charged to the group but given back before the group is out of memory.
        cached = stat.get("inactive_file" if version == 2 else "total_inactive_file", 0)
        source = f"cgroup v{version} {name}"
        limits.append(MemoryLimit(limit_bytes=limit, used_bytes=used, reclaimable_bytes=cached, source=source))
    return min(limits, key=lambda limit: limit.limit_bytes, default=None)


def cpu_quota(reader: Reader) -> float | None:
    """How many processors' worth of time this process gets, or None without a quota."""
    quotas = []
    for folder, version in _folders(reader, "cpu"):
        if version == 2:
            words = (reader.line(f"{folder}/cpu.max") or "").split()
            numbers = [int(word) for word in words if word.isascii() and word.isdecimal() and len(word) < 20]
            if len(numbers) == 2 and numbers[1] > 0:
                quotas.append(numbers[0] / numbers[1])
        else:
            quota, period = reader.number(f"{folder}/cpu.cfs_quota_us"), reader.number(f"{folder}/cpu.cfs_period_us")
            if quota and period:
                quotas.append(quota / period)
    return min(quotas, default=None)


def _folders(reader: Reader, controller: str) -> Iterator[tuple[str, int]]:
    """Every folder that may limit us, own group first, with its cgroup version.

    Inside a container the path in /proc/self/cgroup may be the host's and not exist here; the mount is then our group.
    """
    for line in (reader.text("/proc/self/cgroup") or "").splitlines():
        parts = line.split(":", 2)
        if len(parts) != 3 or ".." in parts[2].split("/"):
            continue
        if parts[1] == "":
            mounts, version = (MOUNT, f"{MOUNT}/unified"), 2
        elif controller in parts[1].split(","):
            mounts, version = (f"{MOUNT}/{controller}", f"{MOUNT}/{parts[1]}"), 1
        else:
            continue
        for mount in dict.fromkeys(mounts):
            steps = [step for step in parts[2].split("/") if step][:64]
            for count in range(len(steps), -1, -1):
                folder = "/".join([mount, *steps[:count]])
                if reader.is_dir(folder):
                    yield folder, version


def _stat(text: str) -> dict[str, int]:
    pairs = (line.split() for line in text.splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isascii() and pair[1].isdecimal()}
