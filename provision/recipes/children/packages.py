"""Lists installed distributions of the environment it runs in, with one hash over the files of each.

Request: {"roots": ["llama-cpp-python"], "prefixes": ["nvidia-"]}: the roots with everything they require, and every
distribution whose name starts with a prefix.
Answer: {"packages": [{"name", "version", "files_sha256", "files", "missing": []}], "absent": []}.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from importlib import metadata

MARK = "@provision "
# What differs between two installations of one wheel: how pip got it and who asked (and, below, byte code and scripts).
VOLATILE = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "provision.json"}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def installed() -> dict[str, metadata.Distribution]:
    found: dict[str, metadata.Distribution] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(canonical(name), distribution)
    return found


def closure(roots: list[str], all_installed: dict[str, metadata.Distribution]) -> list[str]:
    """Names reachable from the roots. A requirement that is not installed did not apply here (marker, platform)."""
    wanted = [canonical(root) for root in roots]
    seen: dict[str, None] = {}
    while wanted:
        name = wanted.pop()
        if name in seen or name not in all_installed:
            continue
        seen[name] = None
        for requirement in all_installed[name].requires or []:
            if "extra" in requirement.partition(";")[2]:
                continue
            match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement)
            if match:
                wanted.append(canonical(match.group()))
    return list(seen)


def describe(name: str, distribution: metadata.Distribution) -> dict[str, object]:
    lines: list[str] = []
    missing: list[str] = []
    for file in distribution.files or []:
        path = file.as_posix()
        if (
            path.startswith("..")
            or path.endswith(".pyc")
            or (file.parent.name.endswith(".dist-info") and file.name in VOLATILE)
        ):
            continue
        try:
            with open(str(distribution.locate_file(file)), "rb") as stream:
                lines.append(f"{path}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}")
        except OSError:
            missing.append(path)
            lines.append(f"{path}\0missing")
    total = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
    return {"name": name, "version": distribution.version, "files_sha256": total, "files": len(lines), "missing": missing}


def main() -> None:
    request = json.load(sys.stdin)
    everything = installed()
    names = set(closure(request["roots"], everything))
    names.update(name for name in everything if name.startswith(tuple(request["prefixes"])) and request["prefixes"])
    answer = {
        "packages": [describe(name, everything[name]) for name in sorted(names)],
        "absent": [root for root in request["roots"] if canonical(root) not in everything],
    }
    print(MARK + json.dumps(answer))


if __name__ == "__main__":
    main()
