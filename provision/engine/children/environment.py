"""What the environment of this interpreter is: its folders, its packages, and who owns it."""

import json
import os
import re
import sys
import sysconfig
from importlib import metadata


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    schemes = sysconfig.get_paths()
    installed: dict[str, str] = {}
    requires: dict[str, list[str]] = {}
    for distribution in metadata.distributions():
        name = distribution.metadata["Name"]
        if name and normal(name) not in installed:
            installed[normal(name)] = distribution.version
            needs = [text for text in distribution.requires or () if "extra ==" not in text]
            requires[normal(name)] = [normal(match[0]) for text in needs if (match := re.match(r"[\w.-]+", text))]
    prefix = sys.prefix
    in_venv = prefix != sys.base_prefix
    owner = None
    if os.path.exists(os.path.join(prefix, "pipx_metadata.json")):
        owner = "pipx"
    elif os.path.exists(os.path.join(prefix, "uv-receipt.toml")):
        owner = "uv-tool"
    answer = {
        "executable": sys.executable,
        "version": list(sys.version_info[:3]),
        "prefix": prefix,
        "purelib": schemes["purelib"],
        "platlib": schemes["platlib"],
        "is_venv": in_venv,
        "externally_managed": not in_venv and os.path.exists(os.path.join(schemes["stdlib"], "EXTERNALLY-MANAGED")),
        "owner": owner,
        "installed": installed,
        "requires": requires,
    }
    print("@provision " + json.dumps(answer))


main()
