"""RandomizationDesign: how the list is drawn. Restricted: those who enrol never see it (SPIRIT 2025 item 21b)."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from allocator.canonical import canonical_bytes, tag
from allocator.criterion import nearest
from allocator.errors import InputError
from allocator.study import Study

FORMAT = "allocator-design/1"
METHODS = ("permuted-block",)
MAX_LENGTH = 10_000_000  # entries of one stratum; a list for every adult of a large city
MAX_BLOCK = 10_000
MAX_RATIO = 1_000


class DesignError(ValueError):
    """One field of a design is wrong. `field` is its path in design.toml."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomizationDesign:
    """A method with its parameters.

    Attributes:
        method: the drawing method's name.
        block_sizes: the declared set of block sizes, ascending; each a multiple of the ratio's sum.
        length: entries of each stratum, exactly; the last block is cut there.
        ratio: (arm code, whole number of at least 1) in arm order.
    """

    method: str
    block_sizes: tuple[int, ...]
    length: int
    ratio: tuple[tuple[str, int], ...]

    def __post_init__(self) -> None:
        for fault in self.faults(self.method, self.block_sizes, self.length, self.ratio):
            raise fault

    @staticmethod
    def faults(
        method: str, block_sizes: tuple[int, ...], length: int, ratio: tuple[tuple[str, int], ...]
    ) -> Iterator[DesignError]:
        """Every rule that these values break."""
        if method not in METHODS:
            yield DesignError("method", f"{method!r} is no method of this version; known: {', '.join(METHODS)}")
        if not 1 <= length <= MAX_LENGTH:
            yield DesignError("length", f"{length} is outside 1..{MAX_LENGTH}")
        if not ratio:
            yield DesignError("ratio", "no arm has a share")
        for code, share in ratio:
            if not 1 <= share <= MAX_RATIO:
                yield DesignError(f"ratio.{code}", f"{share} is outside 1..{MAX_RATIO}; ratios are whole numbers")
        if not block_sizes:
            yield DesignError("block_sizes", "at least one block size is needed")
        if len(set(block_sizes)) != len(block_sizes):
            yield DesignError("block_sizes", "sizes must be different from each other")
        least = sum(share for _, share in ratio)
        if all(share >= 1 for _, share in ratio):
            for size in block_sizes:
                if least and not (least <= size <= MAX_BLOCK and size % least == 0):
                    wanted = f"a multiple of {least} (the sum of the ratio) up to {MAX_BLOCK}"
                    yield DesignError("block_sizes", f"{size} is not {wanted}")

    @property
    def ratio_sum(self) -> int:
        """Sum of the ratio: the smallest block that honours it."""
        return sum(share for _, share in self.ratio)

    @property
    def shares(self) -> tuple[int, ...]:
        """The ratio alone, in arm order."""
        return tuple(share for _, share in self.ratio)

    @classmethod
    def from_tables(cls, tables: dict[str, Any]) -> RandomizationDesign:
        """Build from the tables of design.toml or from `plain()`; raises DesignError at the first wrong field."""
        if tables.get("format") != FORMAT:
            raise DesignError("format", f"{tables.get('format')!r} is not {FORMAT!r}")
        ratio = tables["ratio"]
        pairs = ratio.items() if isinstance(ratio, dict) else ((item["arm"], item["share"]) for item in ratio)
        return cls(
            method=tables["method"],
            block_sizes=tuple(sorted(tables["block_sizes"])),
            length=tables["length"],
            ratio=tuple((str(code), share) for code, share in pairs),
        )

    def for_study(self, study: Study) -> RandomizationDesign:
        """The same design with its ratio in the study's arm order.

        Raises:
            InputError: the ratio names other arms than the study has.
        """
        shares = dict(self.ratio)
        codes = [arm.code for arm in study.arms]
        if set(shares) != set(codes):
            strange = [f"{code!r}{near}" for code in shares if code not in codes and (near := nearest(code, codes))]
            said = f" ({', '.join(strange)})" if strange else ""
            raise InputError(
                "design-not-for-study",
                f"[ratio] of the design names {', '.join(sorted(shares))}{said}; the arms of {study.id} are "
                f"{', '.join(codes)}",
                "Give every arm of the study a whole number in [ratio], and nothing else.",
            )
        return RandomizationDesign(
            method=self.method,
            block_sizes=self.block_sizes,
            length=self.length,
            ratio=tuple((code, shares[code]) for code in codes),
        )

    def plain(self) -> dict[str, Any]:
        """The canonical object: arms and ratios as arrays, never as keys (docs/spec.md §3)."""
        return {
            "format": FORMAT,
            "method": self.method,
            "block_sizes": list(self.block_sizes),
            "length": self.length,
            "ratio": [{"arm": code, "share": share} for code, share in self.ratio],
        }


def design_commitment(design: RandomizationDesign, salt: bytes) -> bytes:
    """HMAC-SHA-256(salt, tag("design") ‖ canonical design), 32 bytes (docs/spec.md §3).

    Salted with 32 random bytes because block sizes are few enough to guess.
    """
    return hmac.digest(salt, tag("design") + canonical_bytes(design.plain()), "sha256")
