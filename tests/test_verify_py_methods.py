"""verifier/verify.py on lists of every method: good studies to their opening, and seeds that state no design.

A forger holds every key: the design in the seed is the one committed to, whatever it is, and all else agrees with it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from allocator.canonical import canonical_bytes, tag
from allocator.design import RandomizationDesign
from allocator.methods import ALGORITHMS, METHODS
from allocator.toml_files import read_study
from allocator.writer import Draft
from attacks import Stored, dump, place, rechained
from support import Trial, TrialFactory
from test_attacks import _chained_as_is
from test_verify_py import V, agreed, export, package_says, says, write_export

ARMS = ("IL2-GCV", "GCV")
LENGTH = 6
LISTS = ["000101000101", "010001000100"]  # of both sites
FIELDS: dict[str, Any] = {"limit": 2, "probability": "2/3", "alpha": 0, "beta": 1, "lambda": 2, "block_sizes": [2, 4]}
FIELDS["arms"] = LISTS


def plain_design(method: str, **changes: Any) -> dict[str, Any]:
    """A design of this method in its canonical form."""
    ratio = [{"arm": code, "share": 1} for code in ARMS]
    fields = {key: FIELDS[key] for key in METHODS[method].KEYS}
    return {"format": "allocator-design/1", "method": method, "length": LENGTH, "ratio": ratio, **fields, **changes}


@pytest.fixture(scope="module")
def factory(
    _templates: tuple[Path, dict[Any, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TrialFactory]:
    """Trials of this module."""
    factory = TrialFactory(_templates[0], tmp_path_factory.mktemp("methods"), _templates[1])
    yield factory
    factory.close()


def told_to_the_end(factory: TrialFactory, plain: dict[str, Any]) -> Trial:
    """A study of two sites by this design: sealed, checked, read, allocated once, closed and opened."""
    trial = factory("enrolled", stratified=True)
    service, actor, design = trial.service, trial.actor, RandomizationDesign.from_tables(plain)
    for reason in ("", "for the test"):
        if design.method == "imported-list":
            service.import_list(
                actor("ST"), design, origin="by hand, for the test", source=b"by hand", reason=reason
            )
        else:
            service.generate(actor("ST"), design, reason=reason)
    sealing = trial.last.fields["sealing"]
    _write(trial, "list-checked", {"sealing": sealing, "report_digest": "7e" * 32})
    for person in ("PH", "IN"):
        service.grant(actor("ST"), person)
    service.activate(actor("SP"), "ethics file 12")
    _write(trial, "list-read", {"sealing": sealing, "purpose": "balance"})
    trial.allocate("P-001", stratum={"site": "B"})
    service.change_state(actor("SP"), "closed", "all are in")
    service.open_list(actor("ST"))
    service.open_list(actor("CU"))
    service.close_files()
    return trial


def _write(trial: Trial, kind: str, fields: dict[str, Any]) -> None:
    trial.service._writer.write(trial.actor("ST"), kind, lambda _: Draft(kind=kind, fields=fields))


@pytest.mark.requirement("R01")
@pytest.mark.requirement("G01")
@pytest.mark.parametrize("method", METHODS)
def test_a_list_of_every_method_is_drawn_again(factory: TrialFactory, tmp_path: Path, method: str) -> None:
    trial = told_to_the_end(factory, plain_design(method))
    rows = {row.fields["kind"]: row.fields for row in dump(trial.home)}
    sealing = rows["imported" if method == "imported-list" else "generated"]
    assert {"list-checked", "list-read", "opened"} <= rows.keys() and sealing["algorithm"] == ALGORITHMS[method]
    home = Path(shutil.copytree(trial.home, tmp_path / "home"))
    folder = export(home, tmp_path / "export", trial, "inspection")
    said = agreed(folder)
    assert (said.told["verdict"], said.told["findings"]) == ("intact-local", [])
    assert V.verify_export(folder, V.Given()).drawn_again


# ---- forged seeds ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def opened(factory: TrialFactory) -> Trial:
    """A study opened; nobody writes to it."""
    return told_to_the_end(factory, plain_design("complete"))


@pytest.fixture(scope="module")
def imported(factory: TrialFactory) -> Trial:
    """The same of an imported list."""
    return told_to_the_end(factory, plain_design("imported-list"))


def forged(trial: Trial, folder: Path, design: Any, drawn: dict[str, Any] | None = None, **changes: Any) -> Path:
    """An export in which this was the design from the start; `changes` are of the records that sealed it.

    With `drawn` every entry is made again as this design, a good one, draws it under the commitment to that one.
    """
    home = Path(shutil.copytree(trial.home, folder / "home"))
    seed_file, sealed_file = place(home).schedules / "seed.json", place(home).sealed_file
    seed, sealed = {**json.loads(seed_file.read_bytes()), "design": design}, json.loads(sealed_file.read_bytes())
    committed = hmac.digest(bytes.fromhex(seed["salt"]), tag("design") + canonical_bytes(design), "sha256")
    sealed["design_commitment"] = changes["design_commitment"] = committed.hex()
    rows = dump(home)
    if drawn is not None:
        entries = _sealed_anew(sealed, _drawn(trial, committed, seed["shares"], drawn))
        rows = [_with_entry(row, entries) if row.fields["kind"] == "allocated" else row for row in rows]
    seed_file.write_bytes(canonical_bytes(seed))
    sealed_file.write_bytes(canonical_bytes(sealed))
    seed_digest, changes["sealed_digest"] = (_digest(file) for file in (seed_file, sealed_file))
    changed: dict[str, dict[str, Any]] = dict.fromkeys(V.SEALINGS, changes) | {"opened": {"seed_digest": seed_digest}}
    rows = [row.with_fields(**changed.get(row.fields["kind"], {})) for row in rows]
    rows = [row.with_fields(root=sealed["root"]) if "root" in row.fields else row for row in rows]
    return write_export(home, folder / "export", trial.actors, _chained_as_is(rows, trial.actors))


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _drawn(
    trial: Trial, committed: bytes, shares: list[str], design: dict[str, Any]
) -> dict[str, list[tuple[int, bytes]]]:
    """(arm, salt) of every position, by label."""
    plain = read_study("study.toml", trial.place.study_file.read_bytes()).plain()
    study = V.Study(canonical_bytes(plain))
    prk = V.pseudorandom_key(study.fingerprint, committed, [bytes.fromhex(share) for share in shares])
    how = V.Design(design, study)
    return {label: list(V.entries_of(prk, label, how, number)) for number, label in enumerate(study.labels)}


def _sealed_anew(
    sealed: dict[str, Any], drawn: dict[str, list[tuple[int, bytes]]]
) -> dict[str, list[tuple[int, bytes]]]:
    """Every entry of the plain schedule committed to what was drawn, and its root; returns what was drawn."""
    fingerprint, sealing, tree = bytes.fromhex(sealed["fingerprint"]), bytes.fromhex(sealed["sealing"]), V.Tree()
    for part in sealed["strata"]:
        label = V.label_of(part["stratum"])
        for position, (arm, salt) in enumerate(drawn[label]):
            place_of_entry = V.place_of(label, position)
            commitment = V.commitment_of(fingerprint, sealing, place_of_entry, arm, salt)
            part["entries"][position] = b64encode(commitment + b64decode(part["entries"][position])[32:]).decode()
            tree.add(V.leaf_hash(place_of_entry + commitment))
    sealed["root"] = tree.root().hex()
    return drawn


def _with_entry(row: Stored, entries: dict[str, list[tuple[int, bytes]]]) -> Stored:
    arm, salt = entries[V.label_of(row.fields["stratum"])][row.fields["position"]]
    return row.with_fields(arm=arm, salt=salt.hex())


def _without(name: str, method: str) -> dict[str, Any]:
    return {key: value for key, value in plain_design(method).items() if key != name}


def _shares(*shares: Any) -> list[dict[str, Any]]:
    return [{"arm": code, "share": share} for code, share in zip(ARMS, shares, strict=True)]


NO_DESIGN: dict[str, Any] = {
    "null": None,
    "an array": [],
    "no field": {},
    "a method that is none": {**plain_design("complete"), "method": "minimization"},
    "a method that is an array": {**plain_design("complete"), "method": ["complete"]},
    "a foreign field": plain_design("complete", limit=3),
    "an unknown field": plain_design("complete", seed=1),
    "a field left out": _without("limit", "big-stick"),
    "a field of null": plain_design("big-stick", limit=None),
    "another format": plain_design("complete", format="allocator-design/2"),
    "block sizes of a method without": plain_design("complete", block_sizes=[4]),
    "no block size": plain_design("truncated-binomial", block_sizes=[]),
    "a block size of true": plain_design("permuted-block", block_sizes=[True]),
    "block sizes out of order": plain_design("permuted-block", block_sizes=[4, 2]),
    **{f"a limit of {json.dumps(limit)}": plain_design("big-stick", limit=limit) for limit in (True, "3", 0, 1001)},
    "a limit too large for all lists": plain_design("maximal-procedure", limit=51),
    "a probability not in lowest terms": plain_design("biased-coin", probability="4/6"),
    "a probability of one half": plain_design("biased-coin", probability="1/2"),
    "a probability over nothing": plain_design("chen", probability="1/0"),
    "a probability with a zero in front": plain_design("chen", probability="02/3"),
    "a probability in other digits": plain_design("chen", probability="٢/٣"),
    "an urn that stays empty": plain_design("urn", beta=0),
    "an urn of true": plain_design("urn", beta=True),
    "an odd length of all lists": plain_design("maximal-procedure", length=5),
    "all lists of a length beyond": plain_design("maximal-procedure", length=2002),
    "an odd length in two halves": plain_design("truncated-binomial", length=5),
    "a length not of whole ratios": plain_design("random-allocation-rule", ratio=_shares(2, 2)),
    "unequal shares of a coin": plain_design("biased-coin", ratio=_shares(1, 2)),
    "unequal shares of an urn": plain_design("urn", ratio=_shares(1, 2)),
    "a ratio in another order": plain_design("complete", ratio=_shares(1, 1)[::-1]),
    "one arm": plain_design("complete", ratio=_shares(1, 1)[:1]),
    "a huge length": plain_design("complete", length=10_000_001),
    "arms of another length": plain_design("imported-list", arms=[LISTS[0], LISTS[1][2:]]),
    "arms of half a digit": plain_design("imported-list", arms=[LISTS[0], LISTS[1][1:]]),
    "arms in capitals": plain_design("imported-list", arms=[LISTS[0], LISTS[1][:-1] + "A"]),
    "arms with blanks": plain_design("imported-list", arms=[LISTS[0], "01 001000100"]),
    "an arm of no study": plain_design("imported-list", arms=[LISTS[0], LISTS[1][:-1] + "2"]),
    "arms of one string": plain_design("imported-list", arms=LISTS[0]),
    "arms of numbers": plain_design("imported-list", arms=[0, 1]),
    "a list too long": plain_design("imported-list", length=10_001, arms=["00" * 10_001] * 2),
}


def agreed_but_for_25(folder: Path) -> set[tuple[str, int | None]]:
    """What is named by both, and the opening by either."""
    opening = ("25", None)
    ours, theirs = says(folder).named | {opening}, package_says(folder).named | {opening}
    assert ours == theirs
    return ours


GOOD = {
    "the same": (plain_design("complete"), "generated"),
    "another method": (plain_design("big-stick"), "generated"),
    "a method of many words": (plain_design("maximal-procedure"), "generated"),
    "an imported list": (plain_design("imported-list"), "imported"),
}


@pytest.mark.requirement("L02")
@pytest.mark.requirement("R02")
@pytest.mark.parametrize(("design", "kind"), GOOD.values(), ids=GOOD.keys())
def test_a_forger_of_everything_who_does_it_right_leaves_no_finding(
    opened: Trial, imported: Trial, tmp_path: Path, design: dict[str, Any], kind: str
) -> None:
    """So that whatever is found below is found for what is wrong there."""
    trial = imported if kind == "imported" else opened
    folder = forged(trial, tmp_path, design, design, algorithm=ALGORITHMS[design["method"]])
    assert agreed(folder).named == set()


LIES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "drawn by another method": (plain_design("big-stick"), plain_design("big-stick"), "complete/1"),
    "a list by hand as if drawn": (plain_design("imported-list"), plain_design("imported-list"), "complete/1"),
    "a share of true": (plain_design("complete", ratio=_shares(True, True)), plain_design("complete"), "complete/1"),
}


@pytest.mark.requirement("L02")
@pytest.mark.requirement("G02")
@pytest.mark.parametrize(("design", "drawn", "algorithm"), LIES.values(), ids=LIES.keys())
def test_a_list_whose_every_entry_is_drawn_is_still_held_to_its_record(
    opened: Trial, tmp_path: Path, design: Any, drawn: dict[str, Any], algorithm: str
) -> None:
    folder = forged(opened, tmp_path, design, drawn, algorithm=algorithm)
    said = agreed(folder)
    assert (said.told["verdict"], said.named) == ("broken", {("25", None)})


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("arms", [LISTS[:1], [*LISTS, LISTS[0]]], ids=["of one stratum", "of three strata"])
def test_an_imported_list_is_of_the_strata_of_the_study(imported: Trial, tmp_path: Path, arms: list[str]) -> None:
    said = agreed(forged(imported, tmp_path, plain_design("imported-list", arms=arms), plain_design("imported-list")))
    assert (said.told["verdict"], said.named) == ("broken", {("25", None)})


@pytest.mark.requirement("L02")
@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [("generated", "imported-list/1"), ("generated", "complete/2"), ("imported", "complete/1"), ("imported", "none/1")],
)
def test_a_sealing_names_an_algorithm_of_its_kind(
    opened: Trial, imported: Trial, tmp_path: Path, kind: str, algorithm: str
) -> None:
    trial = imported if kind == "imported" else opened
    seqs = [seq for seq, row in enumerate(dump(trial.home)) if row.fields["kind"] == kind]
    folder = forged(trial, tmp_path, plain_design("imported-list" if kind == "imported" else "complete"),
                    algorithm=algorithm)  # fmt: skip
    named = agreed_but_for_25(folder)
    assert named - {("25", None)} == {("19", seq) for seq in seqs}


CHANGED: dict[str, tuple[str, dict[str, Any], str]] = {
    "read for another purpose": ("list-read", {"purpose": "sale"}, "06"),
    "read with a field too many": ("list-read", {"report_digest": "7e" * 32}, "06"),
    "read as another sealing": ("list-read", {"sealing": "00" * 16}, "19"),
    "read by a custodian": ("list-read", {"person": "CU", "role": "custodian"}, "15"),
    "read by the sponsor": ("list-read", {"person": "SP", "role": "sponsor"}, "15"),
    "checked in other words": ("list-checked", {"meaning": "I checked it."}, "06"),
    "checked as another sealing": ("list-checked", {"sealing": "00" * 16}, "19"),
    "checked in a report of no digest": ("list-checked", {"report_digest": None}, "06"),
    "imported from a file of no digest": ("imported", {"source_digest": "5C" * 32}, "06"),
    "imported with a seed given, in production": ("imported", {"seed_origin": "given", "mode": "production"}, "13"),
    "imported for one holder": ("imported", {"holders": ["ST"]}, "19"),
}


@pytest.mark.requirement("L02")
@pytest.mark.parametrize(("kind", "fields", "check"), CHANGED.values(), ids=CHANGED.keys())
def test_records_of_lists_are_judged_as_by_the_program(
    imported: Trial, tmp_path: Path, kind: str, fields: dict[str, Any], check: str
) -> None:
    rows = dump(imported.home)
    seq = next(seq for seq, row in enumerate(rows) if row.fields["kind"] == kind)
    rows[seq] = rows[seq].with_fields(**fields)
    folder = write_export(
        imported.home, tmp_path / "export", imported.actors, _chained_as_is(rows, imported.actors), scope="inspection"
    )
    assert (check, seq) in agreed(folder).named


@pytest.mark.requirement("L02")
def test_a_list_is_checked_before_the_study_is_active(imported: Trial, tmp_path: Path) -> None:
    """Moved behind the activation it stands in the wrong state; read it may be there."""
    rows = dump(imported.home)
    kinds = [row.fields["kind"] for row in rows]
    at, activated = kinds.index("list-checked"), kinds.index("activated")
    rows.insert(activated, rows.pop(at))
    rows = rechained(rows, imported.actors)
    named = agreed(write_export(imported.home, tmp_path / "export", imported.actors, rows)).named
    assert named == {("18", activated)}


@pytest.mark.requirement("L02")
@pytest.mark.requirement("G02")
@pytest.mark.parametrize("design", NO_DESIGN.values(), ids=NO_DESIGN.keys())
def test_a_seed_of_no_design_is_a_finding(opened: Trial, imported: Trial, tmp_path: Path, design: Any) -> None:
    is_list = isinstance(design, dict) and design.get("method") == "imported-list"
    said = agreed(forged(imported if is_list else opened, tmp_path, design))
    (one,) = said.told["findings"]
    assert (one["check"], one["seq"]) == ("25 opening", None)
    assert "is not the one drawn" not in one["message"]
