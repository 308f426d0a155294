"""The command behind proxies, with certificates of its own, and on networks with more than one address."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chisel import address, race
from chisel.address import Address, proxy_variable
from chisel.proxy import is_excepted, parse
from chisel_shared.contract.errors import BadRequest
from tests.cli.conftest import Command
from tests.cli.gateway import Gateway
from tests.support.fronts import ending_tls, make_certificates, passing_on, running_proxy

HOST = "backend.test"
"""A name that only the proxy knows."""


def port_of(gateway: Gateway) -> int:
    return int(gateway.url.rpartition(":")[2])


@contextmanager
def behind_tls(gateway: Gateway, folder: Path, *names: str) -> Iterator[tuple[int, Path]]:
    trusted, served = make_certificates(folder, *names)
    with ending_tls(port_of(gateway), served) as port:
        yield port, trusted


def test_a_job_runs_through_a_proxy(gateway: Gateway, chisel: Command) -> None:
    with running_proxy({f"{HOST}:80": port_of(gateway)}) as proxy:
        chisel.env |= {"CHISEL_BACKEND_URL": f"http://{HOST}", "http_proxy": f"http://127.0.0.1:{proxy.port}"}
        done = chisel("python", "hello.py")
        assert (done.status, done.stdout) == (0, b"".join(data for _, data in gateway.script.pieces)), done
        assert chisel("ps").status == 0
    # The session, the upload of the bundle and the list.
    assert proxy.asked == [f"{HOST}:80"] * 3


def test_a_job_runs_through_a_proxy_and_tls(gateway: Gateway, chisel: Command, tmp_path: Path) -> None:
    with (
        behind_tls(gateway, tmp_path, HOST) as (port, trusted),
        running_proxy({f"{HOST}:443": port}, credentials="us er:p@ss") as proxy,
    ):
        chisel.env |= {
            "CHISEL_BACKEND_URL": f"https://{HOST}",
            "HTTPS_PROXY": f"http://us%20er:p%40ss@127.0.0.1:{proxy.port}",
            "CHISEL_CA_FILE": str(trusted),
        }
        done = chisel("python", "hello.py")
        assert done.status == 0, done
        assert gateway.submissions
        chisel.env["HTTPS_PROXY"] = f"http://127.0.0.1:{proxy.port}"
        done = chisel("ps")
    assert done.status == 125
    assert "HTTPS_PROXY" in done.stderr
    assert "name and password" in done.stderr


@pytest.mark.parametrize("variable", ["CHISEL_CA_FILE", "SSL_CERT_FILE"])
def test_an_authority_of_ones_own_is_trusted(
    gateway: Gateway, chisel: Command, tmp_path: Path, variable: str
) -> None:
    with behind_tls(gateway, tmp_path, "localhost", "127.0.0.1") as (port, trusted):
        for host in ("localhost", "127.0.0.1"):
            chisel.env["CHISEL_BACKEND_URL"] = f"https://{host}:{port}"
            refused = chisel("ps")
            assert refused.status == 125
            assert "is not trusted" in refused.stderr
            assert "CHISEL_CA_FILE" in refused.stderr
        chisel.env[variable] = str(trusted)
        assert chisel("python", "hello.py").status == 0


def test_a_certificate_for_another_name_is_refused(gateway: Gateway, chisel: Command, tmp_path: Path) -> None:
    with behind_tls(gateway, tmp_path, "elsewhere.test") as (port, trusted):
        chisel.env |= {"CHISEL_BACKEND_URL": f"https://127.0.0.1:{port}", "CHISEL_CA_FILE": str(trusted)}
        done = chisel("ps")
    assert done.status == 125
    assert "is not trusted" in done.stderr
    assert not gateway.requests


def test_what_is_wrong_with_tls_is_said(gateway: Gateway, chisel: Command, tmp_path: Path) -> None:
    chisel.env["CHISEL_BACKEND_URL"] = gateway.url.replace("http:", "https:")
    assert "does not speak TLS" in chisel("ps").stderr
    (tmp_path / "empty.pem").write_bytes(b"")
    chisel.env["CHISEL_CA_FILE"] = str(tmp_path / "empty.pem")
    assert "CHISEL_CA_FILE" in chisel("ps").stderr
    chisel.env["CHISEL_CA_FILE"] = str(tmp_path / "none.pem")
    assert "No such file" in chisel("ps").stderr


def test_a_proxy_that_fails_is_told_apart_from_a_backend(gateway: Gateway, chisel: Command) -> None:
    chisel.env |= {"CHISEL_BACKEND_URL": f"http://{HOST}", "ALL_PROXY": "http://127.0.0.1:1"}
    done = chisel("ps")
    assert (done.status, "the proxy 127.0.0.1:1 (from ALL_PROXY) does not answer" in done.stderr) == (
        125,
        True,
    )
    chisel.env["ALL_PROXY"] = gateway.url
    assert "ALL_PROXY" in chisel("ps").stderr
    with running_proxy({}) as proxy:
        chisel.env["ALL_PROXY"] = f"127.0.0.1:{proxy.port}"
        assert f"cannot reach http://{HOST}" in chisel("ps").stderr
    chisel.env["ALL_PROXY"] = "socks5://127.0.0.1:1080"
    done = chisel("ps")
    assert "speaks to http ones" in done.stderr


def test_this_machine_is_reached_without_a_proxy(gateway: Gateway, chisel: Command) -> None:
    chisel.env |= {"HTTP_PROXY": "http://127.0.0.1:1", "HTTPS_PROXY": "http://127.0.0.1:1"}
    assert chisel("ps").status == 0


def test_ipv6_addresses_are_reached(gateway: Gateway, chisel: Command) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with passing_on(port_of(gateway), host="::1") as port:
        chisel.env["CHISEL_BACKEND_URL"] = f"http://[::1]:{port}"
        done = chisel("python", "hello.py")
    assert done.status == 0, done.stderr


def test_one_address_of_a_name_is_enough(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    port = port_of(gateway)
    # The first is nobody's: it neither answers nor refuses, or has no way there.
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))
        for host in ("192.0.2.1", "127.0.0.3", "127.0.0.1")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: found)
    with address.connect("many.test", port, seconds=30) as connected:
        assert connected.getpeername() == ("127.0.0.1", port)
        assert connected.gettimeout() == 30
        # A server that is closed between accepting a connection and making its transport loses it.
        connected.sendall(b"GET /nothing HTTP/1.1\r\nHost: many.test\r\n\r\n")
        assert connected.recv(12) == b"HTTP/1.1 404"


def test_no_address_of_a_name_is_an_error() -> None:
    refusing = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{n}", 1)) for n in (3, 4)]
    with pytest.raises(ConnectionRefusedError):
        race.first(refusing, seconds=30)


@pytest.mark.parametrize(
    ("exceptions", "host", "port", "excepted"),
    [
        ("", "h.test", 80, False),
        ("*", "h.test", 80, True),
        ("h.test", "h.test", 80, True),
        ("H.Test", "h.test", 80, True),
        ("h.test", "a.h.test", 80, True),
        (".h.test", "a.h.test", 80, True),
        ("*.h.test", "a.h.test", 80, True),
        ("h.test", "ah.test", 80, False),
        ("x, h.test", "h.test", 80, True),
        ("h.test:80", "h.test", 80, True),
        ("h.test:81", "h.test", 80, False),
        ("10.0.0.0/8", "10.1.2.3", 80, True),
        ("10.0.0.0/8", "11.1.2.3", 80, False),
        ("fd00::/8", "fd00::1", 80, True),
        ("[fd00::1]:80", "fd00::1", 80, True),
        ("fd00::1", "fd00::1", 80, True),
        (",,", "h.test", 80, False),
    ],
)
def test_no_proxy(exceptions: str, host: str, port: int, excepted: bool) -> None:
    assert is_excepted(Address(False, host, port, ""), exceptions) is excepted


@pytest.mark.parametrize(
    ("secure", "environment", "expected"),
    [
        (True, {"HTTPS_PROXY": "http://p", "ALL_PROXY": "http://q"}, "HTTPS_PROXY"),
        (True, {"HTTPS_PROXY": "http://p", "https_proxy": "http://q"}, "https_proxy"),
        (True, {"HTTP_PROXY": "http://p"}, None),
        (False, {"HTTP_PROXY": "http://p"}, "HTTP_PROXY"),
        (False, {"HTTPS_PROXY": "http://p", "all_proxy": "http://q"}, "all_proxy"),
        (False, {"HTTP_PROXY": "http://p", "NO_PROXY": "h.test"}, None),
        (False, {"HTTP_PROXY": "", "ALL_PROXY": " "}, None),
    ],
)
def test_which_proxy(
    monkeypatch: pytest.MonkeyPatch, secure: bool, environment: dict[str, str], expected: str | None
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_variable(Address(secure, "h.test", 80, "")) == expected


def test_a_proxys_address() -> None:
    assert parse("P", "proxy.test:3128")[:3] == ("proxy.test", 3128, None)
    assert parse("P", "http://a:b%3ac@[::1]:3128/")[:3] == ("::1", 3128, b"a:b:c")
    for wrong in ("http://", "https://proxy.test", "http://proxy.test:port", "http://a:secret@:80"):
        with pytest.raises(BadRequest, match="P") as raised:
            parse("P", wrong)
        assert "secret" not in str(raised.value)
