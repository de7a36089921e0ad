"""The Python that packages would be installed into, asked in a child: it need not be ours."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provision.host.cuda_tables import parse_version
from provision.host.types import PythonEnvironment
from provision.processes import run_child

CHILD = Path(__file__).parent / "children" / "python_facts.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonFacts:
    """The environment, and where its packages lie."""

    environment: PythonEnvironment
    prefix: str | None
    site_folders: tuple[str, ...]


def probe_python(python: Path, environ: Mapping[str, str], *, timeout_s: float) -> PythonFacts | str:
    """Facts about `python`, or a sentence why it does not answer."""
    outcome = run_child(python, CHILD, {}, timeout_s=timeout_s, env=environ)
    if outcome.kind != "ok":
        last = outcome.stderr_tail.strip().splitlines()[-1:] or [outcome.kind]
        return f"the target Python {python} does not answer: {last[0][:200]}"
    return read_facts(outcome.answer, python=str(python))


def read_facts(answer: Mapping[str, Any], *, python: str) -> PythonFacts | str:
    """From the child's answer, however malformed."""
    version = answer.get("version")
    if not (isinstance(version, list) and len(version) == 3 and all(isinstance(part, int) for part in version)):
        return f"the target Python {python} gave no version"
    pip = answer.get("pip_version")
    environment = PythonEnvironment(
        executable=_text(answer, "executable") or python,
        version=tuple(version),
        implementation=_text(answer, "implementation") or "unknown",
        abi=_text(answer, "abi"),
        is_venv=answer.get("is_venv") is True,
        externally_managed=answer.get("externally_managed") is True,
        managed_by=_text(answer, "managed_by"),
        pip_version=parse_version(pip) if isinstance(pip, str) else None,
        has_headers=answer.get("has_headers") if isinstance(answer.get("has_headers"), bool) else None,
    )
    folders = answer.get("site_folders")
    return PythonFacts(
        environment=environment,
        prefix=_text(answer, "prefix"),
        site_folders=tuple(folder for folder in folders if isinstance(folder, str)) if isinstance(folders, list) else (),
    )


def _text(answer: Mapping[str, Any], name: str) -> str | None:
    value = answer.get(name)
    return value if isinstance(value, str) and value else None
