"""Half a minute of the fuzzer; `scripts/fuzz_gguf --seconds 600` looks longer."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.integration
@pytest.mark.slow
def test_the_fuzzer_finds_nothing(tmp_path: Path) -> None:
    argv = [sys.executable, str(ROOT / "scripts/fuzz_gguf"), "--seconds", "30", "--corpus", str(tmp_path / "findings")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    assert "0 findings" in done.stdout
