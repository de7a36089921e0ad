import pytest

from provision.host.probe_toolkits import probe_toolkits
from provision.host.types import CudaToolkit
from tests.support.machine_in_memory import MachineInMemory


def whole(
    root: str, release: str = "12.4", *, without: tuple[str, ...] = ()
) -> tuple[dict[str, str], dict[str, tuple[int, str]]]:
    """Files and programs of a complete toolkit at `root`, but for the files whose names contain a word of `without`."""
    names = (
        *("include/cuda_runtime.h", "include/cublas_v2.h", "lib64/libcudart.so", "lib64/libcublas.so", "lib64/libcublasLt.so"),
        *("lib64/stubs/libcuda.so", "nvvm/bin/cicc", "bin/nvcc.profile"),
    )
    files = {f"{root}/{name}": "" for name in names if not any(word in name for word in without)}
    programs = (
        {} if "nvcc" in without else {f"{root}/bin/nvcc": (0, f"Cuda compilation tools, release {release}, V{release}.131\n")}
    )
    return files, programs


def probe(machine: MachineInMemory, site_folders: tuple[str, ...] = ()) -> tuple[CudaToolkit, ...]:
    return probe_toolkits(
        machine, site_folders=site_folders, own_folder="/home/ana/.local/share/provision/toolkits", home="/home/ana"
    )


def test_one_root_found_in_several_ways_is_one_toolkit() -> None:
    files, programs = whole("/usr/local/cuda-12.4")
    machine = MachineInMemory(
        files,
        programs=programs,
        links={"/usr/local/cuda": "/usr/local/cuda-12.4"},
        environ={"PATH": "/usr/local/cuda/bin:/usr/bin", "CUDA_HOME": "/usr/local/cuda"},
    )
    (toolkit,) = probe(machine)
    assert toolkit.root == "/usr/local/cuda-12.4"
    assert toolkit.found_via == ("PATH", "CUDA_HOME", "/usr/local/cuda*")
    assert (toolkit.version, toolkit.nvcc_works, toolkit.missing) == ((12, 4, 131), True, ())


def test_a_wrapper_on_path_leads_to_the_root_it_runs() -> None:
    files, programs = whole("/opt/sdk/cuda")
    wrapper = {
        "/usr/local/bin/nvcc": programs["/opt/sdk/cuda/bin/nvcc"],
        "/usr/local/bin/nvcc -v __provision_determine_cuda": (1, "", "#$ _SPACE_= \n#$ TOP=/opt/sdk/cuda\nfatal\n"),
    }
    (toolkit,) = probe(MachineInMemory(files, programs={**programs, **wrapper}))
    assert (toolkit.root, toolkit.found_via) == ("/opt/sdk/cuda", ("PATH",))


@pytest.mark.parametrize(
    ("without", "missing"),
    [
        (("cublas",), ("cublas",)),
        (("libcublasLt",), ("cublas",)),
        (("cublas_v2",), ("cublas",)),
        (("libcudart",), ("cudart",)),
        (("cuda_runtime",), ("headers",)),
        (("cicc",), ("nvvm",)),
        (("stubs",), ("driver-stub",)),
        (("bin/nvcc", "nvcc"), ("nvcc",)),
        (("cublas", "stubs"), ("cublas", "driver-stub")),
    ],
)
def test_what_is_missing_is_said_exactly(without: tuple[str, ...], missing: tuple[str, ...]) -> None:
    files, programs = whole("/usr/local/cuda-12.4", without=without)
    files["/usr/local/cuda-12.4/version.json"] = '{"cuda": {"version": "12.4.1"}}'
    (toolkit,) = probe(MachineInMemory(files, programs=programs))
    assert toolkit.missing == missing


def test_the_wheels_of_cuda_13_lack_links_and_say_so() -> None:
    site = "/home/ana/.venv/lib/python3.12/site-packages"
    root = f"{site}/nvidia/cu13"
    files = {
        f"{root}/include/cuda_runtime.h": "",
        f"{root}/include/cublas_v2.h": "",
        f"{root}/include/cuda_runtime_api.h": "#define CUDART_VERSION  13000\n",
        f"{root}/lib/libcudart.so.13": "",
        f"{root}/lib/libcublas.so.13": "",
        f"{root}/lib/libcublasLt.so.13": "",
        f"{root}/nvvm/bin/cicc": "",
    }
    (toolkit,) = probe(MachineInMemory(files), (site,))
    assert toolkit.found_via == ("nvidia wheels in site-packages",)
    assert toolkit.version == (13, 0)
    assert toolkit.missing == ("nvcc", "cublas", "cudart", "driver-stub")
    assert "libcudart.so.13 is there, the link libcudart.so that a build needs is not" in toolkit.notes


def test_conda_modules_hpc_sdk_and_our_own() -> None:
    roots = (
        "/home/ana/miniforge3/envs/gpu",
        "/apps/cuda/12.4",
        "/opt/nvidia/hpc_sdk/Linux_x86_64/25.1/cuda/12.6",
        "/home/ana/.local/share/provision/toolkits/13.0",
    )
    files: dict[str, str] = {}
    programs: dict[str, tuple[int, str]] = {}
    for root in roots:
        more, programs_there = whole(root)
        files |= more
        programs |= programs_there
    files["/apps/modulefiles/cuda/12.4.lua"] = 'prepend_path("PATH", "/apps/cuda/12.4/bin")\n'
    found = {
        toolkit.root: toolkit.found_via
        for toolkit in probe(MachineInMemory(files, programs=programs, environ={"MODULEPATH": "/apps/modulefiles"}))
    }
    assert found == {
        roots[0]: ("conda",),
        roots[1]: ("environment module",),
        roots[2]: ("HPC SDK",),
        roots[3]: ("provision",),
    }


def test_the_distributions_toolkit_is_spread_over_the_system() -> None:
    files = {
        "/usr/include/cuda_runtime.h": "",
        "/usr/include/cublas_v2.h": "",
        "/usr/lib/x86_64-linux-gnu/libcudart.so": "",
        "/usr/lib/x86_64-linux-gnu/libcublas.so": "",
        "/usr/lib/x86_64-linux-gnu/libcublasLt.so": "",
        "/usr/lib/x86_64-linux-gnu/libcuda.so": "",
        "/usr/lib/nvidia-cuda-toolkit/bin/cicc": "",
    }
    said = (0, "Cuda compilation tools, release 11.8, V11.8.89\n")
    machine = MachineInMemory(files, programs={"/usr/lib/nvidia-cuda-toolkit/bin/nvcc": said, "/usr/bin/nvcc": said})
    (toolkit,) = probe(machine)
    assert (toolkit.root, toolkit.missing) == ("/usr/lib/nvidia-cuda-toolkit", ())
    assert toolkit.found_via == ("PATH", "distribution")


def test_a_broken_nvcc_is_not_taken_at_its_name() -> None:
    files, programs = whole("/usr/local/cuda-12.4")
    programs["/usr/local/cuda-12.4/bin/nvcc"] = (127, "error while loading shared libraries")
    files["/usr/local/cuda-12.4/version.json"] = '{"cuda": {"version": "12.4.1"}}'
    (toolkit,) = probe(MachineInMemory(files, programs=programs))
    assert (toolkit.nvcc_works, toolkit.version) == (False, (12, 4, 1))


def test_folders_that_are_no_toolkit_are_left_out() -> None:
    files = {"/usr/local/cuda-samples/README": "", "/opt/cudalicious/x": ""}
    assert probe(MachineInMemory(files, environ={"CUDA_HOME": "/usr"})) == ()
