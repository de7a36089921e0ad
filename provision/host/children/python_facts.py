"""What an interpreter is, told by itself."""

import importlib.util
import json
import os
import site
import sys
import sysconfig

sys.stdin.read()


def distribution_version(name: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(name)
    except Exception:  # broken metadata is as good as none
        return None


def managed_by(prefix: str) -> str | None:
    if os.path.exists(os.path.join(prefix, "pipx_metadata.json")):
        return "pipx"
    if os.path.exists(os.path.join(prefix, "uv-receipt.toml")):
        return "uv-tool"
    if os.path.isdir(os.path.join(prefix, "conda-meta")):
        return "conda"
    return None


paths = sysconfig.get_paths()
folders = [paths.get("purelib"), paths.get("platlib"), *(site.getsitepackages() if hasattr(site, "getsitepackages") else [])]
print(
    "@provision "
    + json.dumps(
        {
            "executable": sys.executable,
            "version": list(sys.version_info[:3]),
            "implementation": {"cpython": "CPython", "pypy": "PyPy"}.get(sys.implementation.name, sys.implementation.name),
            "abi": sysconfig.get_config_var("SOABI"),
            "is_venv": sys.prefix != sys.base_prefix,
            "externally_managed": sys.prefix == sys.base_prefix
            and os.path.exists(os.path.join(paths.get("stdlib", ""), "EXTERNALLY-MANAGED")),
            "managed_by": managed_by(sys.prefix),
            "pip_version": distribution_version("pip") if importlib.util.find_spec("pip") else None,
            "has_headers": os.path.exists(os.path.join(paths.get("include", ""), "Python.h")),
            "prefix": sys.prefix,
            "site_folders": [folder for folder in dict.fromkeys(folders) if folder],
        }
    ),
    flush=True,
)
