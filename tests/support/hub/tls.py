"""A throw-away certificate authority and a certificate for loopback, made by the openssl program."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

_NAMES = "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:127.0.0.2,IP:::1"


def make_authority(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """(CA file in PEM, context of a server whose certificate it signed). Skips the test where openssl is missing."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl program is needed to make a certificate")
    folder.mkdir(parents=True, exist_ok=True)
    ca_key, ca, key, request, leaf, extensions = (
        folder / name for name in ("ca.key", "ca.pem", "key.pem", "csr", "leaf.pem", "ext")
    )
    extensions.write_text(_NAMES + "\n", encoding="ascii")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for argv in (
        ["req", "-x509", *curve, "-keyout", ca_key, "-out", ca, "-days", "2", "-subj", "/CN=provision test CA"],
        ["req", *curve, "-keyout", key, "-out", request, "-subj", "/CN=localhost"],
        [
            "x509",
            "-req",
            "-in",
            request,
            "-CA",
            ca,
            "-CAkey",
            ca_key,
            "-CAcreateserial",
            "-out",
            leaf,
            "-days",
            "2",
            "-extfile",
            extensions,
        ],
    ):
        subprocess.run(["openssl", *map(str, argv)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf, key)
    return ca, context
