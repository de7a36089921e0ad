"""CUDA for real without a GPU: a toolkit from PyPI, ggml configured with our plan, some of its kernels compiled and linked.

The whole of ggml-cuda takes half an hour on two cores and is scripts/build_cuda_full; what is compiled here is the file that
talks to driver and cuBLAS, and a few kernels, for two architectures.
"""

import os
import shlex
import sys
from pathlib import Path

import pytest

from provision.engine.build import BuildFolder, build_environment, download_source, unpack_source, write_files
from provision.engine.buildenv import ensure_build_environment
from provision.engine.elf import read_library
from provision.engine.frontend import find_frontend
from provision.engine.install import install
from provision.engine.making import Made, Work
from provision.engine.plan import PlanFacts, build_plan
from provision.engine.runpath import TOOLS, set_runpath, wanted_runpath
from provision.engine.toolkit import ensure_toolkit
from provision.engine.types import BuildPlan, InstallWish
from provision.errors import BuildError
from provision.events import silent
from provision.host.probe import probe_host
from provision.processes import run
from tests.support.engine_environment import make_environment, private_settings
from tests.support.engine_wheel import repack_engine

pytestmark = [pytest.mark.integration, pytest.mark.slow]
ARCHS = ("89", "120")
SOURCES = ("ggml-cuda.cu", "scale.cu", "clamp.cu", "arange.cu")
OBJECTS = "vendor/llama.cpp/ggml/src/ggml-cuda/CMakeFiles/ggml-cuda.dir"


def linked_library(plan: BuildPlan, folder: BuildFolder, python: Path, home: Path) -> Path:
    """Configure ggml with the plan, compile SOURCES, link them as libggml-cuda.so with what the plan's toolkit has."""
    sdist = download_source(plan.engine_version, folder=home, python=python, environ=os.environ, reporter=silent)
    unpack_source(sdist, folder.source)
    env = build_environment(plan, folder, os.environ)
    write_files(plan)
    env["PATH"] = f"{python.parent}:{env['PATH']}"
    folder.tree.mkdir(parents=True)
    (folder.root / "tmp").mkdir()
    flags = shlex.split(plan.env["CMAKE_ARGS"])
    configured = run(["cmake", "-S", str(folder.source), "-B", str(folder.tree), *flags], timeout_s=600, env=env)
    assert configured.returncode == 0, configured.stdout[-3000:] + configured.stderr[-3000:]
    assert f"Using CMAKE_CUDA_ARCHITECTURES={ARCHS[0]}-real;{ARCHS[1]}a-real" in configured.stdout
    objects = [f"{OBJECTS}/{name}.o" for name in SOURCES]
    built = run(["ninja", "-C", str(folder.tree), *objects], timeout_s=1500, env=env)
    assert built.returncode == 0, built.stdout[-3000:]
    assert plan.toolkit is not None
    library = folder.root / "libggml-cuda.so"
    libraries = Path(plan.toolkit.root) / "lib"
    paths = [str(folder.tree / name) for name in objects]
    link = ["g++", "-shared", "-o", str(library), *paths, f"-L{libraries}", f"-L{libraries}/stubs"]
    linked = run([*link, "-lcudart", "-lcublas", "-lcuda", "-Wl,-soname,libggml-cuda.so"], timeout_s=120, env=env)
    assert linked.returncode == 0, linked.stderr
    return library


def test_a_toolkit_from_pypi_compiles_and_links_for_two_gpus_nobody_has_here(tmp_path: Path) -> None:
    settings = private_settings(tmp_path / "home")
    home = settings.provision_home
    host = probe_host(settings)
    wish = InstallWish(backend="cuda", toolkit="pypi", cuda_archs=ARCHS, gpu_check=False)
    facts = PlanFacts(provision_home=str(home), python=sys.executable, environ=settings.environ)
    plan = build_plan(host, wish, facts)
    assert plan.toolkit is not None
    frontend = find_frontend(os.environ, python=sys.executable, python_has_pip=True)
    tools = (*plan.build_requires, *TOOLS)
    python = ensure_build_environment(tools, folder=home / "build-envs", frontend=frontend, environ=os.environ, reporter=silent)
    ensure_toolkit(plan.toolkit, python=str(python), frontend=frontend, environ=os.environ, reporter=silent)
    library = linked_library(plan, BuildFolder(root=tmp_path / "build"), python, tmp_path)
    found = read_library(library.read_bytes())
    assert set(found.gpu_code) == set(ARCHS)
    assert found.gpu_ptx == ()
    assert {"libcudart.so.13", "libcublas.so.13", "libcuda.so.1"} <= set(found.needed)

    plain = repack_engine(tmp_path / "wheels", extra={"llama_cpp/lib/libggml-cuda.so": library.read_bytes()})

    # What was built is not yet what may be installed: without a RUNPATH nobody would find the runtime.
    target = make_environment(tmp_path / "env")
    aimed = InstallWish(backend="cuda", toolkit="pypi", cuda_archs=ARCHS, gpu_check=False, python=target)
    with pytest.raises(BuildError) as caught:
        install(aimed, host=host, settings=settings, builder=lambda work: Made(wheel=plain, plan=work.plan, source="reduced"))
    assert caught.value.code == "wrong-runpath"

    def finished(work: Work) -> Made:
        runpath = wanted_runpath(work.plan)
        assert runpath is not None
        wheel = set_runpath(plain, runpath, python=python, folder=tmp_path / "final", environ=os.environ)
        return Made(wheel=wheel, plan=work.plan, source="reduced")

    again = InstallWish(backend="cuda", toolkit="pypi", cuda_archs=ARCHS, gpu_check=False, python=target, use_cache=False)
    result = install(again, host=host, settings=settings, builder=finished)
    assert set(result.proof.device_archs) == set(ARCHS)
    assert result.proof.quantized_inference is None
    assert result.proof.gpu_offload is None

    # Promised for one GPU, delivered for two: refused.
    one = InstallWish(backend="cuda", toolkit="pypi", cuda_archs=("89",), gpu_check=False, python=target, use_cache=False)
    with pytest.raises(BuildError) as caught:
        install(one, host=host, settings=settings, builder=finished)
    assert caught.value.code == "wrong-archs"
