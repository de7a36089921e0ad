"""Reading the maintainer's index of prebuilt wheels, and downloading one wheel of it.

The live index could not be reached where this was written; pages are tested as frozen copies of its format (PEP 503), and the
whole way from a page to an installed wheel against a server on the testing machine.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from provision.engine.prebuilt import IndexFile, IndexPages, is_safe, parse_index_page
from provision.engine.types import PrebuiltChoice
from provision.errors import IntegrityError, TransferError
from provision.events import Progress, ProgressEnded, Reporter
from provision.hub.origins import tls_context
from provision.hub.proxies import proxy_for

if TYPE_CHECKING:
    import httpx2

_TIMEOUT_S = 5.0
_PAGE_LIMIT_BYTES = 16 * 1024 * 1024


def read_index(tags: Sequence[str], *, environ: Mapping[str, str], url: str) -> tuple[IndexPages | None, str]:
    """(the pages of `tags`, "") or (None, why the index could not be read)."""
    import httpx2

    pages: dict[str, tuple[IndexFile, ...]] = {}
    try:
        with _client(url, environ, timeout_s=_TIMEOUT_S) as client:
            for tag in tags:
                page = f"{url}/{tag}/llama-cpp-python/"
                answer = client.get(page)
                if answer.status_code == 404:
                    continue
                answer.raise_for_status()
                pages[tag] = parse_index_page(answer.text[:_PAGE_LIMIT_BYTES], base_url=str(answer.url))
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        return None, f"{type(error).__name__}: {error}"
    return pages, ""


def download_prebuilt(choice: PrebuiltChoice, *, folder: Path, environ: Mapping[str, str], reporter: Reporter) -> Path:
    """The wheel, whole and with the hash its page promised (if it promised one)."""
    import httpx2

    folder.mkdir(parents=True, exist_ok=True)
    final = folder / choice.filename
    partial = folder / f".{choice.filename}.{os.getpid()}"
    digest = hashlib.sha256()
    done = 0
    try:
        client = _client(choice.url, environ, timeout_s=60.0)
        with client, client.stream("GET", choice.url) as answer, partial.open("wb") as file:
            answer.raise_for_status()
            if not is_safe(str(answer.url)):
                raise TransferError(
                    f"{choice.filename} was redirected to an address without https",
                    code="wheel-download",
                    hint="provision install --from-source",
                )
            length = answer.headers.get("content-length", "")
            total = int(length) if length.isdigit() else None
            for block in answer.iter_bytes():
                file.write(block)
                digest.update(block)
                done += len(block)
                reporter(Progress(task="wheel", label=choice.filename, done=done, total=total, unit="bytes"))
            file.flush()
            os.fsync(file.fileno())
        if choice.sha256 is not None and digest.hexdigest() != choice.sha256:
            raise IntegrityError(
                f"{choice.filename} is not what the index promised (sha256 {digest.hexdigest()}, not {choice.sha256})",
                code="wheel-hash",
                hint="provision install --from-source",
            )
        os.replace(partial, final)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise TransferError(
            f"{choice.filename} could not be downloaded: {error}", code="wheel-download", hint="provision install --from-source"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
        reporter(ProgressEnded(task="wheel"))
    return final


def _client(url: str, environ: Mapping[str, str], *, timeout_s: float) -> httpx2.Client:
    import httpx2

    # The settings' environment decides about proxies and certificates, not whatever the process has by now.
    proxy = proxy_for(url, environ)
    address = None
    if proxy is not None:
        auth = (proxy.username, proxy.password or "") if proxy.username is not None else None
        address = httpx2.Proxy(f"{proxy.scheme}://{proxy.host}:{proxy.port}", auth=auth)
    return httpx2.Client(timeout=timeout_s, follow_redirects=True, proxy=address, verify=tls_context(environ), trust_env=False)
