import pytest

from provision.engine.flags import parse_cmake_args
from provision.engine.linking import keep_libstdcxx_private
from tests.support.plans import machines


def test_linux_keeps_a_static_libstdcxx_private() -> None:
    flags, reasons = keep_libstdcxx_private(machines()["laptop-without-gpu"], parse_cmake_args(""))
    assert flags == {"CMAKE_SHARED_LINKER_FLAGS_INIT": "-Wl,--exclude-libs,libstdc++.a"}
    assert "numpy" in reasons[0].because


@pytest.mark.parametrize("theirs", ["-DCMAKE_SHARED_LINKER_FLAGS=-fuse-ld=lld"])
def test_flags_of_the_user_stay_alone(theirs: str) -> None:
    assert keep_libstdcxx_private(machines()["laptop-without-gpu"], parse_cmake_args(theirs)) == ({}, ())


def test_other_linkers_get_nothing() -> None:
    mac = next(host for host in machines().values() if host.system.os == "darwin")
    assert keep_libstdcxx_private(mac, parse_cmake_args("")) == ({}, ())
