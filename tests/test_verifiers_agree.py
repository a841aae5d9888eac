"""Three verifiers that share no code: the package, verifier/verify.py and verifier/index.html say the same.

Each export, good or attacked, must get one verdict, and one set of (check, record), from all three. A log that people
wrote past the service is put into an export by hand (`as_export`), so that the rules are compared, too.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib.util
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attacks
from allocator import sealing
from allocator.canonical import canonical_bytes
from allocator.design import RandomizationDesign
from allocator.errors import EvidenceError
from allocator.export import detail_line
from allocator.export_evidence import read_export
from allocator.log import Detail, Record
from allocator.receipt import parse_receipt
from allocator.seed import Seed, draw_again
from allocator.session import read_study_copy
from allocator.study import stratum_label
from allocator.verdict import Given
from allocator.verify import verify, verify_receipt
from allocator.writer import Actor
from attacks import Forger
from support import STUDY_ID, Trial, TrialFactory, study
from test_attacks import COLLUSIONS
from test_export import CHANGES, manifest_again, rewrite
from test_export import told as told  # the fixture
from test_person import SMALL_ORDER_Y, encodings
from test_verifier_page import BENT_DESIGNS, DRAW, EDGE_DESIGNS, Verifier, good_design, opened_export
from test_verifier_page import verifier as verifier  # the fixture: the page's script in Node

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "verifier" / "verify.py"
Said = tuple[str, list[tuple[str, int]]]  # verdict, (check, record or -1) of each finding, each once


def _loaded() -> Any:
    spec = importlib.util.spec_from_file_location("stranger", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


STRANGER = _loaded()


def said(result: Mapping[str, Any]) -> Said:
    pairs = {(f["check"], -1 if f["seq"] is None else f["seq"]) for f in result["findings"]}
    return result["verdict"], sorted(pairs)


def agreed(verifier: Verifier, folder: Path, heads: tuple[bytes, ...] = (), **piles: list[Path]) -> Said:
    """What all three say of an export; fails where they differ."""
    receipts, checkpoints = piles.get("receipts", []), piles.get("checkpoints", [])
    given = {
        "given_receipts": tuple(Given(path.name, path.read_bytes()) for path in receipts),
        "given_checkpoints": tuple(Given(path.name, path.read_bytes()) for path in checkpoints),
    }
    with read_export(folder, heads, **given) as evidence:
        ours = verify(evidence).as_json()
    stranger = STRANGER.verify_export(
        folder,
        STRANGER.Given(
            heads=list(heads),
            receipts=[(path.name, path.read_bytes()) for path in receipts],
            checkpoints=[(path.name, path.read_bytes()) for path in checkpoints],
        ),
    ).as_json()
    asked = {
        "heads": [digest.hex() for digest in heads],
        "receipts": [str(path) for path in receipts],
        "checkpoints": [str(path) for path in checkpoints],
    }
    shown = verifier.ask(verify=str(folder), given=asked)
    assert said(ours) == said(stranger) == said(shown), (ours["findings"], stranger["findings"], shown["findings"])
    for name in ("records", "followed", "head", "root"):
        assert ours[name] == stranger[name] == shown[name], name
    return said(ours)


def as_export(home: Path, folder: Path) -> Path:
    """An export of a home, made by hand and certified by nobody: as its files are, whatever they say."""
    source = attacks.place(home)
    folder.mkdir()
    for path in (source.study_file, source.registry_file, source.sealed_file, source.seed_file):
        if path.is_file():
            shutil.copyfile(path, folder / path.name)
    rows = attacks.dump(home)
    with (folder / "records.jsonl").open("wb") as stream:
        for row in rows:
            stream.write(canonical_bytes({"body": row.body.decode("utf-8"), "prev": row.prev.hex()}) + b"\n")
    with (folder / "details.jsonl").open("wb") as stream:
        for seq, row in enumerate(rows):
            for name, (salt, value) in sorted(row.details.items()):
                stream.write(detail_line(seq, name, Detail(salt=salt, value=value)))
    (folder / "study.json").write_bytes(canonical_bytes(read_study_copy(source).plain()))
    (folder / "head").write_bytes((source.keys / "head").read_bytes())
    manifest = {"format": "allocator-export/1", "study": STUDY_ID, "scope": "inspection", "program": "by hand"}
    manifest |= {"time": "2026-11-20T00:00:00.000Z", "records": len(rows), "head": rows[-1].hash.hex()}
    (folder / "manifest.json").write_bytes(canonical_bytes({**manifest, "tree": "00" * 32, "files": []}))
    (folder / "certificate.json").write_bytes(b"{}")
    (folder / "checkpoint.txt").write_bytes(b"none\n")
    manifest_again(folder)
    return folder


# ---- exports as made ------------------------------------------------------------------------------------------------


@pytest.mark.requirement("R01", "G01")
@pytest.mark.parametrize("name", ["evidence", "inspection", "opened"])
def test_all_three_find_a_good_export_intact(told: Trial, verifier: Verifier, name: str) -> None:
    folder = told.home.parent / name
    assert agreed(verifier, folder) == ("intact-local", [])
    assert agreed(verifier, folder, (told.records[3].hash,)) == ("intact", [])
    assert agreed(verifier, folder, (b"\0" * 32,)) == ("broken", [("22 given head", -1)])
    receipts = sorted(told.place.receipts.glob("*.tlog-proof"))
    assert agreed(verifier, folder, receipts=receipts) == ("intact", [])


@pytest.mark.requirement("L02", "L03")
@pytest.mark.parametrize("again", [False, True], ids=["as it lies", "manifest made anew"])
@pytest.mark.parametrize("name, change, expected", CHANGES)
def test_all_three_name_a_change_alike(
    told: Trial,
    verifier: Verifier,
    tmp_path: Path,
    name: str,
    change: Callable[[bytes], bytes],
    expected: tuple[str, int | None],
    again: bool,
) -> None:
    folder = Path(shutil.copytree(told.home.parent / "inspection", tmp_path / "export"))
    rewrite(folder, name, change)
    if again:
        manifest_again(folder)
    verdict, findings = agreed(verifier, folder)
    check, seq = expected
    assert verdict == "broken"
    assert (check, -1 if seq is None else seq) in [(name[:2], at) for name, at in findings]


@pytest.mark.requirement("C06", "U05")
@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b'"length":6', b'"length":7'),
        lambda data: data.replace(b'"shares":["', b'"shares":["0', 1),
        lambda _: b"{}",
        lambda data: data[:-1],
    ],
)
def test_all_three_name_another_seed(
    told: Trial, verifier: Verifier, tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    folder = Path(shutil.copytree(told.home.parent / "opened", tmp_path / "export"))
    rewrite(folder, "seed.json", change)
    assert ("25 opening", -1) in agreed(verifier, folder)[1]


# ---- what colluding people write ------------------------------------------------------------------------------------


@pytest.fixture
def forger(trials: TrialFactory) -> Iterator[Forger]:
    """People of an active study who write past the service: 3 are approved, 4 entries are sealed."""
    forger = Forger(trials("active", enrollment=3, length=4, block_sizes=(2, 4)))
    yield forger
    forger.close()


@pytest.mark.requirement("L02", "E01")
@pytest.mark.parametrize("name", COLLUSIONS)
def test_all_three_name_what_colluding_people_fabricate(
    forger: Forger, verifier: Verifier, tmp_path: Path, name: str
) -> None:
    seq = COLLUSIONS[name][0](forger)
    verdict, findings = agreed(verifier, as_export(forger.home, tmp_path / "export"))
    assert verdict == "broken" and ("19 rule of the kind", seq) in findings


def _moved(forger: Forger, to: str = "postgresql") -> int:
    return forger.write("moved", {"to": to}, {"reason": "a larger machine"}, by="SP")


def _arrived(forger: Forger, moved: int, state: str = "active") -> int:
    return forger.write("arrived", {"moved": moved, "state": state}, by="SP")


def _paused(forger: Forger) -> int:
    return forger.write("paused", {}, {"reason": "a question"}, by="PH")


# what people write of a move, as (kind of write, check of the record written last); None: by the rules
MOVES: dict[str, tuple[Callable[[Forger], int], str | None]] = {
    "there and back": (lambda f: _arrived(f, _moved(f, "file")), None),
    "while paused": (lambda f: (_paused(f), _arrived(f, _moved(f), "paused"))[1], None),
    "it ends there": (_moved, None),
    "on without an arrival": (lambda f: (_moved(f), _paused(f))[1], "18 state"),
    "a refusal after it": (
        lambda f: (_moved(f), f.write("refused", {"action": "paused", "cause": "x", "participant": None}, by="PH"))[1],
        "18 state",
    ),
    "a failure after it": (
        lambda f: (
            _moved(f),
            f.write("attempt-failed", {"person": None, "action": "paused", "failure": "unknown-person"}, by=None),
        )[1],
        "18 state",
    ),
    "moved twice": (lambda f: (_moved(f), _moved(f))[1], "18 state"),
    "to nowhere": (lambda f: _moved(f, "elsewhere"), "19 rule of the kind"),
    "arrived without a move": (lambda f: _arrived(f, 3), "18 state"),
    "of another move": (lambda f: _arrived(f, _moved(f) - 1), "19 rule of the kind"),
    "into another state": (lambda f: _arrived(f, _moved(f), "closed"), "19 rule of the kind"),
    "on after a false arrival": (lambda f: (_arrived(f, _moved(f), "closed"), _paused(f))[1], "18 state"),
    "arrived twice": (lambda f: _arrived(f, _arrived(f, _moved(f)) - 1), "18 state"),
    "by a statistician": (lambda f: f.write("moved", {"to": "file"}, by="ST", role="sponsor"), "15 authority"),
}


@pytest.mark.requirement("L02", "R01")
@pytest.mark.parametrize("name", MOVES)
def test_all_three_agree_on_a_log_that_moved(forger: Forger, verifier: Verifier, tmp_path: Path, name: str) -> None:
    write, check = MOVES[name]
    if name == "there and back":
        _arrived(forger, _moved(forger))
        forger.confirm("P-001", 0)
        forger.allocate("P-001")
    seq = write(forger)
    findings = agreed(verifier, as_export(forger.home, tmp_path / "export"))[1]
    own = {(name, at) for name, at in findings if name[:2] != "26" and name[:2] != "23"}
    if check is None:
        assert not own
    else:
        assert (check, seq) in own


@pytest.mark.requirement("S02")
def test_all_three_refuse_the_encodings_on_which_libraries_disagree(
    told: Trial, verifier: Verifier, tmp_path: Path
) -> None:
    """As R of a record's signature; a lax library takes some of them (docs/spec.md §8.4)."""
    home = attacks.copied(told.home, "edges")
    rows = attacks.dump(home)
    points = [*(point for y in SMALL_ORDER_Y for point in encodings(y))]
    order = 2**252 + 27742317777372353535851937790883648493
    good = bytes.fromhex(rows[-1].fields["signature"])
    signatures = [point + good[32:] for point in points]
    signatures.append(good[:32] + (int.from_bytes(good[32:], "little") + order).to_bytes(32, "little"))
    for number, signature in enumerate(signatures):
        bent = replace(rows[-1]).of({**rows[-1].fields, "signature": signature.hex()})
        attacks.rebuild(home, [*rows[:-1], bent])
        found = agreed(verifier, as_export(home, tmp_path / str(number)))[1]
        assert ("16 signature", len(rows) - 1) in found


# ---- other methods, imported lists, lists that were read ------------------------------------------------------------


def how(method: str, *, length: int = 8, ratio: tuple[int, int] = (1, 1), **own: Any) -> RandomizationDesign:
    """A design for the real study's two arms."""
    return RandomizationDesign(
        method=method, length=length, ratio=tuple(zip(("IL2-GCV", "GCV"), ratio, strict=True)), **own
    )


BY_HAND = how("imported-list", length=4, arms=(bytes((0, 1, 1, 0)),))
OPENED = {
    "big-stick": how("big-stick", limit=2),
    "chen": how("chen", limit=2, probability=Fraction(3, 4)),
    "urn": how("urn", alpha=0, beta=1, ratio=(3, 3)),
    "truncated-binomial": how("truncated-binomial", length=9, block_sizes=(4, 6)),
    "maximal-procedure": how("maximal-procedure", length=80, limit=3),  # several words an integer
    "block-urn": how("block-urn", lambda_=2, ratio=(2, 1)),
    "imported-list": BY_HAND,
}
STRATIFIED = {
    "random-allocation-rule": how("random-allocation-rule", length=6, ratio=(1, 2)),
    "imported-list": how("imported-list", length=3, arms=(bytes((0, 1, 1)), bytes((1, 1, 0)))),
}


@pytest.mark.requirement("G01", "G02", "C06", "R01")
@pytest.mark.parametrize(
    "design, stratified",
    [*((design, False) for design in OPENED.values()), *((design, True) for design in STRATIFIED.values())],
    ids=[*OPENED, *(f"{name}, stratified" for name in STRATIFIED)],
)
def test_all_three_draw_the_opened_list_of_another_method_again(
    trials: TrialFactory, verifier: Verifier, tmp_path: Path, design: RandomizationDesign, stratified: bool
) -> None:
    trial = trials("active", how=design, stratified=stratified)
    folder = opened_export(trial, tmp_path / "export", {"site": "B"} if stratified else None)
    assert agreed(verifier, folder) == ("intact-local", [])


def disclosed(home: Path, actors: Mapping[str, Actor], algorithm: str | None = None, **design: Any) -> None:
    """The opened home as its people could have made it: another algorithm in its record, or a list of another design.

    Its entries stay as they are; everything that names the design, and each signature, is made anew.
    """
    source, rows = attacks.place(home), attacks.dump(home)
    seed = json.loads(source.seed_file.read_bytes())
    seed["design"] = {**seed["design"], **design}
    key, text = bytes.fromhex(seed["salt"]), b"allocator/v1/design\0" + canonical_bytes(seed["design"])
    commitment = hmac.digest(key, text, "sha256").hex()
    sealed = json.loads(source.sealed_file.read_bytes()) | {"design_commitment": commitment}
    sealing_kind = next(row.fields["kind"] for row in rows if row.fields["kind"] in ("generated", "imported"))
    changes: dict[str, dict[str, Any]] = {"opened": {}, sealing_kind: {"design_commitment": commitment}}
    for kind, field, path, plain in (
        ("opened", "seed_digest", source.seed_file, seed),
        (sealing_kind, "sealed_digest", source.sealed_file, sealed),
    ):
        path.write_bytes(canonical_bytes(plain))
        changes[kind][field] = hashlib.sha256(path.read_bytes()).hexdigest()
    if algorithm:
        changes[sealing_kind]["algorithm"] = algorithm
    rows = [row.with_fields(**changes.get(row.fields["kind"], {})) for row in rows]
    rows = attacks.rechained(rows, actors)
    attacks.rebuild(home, rows)
    attacks.write_head(home, len(rows) - 1, rows[-1].hash)


@pytest.mark.requirement("C06", "G02")
@pytest.mark.parametrize("design", [
    {}, {"limit": 3}, {"limit": 0}, {"length": 9}, {"method": "complete"}, {"lambda": 2}, {"method": "urn", "limit": 1}
])  # fmt: skip
def test_all_three_name_an_opened_list_of_another_design(
    trials: TrialFactory, verifier: Verifier, tmp_path: Path, design: dict[str, Any]
) -> None:
    trial = trials("active", how=OPENED["big-stick"])
    opened_export(trial, tmp_path / "true")
    trial.close()
    disclosed(trial.home, trial.actors, **design)
    _, findings = agreed(verifier, as_export(trial.home, tmp_path / "export"))
    expected = {("25 opening", -1)} if design else set()
    assert about_the_log(findings) == sorted(expected)


@pytest.mark.requirement("C06", "G02", "U05")
@pytest.mark.parametrize("algorithm", ["chen/1", "permuted-block/1"])
def test_all_three_name_an_opened_list_of_another_method_than_its_record(
    trials: TrialFactory, verifier: Verifier, tmp_path: Path, algorithm: str
) -> None:
    """Whoever seals a list can sign any algorithm; once the list is opened it is held to what was signed."""
    trial = trials("active", how=OPENED["big-stick"])
    opened_export(trial, tmp_path / "true")
    trial.close()
    disclosed(trial.home, trial.actors, algorithm)
    findings = agreed(verifier, as_export(trial.home, tmp_path / "export"))[1]
    assert about_the_log(findings) == [("25 opening", -1)]


@pytest.mark.requirement("C06")
@pytest.mark.parametrize("arms", [["0001"], ["0001"] * 3, ["0001", "0002"], ["0001", "00"], []])
def test_all_three_name_an_imported_list_of_another_extent(
    trials: TrialFactory, verifier: Verifier, tmp_path: Path, arms: list[str]
) -> None:
    """Two strata have their lists; the design disclosed has these."""
    trial = trials("active", how=how("imported-list", length=2, arms=(b"\0\1", b"\0\1")), stratified=True)
    opened_export(trial, tmp_path / "true", {"site": "A"})
    trial.close()
    disclosed(trial.home, trial.actors, arms=arms)
    findings = agreed(verifier, as_export(trial.home, tmp_path / "export"))[1]
    assert about_the_log(findings) == [("25 opening", -1)]


def about_the_log(findings: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Without what is wrong with any export made by hand: it has no certificate and no checkpoint."""
    return [(check, seq) for check, seq in findings if check not in ("26 export", "23 checkpoint")]


def sealing_fields(forger: Forger, **changes: Any) -> dict[str, Any]:
    """The fields of the newest sealing, some of them changed: the same list sealed once more."""
    newest = max((*forger.records("generated"), *forger.records("imported")), key=lambda record: record.seq)
    names = ("sealing", "algorithm", "root", "sealed_digest", "design_commitment", "seed_commitments", "holders")
    return {**{name: newest.fields[name] for name in (*names, "seed_origin")}, **changes}


def _generated(kind: str = "generated", /, **changes: Any) -> Callable[[Forger], int]:
    """A further record of a sealing kind, with a reason."""

    def forge(forger: Forger) -> int:
        extra = {"source_digest": "5d" * 32} if kind == "imported" else {}
        details = {"origin": "a spreadsheet"} if kind == "imported" else {}
        fields = {**sealing_fields(forger), **extra, **changes}
        fields = {name: value for name, value in fields.items() if value is not None}
        return forger.write(kind, fields, {**details, "reason": "once more"}, by="ST")

    return forge


def _read(
    purpose: str = "check", *, by: str = "ST", role: str | None = None, **changes: Any
) -> Callable[[Forger], int]:
    def forge(forger: Forger) -> int:
        fields = {"sealing": forger.sealed.sealing.hex(), "purpose": purpose, **changes}
        return forger.write("list-read", fields, by=by, role=role)

    return forge


def _checked(*, by: str = "ST", role: str | None = None, **changes: Any) -> Callable[[Forger], int]:
    def forge(forger: Forger) -> int:
        fields = {"sealing": forger.sealed.sealing.hex(), "report_digest": "ab" * 32, **changes}
        return forger.write("list-checked", fields, by=by, role=role)

    return forge


def _by_another(act: Callable[..., Callable[[Forger], int]]) -> Callable[[Forger], int]:
    """By a statistician who holds no share."""

    def forge(forger: Forger) -> int:
        forger.enrol_both("S2", ["statistician"])
        return act(by="S2")(forger)

    return forge


def _without_reason(kind: str, algorithm: str) -> Callable[[Forger], int]:
    def forge(forger: Forger) -> int:
        extra = {"source_digest": "5d" * 32} if kind == "imported" else {}
        details = {"origin": "a spreadsheet"} if kind == "imported" else {}
        return forger.write(kind, {**sealing_fields(forger, algorithm=algorithm), **extra}, details, by="ST")

    return forge


def _resealed_after(algorithm: str) -> Callable[[Forger], int]:
    """A record of a sealing that no program would write, and the same list sealed again as it says."""

    def forge(forger: Forger) -> int:
        seq = _generated(algorithm=algorithm)(forger)
        forger.write("resealed", sealing_fields(forger), {"reason": "a new laptop"}, by="ST")
        return seq

    return forge


def _resealed(forger: Forger) -> int:
    return forger.write("resealed", sealing_fields(forger), {"reason": "a new laptop"}, by="ST")


# words -> stage, whether the list is imported, what is written, the checks that must name it (None: it is good)
LISTS: dict[str, tuple[str, bool, Callable[[Forger], int], str | None]] = {
    "read while sealed": ("sealed", False, _read(), None),
    "read while active": ("active", True, _read("balance"), None),
    "read for an export": ("active", False, _read("export"), None),
    "read, of another sealing": ("active", False, _read(sealing="00" * 16), "19"),
    "read without a share": ("active", False, _by_another(_read), "19"),
    "read by the other holder": ("sealed", False, _read(by="CU", role="custodian"), "15"),
    "read by a sponsor": ("sealed", False, _read(by="SP", role="sponsor"), "15 19"),
    "checked": ("sealed", True, _checked(), None),
    "checked too late": ("active", False, _checked(), "18"),
    "checked, of another sealing": ("sealed", False, _checked(sealing="00" * 16), "19"),
    "checked without a share": ("sealed", False, _by_another(_checked), "19"),
    "checked by an auditor": ("sealed", False, _checked(by="AU", role="auditor"), "15 19"),
    "imported once more": ("sealed", True, _generated("imported"), None),
    "imported in place of one drawn": ("sealed", False, _generated("imported", algorithm="imported-list/1"), None),
    "drawn in place of one imported": ("sealed", True, _generated(algorithm="urn/1"), None),
    "imported too late": ("active", True, _generated("imported"), "18"),
    "imported without a reason": ("sealed", True, _without_reason("imported", "imported-list/1"), "19"),
    "drawn without a reason": ("sealed", True, _without_reason("generated", "chen/1"), "19"),
    "imported, yet drawn": ("sealed", True, _generated("imported", algorithm="permuted-block/1"), "19"),
    "drawn, yet imported": ("sealed", False, _generated(algorithm="imported-list/1"), "19"),
    "drawn by nothing known": ("sealed", False, _generated(algorithm="minimization/1"), "19"),
    "drawn by a later version": ("sealed", False, _generated(algorithm="urn/2"), "19"),
    "imported, by one holder": ("sealed", True, _generated("imported", holders=["ST"]), "09 19"),
    "imported, sealed again": ("active", True, _resealed, None),
    "sealed again as drawn, yet imported": ("sealed", False, _resealed_after("imported-list/1"), "19"),
    "sealed again as drawn by nothing": ("sealed", False, _resealed_after("nothing/1"), "19"),
}


@pytest.mark.requirement("L02", "E01", "A06")
@pytest.mark.parametrize("name", LISTS)
def test_all_three_judge_records_of_lists_alike(
    trials: TrialFactory, verifier: Verifier, tmp_path: Path, name: str
) -> None:
    stage, imported, forge, check = LISTS[name]
    trial = trials(stage, how=BY_HAND) if imported else trials(stage, enrollment=3, length=4, block_sizes=(2, 4))
    forger = Forger(trial)
    seq = forge(forger)
    attacks.write_head(trial.home, len(attacks.dump(trial.home)) - 1, attacks.dump(trial.home)[-1].hash)
    forger.close()
    findings = agreed(verifier, as_export(trial.home, tmp_path / "export"))[1]
    found = [(name[:2], at) for name, at in about_the_log(findings)]
    assert found == [(number, seq) for number in (check or "").split()]


@pytest.mark.requirement("L02")
@pytest.mark.parametrize("forge, changes, details", [
    (_read(), {"purpose": "fun"}, {}),
    (_read(), {"purpose": None}, {}),
    (_read(), {"report_digest": "ab" * 32}, {}),
    (_read(), {"details": {}}, {}),
    (_read(), {"meaning": "I checked and sealed this list, which was made elsewhere as stated."}, {}),
    (_checked(), {"report_digest": "ab"}, {}),
    (_checked(), {"purpose": "check"}, {}),
    (_generated("imported"), {"source_digest": None}, {}),
    (_generated("imported"), {"source_digest": "5D" * 32}, {}),
    (_generated("imported"), {"algorithm": 1}, {}),
    (_generated("imported"), {}, {"origin": None}),
    (_generated("imported"), {}, {"name": "Dr X"}),
    (_generated(algorithm="urn/1"), {"source_digest": "5d" * 32}, {}),
    (_generated(algorithm="urn/1"), {}, {"origin": "a spreadsheet"}),
])  # fmt: skip
def test_all_three_refuse_another_form_of_these_records(
    trials: TrialFactory,
    verifier: Verifier,
    tmp_path: Path,
    forge: Callable[[Forger], int],
    changes: dict[str, Any],
    details: dict[str, str | None],
) -> None:
    trial = trials("sealed", how=BY_HAND)
    forger = Forger(trial)
    seq = forge(forger)
    forger.close()
    *rows, bent = attacks.dump(trial.home)
    salted = {name: value and (bytes(32), value) for name, value in details.items()}
    kept = {name: detail for name, detail in {**bent.details, **salted}.items() if detail}
    fields = {name: value for name, value in {**bent.fields, **changes}.items() if value is not None}
    rows = attacks.rechained([*rows, replace(bent, details=kept).of(fields)], trial.actors)
    attacks.rebuild(trial.home, rows)
    findings = agreed(verifier, as_export(trial.home, tmp_path / "export"))[1]
    assert ("06 encoding", seq) in findings


@pytest.mark.requirement("L02")
def test_all_three_judge_a_list_read_before_it_was_sealed(
    trials: TrialFactory, verifier: Verifier, tmp_path: Path
) -> None:
    trial = trials("sealed", how=BY_HAND)
    forger = Forger(trial)
    _read()(forger)
    _checked()(forger)
    forger.close()
    rows = [row for row in attacks.dump(trial.home) if row.fields["kind"] != "imported"]
    attacks.rebuild(trial.home, attacks.rechained(rows, trial.actors))
    findings = agreed(verifier, as_export(trial.home, tmp_path / "export"))[1]
    assert [(told_, at) for told_, at in findings if told_[:2] in ("18", "19")] == [
        ("18 state", 11), ("18 state", 12), ("19 rule of the kind", 11), ("19 rule of the kind", 12)
    ]  # fmt: skip


SALT, SHARES = "77" * 32, ("11" * 32, "22" * 32)


def lists_drawn(verifier: Verifier, design: dict[str, Any], *, stratified: bool = False) -> list[list[str] | None]:
    """The list that each of the three draws of a design, by stratum in hexadecimal; None where it takes no such one."""
    of = study(stratified=stratified)
    key = bytes.fromhex(SALT)
    commitment = hmac.digest(key, b"allocator/v1/design\0" + canonical_bytes(design), "sha256").hex()
    labels = [stratum_label(stratum) for stratum in of.strata]
    arms = [{"code": arm.code} for arm in of.arms]
    fields = {
        "sealing": "00" * 16,
        "seed_commitments": [sealing.seed_commitment(bytes.fromhex(share)).hex() for share in SHARES],
        "design_commitment": commitment,
    }
    seed = Seed(study=of.id, sealing="00" * 16, shares=SHARES, design=design, salt=SALT)
    try:
        record = Record(prev=b"", body=b"", fields={**fields, "algorithm": f"{design.get('method')}/1"})
        ours = [drawn.arms.hex() for drawn in draw_again(seed, of, record).strata]
    except EvidenceError:
        ours = None
    shares = [bytes.fromhex(share) for share in SHARES]
    prk = STRANGER.pseudorandom_key(of.fingerprint, bytes.fromhex(commitment), shares)
    try:
        held = STRANGER.Design(design, SimpleNamespace(arms=arms, labels=labels))
        strange = [
            bytes(arm for arm, _ in STRANGER.entries_of(prk, label, held, stratum)).hex()
            for stratum, label in enumerate(labels)
        ]
    except STRANGER.Fault:
        strange = None
    draw = f"""(design, study, key) => {{
        try {{ holdDesign(design, study); }} catch (e) {{ if (e instanceof Refused) return null; throw e; }}
        return study.labels.map((label, stratum) => hex(({DRAW})(key, label, design, stratum)));
    }}"""
    return [ours, strange, verifier.call(draw, design, {"arms": arms, "labels": labels}, prk)]


CODES = ("IL2-GCV", "GCV")
GOOD = st.integers(1, 6)
WHOLE = st.one_of(GOOD, GOOD, GOOD, st.sampled_from([0, -1, 50, 51, 1000, 1001, True, False, "3", None]))
SIZES = st.sampled_from([[2], [4, 6], [6], [12]])
SEVERAL = st.one_of(SIZES, SIZES, st.lists(st.sampled_from([2, 4, 6, 3, 0, 10000, 10002, True]), max_size=3), WHOLE)
ODDS = st.one_of(
    st.sampled_from(["2/3", "3/4", "501/1000", "999/1000"]),
    st.sampled_from(["1/2", "4/6", "3/2", "2/03", "1001/1002", "2", "", 2, None]),
)
FIELD = {"block_sizes": SEVERAL, "limit": WHOLE, "lambda": WHOLE, "alpha": WHOLE, "beta": WHOLE}
FIELD |= {"probability": ODDS, "extra": WHOLE, "arms": st.sampled_from([["0A"], ["zz"], [" 00 01"], "0001", [], None])}


@st.composite
def designs(draw: st.DrawFn, strata: int) -> dict[str, Any]:
    """Designs of the study's arms, good or nearly so."""
    method = draw(st.sampled_from([*STRANGER.METHODS, "minimization"]))
    needs, may = STRANGER.METHODS.get(method, ((), ()))
    names = [*needs, *(name for name in may if draw(st.booleans()))]
    if draw(st.integers(0, 9)) == 0:
        names.append(draw(st.sampled_from(sorted(FIELD))))
    share = st.one_of(st.just(1), st.integers(1, 4), st.sampled_from([0, 1000, 1001]))
    first = draw(share)
    second = draw(st.one_of(st.just(first), st.just(first), share))
    codes = draw(st.sampled_from([CODES, CODES, CODES, CODES[::-1], CODES[:1]]))
    ratio = [{"arm": code, "share": part} for code, part in zip(codes, (first, second), strict=False)]
    length = draw(st.one_of(st.integers(1, 12).map(lambda n: 2 * n), st.sampled_from([0, 1, 3, 9, 41, True, "4"])))
    fields = {name: draw(FIELD[name]) for name in names}
    if method == "imported-list" and isinstance(length, int):
        arm = st.sampled_from(["00", "01"] * 9 + ["02", "0"])
        fields["arms"] = ["".join(draw(arm) for _ in range(length)) for _ in range(strata)]
    return {"format": "allocator-design/1", "method": method, "length": length, "ratio": ratio, **fields}


@pytest.mark.requirement("G01", "G02", "C06")
@settings(max_examples=150)
@given(data=st.data(), stratified=st.booleans())
def test_all_three_take_the_same_designs_and_draw_the_same_list(
    verifier: Verifier, data: st.DataObject, stratified: bool
) -> None:
    design = data.draw(designs(1 + stratified))
    ours, strange, shown = lists_drawn(verifier, design, stratified=stratified)
    assert ours == strange == shown


DRAWABLE = [  # without those too long to be drawn here
    (method, change) for method, change in (*BENT_DESIGNS, *EDGE_DESIGNS) if change.get("length") != 10**7
]


@pytest.mark.requirement("G02")
@pytest.mark.parametrize("method, change", DRAWABLE)
def test_all_three_judge_designs_at_their_limits_alike(verifier: Verifier, method: str, change: dict[str, Any]) -> None:
    design = good_design(method, change)
    names = dict(zip("AB", CODES, strict=True))
    design["ratio"] = [{**part, "arm": names.get(part["arm"], "C")} for part in design["ratio"]]
    ours, strange, shown = lists_drawn(verifier, design, stratified=method == "imported-list")
    assert ours == strange == shown


# ---- receipts and checkpoints ---------------------------------------------------------------------------------------


@pytest.mark.requirement("L03", "A09")
def test_all_three_miss_the_record_of_a_receipt_that_was_cut_off(
    trials: TrialFactory, verifier: Verifier, tmp_path: Path
) -> None:
    trial = trials("active")
    trial.allocate("P-001")
    older = as_export(trial.home, tmp_path / "older")
    trial.allocate("P-002")
    receipt = trial.service.keep_receipt(trial.last)
    note = tmp_path / "note"
    note.write_bytes(trial.service.checkpoint().note.encode())
    findings = agreed(verifier, older, receipts=[receipt], checkpoints=[note])[1]
    assert ("24 receipt", trial.last.seq) in findings and ("23 checkpoint", -1) in findings


@pytest.mark.requirement("A09")
def test_both_judge_a_receipt_by_itself_alike(told: Trial) -> None:
    whole = sorted(told.place.receipts.glob("*.tlog-proof"))[0].read_bytes()
    receipt = parse_receipt(whole)
    other = replace(receipt, arm={**receipt.arm, "label": "Another"})
    variants = [
        whole, b"", whole[:-1], whole.replace(b"index ", b"index 0"), whole + b"\n", other.to_bytes(),
        replace(receipt, first=b"\0" * 32).to_bytes(), replace(receipt, root=b"\0" * 32).to_bytes(),
        replace(receipt, sign_key=receipt.log_key).to_bytes(), replace(receipt, proof=receipt.proof[:-1]).to_bytes(),
        replace(receipt, proof=(*receipt.proof, b"\0" * 32)).to_bytes(), replace(receipt, path=()).to_bytes(),
        replace(receipt, log_key=receipt.sign_key).to_bytes(),
    ]  # fmt: skip
    for number, data in enumerate(variants):
        ours = said(verify_receipt(Given("receipt", data)).as_json())
        stranger = said(STRANGER.verify_receipt(data, STRANGER.Given()))
        assert ours == stranger, number
        assert (ours[0] == "broken") == (number not in (0, 5)), number
