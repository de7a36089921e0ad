import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "support" / "fake_nvml.c"


@pytest.fixture(scope="session")
def fake_nvml(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, str]]:
    """An environment in which libnvidia-ml.so.1 is ours, for a scenario of fake_nvml.c."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to build the fake libnvidia-ml.so.1")
    folder = tmp_path_factory.mktemp("nvml")
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-w", "-Wl,-soname,libnvidia-ml.so.1", str(SOURCE), "-o", str(library)], check=True
    )
    inherited = os.environ.get("LD_LIBRARY_PATH")
    path = f"{folder}:{inherited}" if inherited else str(folder)
    return lambda scenario: {**os.environ, "LD_LIBRARY_PATH": path, "FAKE_NVML": scenario}
