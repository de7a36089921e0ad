"""What `--help` may cost: no heavy library is imported before a command needs it."""

import subprocess
import sys

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
