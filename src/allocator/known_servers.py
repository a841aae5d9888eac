"""keys/<study>/servers: which PostgreSQL servers a home wrote to, and on which timeline (docs/adr/0018).

A promoted standby begins a new timeline; the old primary stays on the one before (postgresql.org/docs, "Timelines").
When that old primary comes back, it may hold every record that this home knows, so the local head does not notice it;
the timeline does. Another system identifier is another cluster, such as one that a dump was read into: there the local
head guards, and nothing else.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from allocator.canonical import CanonicalError, canonical_bytes, parse_strict
from allocator.errors import EvidenceError, StorageError
from allocator.home import write_durably
from allocator.text import shown

if TYPE_CHECKING:
    from allocator.postgres_connection import Server

FORMAT = "allocator-servers/1"
MOST = 100  # servers remembered; a home that meets more forgets the oldest
_LIMIT = 1 << 16


class KnownServers:
    """What one home knows of the servers of one study. Stateless: every call reads the file."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "servers"

    def check(self, server: Server) -> None:
        """Hold a server to what was written to before; a standby, and one never met, pass.

        Raises:
            EvidenceError: it is on an older timeline, an old primary that came back; or the file is damaged.
            StorageError: the file cannot be read for now.
        """
        _compare(server, self._read())

    def remember(self, server: Server) -> None:
        """As `check`, then keep the timeline durably; called before a commit, by who holds the lock of keys/.

        Raises:
            EvidenceError: as `check`.
            StorageError: the file cannot be read or written.
        """
        servers = self._read()
        _compare(server, servers)
        if server.timeline is None or (server.system, server.timeline) in servers:
            return
        kept = [each for each in servers if each[0] != server.system][1 - MOST :]
        plain = [
            {"system": system, "timeline": timeline} for system, timeline in [*kept, (server.system, server.timeline)]
        ]
        write_durably(self._path, canonical_bytes({"format": FORMAT, "servers": plain}) + b"\n", mode=0o644)

    def _read(self) -> list[tuple[str, int]]:
        """(system identifier, timeline) of each server, the one that was met first first."""
        try:
            # as for the head: no link is followed, no pipe waited for
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as stream:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise _damaged()
                text = stream.read(_LIMIT + 1)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise StorageError(
                "unavailable", f"keys/<study>/servers cannot be read: {error.strerror}", "Check the permissions."
            ) from error
        try:
            plain = parse_strict(text.removesuffix(b"\n"), limit=_LIMIT)
            servers = [(each["system"], each["timeline"]) for each in plain["servers"]]
            if plain["format"] != FORMAT or not all(type(s) is str and type(t) is int for s, t in servers):
                raise ValueError
        except (CanonicalError, KeyError, TypeError, ValueError) as error:
            raise _damaged() from error
        return servers


def _compare(server: Server, servers: list[tuple[str, int]]) -> None:
    """EvidenceError for a server on a lower timeline than the one known."""
    known = dict(servers).get(server.system)
    if known is None or server.timeline is None or server.timeline >= known:
        return
    raise EvidenceError(
        "old-primary",
        f"the database server {shown(server.where)} is on timeline {server.timeline}; this home has written on "
        f"timeline {known}: it is an old primary that came back after its standby was promoted",
        "Nothing was written. Its administrator stops it, and the address leads to the promoted server "
        "(docs/postgres.md).",
        {"server": server.where, "expected": known, "found": server.timeline},
    )


def _damaged() -> EvidenceError:
    return EvidenceError(
        "servers-damaged", "keys/<study>/servers is not as it was made", "Put it back; do not delete it to go on."
    )
