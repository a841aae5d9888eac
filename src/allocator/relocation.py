"""The rules of a log that moves: sealed where it was, and going on where it went (docs/spec.md §10.12).

``moved`` is the last record of the old place. Nothing follows it but ``arrived``, which is written in the new one: so a
copy left behind can never go on beside it.
"""

from __future__ import annotations

from allocator.case import Case, evidence
from allocator.errors import EvidenceError, Refused
from allocator.log import STATE_KINDS, Record, state_of
from allocator.store import Store

FILE, POSTGRESQL = "file", "postgresql"
PLACES = {FILE: "a file in the home", POSTGRESQL: "PostgreSQL"}


def check_moved(case: Case) -> None:
    """The place is one of the two that there are."""
    if case.record.fields["to"] not in PLACES:
        raise evidence("moved", "the place moved to is neither a file nor PostgreSQL")


def check_arrived(case: Case) -> None:
    """It names the move, and leads back to the state before it."""
    fields = case.record.fields
    moved, before = left(case.history.store)
    if moved is None or fields["moved"] != moved.seq:
        raise EvidenceError(
            "arrived",
            "it is not of the newest move",
            details={"expected": moved.seq if moved else None, "found": fields["moved"]},
        )
    if fields["state"] != before:
        raise EvidenceError(
            "arrived", "the state to return to is another", details={"expected": before, "found": fields["state"]}
        )


def lacks_seal(last: bytes | None, moved: Record) -> bool:
    """Whether a copy that ends with the record of this hash still lacks the one that seals the log.

    Raises:
        EvidenceError: it ends with neither that record nor the one before it.
    """
    if last is None or moved.hash != last != moved.prev:
        raise EvidenceError("copy-broken", f"the copy does not end before record {moved.seq}", "Ask again.")
    return last == moved.prev


def left(store: Store) -> tuple[Record | None, str]:
    """The newest ``moved`` record, None without one, and the state before it."""
    moved = store.newest(("moved",))
    before = "none"
    for record in store.records(STATE_KINDS) if moved else ():
        if moved is not None and record.seq < moved.seq:
            before = state_of(record.fields)
    return moved, before


def check_here(last: Record | None) -> None:
    """Refused when the log left this place by its last record."""
    if last is None or last.kind != "moved":
        return
    place = PLACES.get(last.fields["to"], "another place")
    raise Refused(
        "moved",
        f"the log was moved to {place} by record {last.seq}, the last one here: nothing more is written here",
        "Use the home that goes on there. If the move was cut off, the sponsor ends it: `allocator move` again, "
        "to the same place.",
        {"to": last.fields["to"], "seq": last.seq, "hash": last.hash.hex()},
    )
