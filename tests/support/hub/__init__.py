"""A Hub on loopback: the Hugging Face protocol, its CDN on another origin, and ModelScope, with every fault on demand.

with start_hub(folder) as hub:          # folder/org/name/... become repositories
    settings = ...(HF_ENDPOINT=hub.url)
    hub.inject(Fault(kind=Kind.RESET, at_byte=1000))
    ...
    assert hub.log.body_bytes() < 2 * size
"""

from __future__ import annotations

import contextlib
import ssl
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.hub.content import Literal, Noise, OnDisk, Zeros
from tests.support.hub.faces import CdnFace, FaceServer, HubFace, ModelScopeFace, World
from tests.support.hub.faults import Fault, FaultBook, Kind
from tests.support.hub.log import Request, RequestLog
from tests.support.hub.repos import Repo, repo, repos_below

__all__ = ["Fault", "Kind", "Literal", "Noise", "OnDisk", "Repo", "Request", "RunningHub", "Zeros", "repo", "start_hub"]


@dataclass
class RunningHub:
    """`url` goes into HF_ENDPOINT. `log` is what was asked and sent; `inject` adds a fault to come."""

    url: str
    cdn_url: str
    modelscope_url: str
    ca_file: Path | None
    repos: dict[str, Repo]
    log: RequestLog
    faults: FaultBook
    _world: World
    _servers: tuple[FaceServer, ...]

    def inject(self, *faults: Fault) -> None:
        for fault in faults:
            self.faults.add(fault)

    def add(self, *repos: Repo) -> None:
        for one in repos:
            self.repos[one.repo_id] = one

    def expire_signatures(self) -> None:
        """Every signed address handed out so far is refused from now on."""
        self._world.secret += 1

    def drop_connections(self) -> None:
        for server in self._servers:
            server.drop_connections()

    def throttle(self, bytes_per_s: float | None) -> None:
        """The speed of each connection to the CDN and to the Hub; None is as fast as it goes."""
        for server in self._servers:
            server.throttle_bytes_per_s = bytes_per_s

    @property
    def cdn_connections(self) -> int:
        return self._servers[1].connections


@contextlib.contextmanager
def start_hub(
    root: Path | None = None,
    *,
    repos: Iterable[Repo] = (),
    faults: Iterable[Fault] = (),
    tokens: Iterable[str] = (),
    throttle_bytes_per_s: float | None = None,
    latency_s: float = 0.0,
    page_size: int = 1000,
    signature_ttl_s: int = 3600,
    modelscope_cap: int = 10_000,
    tls: bool = False,
    host: str = "127.0.0.1",
    port: int = 0,
) -> Iterator[RunningHub]:
    """Serve `root/org/name/...` and `repos` until the block ends. Raises at the end if a handler crashed.

    `tokens` are known to the Hub besides those of the repositories; `port` is the Hub's own, the others are free ones.
    """
    served = [*(repos_below(root) if root else ()), *repos]
    known = frozenset(tokens).union(*(one.access for one in served))
    world = World(served, tokens=known, page_size=page_size, signature_ttl_s=signature_ttl_s, modelscope_cap=modelscope_cap)
    log, book = RequestLog(), FaultBook(faults)
    with contextlib.ExitStack() as stack:
        ca_file, context = _authority(stack) if tls else (None, None)
        # Another host and not just another port: huggingface_hub 1.x takes two ports of one host for the same server.
        cdn_host = "127.0.0.2" if host == "127.0.0.1" and sys.platform == "linux" else host
        faces = (("hub", HubFace, host, port), ("cdn", CdnFace, cdn_host, 0), ("modelscope", ModelScopeFace, host, 0))
        servers = []
        for face, handler, at, number in faces:
            server = FaceServer(handler, face=face, host=at, port=number, faults=book, log=log, tls=context)
            server.world = world
            server.latency_s = latency_s
            server.throttle_bytes_per_s = throttle_bytes_per_s
            server.start()
            stack.callback(server.stop)
            servers.append(server)
        world.cdn_url = servers[1].url
        yield RunningHub(
            url=servers[0].url,
            cdn_url=servers[1].url,
            modelscope_url=servers[2].url,
            ca_file=ca_file,
            repos=world.repos,
            log=log,
            faults=book,
            _world=world,
            _servers=tuple(servers),
        )
    crashes = [crash for server in servers for crash in server.crashes]
    if crashes:
        raise ExceptionGroup("the test hub crashed", [crash for crash in crashes if isinstance(crash, Exception)])


def _authority(stack: contextlib.ExitStack) -> tuple[Path, ssl.SSLContext]:
    from tests.support.hub.tls import make_authority

    return make_authority(Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hub-tls-"))))
