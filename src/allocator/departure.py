"""DepartureService: the two records of a log that moves, each written in its own place (docs/spec.md §10.12)."""

from __future__ import annotations

from datetime import datetime

from allocator.errors import StorageError
from allocator.log import Record
from allocator.relocation import left
from allocator.service import AllocationService
from allocator.session import reason_detail
from allocator.writer import Actor, Draft


class DepartureService(AllocationService):
    """The two acts of a move, each in its own place of the log."""

    def leave(self, actor: Actor, to: str, reason: str, verified: tuple[int, bytes]) -> Record:
        """Seal the log here, if it still ends as it was verified: with so many records, the last of this hash."""

        def build(_: datetime) -> Draft:
            last = self._store.last()
            if last is None or (last.seq + 1, last.hash) != verified:
                raise busy()
            return Draft(kind="moved", fields={"to": to}, details=reason_detail(reason) if reason else {})

        return self._writer.write(actor, "moved", build)

    def arrive(self, actor: Actor) -> Record:
        """Go on here, in the state that the log had before it moved."""

        def build(_: datetime) -> Draft:
            moved, before = left(self._store)
            return Draft(kind="arrived", fields={"moved": moved.seq if moved else 0, "state": before})

        return self._writer.write(actor, "arrived", build)


def busy() -> StorageError:
    """Somebody else wrote."""
    return StorageError("busy", "somebody else wrote while the log was copied", "Nothing was moved. Ask again.")
