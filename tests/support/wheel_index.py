"""The maintainer's wheel index on this machine: one page per tag, as upstream lays them out, and the wheels themselves."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class WheelIndex:
    """`url` is what PROVISION_WHEEL_INDEX is set to; `asked` are the paths that were requested, in order."""

    url: str
    asked: list[str] = field(default_factory=list)


@contextmanager
def serve_index(
    tags: Mapping[str, Path], *, digest: str | None = None, host: str = "127.0.0.1", wheels_from: str | None = None
) -> Iterator[WheelIndex]:
    """Serve one wheel for each tag. `digest` replaces the true sha256; `wheels_from` redirects downloads to another server."""
    files = {path.name: path for path in tags.values()}
    pages = {f"/{tag}/llama-cpp-python/": _page(path, digest) for tag, path in tags.items()}
    index: WheelIndex

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            index.asked.append(self.path)
            name = self.path.rsplit("/", 1)[-1]
            body = pages[self.path] if self.path in pages else files[name].read_bytes() if name in files else None
            if body is not None and name in files and wheels_from is not None:
                self.send_response(302)
                self.send_header("Location", f"{wheels_from}{self.path}")
                body = b""
            else:
                self.send_response(200 if body is not None else 404)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer((host, 0), Handler)
    index = WheelIndex(url=f"http://{host}:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield index
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _page(wheel: Path, digest: str | None) -> bytes:
    sha256 = digest or hashlib.sha256(wheel.read_bytes()).hexdigest()
    link = f'<a href="../../files/{wheel.name}#sha256={sha256}">{wheel.name}</a><br>'
    return f"<!DOCTYPE html>\n<html><body>\n{link}\n</body></html>".encode()
