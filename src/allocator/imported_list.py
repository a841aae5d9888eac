"""A list made elsewhere, sealed as it came: nothing is drawn but the salts (docs/spec.md §5.6). Pure.

The list is part of the sealed design, so that the opening shows it as it shows a drawn one.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator

from allocator.canonical import tag
from allocator.method import DesignError, Parameters, Weights

NAME = "imported-list"
ALGORITHM = "imported-list/1"
KEYS = ("arms",)
MAY: tuple[str, ...] = ()
MAX_ENTRIES = 20_000  # of all strata: the design travels in an envelope of at most 65,535 bytes (docs/spec.md §7.5)


def source_digest(salt: bytes, file: bytes) -> str:
    """HMAC-SHA-256(salt of the design, tag("source") ‖ the file as it came), in hex (docs/spec.md §5.6).

    Salted, for lists are few enough to be tried; with the opening the salt is disclosed, and whoever kept the file can
    show that it was this one.
    """
    return hmac.digest(salt, tag("source") + file, "sha256").hex()


def faults(given: Parameters) -> Iterator[DesignError]:
    """Every stratum has `length` entries, each an arm."""
    if sum(len(arms) for arms in given.arms) > MAX_ENTRIES:
        yield DesignError("arms", f"the list has more than {MAX_ENTRIES} entries")
    for stratum, arms in enumerate(given.arms):
        if len(arms) != given.length:
            yield DesignError(f"arms.{stratum}", f"{len(arms)} entries where the length is {given.length}")
        if any(arm >= len(given.ratio) for arm in arms):
            yield DesignError(f"arms.{stratum}", "an entry is no arm of the ratio")


def weights(_: Parameters, __: int) -> Weights:
    """There are none."""
    raise DesignError("method", "a list made elsewhere was not drawn here: there is nothing to assess")
