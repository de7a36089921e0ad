"""Engines that pip put there: kept when they prove right, replaced when not, never removed, and brought back by a rollback."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from provision.engine import install as module
from provision.engine.install import install
from provision.engine.making import Made
from provision.engine.rollback import rollback
from provision.engine.types import InstallResult, InstallWish
from provision.engine.uninstall import uninstall
from provision.errors import BuildError
from provision.events import Event, Note
from provision.host.types import Host
from provision.settings import Settings
from tests.support.engine_environment import engine_works, fingerprint, make_environment, private_settings
from tests.support.engine_wheel import repack_engine
from tests.support.fake_cuda import fake_cuda_library
from tests.support.hosts import linux, toolkit
from tests.support.tiny_model import write_tiny_model

pytestmark = pytest.mark.integration


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """An environment with a plain llama-cpp-python in it, strays in lib/ and include/ as upstream's wheels have them."""

    python: Path
    settings: Settings
    model: Path
    root: Path
    said: list[Event] = dataclasses.field(default_factory=list)

    @property
    def environment(self) -> Path:
        return self.python.parent.parent

    def pip_installs(self, *, version: str | None = None, damage: dict[str, bytes] | None = None) -> None:
        strays = {"lib/libllama-common.so": b"\x7fELF, as far as this test is concerned", "include/llama.h": b"// C\n"}
        wheel = repack_engine(self.root / "plain", version=version, damage=damage, extra=strays)
        pip = [sys.executable, "-m", "pip", "--python", str(self.python), "install", "--no-deps", "--no-index", "-q"]
        subprocess.run([*pip, str(wheel)], check=True)

    def run(self, *, wheel: Path | None = None, host: Host | None = None, **wish: object) -> InstallResult:
        asked = InstallWish(**{"python": self.python, "backend": "cpu", **wish})  # type: ignore[arg-type]
        return install(
            asked,
            host=host or linux(),
            settings=self.settings,
            model=self.model,
            reporter=self.said.append,
            builder=lambda work: Made(wheel=wheel or self.root / "nothing-to-build", plan=work.plan, source="tests"),
        )

    def warnings(self) -> str:
        return " ".join(event.message for event in self.said if isinstance(event, Note) and event.level == "warning")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(
        python=make_environment(tmp_path / "env"),
        settings=private_settings(tmp_path / "home"),
        model=write_tiny_model(tmp_path / "tiny.gguf"),
        root=tmp_path,
    )


def test_an_engine_of_pip_that_proves_right_is_kept_and_nothing_of_it_is_changed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.pip_installs()
    before = fingerprint(bench.environment)
    result = bench.run()
    assert (result.action, result.wheel) == ("kept", None)
    assert result.proof.quantized_inference is True
    assert any("that pip installed (proven now;" in str(reason) for reason in result.plan.reasons)
    assert fingerprint(bench.environment) == before

    # The second time its libraries are compared and nothing is run.
    proofs: list[object] = []
    real = module.prove_foreign
    monkeypatch.setattr(module, "prove_foreign", lambda *a, **k: (proofs.append(a), real(*a, **k))[1])
    assert bench.run().action == "kept"
    assert proofs == []
    library = next(bench.environment.rglob("libggml-base.so*"))
    library.write_bytes(library.read_bytes() + b"x")
    assert bench.run().action == "kept"
    assert len(proofs) == 1


def test_uninstall_leaves_what_provision_did_not_place(bench: Bench) -> None:
    bench.pip_installs()
    before = fingerprint(bench.environment)
    bench.run()
    data = uninstall(bench.python, settings=bench.settings)
    assert data["removed"] == []
    assert "pip installed" in data["left"]
    assert fingerprint(bench.environment) == before
    assert not (bench.environment / ".provision").exists()
    assert engine_works(bench.python, bench.model)


@pytest.mark.parametrize("trouble", ["broken", "other-version"])
def test_one_that_is_wrong_is_replaced_with_the_reason_and_can_be_brought_back(bench: Bench, trouble: str) -> None:
    broken = {"llama_cpp/llama_cpp.py": b"raise RuntimeError('built for another CPU')\n"}
    bench.pip_installs(version="0.3.20" if trouble == "other-version" else None, damage=broken if trouble == "broken" else None)
    before = fingerprint(bench.environment)
    result = bench.run(wheel=repack_engine(bench.root / "ours"))
    assert result.action == "built"
    assert ("built for another CPU" if trouble == "broken" else "0.3.36 is wanted") in bench.warnings()
    assert engine_works(bench.python, bench.model)
    # Nothing of the old one is left beside the new one.
    strays = [*bench.environment.rglob("libllama-common.so"), *bench.environment.rglob("llama.h")]
    assert strays
    assert all(".provision" in path.parts for path in strays)
    rollback(bench.python, settings=bench.settings)
    assert fingerprint(bench.environment) == before


def test_asked_for_cuda_a_cpu_engine_of_pip_is_replaced_and_can_be_brought_back(bench: Bench) -> None:
    bench.pip_installs()
    before = fingerprint(bench.environment)
    cuda = repack_engine(bench.root / "cuda", extra={"llama_cpp/lib/libggml-cuda.so": fake_cuda_library(bench.root / "lib")})
    aimed = {"backend": "cuda", "toolkit": "system", "cuda_archs": ("89",), "gpu_check": False}
    host = linux(toolkits=(toolkit((13, 0)),))
    result = bench.run(wheel=cuda, host=host, **aimed)
    assert result.action == "built"
    assert result.proof.device_archs == ("89",)
    assert list(bench.environment.rglob("libggml-cuda.so"))
    assert "is replaced" in bench.warnings()
    rollback(bench.python, settings=bench.settings)
    assert fingerprint(bench.environment) == before
    assert engine_works(bench.python, bench.model)
    # And a build that has no CUDA in it is never what `--cuda` ends in.
    with pytest.raises(BuildError) as caught:
        bench.run(wheel=repack_engine(bench.root / "cpu"), host=host, use_cache=False, **aimed)
    assert caught.value.code == "no-cuda-library"
    assert fingerprint(bench.environment) == before
