import json

import pytest

from provision.errors import UsageError
from provision.host.serial import host_from_data, host_from_json, host_to_data
from provision.host.types import CudaToolkit, Driver, Gpu, Host, Memory, System

HOST = Host(
    system=System(os="linux", arch="x86_64", libc="glibc", libc_version=(2, 36)),
    memory=Memory(total_bytes=1 << 40),
    driver=Driver(version=(550, 54, 14), cuda_version=(12, 4), source="nvml"),
    gpus=(Gpu(index=0, name="RTX", vendor="nvidia", source="nvml", compute_capability=(8, 9), uuid="GPU-1234"),),
    toolkits=(CudaToolkit(root="/usr/local/cuda", version=(12, 4), found_via=("PATH",), missing=("cublas",)),),
    environment={"CUDA_VISIBLE_DEVICES": ""},
)


def test_a_host_survives_json_except_for_what_identifies_it() -> None:
    back = host_from_json(json.dumps(host_to_data(HOST)))
    assert back.gpus[0].uuid is None
    assert host_from_json(json.dumps(host_to_data(HOST, identifiers=True))) == HOST


def test_the_whole_answer_of_doctor_is_a_host_file_too() -> None:
    host = host_to_data(HOST, identifiers=True)
    assert host_from_json(json.dumps({"provision": "1", "data": {"host": host, "findings": []}})) == HOST
    assert host_from_json(json.dumps({"host": host})) == HOST


def test_every_problem_is_named_with_its_place() -> None:
    data = host_to_data(HOST)
    data["gpus"][0]["index"] = "0"
    data["system"]["os"] = "beos"
    data["cpus"] = {}
    with pytest.raises(UsageError) as caught:
        host_from_data(data)
    assert caught.value.code == "bad-host-file"
    for place in ("gpus.0.index", "system.os", "cpus"):
        assert place in caught.value.message


@pytest.mark.parametrize("text", ["", "[]", "3", "{}", "null", "[" * 100_000, '{"system": {}}', '{"data": {"host": 3}}'])
def test_what_is_no_host_is_one_clear_error(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        host_from_json(text)
    assert "provision doctor --json" in caught.value.hint
