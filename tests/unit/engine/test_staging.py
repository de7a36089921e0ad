import zipfile
from pathlib import Path
from typing import Any

import pytest

from provision.engine.environment import Environment, check_environment
from provision.engine.proof import judge_offload
from provision.engine.staging import engine_entries, missing_requirements, record_file, wheel_requirements
from provision.engine.uninstall import removable_dependencies
from provision.engine.wheelstore import find_wheel, source_of, store_wheel
from provision.errors import MachineError

REQUIRES = (
    "typing-extensions>=4.5.0",
    "numpy>=1.20.0",
    "jinja2>=2.11.3",
    'uvicorn>=0.22.0; extra == "server"',
    'tomli>=2; python_version < "3.11"',
)


def environment(tmp_path: Path, **changes: Any) -> Environment:
    site = tmp_path / "lib/python3.12/site-packages"
    site.mkdir(parents=True, exist_ok=True)
    fields: dict[str, Any] = {
        "python": "/venv/bin/python",
        "version": (3, 12, 1),
        "prefix": tmp_path,
        "purelib": site,
        "platlib": site,
        "is_venv": True,
        "externally_managed": False,
        "owner": None,
        "installed": {},
        "requires": {},
    }
    return Environment(**(fields | changes))


def test_only_what_is_really_missing_is_missing(tmp_path: Path) -> None:
    have = environment(tmp_path, installed={"numpy": "2.4.1", "typing-extensions": "4.4.0"})
    assert missing_requirements(REQUIRES, have) == ("typing-extensions>=4.5.0", "jinja2>=2.11.3")
    assert (
        missing_requirements(("nvidia-cublas==13.1.1.3.*",), environment(tmp_path, installed={"nvidia-cublas": "13.1.1.3"}))
        == ()
    )


def test_requirements_are_read_from_the_wheel(tmp_path: Path) -> None:
    wheel = tmp_path / "a-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("a-1.dist-info/METADATA", "Name: a\nRequires-Dist: numpy>=1\nRequires-Dist: b; extra == 'x'\n\nText\n")
    assert wheel_requirements(wheel) == ("numpy>=1", "b; extra == 'x'")


def test_a_plain_pip_install_leaves_its_strays_to_us_and_nothing_outside(tmp_path: Path) -> None:
    env = environment(tmp_path / "env")
    site = env.platlib
    for name in ("llama_cpp/a.py", "lib/libllama.so", "include/llama.h", "llama_cpp_python-0.3.1.dist-info/METADATA"):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text("x")
    (tmp_path / "secret").write_text("x")
    record = "llama_cpp/a.py,,\nlib/libllama.so,,\ninclude/llama.h,,\n../../../../secret,,\n/etc/passwd,,\nlib/gone.so,,\n"
    (site / "llama_cpp_python-0.3.1.dist-info/RECORD").write_text(record)
    assert {str(path.relative_to(site)) for path in engine_entries(env)} == {
        "llama_cpp",
        "llama_cpp_python-0.3.1.dist-info",
        "lib/libllama.so",
        "include/llama.h",
    }


def test_record_stays_true(tmp_path: Path) -> None:
    info = tmp_path / "a-1.dist-info"
    info.mkdir()
    (info / "INSTALLER").write_text("provision\n")
    (info / "RECORD").write_text('a-1.dist-info/INSTALLER,sha256=old,4\n"a,b.py",sha256=x,1\n')
    record_file(info, "INSTALLER")
    record_file(info, "INSTALLER")
    assert (info / "RECORD").read_text() == (
        'a-1.dist-info/INSTALLER,sha256=mvvAfv81ooE34EViRRbicgHoa4nTcntuvs8Oa0n2Ww4,10\n"a,b.py",sha256=x,1\n'
    )


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"externally_managed": True, "is_venv": False}, "externally-managed"), ({"owner": "pipx"}, "tool-environment")],
)
def test_environments_that_are_not_ours_to_change(tmp_path: Path, changes: dict[str, Any], code: str) -> None:
    with pytest.raises(MachineError) as caught:
        check_environment(environment(tmp_path, **changes), chosen=False)
    assert caught.value.code == code
    assert "--python" in caught.value.hint
    check_environment(environment(tmp_path, owner="pipx"), chosen=True)


def test_a_package_somebody_else_needs_stays(tmp_path: Path) -> None:
    env = environment(
        tmp_path,
        installed={
            "llama-cpp-python": "0.3.36",
            "numpy": "2",
            "jinja2": "3",
            "markupsafe": "3",
            "pandas": "3",
            "diskcache": "5",
        },
        requires={"pandas": ("numpy",), "jinja2": ("markupsafe",), "llama-cpp-python": ("numpy", "jinja2", "diskcache")},
    )
    assert removable_dependencies(["numpy", "jinja2", "markupsafe", "diskcache", "gone"], env) == (
        "diskcache",
        "jinja2",
        "markupsafe",
    )


def test_the_store_gives_back_what_it_took_and_notices_damage(tmp_path: Path) -> None:
    wheel = tmp_path / "a-1-py3-none-any.whl"
    wheel.write_bytes(b"wheel")
    stored = store_wheel(wheel, tmp_path / "wheels", "cpu-1-abc")
    assert find_wheel(tmp_path / "wheels", "cpu-1-abc") == stored
    assert find_wheel(tmp_path / "wheels", "cpu-1-other") is None
    assert source_of(tmp_path / "wheels", "cpu-1-abc") == ""
    stored.path.write_bytes(b"whee")
    assert find_wheel(tmp_path / "wheels", "cpu-1-abc") is None
    store_wheel(wheel, tmp_path / "wheels", "cpu-1-abc", source="a-1.tar.gz sha256 x")
    assert source_of(tmp_path / "wheels", "cpu-1-abc") == "a-1.tar.gz sha256 x"


@pytest.mark.parametrize(
    ("log", "layers"),
    [
        ("load_tensors: offloaded 33/33 layers to GPU\nload_tensors:      CUDA0 model buffer size =  4155.99 MiB\n", (33, 33)),
        ("load_tensors: offloaded 3/33 layers to GPU\nload_tensors:    CUDA_Host model buffer size =  4155.99 MiB\n", (0, 33)),
        ("load_tensors: offloaded 0/33 layers to GPU\nload_tensors:   CPU_Mapped model buffer size = 4155.99 MiB\n", (0, 33)),
        ("load_tensors:   CPU_Mapped model buffer size = 4155.99 MiB\n", None),
    ],
)
def test_offload_needs_the_log_line_and_the_memory(log: str, layers: tuple[int, int] | None) -> None:
    assert judge_offload(log) == layers
