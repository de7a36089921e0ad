"""Fresh environments to install engines into, settings with a home of their own, and what an environment holds."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from provision.settings import Settings, read_settings

# What the engine needs is lent to the fresh environments from the one the tests run in, so that no test downloads numpy.
_BORROWED = ("numpy", "diskcache", "jinja2", "markupsafe", "typing_extensions")


def make_environment(folder: Path, *, borrow: bool = True) -> Path:
    """The Python of a new virtual environment; with `borrow` it sees the tests' numpy and friends, but no engine."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    if borrow:
        import sysconfig

        here = Path(sysconfig.get_paths()["platlib"])
        there = Path(ask(python, "import sysconfig; print(sysconfig.get_paths()['platlib'])"))
        for entry in here.iterdir():
            if re.split(r"[-.]", entry.name.lower())[0] in _BORROWED:
                (there / entry.name).symlink_to(entry)
    return python


def ask(python: Path, code: str, **environ: str) -> str:
    """What `python -c code` prints."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True, env={**env, **environ})
    return done.stdout.strip()


def engine_works(python: Path, model: Path) -> bool:
    """Whether the engine of an environment loads a model and computes."""
    load = f"llama_cpp.Llama(model_path={str(model)!r}, n_ctx=64, n_threads=1, verbose=False)"
    code = f"import llama_cpp; model = {load}; model.eval([1, 2, 3]); print('computed')"
    return ask(python, code) == "computed"


def private_settings(home: Path, **environ: str) -> Settings:
    """Settings of a fresh user: own home, no flags of the machine."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR", "SSL_CERT_FILE") if name in os.environ}
    kept |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    return read_settings({**kept, "HOME": str(home), "PROVISION_HOME": str(home / "provision"), **environ}, home=home)


def fingerprint(environment: Path) -> dict[str, Any]:
    """Every file of an environment with its content, less caches and our own state folder."""
    found: dict[str, Any] = {}
    for path in sorted(environment.rglob("*")):
        relative = path.relative_to(environment)
        if ".provision" in relative.parts or "__pycache__" in relative.parts:
            continue
        if path.is_symlink():
            found[str(relative)] = os.readlink(path)
        elif path.is_file():
            found[str(relative)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def provenance(python: Path) -> dict[str, Any]:
    """The provenance file of the engine installed for `python`."""
    site = Path(ask(python, "import sysconfig; print(sysconfig.get_paths()['platlib'])"))
    (path,) = site.glob("llama_cpp_python-*.dist-info/provision.json")
    data: dict[str, Any] = json.loads(path.read_text())
    return data
