"""What may stand between a client and a backend: an HTTP proxy, and a server that ends TLS.

Each runs on a thread and an event loop of its own and passes bytes on to a port of this machine.
"""

import asyncio
import base64
import datetime
import ipaddress
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class ConnectProxy:
    """A proxy that knows names of its own: `ports` leads `host:port` to a port of this machine. Without
    the right `credentials` (`user:password`) it lets nobody through. `asked` is what it was asked for."""

    def __init__(self, ports: dict[str, int], *, credentials: str = "") -> None:
        self.asked: list[str] = []
        self.port = 0
        self._ports = ports
        self._wanted = f"Basic {base64.b64encode(credentials.encode()).decode()}" if credentials else ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        self.asked.append(target)
        if method != "CONNECT":
            status = "405 Method Not Allowed"
        elif headers.get("Proxy-Authorization", "") != self._wanted:
            status = "407 Proxy Authentication Required"
        elif target not in self._ports:
            status = "502 Bad Gateway"
        else:
            writer.write(b"HTTP/1.1 200 Connection established\r\nVia: tests\r\n\r\n")
            await pass_on(reader, writer, self._ports[target])
            return
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())


@contextmanager
def running_proxy(ports: dict[str, int], *, credentials: str = "") -> Iterator[ConnectProxy]:
    proxy = ConnectProxy(ports, credentials=credentials)
    with serving(proxy.serve) as proxy.port:
        yield proxy


@contextmanager
def ending_tls(port: int, certificate: Path) -> Iterator[int]:
    """The port of a server that decrypts what it passes on to `port`; its certificate and key are in one
    file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serving(lambda reader, writer: pass_on(reader, writer, port), context=context) as served:
        yield served


@contextmanager
def passing_on(port: int, *, host: str) -> Iterator[int]:
    """The port on `host` of a server that passes everything on to `port`."""
    with serving(lambda reader, writer: pass_on(reader, writer, port), host=host) as served:
        yield served


@contextmanager
def serving(
    handler: Handler, *, host: str = "127.0.0.1", context: ssl.SSLContext | None = None
) -> Iterator[int]:
    """Let `handler` serve every connection; its port."""
    loop = asyncio.new_event_loop()
    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        try:
            await handler(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # whoever connected is gone
        finally:
            writer.close()

    server = loop.run_until_complete(asyncio.start_server(serve, host, 0, ssl=context))
    loop.set_exception_handler(lambda loop, context: None)  # refused handshakes are what some tests want
    thread = threading.Thread(target=loop.run_forever, name="front")
    thread.start()
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        asyncio.run_coroutine_threadsafe(_end(server, writers), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    """Connect to `port` of this machine and pass bytes both ways until one side ends."""
    there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)

    async def one_way(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while piece := await source.read(1 << 16):
                target.write(piece)
                await target.drain()
        except OSError:
            return
        finally:
            target.close()

    try:
        await asyncio.gather(one_way(reader, there_writer), one_way(there_reader, writer))
    finally:
        there_writer.transport.abort()


async def _end(server: asyncio.Server, writers: set[asyncio.StreamWriter]) -> None:
    server.close()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    for writer in writers:
        writer.transport.abort()
    for _ in range(3):
        await asyncio.sleep(0)  # a transport takes a few rounds of its loop to be gone


def make_certificates(folder: Path, *names: str) -> tuple[Path, Path]:
    """An authority and a server's certificate for `names`: the files a client and the server are given."""
    authority_key, server_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of the tests")])
    now = datetime.datetime.now(datetime.UTC)

    def begin(subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    authority = (
        begin(authority_name, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    alternatives = x509.SubjectAlternativeName([_general(name) for name in names])
    server = (
        begin(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])]), server_key)
        .add_extension(alternatives, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = server_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    trusted, served = folder / "authority.pem", folder / "server.pem"
    trusted.write_bytes(authority.public_bytes(pem))
    served.write_bytes(server.public_bytes(pem) + private)
    return trusted, served


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
