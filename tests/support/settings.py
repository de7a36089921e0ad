"""Settings for tests: an environment of their own, a home below a temporary folder, nothing of the machine."""

from __future__ import annotations

from pathlib import Path

from provision.settings import Settings, read_settings


def settings_in(home: Path, **environ: str) -> Settings:
    """What `read_settings` makes of `environ` alone."""
    return read_settings({"PROVISION_HOME": str(home / "provision"), "HF_HOME": str(home / "hf"), **environ}, home=home)
