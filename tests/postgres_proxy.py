"""A TCP proxy before a PostgreSQL server that cuts the connection at one message of the client, once.

It reads the messages of the frontend protocol (postgresql.org/docs, "Message Formats") without TLS. `arm(n)` cuts at
the n-th message from then on: before it reaches the server, or after the server's first answer to what was sent, which
never reaches the client. Connections made later pass.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Proxy:
    """Listens on a port of loopback; see `proxy`."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.messages: list[bytes] = []  # types of the client's messages since `arm`
        self._at, self._answered = -1, False
        self._sockets: list[socket.socket] = []

    def arm(self, at: int, *, answered: bool) -> None:
        """Cut at message number `at` from now on (0 is the next): before it, or when it was answered; -1 never."""
        self.messages, self._at, self._answered = [], at, answered

    def serve(self) -> None:
        """Take connections until closed."""
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                for each in (client, server):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets += [client, server]
                swallow = threading.Event()
                threading.Thread(target=self._up, args=(client, server, swallow), daemon=True).start()
                threading.Thread(target=self._down, args=(server, client, swallow), daemon=True).start()

    def close(self) -> None:
        """Close everything."""
        for each in (self._listener, *self._sockets):
            _cut(each)

    def _up(self, client: socket.socket, server: socket.socket, swallow: threading.Event) -> None:
        with suppress(OSError, struct.error):
            size = _exactly(client, 4)  # the first message has no type
            server.sendall(size + _exactly(client, struct.unpack("!I", size)[0] - 4))
            while True:
                head = _exactly(client, 5)
                body = _exactly(client, struct.unpack("!I", head[1:])[0] - 4)
                cut = len(self.messages) == self._at
                self.messages.append(head[:1])
                if cut and not self._answered:
                    break
                if cut:
                    swallow.set()
                server.sendall(head + body)
                if cut:
                    server.sendall(b"H\x00\x00\x00\x04")  # Flush: the answer to an unfinished group of messages, too
                    return  # the other direction cuts both
        _cut(client), _cut(server)

    def _down(self, server: socket.socket, client: socket.socket, swallow: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                if swallow.is_set():
                    break
                client.sendall(data)
        _cut(client), _cut(server)


def _exactly(stream: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = stream.recv(size - len(data))
        if not part:
            raise OSError("ended")
        data += part
    return data


def _cut(stream: socket.socket) -> None:
    with suppress(OSError):
        stream.shutdown(socket.SHUT_RDWR)
    stream.close()


@contextmanager
def proxy(host: str, port: int) -> Iterator[Proxy]:
    """A proxy before the server there."""
    made = Proxy(host, port)
    thread = threading.Thread(target=made.serve, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.close()
        thread.join(5)
