"""Laws of the planner: for any machine it ends in a plan that keeps the rules, or in an error with a name."""

from hypothesis import given
from hypothesis import strategies as st

from provision.engine.flags import cmake_args_text, merge, parse_cmake_args
from provision.engine.plan import PlanFacts, build_plan
from provision.engine.types import InstallWish
from provision.engine.wheelcache import cache_key
from provision.errors import MachineError, UsageError
from provision.host.cuda_tables import all_toolkits, driver_verdict, toolkit_facts
from provision.host.types import Cpu, CudaToolkit, Driver, Gpu, Host, Memory, System, Tool

ARCHS = ((5, 0), (6, 1), (7, 0), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (10, 3), (11, 0), (12, 0), (12, 1), (13, 5))
versions = st.sampled_from([facts.version for facts in all_toolkits()] + [(10, 2), (14, 0)])
drivers = st.sampled_from(["450.80", "470.57", "525.60", "535.54", "550.54", "570.86", "580.95", "595.45", "700.1"])
gpus = st.builds(
    Gpu,
    index=st.integers(0, 7),
    name=st.just("GPU"),
    vendor=st.sampled_from(["nvidia", "amd", "intel"]),
    source=st.just("nvml"),
    compute_capability=st.one_of(st.none(), st.sampled_from(ARCHS)),
    visible=st.booleans(),
)
toolkits = st.builds(
    CudaToolkit,
    root=st.sampled_from(["/usr/local/cuda", "/opt/cuda-a", "/opt/cuda-b"]),
    version=st.one_of(st.none(), versions),
    found_via=st.just(("PATH",)),
    nvcc=st.just("/x/bin/nvcc"),
    nvcc_works=st.sampled_from([True, False, None]),
    missing=st.lists(st.sampled_from(["nvcc", "cublas", "cudart", "driver-stub"]), max_size=2).map(tuple),
)
compilers = st.builds(
    Tool,
    name=st.sampled_from(["g++", "c++", "g++-12", "g++-14", "clang++"]),
    path=st.sampled_from(["/usr/bin/a", "/usr/bin/b"]),
    version=st.one_of(st.none(), st.tuples(st.integers(4, 17), st.just(1))),
    works=st.sampled_from([True, None, False]),
    detail=st.sampled_from(["gcc", "clang"]),
)
hosts = st.builds(
    Host,
    system=st.builds(
        System,
        os=st.sampled_from(["linux", "darwin"]),
        arch=st.sampled_from(["x86_64", "aarch64", "arm64"]),
        libc=st.sampled_from(["glibc", "musl", None]),
        libc_version=st.one_of(st.none(), st.sampled_from([(2, 17), (2, 36), (2, 41), (2, 42)])),
        wsl=st.booleans(),
    ),
    cpu=st.builds(
        Cpu,
        cores=st.one_of(st.none(), st.integers(1, 256)),
        flags=st.sampled_from([(), ("amx_tile",), ("avx2",)]),
        amx_compiler=st.sampled_from(["trusted", "miscompiles", "untested", "not-needed"]),
    ),
    memory=st.builds(Memory, available_bytes=st.one_of(st.none(), st.integers(0, 2**42))),
    gpus=st.lists(gpus, max_size=3).map(tuple),
    toolkits=st.lists(toolkits, max_size=3).map(tuple),
    tools=st.lists(compilers, max_size=3).map(tuple),
    driver=st.one_of(
        st.none(),
        st.builds(
            Driver,
            version=drivers.map(lambda text: tuple(int(part) for part in text.split("."))),
            problem=st.sampled_from([None, None, None, "not loaded"]),
        ),
    ),
)
wishes = st.builds(
    InstallWish,
    backend=st.sampled_from(["auto", "cpu", "cuda"]),
    toolkit=st.sampled_from(["auto", "system", "pypi", "/opt/cuda-a"]),
    cuda_archs=st.sampled_from([(), (), ("89",), ("61", "120")]),
    gpu_check=st.booleans(),
)
FACTS = PlanFacts(provision_home="/home/p", python="python", environ={})


@given(hosts, wishes)
def test_a_plan_never_names_what_its_toolkit_or_driver_cannot_do(host: Host, wish: InstallWish) -> None:
    try:
        plan = build_plan(host, wish, FACTS)
    except (MachineError, UsageError) as caught:
        error = caught
        plan = None
    if plan is None:
        assert error.code
        assert error.hint
        return
    assert wish.backend in ("auto", plan.backend)
    assert 1 <= plan.jobs <= max(host.cpu.cores or 2, 1)
    if plan.toolkit is None:
        assert plan.backend != "cuda"
        return
    facts = toolkit_facts(plan.toolkit.version)
    assert facts is not None
    assert plan.cuda_archs
    assert all(facts.knows_arch(arch) for arch in plan.cuda_archs)
    if wish.cuda_archs:
        assert plan.cuda_archs == wish.cuda_archs
    if wish.gpu_check and host.driver is not None:
        verdict = driver_verdict(facts.version, driver=host.driver.version, driver_cuda=host.driver.cuda_version)
        assert verdict != "too-old"
    assert not any("native" in flag or "all" in flag for flag in plan.cmake_args if "ARCHITECTURES" in flag)


@given(hosts, wishes)
def test_the_same_machine_and_wish_give_the_same_plan_and_key(host: Host, wish: InstallWish) -> None:
    try:
        first, second = (build_plan(host, wish, FACTS) for _ in range(2))
    except (MachineError, UsageError):
        return
    assert first == second
    assert cache_key(first) == cache_key(second)


names = st.text("ABCXYZ_", min_size=1, max_size=8)
values = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)


@given(st.dictionaries(names, values, max_size=4), st.dictionaries(names, values, max_size=4))
def test_merged_flags_read_back_with_theirs_winning(ours: dict[str, str], theirs: dict[str, str]) -> None:
    text = cmake_args_text([f"-D{name}={value}" for name, value in theirs.items()])
    arguments, _ = merge(ours, parse_cmake_args(text))
    assert dict(parse_cmake_args(cmake_args_text(arguments)).defines) == {**ours, **theirs}
