import os
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.isolation import TouchedTheMachine


def test_a_unit_test_cannot_touch_network_processes_or_home() -> None:
    with pytest.raises(TouchedTheMachine):
        socket.create_connection(("127.0.0.1", 9))
    with pytest.raises(TouchedTheMachine):
        subprocess.run(["true"], check=True)
    with pytest.raises(TouchedTheMachine):
        os.system("true")
    assert "pytest" in str(Path.home())
