"""Installing for real into real environments; only the compiling is replaced, by packing up the engine of this environment."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from provision.engine import transaction
from provision.engine.install import install
from provision.engine.making import Made, Work
from provision.engine.rollback import rollback
from provision.engine.types import InstallResult, InstallWish
from provision.engine.uninstall import uninstall
from provision.errors import BuildError, MachineError, ProvisionError
from provision.events import Event, Note
from provision.host.probe import probe_host
from provision.host.types import Host
from provision.settings import Settings
from tests.support.engine_environment import (
    ask,
    engine_works,
    fingerprint,
    make_environment,
    private_settings,
    provenance,
)
from tests.support.engine_wheel import repack_engine
from tests.support.hosts import linux
from tests.support.small_disk import mounted
from tests.support.tiny_model import write_tiny_model

pytestmark = pytest.mark.integration
HOST = linux()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """One fresh environment, a home, a model and a wheel."""

    python: Path
    settings: Settings
    model: Path
    wheel: Path
    root: Path

    @property
    def environment(self) -> Path:
        return self.python.parent.parent

    def run(self, *, wheel: Path | None = None, host: Host = HOST, **wish: object) -> InstallResult:
        return install(
            InstallWish(python=self.python, backend="cpu", **wish),  # type: ignore[arg-type]
            host=host,
            settings=self.settings,
            model=self.model,
            builder=made_of(wheel or self.wheel),
        )


def made_of(wheel: Path) -> Callable[[Work], Made]:
    return lambda work: Made(wheel=wheel, plan=work.plan, source="the engine of the tests, packed up again")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(
        python=make_environment(tmp_path / "env"),
        settings=private_settings(tmp_path / "home"),
        model=write_tiny_model(tmp_path / "tiny.gguf"),
        wheel=repack_engine(tmp_path / "wheels"),
        root=tmp_path,
    )


def test_from_nothing_to_a_proven_engine_then_kept_then_reused(bench: Bench) -> None:
    first = bench.run()
    assert first.action == "built"
    assert first.proof.quantized_inference is True
    assert first.proof.gpu_offload is None
    assert [device.kind for device in first.proof.devices] == ["cpu"]
    assert engine_works(bench.python, bench.model)
    told = provenance(bench.python)
    assert told["wheel"]["sha256"] == first.wheel.sha256 if first.wheel else False
    assert told["proof"]["quantized_inference"] is True
    assert told["plan"]["cmake_args"] == list(first.plan.cmake_args)
    again = bench.run()
    assert again.action == "kept"
    other = dataclasses.replace(bench, python=make_environment(bench.root / "env2"))
    reused = other.run(wheel=bench.root / "no-such-wheel")
    assert reused.action == "reused"
    assert engine_works(other.python, bench.model)


def test_pip_sees_what_was_placed_and_could_remove_it(bench: Bench) -> None:
    bench.run()
    code = (
        "from importlib import metadata as m; d = m.distribution('llama-cpp-python'); "
        "print(d.read_text('INSTALLER').strip(), all(f.locate().exists() for f in d.files))"
    )
    assert ask(bench.python, code) == "provision True"


def test_a_damaged_engine_is_made_anew(bench: Bench) -> None:
    bench.run()
    library = next(bench.environment.rglob("libggml-base.so*"))
    library.write_bytes(library.read_bytes() + b"x")
    assert bench.run().action == "reused"
    assert engine_works(bench.python, bench.model)


def test_an_engine_that_dies_after_numpy_never_arrives(bench: Bench) -> None:
    bench.run()
    before = fingerprint(bench.environment)
    dies = (
        b"import os, sys\nif 'numpy' in sys.modules:\n    os.kill(os.getpid(), 11)\n"
        b"from .llama_cpp import *\nfrom .llama import *\n"
    )
    entrance = {"llama_cpp/__init__.py": dies + b'__version__ = "9.9.9"\n'}
    broken = repack_engine(bench.root / "clashing", version="9.9.9", damage=entrance)
    with pytest.raises(BuildError) as caught:
        bench.run(wheel=broken, engine_version="9.9.9")
    assert caught.value.code == "engine-clashes"
    assert "SIGSEGV" in caught.value.message
    assert fingerprint(bench.environment) == before


@pytest.mark.parametrize("damage", ["not-a-library", "missing-symbol"])
def test_an_engine_that_does_not_work_never_arrives(bench: Bench, damage: str) -> None:
    bench.run()
    before = fingerprint(bench.environment)
    if damage == "not-a-library":
        files = dict.fromkeys(("llama_cpp/lib/libggml-cpu.so", "llama_cpp/lib/libggml-cpu.so.0"), b"\x7fELF broken")
    else:
        files = {"llama_cpp/llama_cpp.py": b"raise RuntimeError('wrong build')\n"}
    broken = repack_engine(bench.root / "broken", version="9.9.9", damage=files)
    with pytest.raises(BuildError) as caught:
        bench.run(wheel=broken, engine_version="9.9.9")
    assert caught.value.code == "engine-does-not-work"
    assert int(caught.value.exit_code) == 4
    assert fingerprint(bench.environment) == before
    assert engine_works(bench.python, bench.model)


def test_a_failure_while_moving_in_leaves_the_old_engine(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.run()
    before = fingerprint(bench.environment)
    newer = repack_engine(bench.root / "newer", version="9.9.9")
    calls = 0
    real = transaction._carry_out

    def failing(move: transaction.Move) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(28, "No space left on device")
        real(move)

    monkeypatch.setattr(transaction, "_carry_out", failing)
    with pytest.raises(MachineError) as caught:
        bench.run(wheel=newer, engine_version="9.9.9")
    assert (caught.value.code, int(caught.value.exit_code)) == ("no-disk", 3)
    assert fingerprint(bench.environment) == before


def test_an_upgrade_a_rollback_and_back_again(bench: Bench) -> None:
    bench.run()
    old = fingerprint(bench.environment)
    newer = repack_engine(bench.root / "newer", version="9.9.9")
    bench.run(wheel=newer, engine_version="9.9.9")
    new = fingerprint(bench.environment)
    assert new != old
    assert not list(bench.environment.rglob(f"llama_cpp_python-{old_version(old)}.dist-info/METADATA"))[1:]
    assert rollback(bench.python, settings=bench.settings)["before"] == "llama-cpp-python 9.9.9"
    assert fingerprint(bench.environment) == old
    assert engine_works(bench.python, bench.model)
    rollback(bench.python, settings=bench.settings)
    assert fingerprint(bench.environment) == new


def old_version(files: dict[str, object]) -> str:
    return next(name.split("llama_cpp_python-")[1].split(".dist-info")[0] for name in files if "llama_cpp_python-" in name)


def test_without_a_previous_engine_there_is_nothing_to_go_back_to(bench: Bench) -> None:
    bench.run()
    with pytest.raises(ProvisionError) as caught:
        rollback(bench.python, settings=bench.settings)
    assert caught.value.code == "no-previous-engine"


def test_uninstall_takes_out_what_was_placed_and_nothing_else(bench: Bench) -> None:
    before = fingerprint(bench.environment)
    bench.run()
    data = uninstall(bench.python, settings=bench.settings)
    assert data["removed"][0].startswith("llama-cpp-python")
    assert fingerprint(bench.environment) == before
    with pytest.raises(ProvisionError) as caught:
        uninstall(bench.python, settings=bench.settings)
    assert caught.value.code == "not-ours"


def test_two_that_want_the_same_engine_build_it_once(bench: Bench) -> None:
    """The second one waits for the first, although it is for another environment, and takes its wheel."""
    other = dataclasses.replace(bench, python=make_environment(bench.root / "env2"))
    waits, builds = threading.Event(), []

    def build(work: Work) -> Made:
        builds.append(work.key)
        assert waits.wait(timeout=60)
        return Made(wheel=bench.wheel, plan=work.plan, source="tests")

    def hear(event: Event) -> None:
        if isinstance(event, Note) and "another installation is making this very engine" in event.message:
            waits.set()

    def run(which: Bench) -> str:
        wish = InstallWish(python=which.python, backend="cpu")
        how = {"host": HOST, "settings": which.settings, "model": which.model, "builder": build, "reporter": hear}
        return install(wish, **how).action  # type: ignore[arg-type]

    with ThreadPoolExecutor(2) as pool:
        actions = sorted(pool.map(run, (bench, other)))
    assert actions == ["built", "reused"]
    assert len(builds) == 1
    assert engine_works(bench.python, bench.model)
    assert engine_works(other.python, bench.model)


@pytest.mark.slow
def test_what_came_with_the_first_engine_goes_with_the_last(tmp_path: Path) -> None:
    python = make_environment(tmp_path / "env", borrow=False)
    bench = Bench(
        python=python,
        settings=private_settings(tmp_path / "home"),
        model=write_tiny_model(tmp_path / "tiny.gguf"),
        wheel=repack_engine(tmp_path / "wheels"),
        root=tmp_path,
    )
    before = fingerprint(bench.environment)
    bench.run()
    first = provenance(python)["dependencies"]
    assert any(name.startswith("numpy ") for name in first)
    bench.run(use_cache=False)
    assert provenance(python)["dependencies"] == first
    removed = uninstall(python, settings=bench.settings)["removed"]
    assert {name.split()[0] for name in removed} >= {"llama-cpp-python", "numpy", "diskcache", "jinja2"}
    assert fingerprint(bench.environment) == before


def test_a_distributions_own_python_is_never_touched(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from provision.engine import install as module

    real = module.inspect_environment
    monkeypatch.setattr(
        module,
        "inspect_environment",
        lambda python, environ: dataclasses.replace(real(python, environ=environ), externally_managed=True),
    )
    before = fingerprint(bench.environment)
    with pytest.raises(MachineError) as caught:
        bench.run()
    assert caught.value.code == "externally-managed"
    assert "venv" in caught.value.hint
    assert fingerprint(bench.environment) == before


def test_a_home_that_cannot_be_written_is_named(bench: Bench) -> None:
    blocked = bench.root / "file"
    blocked.write_text("not a folder")
    stuck = dataclasses.replace(bench, settings=private_settings(bench.root / "h", PROVISION_HOME=str(blocked / "below")))
    before = fingerprint(bench.environment)
    with pytest.raises(MachineError) as caught:
        stuck.run()
    assert (caught.value.code, int(caught.value.exit_code)) == ("home-not-writable", 3)
    assert "PROVISION_HOME" in caught.value.hint
    assert fingerprint(bench.environment) == before


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB."""
    with mounted(tmp_path / "small", "size=6m") as folder:
        yield folder


def test_a_full_disk_under_the_environment_changes_nothing(bench: Bench, small_disk: Path) -> None:
    cramped = dataclasses.replace(bench, python=make_environment(small_disk / "env"))
    before = fingerprint(cramped.environment)
    with pytest.raises(MachineError) as caught:
        cramped.run()
    assert (caught.value.code, int(caught.value.exit_code)) == ("no-disk", 3)
    assert fingerprint(cramped.environment) == before
    assert not list((cramped.environment / ".provision").glob("stage-*"))


def test_a_full_disk_under_the_wheel_cache_costs_only_the_cache(bench: Bench, small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(b"x" * 5 * 1024 * 1024)
    settings = private_settings(bench.root / "h", PROVISION_HOME=str(small_disk / "provision"))
    full = dataclasses.replace(bench, settings=settings)
    assert full.run().action == "built"
    assert engine_works(bench.python, bench.model)
    assert not list(small_disk.rglob("*.whl*"))


def command(bench: Bench, *more: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """`provision install --cpu` for the environment of the bench, as a user runs it."""
    argv = [
        sys.executable,
        "-m",
        "provision",
        "install",
        "--cpu",
        "--python",
        str(bench.python),
        "--json",
        "--progress",
        "json",
    ]
    env = {**bench.settings.environ, **environ}
    return subprocess.run([*argv, *more], capture_output=True, text=True, env=env, check=False)


def test_too_small_a_disk_is_foreseen_by_a_dry_run_and_refused_by_a_real_one(bench: Bench, small_disk: Path) -> None:
    before = fingerprint(bench.environment)
    home = str(small_disk / "provision")
    planned = command(bench, "--dry-run", PROVISION_HOME=home)
    assert planned.returncode == 0
    said = [text for text in json.loads(planned.stdout)["data"]["plan"]["warnings"] if text.startswith("no-disk:")]
    assert len(said) == 1
    assert "600 MiB" in said[0]
    assert "6.0 MiB are free" in said[0]
    # The look at the machine may note its findings there, nothing else.
    assert not [name for name in ("builds", "build-envs", "sdists", "wheels") if (small_disk / "provision" / name).exists()]
    real = command(bench, PROVISION_HOME=home)
    assert real.returncode == 3
    assert json.loads(real.stdout)["errors"][0]["code"] == "no-disk"
    # Refused before anything is downloaded or compiled.
    assert not [line for line in real.stderr.splitlines() if json.loads(line).get("task") in DOING]
    assert not list(small_disk.rglob("*.tar.gz"))
    assert fingerprint(bench.environment) == before


DOING = ("build", "build-env", "source", "wheel", "toolkit")
"""Tasks whose progress shows that something is downloaded or compiled."""


def test_asking_again_compares_and_does_nothing_else(bench: Bench) -> None:
    """The whole command, with every way out of the machine shut: no download, no compiler, no engine touched."""
    host = probe_host(bench.settings, python=bench.python)
    assert bench.run(host=host).action == "built"
    planned = json.loads(command(bench, "--dry-run").stdout)["data"]["plan"]
    assert any(reason.startswith("kept: the engine that is here") for reason in planned["reasons"])
    ours = fingerprint(bench.settings.provision_home / "wheels")
    theirs = fingerprint(bench.environment)
    nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    again = command(bench, **nowhere, PIP_INDEX_URL="http://127.0.0.1:9/simple")
    assert again.returncode == 0, again.stdout + again.stderr
    assert json.loads(again.stdout)["data"]["action"] == "kept"
    assert not [line for line in again.stderr.splitlines() if json.loads(line).get("task") in DOING]
    assert fingerprint(bench.settings.provision_home / "wheels") == ours
    assert fingerprint(bench.environment) == theirs
    assert not list((bench.settings.provision_home).glob("builds/*"))


@pytest.mark.slow
def test_uv_installs_and_uninstalls_where_there_is_no_pip(bench: Bench, tmp_path: Path) -> None:
    tools = tmp_path / "uv"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", str(tools), "uv"], check=True)
    settings = private_settings(tmp_path / "home", PATH=f"{tools / 'bin'}:{os.environ['PATH']}")
    with_uv = dataclasses.replace(bench, settings=settings)
    before = fingerprint(bench.environment)
    assert with_uv.run().proof.quantized_inference
    assert engine_works(bench.python, bench.model)
    uninstall(bench.python, settings=settings)
    # uv keeps a lock file of its own in an environment it worked in.
    assert {name: what for name, what in fingerprint(bench.environment).items() if name != ".lock"} == before


def test_no_compiler_ends_before_anything_is_touched(bench: Bench) -> None:
    before = fingerprint(bench.environment)
    with pytest.raises(MachineError) as caught:
        bench.run(host=linux(tools=()), source="build")
    assert (caught.value.code, int(caught.value.exit_code)) == ("no-compiler", 3)
    assert fingerprint(bench.environment) == before


def test_killed_at_some_moments_the_environment_works_and_the_next_run_finishes(bench: Bench) -> None:
    kill_at_moments(bench, moments=3)


@pytest.mark.slow
def test_killed_at_twenty_moments_the_environment_works_and_the_next_run_finishes(bench: Bench) -> None:
    kill_at_moments(bench, moments=20)


def kill_at_moments(bench: Bench, *, moments: int) -> None:
    bench.run()
    wheels = {version: repack_engine(bench.root / version, version=version) for version in ("9.9.8", "9.9.9")}
    script = bench.root / "install_once.py"
    script.write_text(
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from tests.integration.engine.test_install import Bench, private_settings\n"
        "python, home, model, wheel, version = sys.argv[2:]\n"
        "Bench(python=Path(python), settings=private_settings(Path(home)), model=Path(model), wheel=Path(wheel),\n"
        "      root=Path(home)).run(engine_version=version, use_cache=False)\n"
    )
    root = str(Path(__file__).parents[3])
    started = time.monotonic()
    for turn in range(moments + 1):
        version = ("9.9.8", "9.9.9")[turn % 2]
        arguments = [str(bench.python), str(bench.root / "home"), str(bench.model), str(wheels[version]), version]
        process = subprocess.Popen([sys.executable, str(script), root, *arguments], start_new_session=True)
        if turn == 0:
            # The first run is left to end and shows how long the moments may be spread.
            assert process.wait(timeout=120) == 0
            whole_s = time.monotonic() - started
            continue
        # The moments are spread evenly over a run, so that every phase is hit; the machine's own noise makes them random.
        time.sleep(whole_s * (turn - 0.5) / moments)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=60)
        assert engine_works(bench.python, bench.model)
    assert bench.run(wheel=wheels["9.9.9"], engine_version="9.9.9").proof.quantized_inference
    assert not list((bench.environment / ".provision").glob("stage-*"))
    assert not (bench.environment / ".provision" / "journal.json").exists()
    assert engine_works(bench.python, bench.model)


def test_an_environment_without_room_for_our_state_is_named(bench: Bench) -> None:
    (bench.environment / ".provision").write_text("a file where our folder would be")
    with pytest.raises(MachineError) as caught:
        bench.run()
    assert (caught.value.code, int(caught.value.exit_code)) == ("environment-not-writable", 3)
