"""How bytes reach us: TLS with a CA of one's own, proxies, IPv6, redirects; and what is never sent along."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest

from provision.errors import TransferError, UsageError
from provision.fetch.turns import Turns
from provision.fetch.wire import Dialer, Target, WireError, tls_context
from provision.units import MIB
from tests.integration.fetch.conftest import Getter, noise
from tests.support.proxies import http_proxy, socks_proxy
from tests.support.ranges import serve_ranges

pytestmark = pytest.mark.integration

CONTENT = noise(5 * MIB)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key in one file."""
    folder = tmp_path_factory.mktemp("tls")
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:TRUE"]
    try:
        keys = ["-newkey", "rsa:2048", "-nodes", "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
        subprocess.run(["openssl", "req", "-x509", *keys, "-days", "2", *names], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed, and this test needs a certificate")
    return folder / "cert.pem"


def server_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    return context


def test_tls_with_a_ca_file_of_ones_own(get: Getter, certificate: Path) -> None:
    with serve_ranges(CONTENT, tls=server_context(certificate)) as server:
        done = get(CONTENT, server, environ={"SSL_CERT_FILE": str(certificate)})
        assert done.local_path.read_bytes() == CONTENT


def test_an_unknown_certificate_is_refused(get: Getter, certificate: Path) -> None:
    with serve_ranges(CONTENT, tls=server_context(certificate)) as server:
        with pytest.raises(TransferError, match="certificate"):
            get(CONTENT, server, patience_s=600.0)
        assert server.requests == []


def test_a_ca_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        tls_context({"SSL_CERT_FILE": str(tmp_path / "gone.pem")})
    assert caught.value.code == "bad-ca-file"


def test_plain_http_through_a_proxy_with_a_password(get: Getter) -> None:
    with serve_ranges(CONTENT) as server, http_proxy() as proxy:
        environ = {"http_proxy": f"http://me:secret@{proxy.address}"}
        assert get(CONTENT, server, environ=environ).local_path.read_bytes() == CONTENT
        assert proxy.seen[0] == f"GET {server.url}/blob"
        assert set(proxy.logins) == {"Basic bWU6c2VjcmV0"}


def test_https_through_a_connect_tunnel(get: Getter, certificate: Path) -> None:
    with serve_ranges(CONTENT, tls=server_context(certificate)) as server, http_proxy() as proxy:
        environ = {"HTTPS_PROXY": proxy.address, "SSL_CERT_FILE": str(certificate)}
        assert get(CONTENT, server, environ=environ).local_path.read_bytes() == CONTENT
        assert set(proxy.seen) == {f"CONNECT {server.url.removeprefix('https://')}"}


def test_tls_inside_tls_through_a_proxy_that_speaks_https(get: Getter, certificate: Path) -> None:
    context = server_context(certificate)
    with serve_ranges(CONTENT, tls=context) as server, http_proxy(tls=context) as proxy:
        environ = {"HTTPS_PROXY": f"https://me:secret@{proxy.address}", "SSL_CERT_FILE": str(certificate)}
        assert get(CONTENT, server, environ=environ).local_path.read_bytes() == CONTENT
        assert set(proxy.seen) == {f"CONNECT {server.url.removeprefix('https://')}"}
        assert set(proxy.logins) == {"Basic bWU6c2VjcmV0"}


def test_tls_that_ends_in_the_middle_is_taken_up_again(get: Getter, certificate: Path) -> None:
    with serve_ranges(CONTENT, tls=server_context(certificate)) as server:
        server.fault = lambda number, start, stop: "cut:100000" if number % 3 == 1 else None
        done = get(CONTENT, server, environ={"SSL_CERT_FILE": str(certificate)})
        assert done.local_path.read_bytes() == CONTENT
        assert done.transferred_bytes == len(CONTENT)


def test_a_connection_that_waits_for_its_server_holds_no_turn(certificate: Path) -> None:
    span = {"Range": f"bytes=0-{MIB - 1}"}
    with serve_ranges(CONTENT, tls=server_context(certificate)) as server:
        server.fault = lambda number, start, stop: "stall:1000" if number == 0 else None
        dialer = Dialer({"SSL_CERT_FILE": str(certificate)})
        dialer.turns = Turns(1)
        silent, other = dialer.connect(server.url), dialer.connect(server.url)
        target = Target(url=f"{server.url}/blob")

        def wait() -> None:
            # The head and a thousand bytes come; the rest never does.
            with contextlib.suppress(*WireError):
                silent.get(target, span).read()

        waiting = threading.Thread(target=wait, daemon=True)
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
        assert other.get(target, span).read() == CONTENT[:MIB]
        assert waiting.is_alive(), "the other one had to wait until the silent one's time was up"
        silent.abort()
        waiting.join(5)
        assert not waiting.is_alive()
        silent.close()
        other.close()


def test_a_proxy_whose_certificate_is_unknown_gets_no_password(get: Getter, certificate: Path) -> None:
    with serve_ranges(CONTENT) as server, http_proxy(tls=server_context(certificate)) as proxy:
        with pytest.raises(TransferError, match="certificate"):
            get(CONTENT, server, environ={"HTTP_PROXY": f"https://me:secret@{proxy.address}"}, patience_s=0.2)
        assert (proxy.seen, proxy.logins) == ([], [])


def test_through_a_socks_proxy(get: Getter) -> None:
    with serve_ranges(CONTENT) as server, socks_proxy() as proxy:
        environ = {"ALL_PROXY": f"socks5h://me:secret@{proxy.address}"}
        assert get(CONTENT, server, environ=environ).local_path.read_bytes() == CONTENT
        assert set(proxy.seen) == {server.url.removeprefix("http://")}
        assert set(proxy.logins) == {"me:secret"}


def test_no_proxy_goes_straight(get: Getter) -> None:
    with serve_ranges(CONTENT) as server, http_proxy() as proxy:
        environ = {"http_proxy": proxy.address, "NO_PROXY": "127.0.0.1"}
        get(CONTENT, server, environ=environ)
        assert proxy.seen == []


def test_a_dead_proxy_is_a_failed_transfer(get: Getter) -> None:
    with serve_ranges(CONTENT) as server, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        taken.close()
        with pytest.raises(TransferError):
            get(CONTENT, server, environ={"ALL_PROXY": f"socks5://127.0.0.1:{port}"}, patience_s=0.2)


def test_ipv6(get: Getter) -> None:
    if not socket.has_ipv6:
        pytest.skip("this Python has no IPv6")
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with serve_ranges(CONTENT, ipv6=True) as server:
        assert get(CONTENT, server).local_path.read_bytes() == CONTENT


def test_headers_go_to_their_target_and_errors_do_not_show_them() -> None:
    target = Target(url="https://hub.example/file?X-Amz-Signature=abc", headers={"Authorization": "Bearer hf_secret"})
    assert "hf_secret" not in repr(target)
    assert "abc" not in repr(target)


def test_not_every_scheme_is_dialled() -> None:
    with pytest.raises(ValueError, match="not an http address"):
        Dialer({}).connect("file:///etc/passwd")
