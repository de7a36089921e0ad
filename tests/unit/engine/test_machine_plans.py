"""The planner against every described machine: each plan in full, and what must hold for all of them."""

import json

import pytest

from provision.engine.types import InstallWish
from provision.host.cuda_tables import driver_verdict, toolkit_facts
from provision.host.match import judge_toolkits, working_driver
from tests.support.plans import REVIEWED, all_plans, machines, planned

PLANS = all_plans()
EXPECTED = json.loads(REVIEWED.read_text())


def test_there_are_enough_machines() -> None:
    assert len(machines()) >= 24
    assert set(PLANS) == set(EXPECTED)


@pytest.mark.parametrize("name", sorted(PLANS))
def test_the_plan_is_the_reviewed_one(name: str) -> None:
    assert PLANS[name] == EXPECTED[name]


@pytest.mark.parametrize("name", sorted(name for name in PLANS if PLANS[name].get("backend") == "cuda"))
def test_a_cuda_plan_keeps_the_rules(name: str) -> None:
    plan, host = PLANS[name], machines()[name.split()[0]]
    flags = dict(flag.removeprefix("-D").split("=", 1) for flag in plan["cmake_args"])
    kind, root = plan["toolkit"].split(" ", 1)
    version = tuple(int(part) for part in flags["CUDAToolkit_ROOT"].rsplit("-", 1)[-1].split(".")) if kind == "pypi" else None
    if version is None:
        verdicts = {verdict.toolkit.root: verdict for verdict in judge_toolkits(host)}
        assert verdicts[root].usable
        version = verdicts[root].toolkit.version
    assert version is not None
    facts = toolkit_facts(version)
    assert facts is not None
    assert plan["cuda_archs"]
    assert all(facts.knows_arch(arch) for arch in plan["cuda_archs"])
    assert flags["CMAKE_CUDA_ARCHITECTURES"] == ";".join(f"{arch}-real" for arch in plan["cuda_archs"])
    driver = working_driver(host)
    assert driver is not None
    verdict = driver_verdict(version, driver=driver.version, driver_cuda=driver.cuda_version)
    # A Jetson's driver has no version to compare with; its toolkit comes with the system image.
    assert verdict in ("runs", "native-only") or (verdict == "unknown" and driver.version is None)
    assert len({flags["CMAKE_CUDA_COMPILER"], plan["env"]["CUDACXX"], flags["CUDAToolkit_ROOT"] + "/bin/nvcc"}) == 1


def test_asking_for_cuda_never_plans_anything_else() -> None:
    for name, host in machines().items():
        plan = planned(host, InstallWish(backend="cuda"))
        assert plan.get("backend") == "cuda" or plan["exit_code"] in (2, 3), name
