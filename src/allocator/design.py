"""RandomizationDesign: how the list is drawn. Restricted: those who enrol never see it (SPIRIT 2025 item 21b)."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from allocator.canonical import canonical_bytes, tag
from allocator.criterion import nearest
from allocator.errors import InputError
from allocator.imported_list import NAME as IMPORTED
from allocator.method import DesignError, Parameters, block_size_faults
from allocator.methods import ALGORITHMS, METHODS
from allocator.study import Study

FORMAT = "allocator-design/1"
MAX_LENGTH = 10_000_000  # entries of one stratum; a list for every adult of a large city
MAX_RATIO = 1_000
# Key of design.toml -> attribute of `Parameters`, for all that only some methods take.
TAKEN = {
    "block_sizes": "block_sizes",
    "limit": "limit",
    "probability": "probability",
    "alpha": "alpha",
    "beta": "beta",
    "lambda": "lambda_",
    "arms": "arms",
}
_FRACTION = re.compile("[1-9][0-9]{0,5}/[1-9][0-9]{0,5}")


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomizationDesign(Parameters):
    """A method with its parameters; `method` is a key of `METHODS`."""

    method: str

    def __post_init__(self) -> None:
        for fault in self.faults(self.method, self):
            raise fault

    @staticmethod
    def faults(name: str, given: Parameters) -> Iterator[DesignError]:
        """Every rule that these values break."""
        method = METHODS.get(name)
        if method is None:
            known = ", ".join(known for known in METHODS if known != IMPORTED)
            yield DesignError("method", f"{name!r} is no method of this version; known: {known}")
        if not 1 <= given.length <= MAX_LENGTH:
            yield DesignError("length", f"{given.length} is outside 1..{MAX_LENGTH}")
        if not given.ratio:
            yield DesignError("ratio", "no arm has a share")
        for code, share in given.ratio:
            if not 1 <= share <= MAX_RATIO:
                yield DesignError(f"ratio.{code}", f"{share} is outside 1..{MAX_RATIO}; ratios are whole numbers")
        missing = False
        if method is not None:
            for key, attribute in TAKEN.items():
                present = getattr(given, attribute) not in (None, ())
                if key in method.KEYS and not present:
                    missing = True
                    yield DesignError(key, f"is missing or empty: {name} needs it")
                elif present and key not in (*method.KEYS, *method.MAY):
                    yield DesignError(key, f"{name} takes no {key}")
        if given.ratio and all(share >= 1 for _, share in given.ratio):
            yield from block_size_faults(given)
            if method and not missing:
                yield from method.faults(given)

    @property
    def label(self) -> str:
        """Method and parameters in a few characters: ``permuted-block 4,6``, ``chen 3,2/3``."""
        plain = self.plain()
        values = [str(item) for key in TAKEN if key in plain and key != "arms" for item in _each(plain[key])]
        return f"{self.method} {','.join(values)}".rstrip()

    @property
    def algorithm(self) -> str:
        """The id of the stream of arms, for the log."""
        return ALGORITHMS[self.method]

    @classmethod
    def from_tables(cls, tables: Mapping[str, Any]) -> RandomizationDesign:
        """Build from the tables of design.toml or from `plain()`; raises DesignError at the first wrong field."""
        if tables.get("format") != FORMAT:
            raise DesignError("format", f"{tables.get('format')!r} is not {FORMAT!r}")
        given = parameters(tables)
        return cls(method=tables["method"], **{name: getattr(given, name) for name in Parameters.__slots__})

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
        if self.arms and len(self.arms) != len(study.strata):
            raise InputError(
                "design-not-for-study",
                f"the list has {len(self.arms)} strata; {study.id} has {len(study.strata)}",
                "Give the list of every stratum of the study, once.",
            )
        places = bytes(codes.index(code) for code, _ in self.ratio)  # of this design's arms among the study's
        arms = tuple(bytes(places[arm] for arm in listed) for listed in self.arms)
        return replace(self, ratio=tuple((code, shares[code]) for code in codes), arms=arms)

    def plain(self) -> dict[str, Any]:
        """The canonical object: arms and ratios as arrays, never as keys (docs/spec.md §3)."""
        taken = {key: getattr(self, name) for key, name in TAKEN.items()}
        written = {key: _WRITTEN.get(key, _as_it_is)(value) for key, value in taken.items() if value not in (None, ())}
        ratio = [{"arm": code, "share": share} for code, share in self.ratio]
        return {"format": FORMAT, "method": self.method, **written, "length": self.length, "ratio": ratio}


def parameters(tables: Mapping[str, Any]) -> Parameters:
    """The parameters in well-shaped tables; DesignError where text is no fraction or no list of arms."""
    ratio = tables["ratio"]
    pairs = ratio.items() if isinstance(ratio, dict) else ((item["arm"], item["share"]) for item in ratio)
    given = {name: _READ[key](tables[key]) for key, name in TAKEN.items() if key in tables}
    return Parameters(
        length=_integer(tables["length"]), ratio=tuple((str(code), _integer(share)) for code, share in pairs), **given
    )


def _as_it_is(value: Any) -> Any:
    return value


def _each(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _integer(value: Any) -> int:
    if type(value) is not int:  # True is an int in Python, and no number here
        raise DesignError("design", f"{value!r} is no whole number")
    return value


def _fraction(text: str) -> Fraction:
    if not _FRACTION.fullmatch(text):
        raise DesignError("probability", f'{text!r} is no fraction of whole numbers such as "2/3"')
    return Fraction(text)


def _arms(texts: list[str]) -> tuple[bytes, ...]:
    try:
        return tuple(bytes.fromhex(text) for text in texts)
    except ValueError as error:
        raise DesignError("arms", "an arm is two hexadecimal digits") from error


_READ: dict[str, Callable[[Any], Any]] = {
    "block_sizes": lambda sizes: tuple(sorted(map(_integer, sizes))),
    "limit": _integer,
    "probability": _fraction,
    "alpha": _integer,
    "beta": _integer,
    "lambda": _integer,
    "arms": _arms,
}
_WRITTEN: dict[str, Callable[[Any], Any]] = {
    "block_sizes": lambda sizes: [*sizes],
    "probability": lambda odds: f"{odds.numerator}/{odds.denominator}",
    "arms": lambda lists: [arms.hex() for arms in lists],
}


def design_commitment(design: RandomizationDesign, salt: bytes) -> bytes:
    """HMAC-SHA-256(salt, tag("design") ‖ canonical design), 32 bytes (docs/spec.md §3).

    Salted with 32 random bytes because block sizes are few enough to guess.
    """
    return hmac.digest(salt, tag("design") + canonical_bytes(design.plain()), "sha256")
