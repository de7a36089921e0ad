"""Asking a hub: redirects followed by hand, tokens kept at home, answers bounded, busy servers asked again.

Why not `HfApi`: it follows redirects and `Link: next` to any host with the token in hand, and reads the environment by itself.
See docs/decisions/0006-own-hub-client.md.
"""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import httpx2

from provision import __version__
from provision.errors import ProvisionError, TransferError
from provision.events import Note, Reporter, silent
from provision.hub.addresses import redirected
from provision.hub.deadline import within
from provision.hub.origins import origin_of, tls_context
from provision.hub.proxies import Proxy, proxy_for
from provision.settings import Settings

MAX_BODY_BYTES = 64 * 1024 * 1024
_MAX_HOPS = 8
_REDIRECTS = (301, 302, 303, 307, 308)
_TRIES = 4
_LONGEST_WAIT_S = 120.0
_TIMEOUT = httpx2.Timeout(30.0, connect=10.0)
_RATE_LIMIT_T = re.compile(r"(?:^|[;,\s])t=(\d{1,6})\b")

HeadersFor = Callable[[str], Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer, read. `url` is what was asked last, `headers` have lower-case names."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    redirect: str | None = None
    """Absolute address of a redirect that was not followed."""

    def __repr__(self) -> str:
        return f"Answer({self.status} from {origin_of(self.url)})"

    def json(self) -> Any:
        """The body as JSON. Raises TransferError (`not-a-hub`) for anything else: a login page, half an answer."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            page = self.body.lstrip()[:1] == b"<"
            what = "a web page, perhaps the login page of this network" if page else "something that is no JSON"
            raise TransferError(
                f"{origin_of(self.url)} answered with {what}, not as a hub does",
                code="not-a-hub",
                hint="open the address in a browser, or use another mirror: --endpoint URL",
            ) from None


class Asker:
    """A few requests to hubs, with connections kept per origin, from any thread. `sleep` is a parameter for tests.

    No answer may take longer than `answer_s`, from the question to its last byte.
    """

    answer_s: float = 60.0
    """A page of a listing has at most a few hundred kilobytes, so this is patient even on a slow line."""

    def __init__(
        self,
        settings: Settings,
        *,
        reporter: Reporter = silent,
        tries: int = _TRIES,
        answer_s: float | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings = settings
        self._reporter = reporter
        self._tries = tries
        self.answer_s = answer_s or Asker.answer_s
        self._sleep = sleep
        self._clients: dict[str, httpx2.Client] = {}
        self._lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for client in self._clients.values():
            client.close()

    def ask(
        self,
        url: str,
        *,
        headers_for: HeadersFor,
        method: str = "GET",
        follow: Literal["all", "none"] = "all",
        at_most: int | None = None,
    ) -> Answer:
        """The answer to `url`, after its redirects unless `follow` is "none".

        `headers_for` gives the secret headers of each address asked, so that none crosses origins. With `at_most` the body is
        cut there; without, more than `MAX_BODY_BYTES` is an error. Busy servers and broken connections are tried again; raises
        TransferError when that does not help.
        """
        for _ in range(_MAX_HOPS):
            answer = self._patiently(method, url, headers_for(url), at_most=at_most)
            if answer.redirect is None or follow == "none":
                return answer
            refuse_downgrade(url, answer.redirect)
            url = answer.redirect
        raise TransferError(
            f"{origin_of(url)} redirects in a circle", code="redirect-loop", hint="use another mirror: --endpoint URL"
        )

    def _patiently(self, method: str, url: str, headers: Mapping[str, str], *, at_most: int | None) -> Answer:
        for attempt in range(1, self._tries + 1):
            last = attempt == self._tries
            wait_s = min(2.0 ** (attempt - 1) * 0.5, 8.0)
            try:
                answer = within(self.answer_s, lambda: self._once(method, url, headers, at_most=at_most))
            except TimeoutError:
                # It had all its time: another mirror may be quicker.
                raise TransferError(
                    f"{origin_of(url)} did not answer completely within {self.answer_s:.0f} s",
                    code="hub-slow",
                    hint="use another mirror: --endpoint URL",
                ) from None
            except (httpx2.TransportError, httpx2.DecodingError) as error:
                trouble = unreachable(url, error, proxy=proxy_for(url, self._settings.environ))
                # Nobody listening, or no such name: that seldom mends in seconds, and another mirror may be waiting.
                if last or trouble.code == "tls-untrusted" or (isinstance(error, httpx2.ConnectError) and attempt == 2):
                    raise trouble from error
            else:
                if answer.status not in (429, 500, 502, 503, 504) or last:
                    return answer
                trouble = TransferError(f"{origin_of(url)} is busy (HTTP {answer.status})", code="hub-busy")
                wait_s = _asked_wait_s(answer.headers) or wait_s
                if wait_s > _LONGEST_WAIT_S:
                    return answer
            self._reporter(Note(level="warning", message=f"{trouble.message}; asking again in {wait_s:.1f} s"))
            self._sleep(wait_s)
        raise AssertionError("the last try returns or raises")

    def _once(self, method: str, url: str, headers: Mapping[str, str], *, at_most: int | None) -> Answer:
        sent = {"Accept-Encoding": "identity", "User-Agent": f"provision/{__version__}", **headers}
        try:
            request = self._client(url).build_request(method, url, headers=sent)
        except (httpx2.InvalidURL, ValueError) as error:
            raise TransferError(
                f"an address at {origin_of(url)} cannot be asked",
                code="bad-redirect",
                hint="use another mirror: --endpoint URL",
            ) from error
        response = self._client(url).send(request, stream=True)
        try:
            body = b"" if method == "HEAD" or at_most == 0 else _body(response, at_most)
            # As it came: httpx2 would guess an encoding.
            location = next((v.decode("latin-1") for k, v in response.headers.raw if k.lower() == b"location"), "")
            redirect = redirected(url, location) if response.status_code in _REDIRECTS else None
            named = {name.lower(): value for name, value in response.headers.items()}
            return Answer(url=url, status=response.status_code, headers=named, body=body, redirect=redirect)
        finally:
            response.close()

    def _client(self, url: str) -> httpx2.Client:
        origin = origin_of(url)
        with self._lock:
            if origin not in self._clients:
                if self._tls is None:
                    self._tls = tls_context(self._settings.environ)
                proxy = proxy_for(url, self._settings.environ)
                self._clients[origin] = httpx2.Client(
                    trust_env=False, verify=self._tls, proxy=_to_httpx(proxy) if proxy else None, timeout=_TIMEOUT
                )
            return self._clients[origin]


@contextlib.contextmanager
def asking(asker: Asker | None, settings: Settings, *, reporter: Reporter = silent) -> Iterator[Asker]:
    """The caller's `asker` with its open connections, or one for this question alone."""
    if asker is not None:
        yield asker
        return
    with Asker(settings, reporter=reporter) as own:
        yield own


def refuse_downgrade(url: str, redirect: str) -> None:
    """Raises TransferError (`insecure-redirect`) when a redirect leaves https."""
    if urlsplit(url).scheme == "https" and urlsplit(redirect).scheme != "https":
        raise TransferError(
            f"{origin_of(url)} redirects from https to {origin_of(redirect)}",
            code="insecure-redirect",
            hint="use another mirror: --endpoint URL",
        )


def unreachable(url: str, error: Exception, *, proxy: Proxy | None = None) -> ProvisionError:
    """One error for every way a server cannot be talked to. It names the origin and never the query."""
    origin = origin_of(url)
    text = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return TransferError(
            f"the certificate of {origin} is not trusted",
            code="tls-untrusted",
            hint="behind a company proxy: export SSL_CERT_FILE=/path/to/its-ca.pem",
        )
    if proxy is not None:
        return TransferError(
            f"cannot reach {origin} through the proxy {proxy.scheme}://{proxy.host}:{proxy.port}: {text}",
            code="hub-unreachable",
            hint="see which proxy is set (env | grep -i _proxy) and whether it runs; to go past it: export NO_PROXY='*'",
        )
    return TransferError(
        f"cannot reach {origin}: {text}",
        code="hub-unreachable",
        hint="check the network, name a mirror with --endpoint URL, or use what is on disk: HF_HUB_OFFLINE=1",
    )


def _body(response: httpx2.Response, at_most: int | None) -> bytes:
    body = bytearray()
    for chunk in response.iter_bytes(64 * 1024):
        body += chunk
        if at_most is not None and len(body) >= at_most:
            return bytes(body[:at_most])
        if len(body) > MAX_BODY_BYTES:
            raise TransferError(
                f"{origin_of(str(response.url))} sends more than a listing can be",
                code="not-a-hub",
                hint="use another mirror: --endpoint URL",
            )
    return bytes(body)


def _asked_wait_s(headers: Mapping[str, str]) -> float | None:
    """What Retry-After or RateLimit ask for; a RateLimit window ends after t, so one second more."""
    match = _RATE_LIMIT_T.search(headers.get("ratelimit", ""))
    if match:
        return float(match.group(1)) + 1.0
    after = headers.get("retry-after", "").strip()
    return float(after) if re.fullmatch(r"\d{1,6}(?:\.\d+)?", after) else None


def _to_httpx(proxy: Proxy) -> httpx2.Proxy:
    auth = (proxy.username, proxy.password or "") if proxy.username is not None else None
    host = f"[{proxy.host}]" if ":" in proxy.host else proxy.host
    return httpx2.Proxy(f"{proxy.scheme}://{host}:{proxy.port}", auth=auth)
