"""schedules/<study>/log.moving: which record seals a log that is on its way, and the place that it was sealed for.

It is written before the sealing is durable, and removed when the log has arrived. Only the home that has it ends the
move, and only there: ``moved`` itself names no address, so a copy of the home could else go on somewhere beside it.
"""

from __future__ import annotations

from collections.abc import Mapping

from allocator.canonical import CanonicalError, canonical_bytes, parse_strict
from allocator.errors import Refused, StorageError
from allocator.home import StudyPlace, sync_folder, write_durably
from allocator.log import Record
from allocator.text import shown

FORMAT = "allocator-moving/1"


def set_out(place: StudyPlace, moved: bytes, target: Mapping[str, str]) -> None:
    """Note that the record of this hash seals the log, for this target (docs/spec.md §13.7).

    Raises:
        StorageError: it cannot be written.
    """
    write_durably(place.moving_file, canonical_bytes({"format": FORMAT, "moved": moved.hex(), **target}))


def check_own(place: StudyPlace, moved: Record, target: Mapping[str, str]) -> None:
    """Refused unless this home sealed the log by this record, for this target.

    Raises:
        Refused: another home did, or for another place.
        StorageError: the note cannot be read.
    """
    said = "this home did not seal it: it is a copy, or its log.moving is lost"
    try:
        noted = parse_strict(place.moving_file.read_bytes(), limit=4096)
        if noted == {"format": FORMAT, "moved": moved.hash.hex(), **target}:
            return
        if noted.get("moved") == moved.hash.hex():
            said = f"this home sealed it for another place: {shown(canonical_bytes(noted).decode())}"
    except (FileNotFoundError, CanonicalError, ValueError, AttributeError):
        pass
    except OSError as error:
        raise StorageError("unavailable", f"log.moving cannot be read: {error.strerror}", "Ask again.") from error
    raise Refused(
        "moved",
        f"the log was moved by record {moved.seq}, and {said}",
        "Nothing was done. Use the home and the place that it was sealed with; if they are gone, restore a backup.",
    )


def end(place: StudyPlace) -> None:
    """The log has arrived: the note is not needed any more. It does no harm where it cannot be removed."""
    try:
        place.moving_file.unlink(missing_ok=True)
        sync_folder(place.schedules)
    except OSError:
        return
