"""What doctor --fix plans on machines we do not have."""

from dataclasses import replace

from provision.engine.mends import plan_mends
from provision.host.types import CudaToolkit, Host, PythonEnvironment, Tool
from tests.support.machine_files import load_machine, machine_names

OWN = "/home/ana/.local/share/provision/toolkits"
BIN = "/home/ana/.venv/bin"


def plan(host: Host, *, path: tuple[str, ...] = ("/usr/bin",)) -> dict[str, str]:
    return {mend.id: mend.title for mend in plan_mends(host, toolkits_dir=OWN, path_folders=path)}


def test_a_toolkit_from_pypi_where_the_gpu_works_and_the_toolkit_does_not() -> None:
    (mend,) = plan_mends(load_machine("toolkit-without-cublas").host, toolkits_dir=OWN, path_folders=())
    assert mend.toolkit is not None
    assert mend.toolkit.root == f"{OWN}/cuda-13.0"
    assert any(package.startswith("nvidia-cublas") for package in mend.toolkit.packages)


def test_nothing_is_planned_where_nothing_can_be_mended_without_root() -> None:
    mended = {name for name in machine_names() if plan(load_machine(name).host)}
    assert mended == {"toolkit-without-cublas", "rtx5090-gcc15", "gpu-without-toolkit"}


def test_another_compiler_where_the_default_one_is_broken() -> None:
    host = load_machine("compiler-without-headers").host
    clang = tuple(
        Tool(name=name, path=f"/usr/bin/{name}", version=(16, 0, 6), works=True, detail="clang")
        for name in ("clang++", "clang")
    )
    (mend,) = plan_mends(replace(host, tools=(*host.tools, *clang)), toolkits_dir=OWN, path_folders=())
    assert mend.compilers == {"CC": "/usr/bin/clang", "CXX": "/usr/bin/clang++"}
    assert plan(replace(host, tools=(*host.tools, clang[0]))) == {}


def test_build_tools_only_into_a_virtual_environment_whose_programs_are_on_path() -> None:
    host = load_machine("rtx4090-cuda124").host
    old = tuple(replace(tool, version=(3, 16, 3)) if tool.name == "cmake" else tool for tool in host.tools)
    bare = replace(host, tools=tuple(tool for tool in old if tool.name != "ninja"))
    assert plan(bare, path=(BIN, "/usr/bin")) == {
        "build-tools": "install cmake>=3.21 and ninja>=1.10 from PyPI into the environment"
    }
    assert plan(bare) == {}
    assert plan(host, path=(BIN,)) == {}
    system = PythonEnvironment(executable=f"{BIN}/python", version=(3, 12, 0), externally_managed=True)
    assert plan(replace(bare, python=system), path=(BIN,)) == {}


def test_links_only_in_toolkits_of_our_own() -> None:
    note = "libcudart.so.13 is there, the link libcudart.so that a build needs is not"
    toolkit = CudaToolkit(
        root=f"{OWN}/cuda-13.0", version=(13, 0), found_via=("provision",), nvcc="x", missing=("cudart",), notes=(note,)
    )
    host = replace(load_machine("no-compiler-engine-works").host, toolkits=(toolkit,))
    (mend,) = plan_mends(host, toolkits_dir=OWN, path_folders=())
    assert mend.links == ((f"{OWN}/cuda-13.0/lib", "libcudart"),)
    foreign = replace(toolkit, root="/usr/local/cuda-13.0")
    assert plan(replace(host, toolkits=(foreign,))) == {}
