"""A plan as shell lines a person could run by hand. Pure."""

from __future__ import annotations

import shlex
from pathlib import PurePath

from provision.engine.build import BuildFolder, source_command, wheel_command
from provision.engine.types import BuildPlan


def shell_lines(plan: BuildPlan, *, folder: BuildFolder) -> tuple[str, ...]:
    """What the executor does, without staging and proof."""
    target = shlex.quote(plan.python)
    if plan.prebuilt is not None:
        lines = [f"{target} -m pip install --only-binary :all: {shlex.quote(plan.prebuilt.url)}"]
        return tuple(lines + _runtime(plan, target))
    root = folder.root
    python = root / "env/bin/python"
    lines = [
        f"python3 -m venv {_quote(root / 'env')}",
        f"{_quote(python)} -m pip install {shlex.join(plan.build_requires)}",
        shlex.join(source_command(plan.engine_version, folder=root, python=python)),
        f"mkdir -p {_quote(folder.source)}",
        f"tar -xzf {_quote(root / _sdist(plan))} --strip-components 1 -C {_quote(folder.source)}",
    ]
    if plan.toolkit is not None and plan.toolkit.kind == "pypi":
        lines.insert(1, f"# the CUDA toolkit: provision puts these packages together in {plan.toolkit.root}")
        lines.insert(2, f"# {' '.join(plan.toolkit.packages)}")
    for path, content in plan.files.items():
        lines.append(f"mkdir -p {_quote(PurePath(path).parent)}")
        lines.append(f"echo {shlex.quote(content.rstrip())} > {shlex.quote(path)}")
    for name, value in plan.env.items():
        lines.append(f"export {name}={shlex.quote(value)}" + (":$PATH" if name == "PATH" else ""))
    lines.append(shlex.join(wheel_command(folder, python=python)))
    lines.append(f"{target} -m pip install --force-reinstall --no-deps {_quote(folder.wheel)}/llama_cpp_python-*.whl")
    lines.append(f"{target} -m pip install 'typing-extensions>=4.5.0' 'numpy>=1.20.0' 'diskcache>=5.6.1' 'jinja2>=2.11.3'")
    return tuple(lines + _runtime(plan, target))


def _sdist(plan: BuildPlan) -> str:
    return f"llama_cpp_python-{plan.engine_version}.tar.gz"


def _runtime(plan: BuildPlan, target: str) -> list[str]:
    return [f"{target} -m pip install {shlex.join(plan.runtime_packages)}"] if plan.runtime_packages else []


def _quote(path: PurePath) -> str:
    return shlex.quote(str(path))
