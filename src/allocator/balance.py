"""Balance: what the statistician answers for before activation, and what becomes of it during the trial (G07, C03).

The verification report is of the whole list and restricted. `Allocated` is of what was already told; `Enrolled` holds
neither an arm nor a position, and is all that a blinded view is made of. Pure.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from typing import Any

from allocator.block_ledger import BlockLedger, ListFault, counts_of
from allocator.canonical import canonical_bytes, parse_time
from allocator.design import RandomizationDesign
from allocator.imported_list import NAME as IMPORTED
from allocator.list_fault import Run, fault_plain, faults_of, ledger_of, rarest_run
from allocator.log import ALLOCATION_KINDS, Record
from allocator.recovery import original_record
from allocator.schedule import SALT, StratumSchedule
from allocator.study import Study, stratum_label

FORMAT = "allocator-balance/1"
SEEN_KINDS = (*ALLOCATION_KINDS, "corrected")  # the records that say what was allocated
_LIMITED = ("big-stick", "chen", "maximal-procedure")


@dataclass(frozen=True, slots=True, kw_only=True)
class StratumReport:
    """What is found in one stratum's list. Secret.

    Attributes:
        stratum: factor levels; empty where the study has no factors.
        arms: arm indices by position.
        counts: entries of each arm.
        furthest: the largest difference that the list reaches at any entry (`difference`).
        ledger: None for a list made elsewhere, or one its design cannot give.
        run: the least likely run of one arm; None where blocks limit every run.
        digest: SHA-256, in hex, of the arm codes in ASCII, each followed by a line feed.
        opening: SHA-256, in hex, of the arm indices and then the salts: nobody without the salts can guess it.
    """

    stratum: dict[str, str]
    arms: bytes = field(repr=False)
    counts: tuple[int, ...]
    furthest: Fraction
    ledger: BlockLedger | None
    run: Run | None
    digest: str
    opening: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListReport:
    """The verification report of a sealed list. Its digest stands in the log once it is signed off.

    The bytes hold digests over the salts, 32 secret bytes an entry: without them the list, which has few enough
    possibilities to try, could be found from the report's digest.
    """

    study: str
    fingerprint: str
    sealing: str
    root: str
    design: RandomizationDesign = field(repr=False)
    strata: tuple[StratumReport, ...] = field(repr=False)
    faults: tuple[ListFault, ...]

    def plain(self) -> dict[str, Any]:
        """The canonical object; the list itself is in it by its digests only."""
        design = {key: value for key, value in self.design.plain().items() if key != "arms"}
        return {
            "format": FORMAT,
            "study": self.study,
            "fingerprint": self.fingerprint,
            "sealing": self.sealing,
            "root": self.root,
            "design": design,
            "strata": [_stratum_plain(stratum) for stratum in self.strata],
            "faults": [fault_plain(fault) for fault in self.faults],
        }

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical bytes, in hex."""
        return hashlib.sha256(canonical_bytes(self.plain())).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """An allocation without its arm and its position: what anybody may see.

    Attributes:
        number: its randomization number.
        time: when it was made; on paper, for one entered late.
        stratum: its label.
        late: entered after it was made, from paper or from a receipt.
        in_error: marked as randomized in error; it counts all the same, for the entry is used.
    """

    number: int
    time: datetime
    stratum: str
    late: bool
    in_error: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocated(Enrolled):
    """An allocation with its arm: restricted, even where each participant's arm is known at its site."""

    position: int
    arm: int


def list_report(
    study: Study, sealing: str, root: str, design: RandomizationDesign, strata: Sequence[StratumSchedule]
) -> ListReport:
    """Check a list as it was opened, entry by entry, and say what is found.

    Args:
        study: whose list it is.
        sealing: id of the sealing, 16 bytes in hex.
        root: of the schedule, from the log, 32 bytes in hex.
        design: committed to, its ratio in the study's arm order.
        strata: arms and salts as opened.
    """
    faults: list[ListFault] = []
    try:
        check_root(study, sealing, root, strata)
    except ListFault as fault:
        faults.append(fault)
    for stratum in strata:
        faults += faults_of(stratum, design)
    return ListReport(
        study=study.id,
        fingerprint=study.fingerprint.hex(),
        sealing=sealing,
        root=root,
        design=design,
        strata=tuple(_stratum_report(stratum, design) for stratum in strata),
        faults=tuple(faults),
    )


def check_root(study: Study, sealing: str, root: str, strata: Sequence[StratumSchedule]) -> None:
    """The opened entries lead to the root in the log, by a second way: no code of `sealing` and `merkle` is used.

    Raises:
        ListFault: other strata than the study's, or another root.
    """
    if [stratum.stratum for stratum in strata] != list(study.strata):
        raise ListFault("strata", "", "the strata of the list are not those of the study")
    found = _tree_hash([leaf for stratum in strata for leaf in _leaves(study.fingerprint, sealing, stratum)]).hex()
    if found != root:
        raise ListFault("root", "", f"the root of the entries read is {found}, in the log stands {root}")


def _leaves(fingerprint: bytes, sealing: str, stratum: StratumSchedule) -> Iterator[bytes]:
    """docs/spec.md §7.3 and §7.6, written again: HMAC by the salt, then label, position and commitment."""
    label = stratum.label.encode("utf-8")
    name = len(label).to_bytes(2, "big") + label
    context = b"allocator/v1/commit\x00" + fingerprint + bytes.fromhex(sealing) + name
    for position, arm in enumerate(stratum.arms):
        place, salt = position.to_bytes(4, "big"), stratum.salts[SALT * position : SALT * (position + 1)]
        commitment = hmac.new(salt, context + place + bytes([arm]), hashlib.sha256).digest()
        yield name + place + commitment


def _tree_hash(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962 §2.1 as it is defined there, by recursion."""
    if len(leaves) <= 1:
        return hashlib.sha256(b"\x00" + leaves[0] if leaves else b"").digest()
    split = 1
    while 2 * split < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + _tree_hash(leaves[:split]) + _tree_hash(leaves[split:])).digest()


def difference(counts: Sequence[int], shares: Sequence[int]) -> Fraction:
    """How far the arms are apart: the largest count ÷ share less the smallest. For 1:1, the plain difference."""
    in_shares = [Fraction(count, share) for count, share in zip(counts, shares, strict=True)]
    return max(in_shares) - min(in_shares)


def running_counts(arms: Iterable[int], of: int) -> Iterator[tuple[int, ...]]:
    """The counts of each arm before the first entry, and after each."""
    counts = [0] * of
    yield tuple(counts)
    for arm in arms:
        counts[arm] += 1
        yield tuple(counts)


def furthest_allowed(design: RandomizationDesign) -> int | None:
    """The largest `difference` that the design can give anywhere in a list; None where it sets no limit."""
    if design.method in _LIMITED:
        return design.limit
    if design.method == "block-urn":
        return design.lambda_
    if design.method in ("permuted-block", "random-allocation-rule", "truncated-binomial"):
        return max(design.blocks) // design.ratio_sum
    return None


def allocated(records: Iterable[Record]) -> list[Allocated]:
    """Every allocation that the log holds, in the order of their numbers."""
    kept = list(records)
    wrong = _in_error(kept)
    found = [
        Allocated(**_seen(record, wrong), position=record.fields["position"], arm=record.fields["arm"])
        for record in kept
        if record.kind in ALLOCATION_KINDS
    ]
    return sorted(found, key=lambda allocation: allocation.number)


def enrolled(records: Iterable[Record]) -> list[Enrolled]:
    """The same without arms and positions; neither is read."""
    kept = list(records)
    wrong = _in_error(kept)
    found = [Enrolled(**_seen(record, wrong)) for record in kept if record.kind in ALLOCATION_KINDS]
    return sorted(found, key=lambda allocation: allocation.number)


def _seen(record: Record, wrong: set[int]) -> dict[str, Any]:
    return {
        "number": record.fields["number"],
        "time": _made(record),
        "stratum": stratum_label(record.fields["stratum"]),
        "late": record.kind != "allocated",
        "in_error": record.seq in wrong,
    }


def _in_error(records: Iterable[Record]) -> set[int]:
    """Records of allocations marked as randomized in error."""
    return {r.fields["allocation"] for r in records if r.kind == "corrected" and r.fields["what"] == "in-error"}


def _made(record: Record) -> datetime:
    """When an allocation was made: on paper, or as its receipt says, where it was entered later."""
    made = original_record(record.fields["original"]) if "original" in record.fields else record
    return parse_time(made.fields["event_time"]) if "event_time" in made.fields else made.time


def _stratum_report(stratum: StratumSchedule, design: RandomizationDesign) -> StratumReport:
    of, codes = len(design.ratio), [code for code, _ in design.ratio]
    known = bytes(arm for arm in stratum.arms if arm < of)
    readable = len(known) == len(stratum.arms) <= design.length
    text = "".join(f"{codes[arm] if arm < of else arm}\n" for arm in stratum.arms)
    return StratumReport(
        stratum=stratum.stratum,
        arms=stratum.arms,
        counts=counts_of(known, of),
        furthest=max(difference(counts, design.shares) for counts in running_counts(known, of)),
        ledger=ledger_of(stratum, design) if readable else None,
        run=rarest_run(stratum.arms, design) if readable and design.method != IMPORTED else None,
        digest=hashlib.sha256(text.encode("ascii")).hexdigest(),
        opening=hashlib.sha256(stratum.arms + stratum.salts).hexdigest(),
    )


def _stratum_plain(stratum: StratumReport) -> dict[str, Any]:
    segments = stratum.ledger.segments if stratum.ledger else ()
    return {
        "stratum": stratum.stratum,
        "entries": len(stratum.arms),
        "counts": list(stratum.counts),
        "furthest": str(stratum.furthest),
        "blocks": [
            {
                "start": s.start,
                "end": s.end,
                "counts": list(s.counts),
                "blocks": s.blocks,
                "whole": s.whole,
                "ends": list(s.ends),
            }
            for s in segments
        ],
        "run": run_plain(stratum.run),
        "sha256": stratum.digest,
        "sha256_with_salts": stratum.opening,
    }


def run_plain(run: Run | None) -> dict[str, Any] | None:
    """The canonical object of a run; its chance as text, for no number here is a float."""
    if run is None:
        return None
    return {"start": run.start, "length": run.length, "arm": run.arm, "chance": f"{run.chance:.2g}"}
