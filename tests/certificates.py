"""An authority of the test's own, certificates of servers that it signs, and TLS before a server built without it."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

DAY = timedelta(days=1)
ASKS_FOR_TLS = b"\x04\xd2\x16\x2f"  # PostgreSQL's SSLRequest, after its length


class Authority:
    """Signs certificates; `certificate` is its own, as PEM."""

    def __init__(self, name: str) -> None:
        self._key, self._name = ec.generate_private_key(ec.SECP256R1()), _named(name)
        self._own = _begun(self._name, self._key.public_key(), self._name)
        self._own = self._own.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.certificate = _pem(self._own.sign(self._key, hashes.SHA256()))

    def issue(self, host: str) -> tuple[str, str]:
        """Certificate and private key for a host, each as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = _begun(_named(host), key.public_key(), self._name)
        made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")
        return _pem(made.sign(self._key, hashes.SHA256())), private


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _begun(subject: x509.Name, key: ec.EllipticCurvePublicKey, issuer: x509.Name) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key,
        serial_number=x509.random_serial_number(),
        not_valid_before=now - DAY,
        not_valid_after=now + DAY,
    )


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode("ascii")


def server_context(certificate: tuple[str, str], folder: Path) -> ssl.SSLContext:
    """A server's side of TLS with what `issue` gave; both are left in the folder."""
    (folder / "both.pem").write_text("".join(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    return context


@contextmanager
def tls_before(port: int, certificate: tuple[str, str], folder: Path) -> Iterator[int]:
    """A port of loopback that speaks TLS as PostgreSQL does, and leads to a server on another port that does not."""
    context, listener = server_context(certificate, folder), socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()

    def talk(client: socket.socket) -> None:
        with client, suppress(OSError), socket.create_connection(("127.0.0.1", port)) as server:
            wish = client.recv(8, socket.MSG_WAITALL)
            if not wish.endswith(ASKS_FOR_TLS):  # the server's own rules hold
                server.sendall(wish)
                _pass_on(client, server)
                return
            client.sendall(b"S")
            with context.wrap_socket(client, server_side=True) as encrypted:
                _pass_on(encrypted, server)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def _pass_on(client: socket.socket, server: socket.socket) -> None:
    """Both ways in one thread, since TLS of Python is not for two at once; until one of them ends."""
    while True:
        waiting = isinstance(client, ssl.SSLSocket) and client.pending()
        ready = [client] if waiting else select.select([client, server], [], [])[0]
        for source, target in ((client, server), (server, client)):
            if source in ready:
                data = source.recv(65536)
                if not data:
                    return
                target.sendall(data)
