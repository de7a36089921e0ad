"""What `--help` may cost: no heavy library is imported before a command needs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

HEAVY = ("huggingface_hub", "httpx2", "pynvml", "llama_cpp", "torch", "numpy", "pydantic", "prompt_toolkit", "rich")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from provision.cli.main import main; assert main(['--help']) == 0; "
        f"sys.exit(','.join(name for name in {HEAVY!r} if name in sys.modules) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_console_script_and_the_module_say_the_same() -> None:
    module = subprocess.run([sys.executable, "-m", "provision", "--version"], capture_output=True, text=True, check=True)
    assert module.stdout.startswith("provision ")


def test_a_reader_that_leaves_early_hears_no_traceback() -> None:
    code = f"{sys.executable} -m provision doctor --list --json | head -c 1 >/dev/null; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1)
    assert done.stderr == ""


# Ctrl-C at the very moment a module is looked for.
_PRESSED = """
import os, signal, sys
class Press:
    def find_spec(self, name, path=None, target=None):
        if name in {names!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Press())
sys.argv = ["provision", *{words!r}]
from provision.__main__ import run
run()
"""


@pytest.mark.parametrize(
    "name", ["provision.cli.main", "typer", "provision.result", "provision.cli.fetch", "provision.fetch.service"]
)
def test_ctrl_c_while_starting_is_an_interruption_like_any_other(name: str, tmp_path: Path) -> None:
    code = _PRESSED.format(names=(name,), words=("fetch", "org/m:Q8_0", "--offline", "--json"))
    environ = {"HOME": str(tmp_path), "PROVISION_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environ)
    assert (done.returncode, done.stderr) == (130, "")
    assert json.loads(done.stdout)["errors"][0]["code"] == "interrupted"


def test_pressing_twice_while_starting_waits_no_longer() -> None:
    code = _PRESSED.format(names=("provision.cli.main", "typer"), words=("--help",))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_a_job_that_ignores_ctrl_c_goes_on_ignoring_it() -> None:
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + _PRESSED.format(
        names=("typer",), words=("--version",)
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("provision ")
