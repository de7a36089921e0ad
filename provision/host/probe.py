"""Reading a whole machine: every probe at the same time, each with a limit; what fails leaves a note and the others go on."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from provision.events import Reporter, silent
from provision.host.amx import probe_amx
from provision.host.compilers import cxx_of
from provision.host.probe_engine import probe_devices, probe_engine
from provision.host.probe_gpus import GpuFacts, probe_gpus
from provision.host.probe_memory import probe_disks, probe_memory
from provision.host.probe_python import PythonFacts, probe_python
from provision.host.probe_system import probe_cpu, probe_system
from provision.host.probe_toolkits import probe_toolkits
from provision.host.probe_tools import compiler_trouble, probe_tools
from provision.host.reader import Reader
from provision.host.side_by_side import Probes
from provision.host.types import Cpu, Host, Memory, System, Tool
from provision.settings import Settings

VARIABLES = (
    *("CUDA_HOME", "CUDA_PATH", "CUDACXX", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES"),
    *("CMAKE_ARGS", "FORCE_CMAKE", "CFLAGS", "CXXFLAGS", "CC", "CXX", "CUDAHOSTCXX", "LD_LIBRARY_PATH", "GGML_CUDA"),
)
"""What of the environment is kept in a Host: variables that decide a build or a device, and hold no secrets."""


def probe_host(
    settings: Settings,
    *,
    python: Path | None = None,
    reporter: Reporter = silent,
    reader: Reader | None = None,
    remember: bool = True,
) -> Host:
    """Everything `Host` holds, for the machine this process runs on. `python` is the target of an installation, default ours.
    Answers that are dear to get are remembered in our own folder, unless not `remember`: then nothing at all is written there.

    Never raises for anything about the machine; `Host.notes` has one sentence per probe that failed.
    """
    eyes = reader or Reader(environ=settings.environ)
    probes = Probes(reporter=reporter)
    target = python or Path(sys.executable)
    state = settings.provision_home / "probes" if remember else None

    memory = probes.start("memory", 10.0, lambda: probe_memory(eyes))
    system = probes.start("system", 10.0, lambda: probe_system(eyes))
    cpu = probes.start("cpu", 10.0, lambda: probe_cpu(eyes))
    facts = probes.start("python", 15.0, lambda: probe_python(target, settings.environ, timeout_s=12.0))
    tools = probes.start("tools", 15.0, lambda: probe_tools(eyes))
    gpus = probes.start("gpus", 20.0, lambda: probe_gpus(eyes, memory.get() or Memory(), timeout_s=6.0))
    toolkits = probes.start(
        "toolkits",
        15.0,
        lambda: probe_toolkits(
            eyes,
            site_folders=_folders(facts.get()),
            own_folder=str(settings.provision_home / "toolkits"),
            home=str(settings.home),
        ),
    )
    disks = probes.start("disks", 20.0, lambda: probe_disks(eyes, settings, environment=_prefix(facts.get())))
    trouble = probes.start("compiler", 40.0, lambda: _compiler_works(eyes, tools.get() or ()))
    amx = probes.start("amx", 40.0, lambda: _amx(eyes, cpu.get() or Cpu(), tools.get() or (), state and state / "amx.json"))
    engine = probes.start(
        "engine",
        45.0,
        lambda: probe_engine(
            target, settings.environ, timeout_s=20.0, cpu_model=(cpu.get() or Cpu()).model, cache=state and state / "engine"
        ),
    )
    seen = facts.get()
    gpu_facts = gpus.get() or GpuFacts(driver=None, gpus=())
    processor = amx.get() or cpu.get() or Cpu()
    # The order of the notes must not depend on which probe ended first, so everything is fetched before they are read.
    found = Host(
        system=system.get() or System(os="other", arch=eyes.machine),
        cpu=processor,
        memory=memory.get() or Memory(),
        disks=disks.get() or (),
        python=seen.environment if isinstance(seen, PythonFacts) else None,
        tools=trouble.get() or tools.get() or (),
        driver=gpu_facts.driver,
        gpus=gpu_facts.gpus,
        toolkits=toolkits.get() or (),
        engine=engine.get(),
        environment={name: settings.environ[name] for name in VARIABLES if name in settings.environ},
    )
    said = (seen,) if isinstance(seen, str) else ()
    probes.end()
    return replace(found, notes=(*probes.failures(), *said, *gpu_facts.notes))


def probe_memories(settings: Settings, *, python: Path, reporter: Reporter = silent) -> Host:
    """Only what `fit` asks of a machine: main memory, GPUs, and the devices the engine of `python` sees. Never raises."""
    eyes = Reader(environ=settings.environ)
    probes = Probes(reporter=reporter)
    memory = probes.start("memory", 10.0, lambda: probe_memory(eyes))
    gpus = probes.start("gpus", 20.0, lambda: probe_gpus(eyes, memory.get() or Memory(), timeout_s=6.0))
    engine = probes.start("engine", 45.0, lambda: probe_devices(python, settings.environ, timeout_s=20.0))
    found = gpus.get() or GpuFacts(driver=None, gpus=())
    host = Host(
        system=System(os="other", arch=eyes.machine),
        cpu=Cpu(),
        memory=memory.get() or Memory(),
        driver=found.driver,
        gpus=found.gpus,
        engine=engine.get(),
    )
    probes.end()
    return replace(host, notes=(*probes.failures(), *found.notes))


def _folders(facts: PythonFacts | str | None) -> tuple[str, ...]:
    return facts.site_folders if isinstance(facts, PythonFacts) else ()


def _prefix(facts: PythonFacts | str | None) -> str | None:
    return facts.prefix if isinstance(facts, PythonFacts) else None


def _compiler_works(reader: Reader, tools: tuple[Tool, ...]) -> tuple[Tool, ...]:
    """The tools again, the C++ compiler a build would take marked by what it does with a small program."""
    compiler = cxx_of(tools)
    if compiler is None or not compiler.works:
        return tools
    problem = compiler_trouble(reader, compiler)
    if problem is None:
        return tools
    broken = reader.real(compiler.path)
    return tuple(replace(tool, works=False, detail=problem) if reader.real(tool.path) == broken else tool for tool in tools)


def _amx(reader: Reader, cpu: Cpu, tools: tuple[Tool, ...], cache: Path | None) -> Cpu:
    compiler = cxx_of(tools)
    if cpu.amx_compiler == "not-needed":
        return cpu
    path = Path(compiler.path) if compiler else None
    probe = probe_amx(flags=cpu.flags, cpu_model=cpu.model, compiler=path, environ=reader.environ, cache=cache)
    return replace(cpu, amx_compiler=probe.verdict)
